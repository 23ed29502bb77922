# A Gaussian whose denoiser is known in closed form, sampled under @NAME@ and under a
# schedule that comes with the engine: the two sets of points must agree.
pipeline: test
seed: 1
nodes:
  noise:     {plugin: @NAME@}
  model:     {plugin: denoiser.gaussian-mixture, schedule: noise, dimension: 2, means: [3.0, -1.0], covariances: [0.25]}
  solver:    {plugin: sampler.ddim, steps: 100}
  points:    {plugin: generate, denoiser: model, sampler: solver, count: 512}
  known:     {plugin: denoiser.gaussian-mixture, schedule: cosine, dimension: 2, means: [3.0, -1.0], covariances: [0.25]}
  reference: {plugin: generate, denoiser: known, sampler: solver, count: 512, seed: 2}
  agreement: {plugin: metric.frechet, samples: points, reference: reference}
expect:
  agreement.distance: {max: 0.05}
