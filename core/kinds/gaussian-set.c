/* Sets of Gaussians on the host: from covariances, to data sets and back. */
#include "core/run/object.h"

#include <pipe/gaussian.h>
#include <pipe/linalg.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MEAN, AXES, EIGENVALUES, RESIDUAL, WEIGHT, LABEL, FIELDS };

static const char *const field_names[FIELDS] = {"mean", "axes", "eigenvalues", "residual", "weight", "label"};

pipe_status pipe_gaussian_set_alloc(pipe_gaussian_set *s, bool labels, pipe_error *err)
{
    const int64_t d = pipe_shape_count(&s->sample);
    size_t axes;

    if (s->count < 1 || d < 1 || s->rank < 0 || s->rank > d)
        return pipe_fail(err, PIPE_EINVAL,
                         "%" PRId64 " Gaussians with %" PRId64 " axes in %" PRId64
                         " dimensions: at least one Gaussian, and at most as many axes as dimensions",
                         s->count, s->rank, d);
    const size_t k = (size_t)s->count, r = (size_t)s->rank;
    if (!pipe_mul_size(k, (size_t)d, &axes) || !pipe_mul_size(axes, (r + 1) * sizeof(float), &axes) ||
        !(s->axes = pipe_try_alloc(axes)))
        return pipe_fail(err, PIPE_ENOMEM,
                         "no memory for %" PRId64 " axes of %" PRId64 " Gaussians in %" PRId64
                         " dimensions: a lower `rank` needs less",
                         s->rank, s->count, d);
    s->mean = pipe_alloc_array(k * (size_t)d, sizeof *s->mean);
    s->eigenvalues = pipe_alloc_array(k * r + 1, sizeof *s->eigenvalues);
    s->residual = pipe_alloc_array(k, sizeof *s->residual);
    s->weight = pipe_alloc_array(k, sizeof *s->weight);
    s->label = labels ? pipe_alloc_array(k, sizeof *s->label) : NULL;
    return PIPE_OK;
}

void pipe_gaussian_set_free(pipe_gaussian_set *s)
{
    pipe_free(s->mean);
    pipe_free(s->axes);
    pipe_free(s->eigenvalues);
    pipe_free(s->residual);
    pipe_free(s->weight);
    pipe_free(s->label);
    s->mean = s->axes = s->eigenvalues = s->residual = s->weight = NULL;
    s->label = NULL;
}

pipe_status pipe_gaussian_set_row(pipe_gaussian_set *s, int64_t k, const double *mean, double *covariance,
                                  pipe_error *err)
{
    const size_t d = (size_t)pipe_shape_count(&s->sample), r = (size_t)s->rank;
    PIPE_CLEANUP(pipe_free_ptr) double *values = pipe_alloc_array(d, sizeof *values);
    float *axes = s->axes + (size_t)k * r * d;
    double left = 0.0;

    PIPE_TRY(pipe_eigen_symmetric(covariance, d, true, values, err)); /* row j: the axis of values[j] */
    const double most = fmax(fabs(values[0]), fabs(values[d - 1]));
    for (size_t j = 0; j < d; j++) {
        /* of a singular matrix rounding makes some that are hardly below 0 */
        if (!(values[j] >= -1e-12 * (double)d * most))
            return pipe_fail(err, PIPE_EDOMAIN,
                             "the covariance of component %" PRId64 " has the negative eigenvalue %g", k,
                             values[j]);
        values[j] = fmax(values[j], 0.0);
    }
    for (size_t i = 0; i < d; i++)
        s->mean[(size_t)k * d + i] = (float)mean[i];
    for (size_t j = 0; j < r; j++) { /* ascending in `values`, falling here */
        s->eigenvalues[(size_t)k * r + j] = (float)values[d - 1 - j];
        for (size_t i = 0; i < d; i++)
            axes[j * d + i] = (float)covariance[(d - 1 - j) * d + i];
    }
    for (size_t j = 0; j + r < d; j++)
        left += values[j];
    s->residual[k] = r < d ? (float)(left / (double)(d - r)) : 0.0f;
    return PIPE_OK;
}

/* ---- as data sets ---- */
static size_t bytes_of(const pipe_gaussian_set *s, int f)
{
    const int64_t d = pipe_shape_count(&s->sample);
    const int64_t numbers[FIELDS] = {
        s->count * d, s->count * s->rank * d, s->count * s->rank, s->count, s->count, s->count};

    return (size_t)numbers[f] * 4;
}

pipe_status pipe_gaussian_set_dataset(const pipe_gaussian_set *s, pipe_context *ctx, pipe_dataset **out,
                                      pipe_error *err)
{
    const int64_t d = pipe_shape_count(&s->sample);
    const pipe_shape shape[FIELDS] = {s->sample, PIPE_SHAPE(s->rank, d), PIPE_SHAPE(s->rank)};
    const void *const data[FIELDS] = {s->mean, s->axes, s->eigenvalues, s->residual, s->weight, s->label};
    pipe_dataset_info info = {
        .size = sizeof info, .count = (uint64_t)s->count, .n_fields = s->label ? FIELDS : LABEL};

    for (size_t f = 0; f < info.n_fields; f++) {
        info.field[f] = (pipe_field){.shape = shape[f], .dtype = f == LABEL ? PIPE_I32 : PIPE_F32};
        memcpy(info.field[f].name, field_names[f], strlen(field_names[f]) + 1);
    }
    for (int64_t k = 0; s->label && k < s->count; k++)
        if (s->label[k] >= info.field[LABEL].classes)
            info.field[LABEL].classes = s->label[k] + 1;
    PIPE_TRY(pipe_dataset_new(ctx, &info, out, err));
    for (size_t f = 0; f < info.n_fields; f++)
        memcpy(pipe_dataset_data(*out, f), data[f], bytes_of(s, (int)f));
    return PIPE_OK;
}

/* Reads a field, whose shape must be `shape`, of all rows. */
static pipe_status read_field(pipe_dataset *d, const pipe_dataset_info *info, int f, const pipe_shape *shape,
                              void *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) uint64_t *index = pipe_alloc_array(info->count, sizeof *index);
    char got[PIPE_SHAPE_TEXT], want[PIPE_SHAPE_TEXT];
    size_t k;

    PIPE_TRY(pipe_dataset_need(d, info, field_names[f], &k, err));
    if (!pipe_shape_equal(&info->field[k].shape, shape) ||
        info->field[k].dtype != (f == LABEL ? PIPE_I32 : PIPE_F32))
        return pipe_fail(err, PIPE_ESHAPE, "%s: field `%s` has the shape %s; a set of Gaussians has %s",
                         pipe_object_name(d), field_names[f],
                         pipe_shape_text(&info->field[k].shape, got, sizeof got),
                         pipe_shape_text(shape, want, sizeof want));
    for (uint64_t i = 0; i < info->count; i++)
        index[i] = i;
    return pipe_dataset_read(
        d, &(pipe_dataset_request){.size = sizeof(pipe_dataset_request), .index = index, .n = info->count}, k,
        out, err);
}

static pipe_status read_all(pipe_dataset *d, pipe_gaussian_set *s, pipe_error *err)
{
    pipe_dataset_info info;
    size_t mean, axes;

    PIPE_TRY(pipe_dataset_describe(d, &info, err));
    PIPE_TRY(pipe_dataset_need(d, &info, "mean", &mean, err));
    PIPE_TRY(pipe_dataset_need(d, &info, "axes", &axes, err));
    s->sample = info.field[mean].shape;
    s->count = (int64_t)info.count;
    s->rank = info.field[axes].shape.dim[0];
    PIPE_TRY(pipe_gaussian_set_alloc(s, pipe_dataset_field(&info, "label") >= 0, err));
    const int64_t size = pipe_shape_count(&s->sample);
    const pipe_shape shape[FIELDS] = {s->sample, PIPE_SHAPE(s->rank, size), PIPE_SHAPE(s->rank)};
    void *const data[FIELDS] = {s->mean, s->axes, s->eigenvalues, s->residual, s->weight, s->label};
    for (int f = 0; f < FIELDS; f++)
        if (data[f])
            PIPE_TRY(read_field(d, &info, f, &shape[f], data[f], err));
    return PIPE_OK;
}

static pipe_status check_numbers(const pipe_gaussian_set *s, const char *name, pipe_error *err)
{
    const size_t k = (size_t)s->count, r = (size_t)s->rank, d = (size_t)pipe_shape_count(&s->sample);
    const struct {
        const float *v;
        size_t n;
        bool negative; /* may be */
    } arrays[] = {{s->mean, k * d, true},
                  {s->axes, k * r * d, true},
                  {s->eigenvalues, k * r, false},
                  {s->residual, k, false},
                  {s->weight, k, false}};

    for (int f = 0; f < (int)(sizeof arrays / sizeof *arrays); f++)
        for (size_t i = 0; i < arrays[f].n; i++)
            if (!isfinite(arrays[f].v[i]) || (!arrays[f].negative && arrays[f].v[i] < 0.0f))
                return pipe_fail(err, PIPE_EDOMAIN, "%s: number %zu of field `%s` is %g", name, i,
                                 field_names[f], (double)arrays[f].v[i]);
    return PIPE_OK;
}

/* Keeps the first `rank` axes of each row, in place; what is left out is spread over the other directions. */
static void cut(pipe_gaussian_set *s, int64_t rank, bool spread)
{
    const int64_t d = pipe_shape_count(&s->sample), had = s->rank;

    for (int64_t k = 0; k < s->count; k++) {
        double left = (double)s->residual[k] * (double)(d - had);
        for (int64_t j = rank; j < had; j++)
            left += (double)s->eigenvalues[k * had + j];
        s->residual[k] = spread && rank < d ? (float)(left / (double)(d - rank)) : 0.0f;
        memmove(s->axes + k * rank * d, s->axes + k * had * d, (size_t)(rank * d) * sizeof *s->axes);
        memmove(s->eigenvalues + k * rank, s->eigenvalues + k * had, (size_t)rank * sizeof *s->eigenvalues);
    }
    s->rank = rank;
}

static void copy_row(pipe_gaussian_set *s, int64_t to, int64_t from)
{
    const int64_t d = pipe_shape_count(&s->sample), r = s->rank;

    memmove(s->mean + to * d, s->mean + from * d, (size_t)d * sizeof *s->mean);
    memmove(s->axes + to * r * d, s->axes + from * r * d, (size_t)(r * d) * sizeof *s->axes);
    memmove(s->eigenvalues + to * r, s->eigenvalues + from * r, (size_t)r * sizeof *s->eigenvalues);
    s->residual[to] = s->residual[from];
    s->weight[to] = s->weight[from];
    if (s->label)
        s->label[to] = s->label[from];
}

pipe_status pipe_gaussian_set_read(pipe_dataset *d, int64_t rank, bool spread, bool components,
                                   pipe_gaussian_set *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_gaussian_set_free) pipe_gaussian_set s = {.size = sizeof s};
    int64_t kept = 0;

    PIPE_TRY(read_all(d, &s, err));
    PIPE_TRY(check_numbers(&s, pipe_object_name(d), err));
    if (rank > s.rank)
        return pipe_fail(err, PIPE_EINVAL, "rank: %" PRId64 " axes are asked for; %s holds %" PRId64, rank,
                         pipe_object_name(d), s.rank);
    cut(&s, rank < 0 ? s.rank : rank, spread);
    for (int64_t k = 0; components && k < s.count; k++)
        if (s.weight[k] > 0.0f)
            copy_row(&s, kept++, k);
    if (components)
        s.count = kept;
    if (s.count == 0)
        return pipe_fail(err, PIPE_EINVAL, "%s: no component has a weight above 0", pipe_object_name(d));
    *out = s;
    s = (pipe_gaussian_set){.size = sizeof s};
    return PIPE_OK;
}
