"""Golden values of the samplers, computed with diffusers' schedulers:

    python tests/data/golden/samplers.py [CLASS ...]

writes tests/data/golden/samplers/CLASS.json for the named scheduler classes (all of
them without arguments).  pip install diffusers torch scipy
samplers_kdiffusion.py has samplers of k-diffusion.  samplers_engine.py says what is computed, how, and what a file holds.

To add a scheduler: a function in one of the modules below, decorated with
@scheduler("ItsClass"), that yields configurations.
"""

import samplers_engine
import samplers_multistep  # noqa: F401  solvers that keep values of earlier steps
import samplers_single  # noqa: F401  those that keep none, and the stochastic ones

if __name__ == "__main__":
    samplers_engine.main()
