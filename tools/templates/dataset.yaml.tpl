# The points of @NAME@, and those of a Gaussian of the same mean and covariance (of
# radius r: 0 and r^2 / 2): their first two moments must agree.
pipeline: test
seed: 1
nodes:
  data:      {plugin: @NAME@, count: 1000, radius: 2.0}
  gaussian:  {plugin: denoiser.gaussian-mixture, dimension: 2, means: [0.0, 0.0], covariances: [2.0]}
  solver:    {plugin: sampler.ddim, steps: 100}
  reference: {plugin: generate, denoiser: gaussian, sampler: solver, count: 2000}
  agreement: {plugin: metric.frechet, samples: data, reference: reference}
  table:     {plugin: sink.csv, value: data}
expect:
  agreement.distance: {max: 0.05}
  table.rows: {min: 1}
