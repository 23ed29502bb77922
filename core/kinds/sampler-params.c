/* The parameters that all samplers have: the time grid's and those of the loop. */
#include "core/kinds/kinds.h"
#include "core/plugin/param.h"

#include <string.h>

const char *const pipei_grid_names[] = {
    "uniform", "quadratic",   "linspace",        "leading", "trailing", "sgm-uniform",
    "log-snr", "exponential", "polyexponential", "karras",  "lu",       "beta",
    "vp",      "ays-sd15",    "ays-sdxl",        "ays-svd", "custom",   NULL};
static const char *const quantities[] = {"ratio", "sigma", NULL};
static const char *const finals[] = {"zero", "first-step", "none", NULL};

const pipe_param pipei_sampler_params[] = {
    PIPE_INT(pipei_sampler_common, steps, 50, 1, 100000, "steps",
             "update steps from noise to data; more is slower and closer to the exact solution"),
    PIPE_CHOICE(pipei_sampler_common, grid, "uniform", pipei_grid_names,
                "how the steps are spaced. In time: uniform, quadratic (denser near the data), sgm-uniform. "
                "In training "
                "steps, as diffusers' timestep_spacing: linspace, leading, trailing. In sigma / alpha: "
                "log-snr (the same "
                "as exponential), polyexponential, karras, lu (a power of lambda), beta, vp, ays-sd15, "
                "ays-sdxl, ays-svd "
                "(Align Your Steps). custom: the list `times`, `ratios` or `lambdas`"),
    PIPE_FLOAT(
        pipei_sampler_common, rho, 0.0, 0.0, 100.0, NULL,
        "exponent of grids karras (7), lu (1) and polyexponential (1), whose own it is at 0; higher puts "
        "more steps near the data"),
    PIPE_FLOAT(pipei_sampler_common, ratio_min, 0.0, 0.0, 1e6, NULL,
               "smallest sigma / alpha before the end; 0: the schedule's first training step, or 0.002 of a "
               "continuous "
               "schedule"),
    PIPE_FLOAT(
        pipei_sampler_common, ratio_max, 0.0, 0.0, 1e6, NULL,
        "largest sigma / alpha, where sampling starts; lower skips the noisiest part; 0: the schedule's"),
    PIPE_CHOICE(
        pipei_sampler_common, grid_in, "ratio", quantities,
        "what grids karras, exponential, polyexponential and beta are spaced in: ratio (sigma / alpha), or "
        "on flow schedules sigma"),
    PIPE_FLOAT(
        pipei_sampler_common, time_min, 0.0, 0.0, 1e6, NULL,
        "last time before the end of grids linspace and sgm-uniform; 0: the schedule's first training step, "
        "or a thousandth of a continuous schedule"),
    PIPE_BOOL(pipei_sampler_common, whole_steps, true,
              "grid linspace takes whole training steps; false: also between them, where sigma / alpha is "
              "interpolated linearly (diffusers' Euler, Heun and LMS classes)"),
    PIPE_INT(pipei_sampler_common, steps_offset, 0, 0, 100000, "steps",
             "added to every training step of grid leading; 1 in many released models"),
    PIPE_BOOL(pipei_sampler_common, extra_point, false,
              "grids linspace and leading place one point more and leave out the least noisy one (diffusers' "
              "multistep classes)"),
    PIPE_FLOAT(pipei_sampler_common, beta_a, 0.6, 0.01, 100.0, NULL,
               "first shape parameter of grid beta; lower puts more steps near the data"),
    PIPE_FLOAT(pipei_sampler_common, beta_b, 0.6, 0.01, 100.0, NULL,
               "second shape parameter of grid beta; lower puts more steps near the noise"),
    PIPE_FLOAT(
        pipei_sampler_common, terminal, 0.0, 0.0, 0.999, NULL,
        "on flow schedules, grids linspace and sgm-uniform: stretch the grid so that sigma is this at the "
        "last point before the end; 0: no"),
    PIPE_CHOICE(
        pipei_sampler_common, final, "zero", finals,
        "what is appended to the grid's points: zero (the end of the schedule, clean data), first-step "
        "(the schedule's first training step), none (the grid's own last point is the end)"),
    PIPE_FLOATS(pipei_sampler_common, times, "[]", 0.0, 1e6, NULL,
                "grid custom: falling times from the noisiest to the last"),
    PIPE_FLOATS(pipei_sampler_common, ratios, "[]", 0.0, 1e6, NULL,
                "grid custom: falling sigma / alpha from the noisiest to the last; 0 is clean data"),
    PIPE_FLOATS(pipei_sampler_common, lambdas, "[]", -100.0, 100.0, NULL,
                "grid custom: rising ln(alpha / sigma), half the log-SNR, from the noisiest to the last"),
    PIPE_FLOAT(
        pipei_sampler_common, clip, 0.0, 0.0, 1e6, NULL,
        "bound of the predicted clean data, on either side; lower keeps a diverging model in its range; 0: "
        "none, as models of latents need"),
    PIPE_FLOAT(
        pipei_sampler_common, threshold, 0.0, 0.0, 1.0, NULL,
        "dynamic thresholding (Saharia et al. 2022): this quantile of the absolute predicted data of a "
        "sample, where it is above 1, is scaled to 1 and the rest clipped; 0.995 is usual for pictures, 0: "
        "none"),
    PIPE_FLOAT(pipei_sampler_common, threshold_max, 0.0, 0.0, 1e6, NULL,
               "largest value that `threshold` scales to 1; lower clips more and scales less; 0: any"),
    PIPE_BOOL(
        pipei_sampler_common, denoise_last, false,
        "replace the last samples by the clean data predicted from them; for grids that end above noise 0"),
    PIPE_PARAM_END};

/* ---- which grid uses which parameter ---- */
#define BIT(grid) (1u << PIPEI_GRID_##grid)
enum {
    POWERS = BIT(KARRAS) | BIT(LU) | BIT(POLYEXPONENTIAL),
    SPACED = POWERS | BIT(LOG_SNR) | BIT(EXPONENTIAL) | BIT(BETA), /* between two values of rho */
    STEPPED = BIT(LINSPACE) | BIT(LEADING) | BIT(TRAILING),
    TIMED = BIT(LINSPACE) | BIT(SGM_UNIFORM),
    ENDED = (1u << PIPEI_GRIDS) - 1u - BIT(UNIFORM) - BIT(QUADRATIC) - BIT(CUSTOM)
};

static const struct {
    const char *param;
    uint32_t grids;
} users[] = {
    {"rho", POWERS},
    {"ratio_min", SPACED},
    {"ratio_max", SPACED | STEPPED | BIT(UNIFORM) | BIT(QUADRATIC) | BIT(SGM_UNIFORM)},
    {"grid_in", BIT(KARRAS) | BIT(EXPONENTIAL) | BIT(POLYEXPONENTIAL) | BIT(BETA)},
    {"time_min", TIMED},
    {"whole_steps", BIT(LINSPACE)},
    {"steps_offset", BIT(LEADING)},
    {"extra_point", BIT(LINSPACE) | BIT(LEADING)},
    {"beta_a", BIT(BETA)},
    {"beta_b", BIT(BETA)},
    {"terminal", TIMED},
    {"final", ENDED},
    {"times", BIT(CUSTOM)},
    {"ratios", BIT(CUSTOM)},
    {"lambdas", BIT(CUSTOM)},
};

static const pipe_rule rules[] = {{.name = "clip", .excludes = "threshold"},
                                  {.name = "threshold_max", .needs = "threshold"},
                                  {.name = "times", .excludes = "ratios|lambdas"},
                                  {.name = "ratios", .excludes = "lambdas"},
                                  PIPE_RULE_END};

pipe_sampler *pipei_sampler_inmost(pipe_sampler *s)
{
    while (s->plugin->sampler.inner)
        s = s->plugin->sampler.inner(s->state);
    return s;
}

/* A parameter that would do nothing is refused, unless it has its default: the resolved
 * pipeline of a run writes out all of them. */
static pipe_status check_unused(const pipei_sampler_common *c, pipei_is_given given, const void *arg,
                                const char **at, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text names = {0};

    for (size_t u = 0; u < sizeof users / sizeof users[0]; u++) {
        if ((users[u].grids & (1u << c->grid)) || !given(arg, users[u].param))
            continue;
        for (size_t g = 0; g < PIPEI_GRIDS; g++)
            if (users[u].grids & (1u << g))
                pipe_text_addf(&names, "%s%s", names.length ? ", " : "", pipei_grid_names[g]);
        *at = users[u].param;
        return pipe_fail(err, PIPE_EINVAL,
                         "`%s` is given, but `grid: %s` does not use it; it belongs to %s", users[u].param,
                         pipei_grid_names[c->grid], names.data);
    }
    return PIPE_OK;
}

static pipe_status check_list(const pipe_floats *list, const char *name, bool rises, const char **at,
                              pipe_error *err)
{
    *at = name;
    if (list->n == 1)
        return pipe_fail(err, PIPE_EINVAL, "`%s`: a grid has at least two points", name);
    for (size_t i = 1; i < list->n; i++)
        if (!(rises ? list->v[i] > list->v[i - 1] : list->v[i] < list->v[i - 1]))
            return pipe_fail(err, PIPE_EINVAL, "`%s` must %s, but %g comes behind %g", name,
                             rises ? "rise" : "fall", list->v[i], list->v[i - 1]);
    return PIPE_OK;
}

pipe_status pipei_sampler_check(const pipei_sampler_common *c, bool around, pipei_is_given given,
                                const void *arg, const char **at, pipe_error *err)
{
    const char *unwanted;

    if (!at)
        at = &unwanted;
    for (const pipe_param *row = pipei_sampler_params; around && row->name; row++)
        if (given(arg, row->name)) {
            *at = row->name;
            return pipe_fail(err, PIPE_EINVAL,
                             "`%s` is given, but grid and options are those of the sampler inside; give it to "
                             "that one",
                             row->name);
        }
    PIPE_TRY(pipei_rules_check(rules, given, arg, at, err));
    PIPE_TRY(check_unused(c, given, arg, at, err));
    PIPE_TRY(check_list(&c->times, "times", false, at, err));
    PIPE_TRY(check_list(&c->ratios, "ratios", false, at, err));
    PIPE_TRY(check_list(&c->lambdas, "lambdas", true, at, err));
    *at = "grid";
    if (c->grid == PIPEI_GRID_CUSTOM && c->times.n + c->ratios.n + c->lambdas.n == 0)
        return pipe_fail(err, PIPE_EINVAL, "`grid: custom` needs a list: `times`, `ratios` or `lambdas`");
    *at = "ratio_min";
    if (c->ratio_max > 0.0 && c->ratio_min >= c->ratio_max)
        return pipe_fail(err, PIPE_EINVAL, "`ratio_min` %g is not below `ratio_max` %g", c->ratio_min,
                         c->ratio_max);
    return PIPE_OK;
}
