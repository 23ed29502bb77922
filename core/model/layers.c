/* Layers: named weights around operations.  Defaults are PyTorch's, so that
 * networks described elsewhere train here as they do there. */
#include "core/model/model.h"

#include <inttypes.h>
#include <math.h>

static pipe_tensor *part(pipe_model *m, const char *name, const char *what, pipe_shape shape, pipe_init init)
{
    return pipe_weight(m, pipe_name(m, "%s.%s", name, what), shape, init);
}

static pipe_init fan_in(int64_t n)
{
    return (pipe_init){.kind = PIPE_INIT_FAN_IN, .value = 1.0, .fan_in = n};
}

/* PyTorch draws biases like the weights; where a layer starts at zero, so does its bias. */
static pipe_init bias_init(pipe_init weight, int64_t n)
{
    return weight.kind == PIPE_INIT_FAN_IN ? fan_in(n) : (pipe_init){.kind = PIPE_INIT_ZEROS};
}

/* The layer cannot be: an input that is poisoned already says why. */
static pipe_tensor *refuse(pipe_model *m, const char *name, pipe_tensor *x, const char *reason)
{
    char shape[PIPE_SHAPE_TEXT];

    if (pipe_check(x, NULL) != PIPE_OK)
        return x ? x : pipe_poison(pipe_model_engine(m), PIPE_EINVAL, "layer %s: no input", name);
    return pipe_poison(pipe_model_engine(m), PIPE_ESHAPE, "layer %s%s: %s; its input is %s",
                       m->scope.length ? m->scope.data : "", name, reason,
                       pipe_shape_text(pipe_tensor_shape(x), shape, sizeof shape));
}

static bool usable(const pipe_tensor *x, uint32_t least_rank)
{
    return pipe_check(x, NULL) == PIPE_OK && pipe_rank(x) >= least_rank;
}

pipe_tensor *pipe_layer_linear_with(pipe_model *m, const char *name, pipe_tensor *x, int64_t out, bool bias,
                                    pipe_init init)
{
    if (!usable(x, 1))
        return refuse(m, name, x, "a linear layer needs at least one axis");
    const int64_t in = pipe_dim(x, -1);
    pipe_shape shape = *pipe_tensor_shape(x);
    pipe_tensor *w, *y;

    if (init.kind == PIPE_INIT_FAN_IN && init.fan_in == 0)
        init.fan_in = in;
    w = part(m, name, "weight", PIPE_SHAPE(in, out), init);
    /* one product of two matrices, whatever the leading axes */
    y = pipe_matmul(pipe_rank(x) == 2 ? x : pipe_reshape(x, PIPE_SHAPE(in ? pipe_count(x) / in : 0, in)), w,
                    false, false);
    if (bias)
        y = pipe_add(y, part(m, name, "bias", PIPE_SHAPE(out), bias_init(init, in)));
    shape.dim[shape.rank - 1] = out;
    return shape.rank == 2 ? y : pipe_reshape(y, shape);
}

pipe_tensor *pipe_layer_linear(pipe_model *m, const char *name, pipe_tensor *x, int64_t out)
{
    return pipe_layer_linear_with(m, name, x, out, true, fan_in(0));
}

pipe_tensor *pipe_layer_conv2d_with(pipe_model *m, const char *name, pipe_tensor *x, int64_t out,
                                    int64_t kernel, pipe_conv attr, bool bias, pipe_init init)
{
    if (!usable(x, 4) || pipe_rank(x) != 4)
        return refuse(m, name, x, "a convolution needs images [n, height, width, channels]");
    const int64_t in = pipe_dim(x, 3), groups = attr.groups ? attr.groups : 1;
    if (in % groups || out % groups)
        return refuse(m, name, x, "the channels cannot be divided into the groups");
    const int64_t fan = kernel * kernel * (in / groups);
    pipe_tensor *y;

    if (init.kind == PIPE_INIT_FAN_IN && init.fan_in == 0)
        init.fan_in = fan;
    y = pipe_conv2d(x, part(m, name, "weight", PIPE_SHAPE(kernel, kernel, in / groups, out), init), attr);
    if (bias)
        y = pipe_add(y, part(m, name, "bias", PIPE_SHAPE(out), bias_init(init, fan)));
    return y;
}

pipe_tensor *pipe_layer_conv2d(pipe_model *m, const char *name, pipe_tensor *x, int64_t out, int64_t kernel,
                               uint32_t stride)
{
    return pipe_layer_conv2d_with(m, name, x, out, kernel, PIPE_CONV(stride, (int32_t)(kernel / 2)), true,
                                  fan_in(0));
}

pipe_tensor *pipe_layer_conv1d(pipe_model *m, const char *name, pipe_tensor *x, int64_t out, int64_t kernel,
                               uint32_t stride, uint32_t dilation)
{
    if (!usable(x, 3) || pipe_rank(x) != 3)
        return refuse(m, name, x, "a convolution in one dimension needs sequences [n, length, channels]");
    const int64_t in = pipe_dim(x, 2), fan = kernel * in;
    const int32_t reach = (int32_t)((kernel - 1) * (dilation ? dilation : 1)), before = reach / 2;

    pipe_tensor *y = pipe_conv1d(x, part(m, name, "weight", PIPE_SHAPE(kernel, in, out), fan_in(fan)), stride,
                                 before, reach - before, dilation, 1);
    return pipe_add(y, part(m, name, "bias", PIPE_SHAPE(out), fan_in(fan)));
}

static pipe_tensor *gain(pipe_model *m, const char *name, int64_t c)
{
    return part(m, name, "weight", PIPE_SHAPE(c), (pipe_init){.kind = PIPE_INIT_ONES});
}

static pipe_tensor *zero_bias(pipe_model *m, const char *name, int64_t c)
{
    return part(m, name, "bias", PIPE_SHAPE(c), (pipe_init){.kind = PIPE_INIT_ZEROS});
}

pipe_tensor *pipe_layer_group_norm_with(pipe_model *m, const char *name, pipe_tensor *x, uint32_t groups,
                                        pipe_activation activation)
{
    if (!usable(x, 2))
        return refuse(m, name, x, "group norm needs samples and channels");
    const int64_t c = pipe_dim(x, -1);
    pipe_tensor *w = gain(m, name, c);
    return pipe_group_norm_affine(x, groups, 1e-5, w, zero_bias(m, name, c), activation);
}

pipe_tensor *pipe_layer_group_norm(pipe_model *m, const char *name, pipe_tensor *x, uint32_t groups)
{
    return pipe_layer_group_norm_with(m, name, x, groups, PIPE_ACTIVATION_NONE);
}

pipe_tensor *pipe_layer_layer_norm(pipe_model *m, const char *name, pipe_tensor *x)
{
    if (!usable(x, 1))
        return refuse(m, name, x, "layer norm needs an axis");
    const int64_t c = pipe_dim(x, -1);
    pipe_tensor *w = gain(m, name, c), *b = zero_bias(m, name, c);
    if (pipe_rank(x) == 1)
        return pipe_reshape(pipe_layer_norm_affine(pipe_reshape(x, PIPE_SHAPE(1, c)), 1e-5, w, b, PIPE_ACTIVATION_NONE),
                            PIPE_SHAPE(c));
    return pipe_layer_norm_affine(x, 1e-5, w, b, PIPE_ACTIVATION_NONE);
}

pipe_tensor *pipe_layer_rms_norm(pipe_model *m, const char *name, pipe_tensor *x)
{
    if (!usable(x, 1))
        return refuse(m, name, x, "RMS norm needs an axis");
    return pipe_mul(pipe_rms_norm(x, 1e-6), gain(m, name, pipe_dim(x, -1)));
}

pipe_tensor *pipe_layer_embedding(pipe_model *m, const char *name, pipe_tensor *index, int64_t rows,
                                  int64_t width)
{
    const pipe_init normal = {.kind = PIPE_INIT_NORMAL, .value = 1.0};

    return pipe_gather(part(m, name, "weight", PIPE_SHAPE(rows, width), normal), index);
}

/* [n, s, c] -> [n, s, heads, c / heads] */
static pipe_tensor *split_heads(pipe_tensor *x, int64_t heads)
{
    return pipe_reshape(x, PIPE_SHAPE(pipe_dim(x, 0), pipe_dim(x, 1), heads, pipe_dim(x, 2) / heads));
}

pipe_tensor *pipe_layer_attention(pipe_model *m, const char *name, pipe_tensor *x, pipe_tensor *context,
                                  int64_t heads, pipe_tensor *mask)
{
    if (!usable(x, 3) || pipe_rank(x) != 3)
        return refuse(m, name, x, "attention needs sequences [n, length, channels]");
    if (heads < 1 || pipe_dim(x, 2) % heads)
        return refuse(m, name, x, "the channels cannot be divided into the heads");
    const int64_t c = pipe_dim(x, 2);
    pipe_tensor *from = context ? context : x;
    pipe_scope_push(m, "%s", name);
    pipe_tensor *q = pipe_layer_linear(m, "q", x, c);
    pipe_tensor *k = pipe_layer_linear(m, "k", from, c);
    pipe_tensor *v = pipe_layer_linear(m, "v", from, c);
    pipe_tensor *y = pipe_attention(split_heads(q, heads), split_heads(k, heads), split_heads(v, heads), mask,
                                    0.0, false);
    y = pipe_layer_linear(m, "out", pipe_reshape(y, *pipe_tensor_shape(x)), c);
    pipe_scope_pop(m);
    return y;
}

pipe_tensor *pipe_timestep_embedding(pipe_tensor *t, int64_t width, double max_period)
{
    const int64_t half = width / 2, n = pipe_dim(t, 0);

    if (pipe_check(t, NULL) != PIPE_OK)
        return t;
    if (half < 1)
        return pipe_poison(pipe_tensor_engine(t), PIPE_EINVAL,
                           "a time embedding needs a width of at least 2, not %" PRId64, width);
    pipe_tensor *exponent = pipe_arange(pipe_tensor_engine(t), half, 0.0, -log(max_period) / (double)half);
    pipe_tensor *angle = pipe_mul(pipe_reshape(t, PIPE_SHAPE(n, 1)), pipe_exp(exponent));
    pipe_tensor *halves[2] = {pipe_sin(angle), pipe_cos(angle)};
    pipe_tensor *y = pipe_concat(halves, 2, 1);

    return width % 2 ? pipe_pad(y, 1, 0, 1, 0) : y;
}
