/* pipe_grad and pipe_jvp: what the walk over single ops does not show. */
#include "core/tensor/ops/ops.h"
#include "core/tensor/record.h"
#include "ops/support.h"


/* ---- paths ---- */
Test(autograd, several_paths_add_up)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 1, -2, 3), *g;
    /* y = x^2 + x sin x + x, through three paths */
    pipe_tensor *y = pipe_sum_all(pipe_add(pipe_add(pipe_square(x), pipe_mul(x, pipe_sin(x))), x));
    OK(pipe_grad(y, NULL, &x, 1, &g, &err_));
    float want[3], at[3] = {1, -2, 3};
    for (int k = 0; k < 3; k++)
        want[k] = 2 * at[k] + sinf(at[k]) + at[k] * cosf(at[k]) + 1;
    ops_expect(g, want, 3, 1e-6, __LINE__);
}

Test(autograd, independent_is_zero)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x[2] = {OPS_VECTOR(e, 1, 2), OPS_VECTOR(e, 3, 4, 5)}, *g[2];
    OK(pipe_grad(pipe_sum_all(x[0]), NULL, x, 2, g, &err_));
    EXPECT(g[1], 0, 0, 0);
    x[0] = OPS_VECTOR(e, 1, 2);
    pipe_tensor *dx = OPS_VECTOR(e, 1, 1), *y = OPS_VECTOR(e, 7, 8);
    EXPECT(pipe_jvp(y, x, &dx, 1), 0, 0);
}

Test(autograd, with_respect_to_itself)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 1, 2), *gy = OPS_VECTOR(e, 5, 6), *g;
    OK(pipe_grad(x, gy, &x, 1, &g, &err_));
    EXPECT(g, 5, 6);
}

/* Gradients with respect to a value and to what it is computed from: both whole. */
Test(autograd, an_x_behind_an_x)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *a = OPS_VECTOR(e, 2), *h = pipe_square(a), *y = pipe_mul(h, a);      /* a^3 */
    pipe_tensor *x[3] = {a, h, a}, *g[3], *v[2] = {OPS_VECTOR(e, 1), OPS_VECTOR(e, 10)};
    OK(pipe_grad(y, NULL, x, 3, g, &err_));
    pipe_tensor *t = pipe_jvp(y, x, v, 2);
    /* dy/da = 3 a^2, dy/dh = a; named twice: twice the same; along (1, 10): 12 + 20 */
    EXPECT(pipe_concat((pipe_tensor *[]){g[0], g[1], g[2], t}, 4, 0), 12, 2, 12, 32);
}

Test(autograd, stop_gradient_stops)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 3), *g, *dx = OPS_VECTOR(e, 1);
    pipe_tensor *y = pipe_mul(x, pipe_stop_gradient(pipe_square(x)));
    OK(pipe_grad(y, NULL, &x, 1, &g, &err_));
    EXPECT(pipe_concat((pipe_tensor *[]){g, pipe_jvp(y, &x, &dx, 1), y}, 3, 0), 9, 9, 27);
}

Test(autograd, integers_carry_none)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 1.5f, -2.5f), *g, *dx = OPS_VECTOR(e, 1, 1);
    pipe_tensor *y = pipe_sum_all(pipe_mul(x, pipe_to_f32(pipe_to_i32(x))));
    OK(pipe_grad(y, NULL, &x, 1, &g, &err_));
    EXPECT(pipe_concat((pipe_tensor *[]){g, pipe_reshape(pipe_jvp(y, &x, &dx, 1), PIPE_SHAPE(1))}, 2, 0), 1,
           -2, -1);
}

/* d^3/dx^3 sin = -cos, d^4 = sin */
Test(autograd, fourth_derivative)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 0.3f, 1.1f), *y = pipe_sin(x), *all[4];
    for (int k = 0; k < 4; k++) {
        OK(pipe_grad(pipe_sum_all(y), NULL, &x, 1, &y, &err_));
        all[k] = y;
    }
    EXPECT(pipe_concat(all, 4, 0), cosf(0.3f), cosf(1.1f), -sinf(0.3f), -sinf(1.1f), -cosf(0.3f), -cosf(1.1f),
           sinf(0.3f), sinf(1.1f));
}

/* Forward over reverse and reverse over forward give one Hessian. */
Test(autograd, hessian_both_ways)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 0.5f, -1, 2), *v = OPS_VECTOR(e, 1, 2, -1), *g, *hv;
    pipe_tensor *y = pipe_logsumexp(pipe_mul(x, pipe_tanh(x)), 0, false);
    OK(pipe_grad(y, NULL, &x, 1, &g, &err_));
    pipe_tensor *forward_over_reverse = pipe_jvp(g, &x, &v, 1);
    OK(pipe_grad(pipe_jvp(y, &x, &v, 1), NULL, &x, 1, &hv, &err_));
    EXPECT(pipe_sub(hv, forward_over_reverse), 0, 0, 0);
}

/* ---- a slab of parameters ---- */
static size_t count_ops(pipe_engine *e, const char *name)
{
    size_t n, found = 0;
    pipe_tensor *const *all = pipei_recording(e, &n);
    for (size_t k = 0; k < n; k++)
        found += all[k]->op && strcmp(all[k]->op->name, name) == 0;
    return found;
}

/* Many slices, one of them used twice, with gaps at both ends and between: one
 * concat, which is what the leaf gets. */
Test(autograd, slab_gradient_is_one_concat)
{
    pipe_engine *e = ops_engine();
    enum { N = 100, PIECES = 12, EACH = 8 };
    float x[N], want[N] = {0};
    for (int k = 0; k < N; k++)
        x[k] = 0.1f * (float)(k % 7) - 0.2f;
    pipe_tensor *slab = ops_leaf(e, PIPE_SHAPE(N), x), *y = NULL, *g;
    for (int p = 0; p < PIECES; p++) {
        if (p == 5)
            continue;                            /* a gap */
        const int uses = p == 3 ? 2 : 1;
        for (int u = 0; u < uses; u++) {
            pipe_tensor *w = pipe_reshape(pipe_slice(slab, 0, 1 + p * EACH, EACH, 1),
                                          PIPE_SHAPE(2, EACH / 2));
            pipe_tensor *term = pipe_scale(pipe_sum_all(pipe_square(w)), p + 1.0);
            y = y ? pipe_add(y, term) : term;
        }
        for (int k = 1 + p * EACH; k < 1 + (p + 1) * EACH; k++)
            want[k] = (float)uses * 2 * x[k] * (float)(p + 1);
    }
    const size_t before = count_ops(e, "concat"), sums = count_ops(e, "add");
    OK(pipe_grad(y, NULL, &slab, 1, &g, &err_));
    cr_expect_eq(count_ops(e, "concat") - before, 1);
    cr_expect_str_eq(g->op->name, "concat");
    /* one addition for the piece that is used twice; none for the others */
    cr_expect_eq(count_ops(e, "add") - sums, 1);
    cr_expect_eq(g->n_in, PIECES - 1 + 3, "%u parts: eleven pieces, three gaps", g->n_in);
    ops_expect(g, want, N, 1e-6, __LINE__);
    pipe_keep(&slab, NULL);
}

/* Slices that overlap are added; the whole vector is used besides. */
Test(autograd, overlapping_slices)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 1, 2, 3, 4, 5), *g;
    pipe_tensor *a = pipe_slice(x, 0, 0, 3, 1), *b = pipe_slice(x, 0, 2, 3, 1);
    pipe_tensor *y = pipe_add(pipe_sum_all(pipe_square(a)), pipe_add(pipe_sum_all(b), pipe_sum_all(x)));
    OK(pipe_grad(y, NULL, &x, 1, &g, &err_));
    EXPECT(g, 3, 5, 8, 2, 2);
}

Test(autograd, slices_beside_the_whole)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *x = OPS_VECTOR(e, 1, 2, 3, 4), *g, *gg;
    pipe_tensor *a = pipe_slice(x, 0, 0, 2, 1), *b = pipe_slice(x, 0, 2, 2, 1);
    pipe_tensor *y = pipe_add(pipe_sum_all(pipe_mul(a, b)), pipe_sum_all(pipe_square(x)));
    OK(pipe_grad(y, NULL, &x, 1, &g, &err_));
    OK(pipe_grad(pipe_sum_all(pipe_square(g)), NULL, &x, 1, &gg, &err_));
    /* g = (b, a) + 2 x; |g|^2's gradient = 2 ((b, a) of g + 2 g) */
    EXPECT(pipe_concat((pipe_tensor *[]){g, gg}, 2, 0), 5, 8, 7, 10, 34, 52, 38, 56);
}

/* ---- ops that bring only a part ---- */
static pipe_status twin_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    return pipe_shape_broadcast(c, out, err);
}

static void twin_reference(const pipe_reference *r)
{
    for (size_t k = 0; k < r->n; k++)
        r->out[k] = r->in[0][k] * r->in[0][k] * r->in[1][k];
}

static pipe_tensor *twin_composed(const pipe_op_call *c)
{
    return pipe_mul(pipe_square(c->in[0]), c->in[1]);
}

static void twin_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs)
{
    if (needs[0])
        gx[0] = pipe_mul(gy, pipe_scale(pipe_mul(c->in[0], c->in[1]), 2));
    if (needs[1])
        gx[1] = pipe_mul(gy, pipe_square(c->in[0]));
}

static const pipe_op only_composed = {
    PIPE_OP_INIT, .name = "test.composed", .arity = 2, .shape = twin_shape, .reference = twin_reference,
    .expression = "a * a * b", .composed = twin_composed,
};
static const pipe_op only_vjp = {
    PIPE_OP_INIT, .name = "test.vjp", .arity = 2, .shape = twin_shape, .reference = twin_reference,
    .expression = "a * a * b", .vjp = twin_vjp,
};
static const pipe_op no_derivative = {
    PIPE_OP_INIT, .name = "test.none", .arity = 2, .shape = twin_shape, .reference = twin_reference,
    .expression = "a * a * b",
};

/* a^2 b where b = a^2 too, and where b is a: the composed form must not see that. */
static void check_partial(const pipe_op *op)
{
    pipe_engine *e = ops_engine();
    pipe_tensor *a = OPS_VECTOR(e, 2, -3), *b = pipe_square(a), *v = OPS_VECTOR(e, 1, 2), *g[2], *gg[2];
    pipe_tensor *y = pipe_op_apply(e, op, (pipe_tensor *[]){a, b}, 2, NULL);
    pipe_tensor *z = pipe_op_apply(e, op, (pipe_tensor *[]){a, a}, 2, NULL);
    OK(pipe_grad(pipe_sum_all(y), NULL, &a, 1, &g[0], &err_));
    OK(pipe_grad(pipe_sum_all(z), NULL, &a, 1, &g[1], &err_));
    OK(pipe_grad(pipe_sum_all(g[0]), NULL, &a, 1, &gg[0], &err_));
    OK(pipe_grad(pipe_sum_all(g[1]), NULL, &a, 1, &gg[1], &err_));
    pipe_tensor *ty = pipe_jvp(y, &a, &v, 1), *tz = pipe_jvp(z, &a, &v, 1);
    EXPECT(pipe_concat((pipe_tensor *[]){y, z, g[0], g[1], gg[0], gg[1], ty, tz}, 8, 0),
           16, 81, 8, -27,          /* a^4, a^3 */
           32, -108, 12, 27,        /* 4 a^3, 3 a^2 */
           48, 108, 12, -18,        /* 12 a^2, 6 a */
           32, -216, 12, 54);       /* along v */
}

Test(autograd, composed_stands_in) { check_partial(&only_composed); }
Test(autograd, vjp_stands_in_for_jvp) { check_partial(&only_vjp); }

/* ---- mistakes ---- */
static void expect_error(pipe_status status, const pipe_error *err, pipe_status want, const char *part)
{
    cr_expect_eq(status, want, "%s: %s", pipe_status_name(status), err->message);
    cr_expect(strstr(err->message, part), "\"%s\" is not in \"%s\"", part, err->message);
}

Test(autograd, mistakes_are_named)
{
    pipe_engine *e = ops_engine();
    pipe_error err = PIPE_ERROR_INIT;
    pipe_tensor *x = OPS_VECTOR(e, 1, 2), *i = pipe_to_i32(x), *g = NULL;
    pipe_tensor *three = OPS_VECTOR(e, 1, 2, 3);
    pipe_tensor *y = pipe_op_apply(e, &no_derivative, (pipe_tensor *[]){x, x}, 2, NULL);
    expect_error(pipe_grad(i, NULL, &x, 1, &g, &err), &err, PIPE_ESHAPE, "i32");
    expect_error(pipe_grad(x, NULL, &i, 1, &g, &err), &err, PIPE_ESHAPE, "x[0]");
    expect_error(pipe_grad(x, three, &x, 1, &g, &err), &err, PIPE_ESHAPE,
                 "[3] do not have the result's shape [2]");
    expect_error(pipe_grad(y, NULL, &x, 1, &g, &err), &err, PIPE_EUNSUPPORTED, "test.none");
    expect_error(pipe_grad(pipe_add(x, three), NULL, &x, 1, &g, &err), &err, PIPE_ESHAPE, "add([2], [3])");
    expect_error(pipe_check(pipe_jvp(x, &x, &three, 1), &err), &err, PIPE_ESHAPE, "[3]");
    expect_error(pipe_check(pipe_jvp(y, &x, &x, 1), &err), &err, PIPE_EUNSUPPORTED, "test.none");
    cr_expect_null(g, "nothing is written when it fails");
}
