run
run data.count=7        # an odd number of points
