/* Denoisers: description, dispatch, and conversions between what they predict.
 *
 * Every parameterization is linear: output F and x determine x0 and eps, so a
 * conversion is  want = cx x + cf F  with coefficients in alpha, sigma and
 * their derivatives (Lai et al. 2025, arXiv:2510.21890, table of conversions).
 * They are computed on the host when the whole batch shares one level and as
 * [n] tensors otherwise, by the same formulas on `number`. */
#include "core/kinds/kinds.h"

#include <math.h>
#include <string.h>

const char *const pipe_prediction_names[] = {"eps", "x0", "v", "score", "flow", "edm", "trigflow", NULL};

const char *const pipe_variance_names[] = {"none", "range", "log", NULL};

const char *pipe_prediction_name(pipe_prediction p)
{
    return p >= PIPE_PREDICT_EPS && p <= PIPE_PREDICT_TRIGFLOW ? pipe_prediction_names[p - PIPE_PREDICT_EPS]
                                                               : "nothing known yet";
}

pipe_status pipe_denoiser_describe(pipe_denoiser *d, pipe_denoiser_info *info, pipe_error *err)
{
    *info = d->declared;
    info->size = sizeof *info;
    if (info->sigma_data == 0.0)
        info->sigma_data = 0.5;
    return d->plugin->denoiser.describe ? d->plugin->denoiser.describe(d->state, info, err) : PIPE_OK;
}

pipe_status pipe_denoiser_declare(pipe_denoiser *d, pipe_prediction predicts, pipe_schedule *schedule,
                                  const pipe_shape *sample, double sigma_data, pipe_error *err)
{
    if (strcmp(d->kind, PIPE_KIND_DENOISER) != 0)
        return pipe_fail(err, PIPE_EINVAL, "%s is of kind %s; a denoiser is needed", d->name, d->kind);
    if (predicts == PIPE_PREDICT_NONE || !schedule)
        return pipe_fail(err, PIPE_EINVAL, "%s: a prediction and a schedule must be declared", d->name);
    pipe_object_ref(schedule);
    if (d->declared.schedule)
        pipe_object_unref(d->declared.schedule);
    d->declared.size = sizeof d->declared;
    d->declared.predicts = predicts;
    d->declared.schedule = schedule;
    d->declared.sample = *sample;
    d->declared.sigma_data = sigma_data;
    return PIPE_OK;
}

pipe_tensor *pipe_layer_label(pipe_model *m, const char *name, pipe_tensor *e, const pipe_condition *c,
                              int64_t classes, pipe_init init)
{
    pipe_tensor *labels = c ? c->labels : NULL;

    if (classes == 0)
        return e;
    if (!labels) /* -1 counts from the end: the last row */
        labels = pipe_to_i32(pipe_full(pipe_model_engine(m), PIPE_SHAPE(pipe_dim(e, 0)), -1.0));
    return pipe_add(e, pipe_gather(pipe_weight(m, pipe_name(m, "%s.weight", name),
                                               PIPE_SHAPE(classes + 1, pipe_dim(e, 1)), init),
                                   labels));
}

uint64_t pipe_denoiser_evaluations(const pipe_denoiser *d)
{
    return d->evaluations;
}

/* Has y the shape of x, with a last axis twice as long? */
static bool is_doubled(const pipe_tensor *y, const pipe_tensor *x)
{
    pipe_shape want = *pipe_tensor_shape(x);

    if (want.rank < 2)
        return false;
    want.dim[want.rank - 1] *= 2;
    return pipe_shape_equal(pipe_tensor_shape(y), &want);
}

/* Leaves the prediction of an output that holds a variance too. */
static pipe_tensor *without_variance(pipe_tensor *y, const pipe_condition *c)
{
    const int last = (int)pipe_rank(y) - 1;
    const int64_t half = pipe_dim(y, last) / 2;

    if (c && c->variance && !*c->variance)
        *c->variance = pipe_slice(y, last, half, half, 1);
    return pipe_slice(y, last, 0, half, 1);
}

pipe_tensor *pipe_denoise(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l, const pipe_condition *c)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    if (c && c->perturbation && pipei_perturbation_check(d, c->perturbation, &err) != PIPE_OK)
        return pipe_object_poison(d, err.status, "%s", err.message);
    if (pipe_check(x, NULL) == PIPE_OK)
        d->evaluations += (uint64_t)pipe_dim(x, 0);
    pipe_tensor *y = d->plugin->denoiser.predict(d->state, d->model, x, l, c);
    if (pipe_check(y, NULL) == PIPE_OK && !pipe_shape_equal(pipe_tensor_shape(y), pipe_tensor_shape(x))) {
        if (is_doubled(y, x) && pipe_denoiser_describe(d, &info, &err) == PIPE_OK &&
            info.variance != PIPE_VARIANCE_NONE)
            return without_variance(y, c);
        char got[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
        return pipe_object_poison(d, PIPE_EPLUGIN,
                                  "%s predicted a tensor of shape %s from samples of shape %s",
                                  d->plugin->name, pipe_shape_text(pipe_tensor_shape(y), got, sizeof got),
                                  pipe_shape_text(pipe_tensor_shape(x), want, sizeof want));
    }
    return y;
}

/* ---- a number known on the host, or one per row on the device ---- */
typedef struct number {
    double v;
    pipe_tensor *t; /* NULL: v */
} number;

static number host(double v)
{
    return (number){.v = v};
}

static number add(number a, number b)
{
    if (!a.t && !b.t)
        return host(a.v + b.v);
    if (a.t && b.t)
        return (number){.t = pipe_add(a.t, b.t)};
    return a.t ? (number){.t = pipe_affine(a.t, 1.0, b.v)} : (number){.t = pipe_affine(b.t, 1.0, a.v)};
}

static number mul(number a, number b)
{
    if (!a.t && !b.t)
        return host(a.v * b.v);
    if (a.t && b.t)
        return (number){.t = pipe_mul(a.t, b.t)};
    return a.t ? (number){.t = pipe_scale(a.t, b.v)} : (number){.t = pipe_scale(b.t, a.v)};
}

static number inverse(number a)
{
    return a.t ? (number){.t = pipe_reciprocal(a.t)} : host(1.0 / a.v);
}

static number root(number a)
{
    return a.t ? (number){.t = pipe_sqrt(a.t)} : host(sqrt(a.v));
}

static number neg(number a)
{
    return mul(a, host(-1.0));
}

static number sub(number a, number b)
{
    return add(a, neg(b));
}

static number quotient(number a, number b)
{
    return mul(a, inverse(b));
}

/* ---- x0, eps and predictions as linear functions of X and F ---- */
typedef struct levels {
    number a, s, da, ds, sd;
} levels;
typedef struct linear {
    number x, f;
} linear; /* x X + f F */

/* c_skip x / alpha + c_out F of Karras et al. 2022, as factors of X and F.  TrigFlow's x0 = cos(t) x - sin(t)
 * sigma_data F, with x scaled to its own schedule, where tan t = rho / sigma_data, is the same with the other
 * sign of F. */
static linear preconditioned(pipe_prediction p, const levels *l)
{
    const number rho = quotient(l->s, l->a), sd2 = mul(l->sd, l->sd), sum = add(mul(rho, rho), sd2);

    const number out = quotient(mul(rho, l->sd), root(sum));

    return (linear){.x = quotient(quotient(sd2, sum), l->a),
                    .f = p == PIPE_PREDICT_TRIGFLOW ? neg(out) : out};
}

static linear combine(number p, linear a, number q, linear b)
{
    return (linear){.x = add(mul(p, a.x), mul(q, b.x)), .f = add(mul(p, a.f), mul(q, b.f))};
}

static linear times(number p, linear a)
{
    return (linear){.x = mul(p, a.x), .f = mul(p, a.f)};
}

static void decompose(pipe_prediction from, const levels *l, linear *x0, linear *eps)
{
    const linear x = {host(1.0), host(0.0)}, f = {host(0.0), host(1.0)};

    switch (from) {
    case PIPE_PREDICT_V: {
        const number norm = inverse(add(mul(l->a, l->a), mul(l->s, l->s)));
        *x0 = combine(mul(l->a, norm), x, neg(mul(l->s, norm)), f);
        *eps = combine(mul(l->s, norm), x, mul(l->a, norm), f);
        return;
    }
    case PIPE_PREDICT_FLOW: {
        const number w = inverse(sub(mul(l->a, l->ds), mul(l->da, l->s)));
        *x0 = combine(mul(l->ds, w), x, neg(mul(l->s, w)), f);
        *eps = combine(mul(l->a, w), f, neg(mul(l->da, w)), x);
        return;
    }
    case PIPE_PREDICT_EPS:
    case PIPE_PREDICT_SCORE:
        *eps = from == PIPE_PREDICT_EPS ? f : times(neg(l->s), f);
        *x0 = combine(inverse(l->a), x, neg(quotient(l->s, l->a)), *eps);
        return;
    default:
        *x0 = from == PIPE_PREDICT_X0 ? f : preconditioned(from, l);
        *eps = combine(inverse(l->s), x, neg(quotient(l->a, l->s)), *x0);
        return;
    }
}

static linear compose(pipe_prediction to, const levels *l, linear x0, linear eps)
{
    switch (to) {
    case PIPE_PREDICT_EPS:
        return eps;
    case PIPE_PREDICT_X0:
        return x0;
    case PIPE_PREDICT_V:
        return combine(l->a, eps, neg(l->s), x0);
    case PIPE_PREDICT_SCORE:
        return times(neg(inverse(l->s)), eps);
    case PIPE_PREDICT_FLOW:
        return combine(l->da, x0, l->ds, eps);
    default: {
        const linear d = preconditioned(to, l), x = {host(1.0), host(0.0)};
        return combine(inverse(d.f), x0, neg(quotient(d.x, d.f)), x);
    }
    }
}

static pipe_tensor *per_row(number c, pipe_tensor *x)
{
    return c.t ? pipe_mul(pipe_per_sample(c.t, x), x) : pipe_scale(x, c.v);
}

static linear conversion(pipe_prediction from, pipe_prediction to, const levels *l)
{
    linear x0, eps;

    decompose(from, l, &x0, &eps);
    return compose(to, l, x0, eps);
}

void pipe_conversion_at(pipe_prediction from, pipe_prediction to, const pipe_schedule_point *p,
                        double sigma_data, double *x, double *output)
{
    const levels l = {host(p->alpha), host(p->sigma), host(p->dalpha), host(p->dsigma), host(sigma_data)};
    const linear c = conversion(from, to, &l);

    *x = from == to ? 0.0 : c.x.v; /* exactly, also where other predictions are not determined */
    *output = from == to ? 1.0 : c.f.v;
}

pipe_tensor *pipe_convert_prediction(pipe_tensor *output, pipe_prediction from, pipe_prediction to,
                                     pipe_tensor *x, const pipe_level *l, double sigma_data)
{
    double cx, cf;

    if (from == PIPE_PREDICT_NONE || to == PIPE_PREDICT_NONE)
        return pipe_poison(pipe_tensor_engine(x), PIPE_EINVAL,
                           "it is not known what the model predicts: train it first");
    if (from == to)
        return output;
    if (!l->uniform) {
        const levels v = {{0, l->alpha}, {0, l->sigma}, {0, l->dalpha}, {0, l->dsigma}, host(sigma_data)};
        const linear want = conversion(from, to, &v);
        return pipe_add(per_row(want.x, x), per_row(want.f, output));
    }
    pipe_conversion_at(from, to, &l->point, sigma_data, &cx, &cf);
    if (!isfinite(cx) || !isfinite(cf))
        return pipe_poison(
            pipe_tensor_engine(x), PIPE_EDOMAIN,
            "%s cannot be had from %s at t = %g (alpha = %g, sigma = %g): it is not determined there",
            pipe_prediction_name(to), pipe_prediction_name(from), l->point.t, l->point.alpha, l->point.sigma);
    return pipe_axpby(cx, x, cf, output);
}

pipe_tensor *pipe_predict(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l, const pipe_condition *c,
                          pipe_prediction want)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;

    if (pipe_denoiser_describe(d, &info, &err) != PIPE_OK)
        return pipe_object_poison(d, err.status, "%s", err.message);
    if (info.predicts == PIPE_PREDICT_NONE)
        return pipe_object_poison(
            d, PIPE_EINVAL, "it is not known what %s predicts: train it first (step `fit`)", d->plugin->name);
    return pipe_convert_prediction(pipe_denoise(d, x, l, c), info.predicts, want, x, l, info.sigma_data);
}

pipe_status pipei_denoiser_time_of_ratio(const char *denoiser, pipe_schedule *own, double ratio, double *t,
                                         pipe_error *err)
{
    pipe_schedule_info range;

    *t = pipe_schedule_time_of(own, -log(ratio));
    const pipe_schedule_point p = pipe_schedule_at(own, *t);
    if (ratio > 0.0 && fabs(p.sigma - ratio * p.alpha) <= 1e-6 * p.sigma)
        return PIPE_OK;
    /* an end of the schedule, where it does not reach so far */
    PIPE_TRY(pipe_schedule_describe(own, &range, err));
    return pipe_fail(err, PIPE_EDOMAIN, "%s: sigma / alpha = %g is outside its schedule's range, %g to %g",
                     denoiser, ratio, exp(-pipe_schedule_lambda(own, range.t_min)),
                     exp(-pipe_schedule_lambda(own, range.t_max)));
}

pipe_tensor *pipe_predict_x0_of_ratio(pipe_denoiser *d, pipe_tensor *x, double ratio, const pipe_condition *c)
{
    pipe_denoiser_info info;
    pipe_error err = PIPE_ERROR_INIT;
    double t;

    if (pipe_denoiser_describe(d, &info, &err) != PIPE_OK)
        return pipe_object_poison(d, err.status, "%s", err.message);
    if (!info.schedule)
        return pipe_object_poison(
            d, PIPE_EINVAL, "it is not known under which schedule %s works: train it first (step `fit`)",
            d->plugin->name);
    if (pipei_denoiser_time_of_ratio(d->name, info.schedule, ratio, &t, &err) != PIPE_OK)
        return pipe_poison(pipe_tensor_engine(x), err.status, "%s", err.message);
    const pipe_level l = pipe_level_uniform(info.schedule, pipe_tensor_engine(x), pipe_dim(x, 0), t);
    return pipe_predict(d, pipe_scale(x, l.point.alpha), &l, c, PIPE_PREDICT_X0);
}
