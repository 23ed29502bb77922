/* The time grid that all samplers share: the parameters `steps`, `grid`, ... */
#include "core/kinds/kinds.h"

#include <math.h>
#include <string.h>

/* The smallest sigma / alpha at which an eps- or v-network was trained. */
static double smallest_ratio(pipe_schedule *s, const pipe_schedule_info *info, double asked)
{
    if (asked > 0.0)
        return asked;
    return info->discrete > 0 ? exp(-pipe_schedule_lambda(s, 1.0 / (double)info->discrete)) : 0.002;
}

pipe_status pipe_sampler_grid(pipe_sampler *sampler, pipe_schedule *schedule, double **t, size_t *steps,
                              pipe_error *err)
{
    const pipei_sampler_common *c = pipei_object_common(sampler);
    PIPE_CLEANUP(pipe_free_ptr) double *grid = NULL;
    pipe_schedule_info info;
    size_t n = (size_t)c->steps;

    PIPE_TRY(pipe_schedule_describe(schedule, &info, err));
    if (c->grid != PIPEI_GRID_CUSTOM && c->times.n > 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: `times` is given, but only `grid: custom` uses it",
                         sampler->name);
    if (c->grid == PIPEI_GRID_CUSTOM) {
        if (c->times.n < 2)
            return pipe_fail(err, PIPE_EINVAL, "%s: grid custom needs at least two times, not %zu",
                             sampler->name, c->times.n);
        n = c->times.n - 1;
    }
    grid = pipe_alloc_array(n + 1, sizeof *grid);
    if (c->grid == PIPEI_GRID_CUSTOM)
        memcpy(grid, c->times.v, (n + 1) * sizeof *grid);
    else
        grid[n] = info.t_min;
    if (c->grid == PIPEI_GRID_UNIFORM || c->grid == PIPEI_GRID_QUADRATIC) {
        for (size_t i = 0; i < n; i++) {
            const double left = 1.0 - (double)i / (double)n; /* 1 at the noisiest point */
            grid[i] = info.t_min +
                      (info.t_start - info.t_min) * (c->grid == PIPEI_GRID_QUADRATIC ? left * left : left);
        }
    } else if (c->grid != PIPEI_GRID_CUSTOM) {
        /* n points in rho = sigma / alpha from the start down to the smallest, then the end of the schedule
         */
        const double low = smallest_ratio(schedule, &info, c->ratio_min);
        double high = exp(-pipe_schedule_lambda(schedule, info.t_start));
        if (!isfinite(high)) /* alpha = 0 at the start (flow): begin in finite log-SNR, the first point stays
                                t_start */
            high = 1e4;
        if (!(low < high))
            return pipe_fail(err, PIPE_EINVAL,
                             "%s: ratio_min %g is not below the schedule's largest sigma / alpha %g",
                             sampler->name, low, high);
        for (size_t i = 0; i < n; i++) {
            const double r = n > 1 ? (double)i / (double)(n - 1) : 0.0;
            const double rho = c->grid == PIPEI_GRID_LOG_SNR
                                   ? exp(log(high) + r * (log(low) - log(high)))
                                   : pow(pow(high, 1.0 / c->rho) +
                                             r * (pow(low, 1.0 / c->rho) - pow(high, 1.0 / c->rho)),
                                         c->rho);
            grid[i] = i == 0 ? info.t_start : pipe_schedule_time_of(schedule, -log(rho));
        }
    }
    for (size_t i = 0; i <= n; i++) {
        if (!(grid[i] >= info.t_min && grid[i] <= info.t_max))
            return pipe_fail(err, PIPE_EINVAL,
                             "%s: time %g of the grid is outside the schedule's range %g to %g",
                             sampler->name, grid[i], info.t_min, info.t_max);
        if (i > 0 && !(grid[i] < grid[i - 1]))
            return pipe_fail(err, PIPE_EINVAL, "%s: the grid must fall, but point %zu is %g after %g",
                             sampler->name, i, grid[i], grid[i - 1]);
    }
    *t = grid;
    grid = NULL;
    *steps = n;
    return PIPE_OK;
}
