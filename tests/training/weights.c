/* Weights of noise levels in objective.denoise: with one sample the loss is the weight
 * times the squared error, whose time is known. */
#include "data-plugins/data-test.h"

#include <math.h>
#include <pipe/objective.h>

static double loss_of(const char *weighting, pipe_object *schedule, pipe_object *model, pipe_dataset *data,
                      pipe_context *ctx, uint64_t step, double *t)
{
    const pipei_named_object inputs[] = {{"schedule", schedule}, {NULL, NULL}};
    const char *const params[] = {"predict", "x0", "weighting", weighting, "sigma_data", "0.8", NULL};
    pipe_object *o = test_object("objective", "objective.denoise", params, inputs);
    const pipe_time_density uniform = {.size = sizeof uniform};
    pipe_error err = PIPE_ERROR_INIT;
    pipe_batch *b = NULL;
    float loss;

    OK(pipe_batch_new(ctx, data, 1, step, &b, &err));
    OK(pipe_training_times(&uniform, schedule, b, true, t, &err));
    OK(pipe_read_f32(pipe_objective_loss(o, model, b), &loss, 1, &err));
    pipe_batch_free(b);
    pipe_object_unref(o);
    return loss;
}

Test(weights, follow_their_definitions)
{
    static const char *const names[] = {"min-snr", "truncated-snr", "snr+1", "edm", "elbo"};
    static const float x[] = {0.7f, -0.4f};
    pipe_object *schedule = test_object("schedule", "schedule.linear", NULL, NULL);
    const pipei_named_object inputs[] = {{"schedule", schedule}, {NULL, NULL}};
    pipe_object *model = test_object("denoiser", "denoiser.gaussian-mixture",
                                     (const char *const[]){"means", "[0, 0]", NULL}, inputs);
    pipe_dataset *data = data_make(PIPE_SHAPE(2), 1, x, NULL, 0);
    pipe_context *ctx = data_context(NULL);

    for (uint64_t step = 1; step <= 6; step++) {
        double t, unweighted = loss_of("none", schedule, model, data, ctx, step, &t);
        const pipe_schedule_point p = pipe_schedule_at(schedule, t);
        const double snr = p.alpha * p.alpha / (p.sigma * p.sigma);
        /* half the derivative of the SNR: from lambda on either side */
        const double h = 1e-6, slope = (exp(2.0 * pipe_schedule_lambda(schedule, t - h)) -
                                        exp(2.0 * pipe_schedule_lambda(schedule, t - 3.0 * h))) /
                                       (2.0 * h);
        const double want[] = {fmin(snr, 5.0), fmax(snr, 1.0), snr + 1.0, snr + 1.0 / 0.64, -0.5 * slope};
        for (size_t k = 0; k < COUNT(names); k++) {
            double same;
            const double got = loss_of(names[k], schedule, model, data, ctx, step, &same) / unweighted;
            cr_expect_eq(same, t);
            /* a discrete schedule has a kink at its steps: the slope below it differs a little */
            cr_expect_float_eq(got, want[k], (k == 4 ? 0.05 : 1e-4) * want[k], "%s at t = %g: %g, not %g",
                               names[k], t, got, want[k]);
        }
    }
    pipe_object_unref(data);
    pipe_object_unref(model);
    pipe_object_unref(schedule);
}
