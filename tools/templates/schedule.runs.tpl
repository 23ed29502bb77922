run
run noise.power=2       # not the default
