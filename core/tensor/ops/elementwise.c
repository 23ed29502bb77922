/* Elementwise ops.  None has a kernel of its own: the engine fuses their
 * expressions with their neighbours.
 *
 * A row comes out of one macro that holds the value in double (the reference),
 * the expression in OpenCL C, and the derivative in recorded ops; the jvp
 * follows because the Jacobian is diagonal. */
#include "core/tensor/ops/ops.h"

#include <math.h>

/* One input: `value` in a (and p0 ... p3), `derivative` in gy, x, y, attr. */
#define UNARY_OP(name_, value_, expression_, derivative_)                                            \
    static void name_##_reference(const pipe_reference *r)                                           \
    {                                                                                                \
        const double p0 = (double)r->attr->f[0], p1 = (double)r->attr->f[1];                         \
        (void)p0;                                                                                    \
        (void)p1;                                                                                    \
        for (size_t k = 0; k < r->n; k++) {                                                          \
            const double a = r->in[0][k];                                                            \
            r->out[k] = (value_);                                                                    \
        }                                                                                            \
    }                                                                                                \
    static void name_##_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs) \
    {                                                                                                \
        pipe_tensor *x = c->in[0], *y = c->out;                                                      \
        const pipe_attr *attr = c->attr;                                                             \
        (void)x;                                                                                     \
        (void)y;                                                                                     \
        (void)attr;                                                                                  \
        if (needs[0])                                                                                \
            gx[0] = (derivative_);                                                                   \
    }                                                                                                \
    static const pipe_op op_##name_ = {                                                              \
        PIPE_OP_INIT, .name = #name_, .arity = 1, .shape = pipei_shape_f32_same,                     \
        .reference = name_##_reference, .expression = (expression_),                                 \
        .vjp = name_##_vjp, .jvp = pipe_jvp_diagonal,                                                \
    };
#define UNARY(name_, value_, expression_, derivative_)        \
    UNARY_OP(name_, value_, expression_, derivative_)         \
    pipe_tensor *pipe_##name_(pipe_tensor *a)                 \
    {                                                         \
        return pipei_op1(&op_##name_, a, NULL);               \
    }

/* Piecewise constant: the derivative is zero. */
#define STEP(name_, value_, expression_)                                                             \
    static void name_##_reference(const pipe_reference *r)                                           \
    {                                                                                                \
        for (size_t k = 0; k < r->n; k++) {                                                          \
            const double a = r->in[0][k];                                                            \
            r->out[k] = (value_);                                                                    \
        }                                                                                            \
    }                                                                                                \
    static const pipe_op op_##name_ = {                                                              \
        PIPE_OP_INIT, .name = #name_, .arity = 1, .shape = pipei_shape_f32_same,                     \
        .reference = name_##_reference, .expression = (expression_),                                 \
        .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,                                                \
    };                                                                                               \
    pipe_tensor *pipe_##name_(pipe_tensor *a)                                                        \
    {                                                                                                \
        return pipei_op1(&op_##name_, a, NULL);                                                      \
    }

/* Two inputs that broadcast: `ga`, `gb` are the adjoints at the output's shape,
 * in gy, a, b, y; what broadcasting repeated is then summed. */
#define BINARY_OP(name_, value_, expression_, ga_, gb_)                                              \
    static void name_##_reference(const pipe_reference *r)                                           \
    {                                                                                                \
        const double p0 = (double)r->attr->f[0], p1 = (double)r->attr->f[1];                         \
        (void)p0;                                                                                    \
        (void)p1;                                                                                    \
        for (size_t k = 0; k < r->n; k++) {                                                          \
            const double a = r->in[0][pipei_broadcast_index(k, &r->out_shape, &r->in_shape[0])];     \
            const double b = r->in[1][pipei_broadcast_index(k, &r->out_shape, &r->in_shape[1])];     \
            r->out[k] = (value_);                                                                    \
        }                                                                                            \
    }                                                                                                \
    static void name_##_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs) \
    {                                                                                                \
        pipe_tensor *a = c->in[0], *b = c->in[1], *y = c->out;                                       \
        const pipe_attr *attr = c->attr;                                                             \
        (void)y;                                                                                     \
        (void)attr;                                                                                  \
        if (needs[0])                                                                                \
            gx[0] = pipe_sum_to((ga_), *pipe_tensor_shape(a));                                       \
        if (needs[1])                                                                                \
            gx[1] = pipe_sum_to((gb_), *pipe_tensor_shape(b));                                       \
    }                                                                                                \
    static const pipe_op op_##name_ = {                                                              \
        PIPE_OP_INIT, .name = #name_, .arity = 2, .shape = pipe_shape_broadcast,                     \
        .reference = name_##_reference, .expression = (expression_),                                 \
        .vjp = name_##_vjp, .jvp = pipe_jvp_diagonal,                                                \
    };
#define BINARY(name_, value_, expression_, ga_, gb_)          \
    BINARY_OP(name_, value_, expression_, ga_, gb_)           \
    pipe_tensor *pipe_##name_(pipe_tensor *a, pipe_tensor *b) \
    {                                                         \
        return pipei_op2(&op_##name_, a, b, NULL);            \
    }

/* A comparison of two f32 or two i32. */
#define COMPARE(name_, operator_)                                                                    \
    static void name_##_reference(const pipe_reference *r)                                           \
    {                                                                                                \
        for (size_t k = 0; k < r->n; k++) {                                                          \
            const double a = r->in[0][pipei_broadcast_index(k, &r->out_shape, &r->in_shape[0])];     \
            const double b = r->in[1][pipei_broadcast_index(k, &r->out_shape, &r->in_shape[1])];     \
            r->out[k] = a operator_ b ? 1.0 : 0.0;                                                   \
        }                                                                                            \
    }                                                                                                \
    static const pipe_op op_##name_ = {                                                              \
        PIPE_OP_INIT, .name = #name_, .arity = 2, .shape = shape_compare,                            \
        .reference = name_##_reference, .expression = "PIPE_TRUTH(a " #operator_ " b)",              \
        .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,                                                \
    };                                                                                               \
    pipe_tensor *pipe_##name_(pipe_tensor *a, pipe_tensor *b)                                        \
    {                                                                                                \
        return pipei_op2(&op_##name_, a, b, NULL);                                                   \
    }

static pipe_tensor *constant_like(pipe_tensor *t, double value)
{
    return pipe_constant(pipe_tensor_engine(t), value);
}

/* 1 - a^2, 1 - a, ... appear in many derivatives. */
static pipe_tensor *one_minus(pipe_tensor *a)
{
    return pipe_affine(a, -1.0, 1.0);
}

/* ---- affine maps: scalars are run-time arguments ---- */
UNARY_OP(affine, p0 * a + p1, "fma(a, (T)(p0), (T)(p1))", pipe_scale(gy, (double)attr->f[0]))
UNARY_OP(scale, p0 * a, "a * (T)(p0)", pipe_scale(gy, (double)attr->f[0]))

pipe_tensor *pipe_affine(pipe_tensor *a, double k, double c)
{
    const pipe_attr attr = {.f = {(float)k, (float)c}};
    return pipei_op1(&op_affine, a, &attr);
}

pipe_tensor *pipe_scale(pipe_tensor *a, double k)
{
    const pipe_attr attr = {.f = {(float)k}};
    return pipei_op1(&op_scale, a, &attr);
}

pipe_tensor *pipe_neg(pipe_tensor *a)
{
    return pipe_scale(a, -1.0);
}

BINARY_OP(axpby, p0 * a + p1 * b, "fma(a, (T)(p0), b * (T)(p1))", pipe_scale(gy, (double)attr->f[0]),
          pipe_scale(gy, (double)attr->f[1]))

pipe_tensor *pipe_axpby(double p, pipe_tensor *a, double q, pipe_tensor *b)
{
    const pipe_attr attr = {.f = {(float)p, (float)q}};
    return pipei_op2(&op_axpby, a, b, &attr);
}

/* ---- comparisons ---- */
static pipe_status shape_compare(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    if (pipe_tensor_dtype(c->in[0]) != pipe_tensor_dtype(c->in[1])) {
        char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE, "%s %s and %s %s must have one dtype",
                         pipe_tensor_dtype(c->in[0]) == PIPE_F32 ? "f32" : "i32",
                         pipe_shape_text(pipe_tensor_shape(c->in[0]), a, sizeof a),
                         pipe_tensor_dtype(c->in[1]) == PIPE_F32 ? "f32" : "i32",
                         pipe_shape_text(pipe_tensor_shape(c->in[1]), b, sizeof b));
    }
    PIPE_TRY(pipei_broadcast(c, &out->shape, err));
    out->dtype = PIPE_F32;
    return PIPE_OK;
}

COMPARE(less, <)
COMPARE(less_equal, <=)
COMPARE(equal, ==)

/* ---- two inputs ---- */
BINARY(add, a + b, "a + b", gy, gy)
BINARY(sub, a - b, "a - b", gy, pipe_neg(gy))
BINARY(mul, a * b, "a * b", pipe_mul(gy, b), pipe_mul(gy, a))
BINARY(div, a / b, "a / b", pipe_div(gy, b), pipe_neg(pipe_div(pipe_mul(gy, y), b)))

/* At a tie each side gets half (as torch.maximum); NaN on either side is kept. */
static pipe_tensor *wins(pipe_tensor *loser, pipe_tensor *winner)
{
    return pipe_axpby(1.0, pipe_less(loser, winner), 0.5, pipe_equal(loser, winner));
}
BINARY(maximum, isnan(a) || a > b ? a : b, "((a > b) | (a != a)) ? a : b", pipe_mul(gy, wins(b, a)),
       pipe_mul(gy, wins(a, b)))
BINARY(minimum, isnan(a) || a < b ? a : b, "((a < b) | (a != a)) ? a : b", pipe_mul(gy, wins(a, b)),
       pipe_mul(gy, wins(b, a)))

/* d a^b = b a^(b-1) da + a^b ln a db.  At a = 0 the slope in b is 0 (b >= 0): the
 * logarithm is taken of 1 instead of 0, so that it gives 0 and not 0 * -inf.  At
 * b = 0 the slope in a is 0, and not 0 * a^-1. */
static pipe_tensor *ln_or_zero(pipe_tensor *a)
{
    pipe_tensor *zero = constant_like(a, 0.0);
    return pipe_ln(pipe_where(pipe_equal(a, zero), constant_like(a, 1.0), a));
}
static pipe_tensor *exponent_below(pipe_tensor *b)
{
    return pipe_where(b, pipe_affine(b, 1.0, -1.0), constant_like(b, 0.0));
}
BINARY(pow, pow(a, b), "pow(a, b)", pipe_mul(pipe_mul(gy, b), pipe_pow(a, exponent_below(b))),
       pipe_mul(pipe_mul(gy, y), ln_or_zero(a)))
BINARY(atan2, atan2(a, b), "atan2(a, b)",
       pipe_div(pipe_mul(gy, b), pipe_add(pipe_square(a), pipe_square(b))),
       pipe_neg(pipe_div(pipe_mul(gy, a), pipe_add(pipe_square(a), pipe_square(b)))))

/* ---- powers ---- */
UNARY(square, a * a, "a * a", pipe_mul(gy, pipe_scale(x, 2.0)))
UNARY_OP(powf, pow(a, p0), "pow(a, (T)(p0))",
         pipe_scale(pipe_mul(gy, pipe_powf(x, (double)attr->f[0] - 1.0)), (double)attr->f[0]))

pipe_tensor *pipe_powf(pipe_tensor *a, double exponent)
{
    /* The common exponents, and those on which repeated differentiation ends. */
    if (exponent == 0.0) {
        PIPEI_SOUND(a);
        return pipe_ones_like(a);
    }
    if (exponent == 1.0) {
        PIPEI_SOUND(a);
        return a;
    }
    if (exponent == 2.0)
        return pipe_square(a);
    if (exponent == 0.5)
        return pipe_sqrt(a);
    if (exponent == -1.0)
        return pipe_reciprocal(a);
    const pipe_attr attr = {.f = {(float)exponent}};
    return pipei_op1(&op_powf, a, &attr);
}

UNARY(sqrt, sqrt(a), "sqrt(a)", pipe_div(pipe_scale(gy, 0.5), y))
UNARY(rsqrt, 1.0 / sqrt(a), "rsqrt(a)", pipe_mul(pipe_scale(gy, -0.5), pipe_mul(y, pipe_square(y))))
UNARY(reciprocal, 1.0 / a, "(T)(1.0f) / a", pipe_neg(pipe_mul(gy, pipe_square(y))))

/* ---- pieces ---- */
/* The slope at 0 is sign(0) = 0. */
UNARY(abs, fabs(a), "fabs(a)", pipe_mul(gy, pipe_sign(x)))
STEP(sign, (a > 0) - (a < 0), "sign(a)")
STEP(floor, floor(a), "floor(a)")

/* NaN stays NaN.  The slope is 1 on the bounds, as in PyTorch. */
UNARY_OP(clamp, a < p0 ? p0 : a > p1 ? p1 : a, "(a < (T)(p0)) ? (T)(p0) : ((a > (T)(p1)) ? (T)(p1) : a)",
         pipe_mul(gy, pipe_mul(pipe_less_equal(constant_like(x, (double)attr->f[0]), x),
                               pipe_less_equal(x, constant_like(x, (double)attr->f[1])))))

pipe_tensor *pipe_clamp(pipe_tensor *a, double low, double high)
{
    PIPEI_SOUND(a);
    if (!(low <= high))
        return pipe_poison(pipe_tensor_engine(a), PIPE_EINVAL, "clamp: the bounds %g and %g are not in order",
                           low, high);
    const pipe_attr attr = {.f = {(float)low, (float)high}};
    return pipei_op1(&op_clamp, a, &attr);
}

/* ---- exponentials and circles ---- */
UNARY(exp, exp(a), "exp(a)", pipe_mul(gy, y))
UNARY(expm1, expm1(a), "expm1(a)", pipe_mul(gy, pipe_affine(y, 1.0, 1.0)))
UNARY(ln, log(a), "log(a)", pipe_div(gy, x))
UNARY(log1p, log1p(a), "log1p(a)", pipe_div(gy, pipe_affine(x, 1.0, 1.0)))
UNARY(sin, sin(a), "sin(a)", pipe_mul(gy, pipe_cos(x)))
UNARY(cos, cos(a), "cos(a)", pipe_neg(pipe_mul(gy, pipe_sin(x))))
/* Drivers' own tanh and erf cost up to ten times an exp (PoCL: 1.3 and 4.4 ns an
 * element where exp takes 0.7), so both are written with one exp.
 * tanh: Cody and Waite's polynomial below 0.625, else by exp(2 |a|). */
UNARY(tanh, tanh(a),
      "(fabs(a) < (T)(0.625f)) ? fma(a * (a * a), fma(fma(fma(fma((T)(-5.70498872745e-3f), a * a, "
      "(T)(2.06390887954e-2f)), a * a, (T)(-5.37397155531e-2f)), a * a, (T)(1.33314422036e-1f)), a * a, "
      "(T)(-3.33332819422e-1f)), a) : "
      "copysign((T)(1.0f) - (T)(2.0f) / (exp((T)(2.0f) * fabs(a)) + (T)(1.0f)), a)",
      pipe_mul(gy, one_minus(pipe_square(y))))
/* erf of x, a text: the power series below 0.5, else 1 - erfc with Press et al.'s
 * Chebyshev fit (Numerical Recipes in C, section 6.2), 1.2e-7 of erfc.  The
 * compiler sees that ERF_T is one value. */
#define ERF_T(x) "((T)(1.0f) / fma(fabs(" x "), (T)(0.5f), (T)(1.0f)))"
#define ERF_POWERS(x)                                                                              \
    x " * fma(fma(fma(fma(fma((T)(-8.5479e-4f), " x " * " x ", (T)(5.2239774e-3f)), " x " * " x    \
    ", (T)(-2.6866170e-2f)), " x " * " x ", (T)(1.1283792e-1f)), " x " * " x                       \
    ", (T)(-3.7612639e-1f)), " x " * " x ", (T)(1.1283792f))"
#define ERFC_FIT(x)                                                                                \
    ERF_T(x) " * exp(fma(-" x ", " x ", fma(fma(fma(fma(fma(fma(fma(fma(fma((T)(0.17087277f), "    \
    ERF_T(x) ", (T)(-0.82215223f)), " ERF_T(x) ", (T)(1.48851587f)), " ERF_T(x)                    \
    ", (T)(-1.13520398f)), " ERF_T(x) ", (T)(0.27886807f)), " ERF_T(x) ", (T)(-0.18628806f)), "    \
    ERF_T(x) ", (T)(0.09678418f)), " ERF_T(x) ", (T)(0.37409196f)), " ERF_T(x)                     \
    ", (T)(1.00002368f)), " ERF_T(x) ", (T)(-1.26551223f))))"
#define ERF(x)                                                                                     \
    "((fabs(" x ") < (T)(0.5f)) ? " ERF_POWERS(x) " : copysign((T)(1.0f) - " ERFC_FIT(x) ", " x "))"
/* erf' = 2 / sqrt(pi) exp(-x^2) */
UNARY(erf, erf(a), ERF("a"), pipe_mul(pipe_scale(gy, M_2_SQRTPI), pipe_exp(pipe_neg(pipe_square(x)))))

/* ---- activations ---- */
UNARY(sigmoid, 1.0 / (1.0 + exp(-a)), "(T)(1.0f) / ((T)(1.0f) + exp(-a))",
      pipe_mul(gy, pipe_mul(y, one_minus(y))))
/* max(a, 0) + log1p(exp(-|a|)) does not overflow. */
UNARY(softplus, fmax(a, 0.0) + log1p(exp(-fabs(a))), "fmax(a, (T)(0.0f)) + log1p(exp(-fabs(a)))",
      pipe_mul(gy, pipe_sigmoid(x)))
/* y' = s (1 + x (1 - s)): in x alone, so that y need not outlive the next op. */
static pipe_tensor *silu_slope(pipe_tensor *x)
{
    pipe_tensor *s = pipe_sigmoid(x);
    return pipe_mul(s, pipe_affine(pipe_mul(x, one_minus(s)), 1.0, 1.0));
}
UNARY(silu, a / (1.0 + exp(-a)), "a / ((T)(1.0f) + exp(-a))", pipe_mul(gy, silu_slope(x)))
/* NaN stays NaN; the slope at 0 is 0. */
UNARY(relu, a < 0 ? 0 : a, "(a < (T)(0.0f)) ? (T)(0.0f) : a",
      pipe_mul(gy, pipe_less(constant_like(x, 0.0), x)))
/* y = x Phi(x), y' = Phi(x) + x phi(x) */
static pipe_tensor *gelu_slope(pipe_tensor *x)
{
    pipe_tensor *cdf = pipe_affine(pipe_erf(pipe_scale(x, M_SQRT1_2)), 0.5, 0.5);
    pipe_tensor *pdf = pipe_scale(pipe_exp(pipe_scale(pipe_square(x), -0.5)), 0.5 * M_2_SQRTPI * M_SQRT1_2);
    return pipe_add(cdf, pipe_mul(x, pdf));
}
UNARY(gelu, 0.5 * a * erfc(-a * M_SQRT1_2),
      "(T)(0.5f) * a * ((T)(1.0f) + " ERF("(a * (T)(0.70710678f))") ")",
      pipe_mul(gy, gelu_slope(x)))
/* Hendrycks and Gimpel 2016, arXiv:1606.08415: x (1 + tanh u) / 2 with
 * u = sqrt(2/pi) (x + 0.044715 x^3); that is x sigmoid(2u), which costs one exp. */
#define GELU_2U 1.5957691216057308      /* 2 sqrt(2/pi) */
#define GELU_CUBIC 0.044715
static pipe_tensor *gelu_tanh_slope(pipe_tensor *x)
{
    pipe_tensor *x2 = pipe_square(x);
    pipe_tensor *v = pipe_mul(x, pipe_affine(x2, GELU_2U * GELU_CUBIC, GELU_2U));
    pipe_tensor *s = pipe_sigmoid(v);
    pipe_tensor *slope_v = pipe_affine(x2, 3.0 * GELU_2U * GELU_CUBIC, GELU_2U);
    return pipe_mul(s, pipe_affine(pipe_mul(pipe_mul(x, slope_v), one_minus(s)), 1.0, 1.0));
}
UNARY(gelu_tanh, 0.5 * a * (1.0 + tanh(0.5 * GELU_2U * (a + GELU_CUBIC * a * a * a))),
      "a / ((T)(1.0f) + exp(-a * fma(a * a, (T)(0.07135481f), (T)(1.5957691f))))",
      pipe_mul(gy, gelu_tanh_slope(x)))

/* ---- where ---- */
static pipe_status where_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    if (pipe_tensor_dtype(c->in[1]) != pipe_tensor_dtype(c->in[2]))
        return pipe_fail(err, PIPE_ESHAPE, "the two values must have one dtype, not f32 and i32");
    PIPE_TRY(pipei_broadcast(c, &out->shape, err));
    out->dtype = pipe_tensor_dtype(c->in[1]);
    return PIPE_OK;
}

static void where_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++) {
        const size_t side = r->in[0][pipei_broadcast_index(k, &r->out_shape, &r->in_shape[0])] != 0 ? 1 : 2;
        r->out[k] = r->in[side][pipei_broadcast_index(k, &r->out_shape, &r->in_shape[side])];
    }
}

static void where_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    pipe_tensor *zero = constant_like(gy, 0.0);
    if (needs[1])
        gx[1] = pipe_sum_to(pipe_where(c->in[0], gy, zero), *pipe_tensor_shape(c->in[1]));
    if (needs[2])
        gx[2] = pipe_sum_to(pipe_where(c->in[0], zero, gy), *pipe_tensor_shape(c->in[2]));
}

static const pipe_op op_where = {
    PIPE_OP_INIT, .name = "where", .arity = 3, .shape = where_shape, .reference = where_reference,
    .expression = "(a != 0) ? b : c", .vjp = where_vjp, .jvp = pipe_jvp_diagonal,
};

pipe_tensor *pipe_where(pipe_tensor *condition, pipe_tensor *a, pipe_tensor *b)
{
    return pipei_op3(&op_where, condition, a, b, NULL);
}

/* ---- conversions ---- */
static pipe_status to_f32_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_i32(c, 0, err));
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), PIPE_F32};
    return PIPE_OK;
}

static void to_f32_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->in[0][k];
}

static const pipe_op op_to_f32 = {
    PIPE_OP_INIT, .name = "to_f32", .arity = 1, .shape = to_f32_shape, .reference = to_f32_reference,
    .expression = "PIPE_TO_T(a)", .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_to_f32(pipe_tensor *a)
{
    PIPEI_SOUND(a);
    return pipe_tensor_dtype(a) == PIPE_F32 ? a : pipei_op1(&op_to_f32, a, NULL);
}

static pipe_status to_i32_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    PIPE_TRY(pipei_need_f32(c, 0, err));
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), PIPE_I32};
    return PIPE_OK;
}

static void to_i32_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = trunc(r->in[0][k]);
}

static const pipe_op op_to_i32 = {
    PIPE_OP_INIT, .name = "to_i32", .arity = 1, .shape = to_i32_shape, .reference = to_i32_reference,
    .expression = "PIPE_TO_TI(a)", .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_to_i32(pipe_tensor *a)
{
    PIPEI_SOUND(a);
    return pipe_tensor_dtype(a) == PIPE_I32 ? a : pipei_op1(&op_to_i32, a, NULL);
}

static void identity_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->in[0][k];
}

/* Shares its input's elements, so that cutting history costs nothing. */
static const pipe_op op_stop_gradient = {
    PIPE_OP_INIT, .name = "stop_gradient", .arity = 1, .shape = pipe_shape_same,
    .reference = identity_reference, .view = true, .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_stop_gradient(pipe_tensor *a)
{
    return pipei_op1(&op_stop_gradient, a, NULL);
}

/* ---- constants ---- */
static pipe_status full_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    *out = (pipe_op_result){pipei_attr_shape(c->attr), PIPE_F32};
    return pipei_need_shape(&out->shape, err);
}

static void full_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = (double)r->attr->f[0];
}

/* The value is a run-time argument: constants fuse into whatever uses them. */
static const pipe_op op_full = {
    PIPE_OP_INIT, .name = "full", .arity = 0, .shape = full_shape, .reference = full_reference,
    .expression = "(T)(p0)", .vjp = pipei_vjp_zero, .jvp = pipei_jvp_zero,
};

pipe_tensor *pipe_full(pipe_engine *e, pipe_shape shape, double value)
{
    pipe_attr attr = {.f = {(float)value}};
    pipei_attr_set_shape(&attr, &shape);
    return pipe_op_apply(e, &op_full, NULL, 0, &attr);
}

pipe_tensor *pipe_zeros(pipe_engine *e, pipe_shape shape)
{
    return pipe_full(e, shape, 0.0);
}

pipe_tensor *pipe_constant(pipe_engine *e, double value)
{
    return pipe_full(e, PIPE_SCALAR, value);
}

pipe_tensor *pipe_zeros_like(pipe_tensor *t)
{
    PIPEI_SOUND(t);
    return pipe_full(pipe_tensor_engine(t), *pipe_tensor_shape(t), 0.0);
}

pipe_tensor *pipe_ones_like(pipe_tensor *t)
{
    PIPEI_SOUND(t);
    return pipe_full(pipe_tensor_engine(t), *pipe_tensor_shape(t), 1.0);
}

/* ---- broadcast_to: an expression, so that it fuses ---- */
static pipe_status broadcast_to_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    const pipe_shape *in = pipe_tensor_shape(c->in[0]);
    const pipe_shape want = pipei_attr_shape(c->attr);
    PIPE_TRY(pipei_need_shape(&want, err));
    bool fits = in->rank <= want.rank;
    for (uint32_t k = 1; fits && k <= in->rank; k++) {
        const int64_t size = in->dim[in->rank - k];
        fits = size == 1 || size == want.dim[want.rank - k];
    }
    if (!fits) {
        char a[PIPE_SHAPE_TEXT], b[PIPE_SHAPE_TEXT];
        return pipe_fail(err, PIPE_ESHAPE, "%s does not broadcast to %s: counted from the end, each "
                         "axis must be equal or 1", pipe_shape_text(in, a, sizeof a),
                         pipe_shape_text(&want, b, sizeof b));
    }
    *out = (pipe_op_result){want, pipe_tensor_dtype(c->in[0])};
    return PIPE_OK;
}

static void broadcast_to_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->in[0][pipei_broadcast_index(k, &r->out_shape, &r->in_shape[0])];
}

static void broadcast_to_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_sum_to(gy, *pipe_tensor_shape(c->in[0]));
}

static const pipe_op op_broadcast_to = {
    PIPE_OP_INIT, .name = "broadcast_to", .arity = 1, .shape = broadcast_to_shape,
    .reference = broadcast_to_reference, .expression = "a", .vjp = broadcast_to_vjp, .jvp = pipei_jvp_linear,
};

pipe_tensor *pipe_broadcast_to(pipe_tensor *a, pipe_shape shape)
{
    PIPEI_SOUND(a);
    if (pipe_shape_equal(pipe_tensor_shape(a), &shape))
        return a;
    pipe_attr attr = {0};
    pipei_attr_set_shape(&attr, &shape);
    return pipei_op1(&op_broadcast_to, a, &attr);
}

const pipe_op *const pipei_ops_elementwise[] = {
    &op_affine,       &op_scale,     &op_axpby, &op_less,    &op_less_equal, &op_equal,         &op_add,
    &op_sub,          &op_mul,       &op_div,   &op_maximum, &op_minimum,    &op_pow,           &op_atan2,
    &op_square,       &op_powf,      &op_sqrt,  &op_rsqrt,   &op_reciprocal, &op_abs,           &op_sign,
    &op_floor,        &op_clamp,     &op_exp,   &op_expm1,   &op_ln,         &op_log1p,         &op_sin,
    &op_cos,          &op_tanh,      &op_erf,   &op_sigmoid, &op_softplus,   &op_silu,          &op_relu,
    &op_gelu,         &op_gelu_tanh, &op_where, &op_to_f32,  &op_to_i32,     &op_stop_gradient, &op_full,
    &op_broadcast_to, NULL,
};
