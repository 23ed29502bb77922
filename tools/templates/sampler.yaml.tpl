# A Gaussian whose denoiser is known in closed form, sampled by @NAME@ and by a
# sampler that comes with the engine: the two sets of points must agree.
pipeline: test
seed: 1
nodes:
  model:     {plugin: denoiser.gaussian-mixture, dimension: 2, means: [3.0, -1.0], covariances: [0.25]}
  solver:    {plugin: @NAME@, steps: 100}
  points:    {plugin: generate, denoiser: model, sampler: solver, count: 512}
  known:     {plugin: sampler.ddim, steps: 100}
  reference: {plugin: generate, denoiser: model, sampler: known, count: 512, seed: 2}
  agreement: {plugin: metric.frechet, samples: points, reference: reference}
expect:
  agreement.distance: {max: 0.05}
