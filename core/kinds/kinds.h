/* State that kinds add to their plugins.  Internal. */
#ifndef PIPE_CORE_KINDS_H
#define PIPE_CORE_KINDS_H

#include "core/run/object.h"

/* The choices of a sampler's parameter `grid`, in their order. */
typedef enum pipei_grid {
    PIPEI_GRID_UNIFORM,
    PIPEI_GRID_QUADRATIC,
    PIPEI_GRID_LINSPACE,
    PIPEI_GRID_LEADING,
    PIPEI_GRID_TRAILING,
    PIPEI_GRID_SGM_UNIFORM,
    PIPEI_GRID_LOG_SNR,
    PIPEI_GRID_EXPONENTIAL,
    PIPEI_GRID_POLYEXPONENTIAL,
    PIPEI_GRID_KARRAS,
    PIPEI_GRID_LU,
    PIPEI_GRID_BETA,
    PIPEI_GRID_VP,
    PIPEI_GRID_AYS_SD15,
    PIPEI_GRID_AYS_SDXL,
    PIPEI_GRID_AYS_SVD,
    PIPEI_GRID_CUSTOM,
    PIPEI_GRIDS
} pipei_grid;
enum { PIPEI_GRID_IN_RATIO, PIPEI_GRID_IN_SIGMA };
enum { PIPEI_FINAL_ZERO, PIPEI_FINAL_FIRST_STEP, PIPEI_FINAL_NONE };

/* A sampler's parameters that are not its plugin's own (sampler-params.c). */
typedef struct pipei_sampler_common {
    int64_t steps, grid, grid_in, final, steps_offset;
    double rho, ratio_min, ratio_max, time_min, beta_a, beta_b, terminal;
    bool whole_steps, extra_point;
    pipe_floats times, ratios, lambdas;
    double clip, threshold, threshold_max;
    bool denoise_last;
} pipei_sampler_common;

/* What the noise of this batch is keyed by: `sample` is that of its first row, `step` 0. */
PIPE_INTERNAL pipe_key pipei_sampling_key(const pipe_sampling *s);
/* Draw number `draw` of this step as the caller of pipe_sample() supplies it; poison where there is no such
 * draw; NULL: it has to be made. */
PIPE_INTERNAL pipe_tensor *pipei_sampling_supplied(pipe_sampling *s, uint32_t draw);
/* Within a step that takes long: PIPE_EINTERRUPTED if the caller asked to stop. */
PIPE_INTERNAL pipe_status pipei_sampling_poll(pipe_sampling *s, pipe_error *err);
PIPE_INTERNAL extern const pipe_param pipei_sampler_params[];
PIPE_INTERNAL extern const char *const pipei_grid_names[];
/* The sampler whose grid and options count: itself, or the one that it wraps. */
PIPE_INTERNAL pipe_sampler *pipei_sampler_inmost(pipe_sampler *s);
/* Has it, or what it wraps, something to ask of a denoiser? (sampling.c) */
PIPE_INTERNAL bool pipei_sampler_checks(pipe_sampler *sampler);
/* What is known of a sampling before anything is computed. */
typedef struct pipei_sampling_outline {
    pipe_sampler *sampler;
    pipe_schedule *schedule; /* NULL: not known */
    bool whole; /* from the first point of the grid, downwards */
    const char *denoiser; /* its name */
    const pipe_denoiser_info *info; /* NULL: not known */
    bool remembers; /* the denoiser does */
} pipei_sampling_outline;
/* Can that work, as far as can be told?  Errors carry the sampler's name. (sampling.c) */
PIPE_INTERNAL pipe_status pipei_sampling_check_early(const pipei_sampling_outline *o, pipe_error *err);
/* Do the shared parameters go together?  Those of a sampler around another one must have their defaults.
 * Knows neither schedule nor denoiser.  As pipei_rules_check(). */
PIPE_INTERNAL pipe_status pipei_sampler_check(const pipei_sampler_common *c, bool around,
                                              pipei_is_given given, const void *arg, const char **at,
                                              pipe_error *err);

/* The time at which the schedule `own` of the denoiser of that name has this sigma / alpha; PIPE_EDOMAIN:
 * nowhere (denoiser.c) */
pipe_status pipei_denoiser_time_of_ratio(const char *denoiser, pipe_schedule *own, double ratio, double *t,
                                         pipe_error *err);
/* Is d, or one that it is made of, told when a trajectory begins, because it remembers? (guidance.c) */
bool pipei_denoiser_remembers(const pipe_denoiser *d);
/* Has `d` the blocks that the perturbation names, and is its sigma a width? (perturbation.c) */
pipe_status pipei_perturbation_check(pipe_denoiser *d, const pipe_perturbation *p, pipe_error *err);

#endif
