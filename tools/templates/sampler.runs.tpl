run                     # deterministic
run solver.eta=1        # the other branch: with fresh noise
