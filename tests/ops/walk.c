/* Walks the op table: every row against its reference, its derivatives against
 * central differences of the reference.  See cases.h. */
#include "core/tensor/engine.h"
#include "core/tensor/record.h"
#include "ops/cases.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const op_case *const lists[] = {
    op_cases_elementwise, op_cases_shape, op_cases_reduce, op_cases_softmax, op_cases_index, op_cases_order,
    op_cases_random, op_cases_image, op_cases_linear, op_cases_conv, op_cases_attention, op_cases_norm,
};
enum { N_LISTS = sizeof lists / sizeof lists[0], MAX_IN = 16 };

/* Calls f for every case of op (of all ops: NULL); returns how many there are. */
static size_t each_case(const char *op, void (*f)(const op_case *c, size_t index, void *context),
                        void *context)
{
    size_t n = 0;
    for (size_t k = 0; k < N_LISTS; k++)
        for (const op_case *c = lists[k]; c && c->op; c++)
            if (!op || strcmp(c->op, op) == 0) {
                if (f)
                    f(c, n, context);
                n++;
            }
    return n;
}

#define OK(call)                                                         \
    do {                                                                 \
        pipe_error err_ = PIPE_ERROR_INIT;                               \
        (void)err_;                                                      \
        cr_assert_eq((call), PIPE_OK, "%s: %s", #call, err_.message);    \
    } while (0)

/* $PIPE_TEST_PROFILE stands in for the device's own profile: "avx2" under oclgrind
 * checks the accesses of the CPU kernels. */
static pipe_engine *open_engine(const char *profile)
{
    pipe_engine *e = NULL;
    if (!profile)
        profile = getenv("PIPE_TEST_PROFILE");
    OK(pipei_engine_new("auto", profile, &e, &err_));
    return e;
}

/* ---- numbers ---- */
/* SplitMix64: the same numbers on every run. */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static double uniform(uint64_t *state)
{
    return ((double)(next(state) >> 11) + 0.5) * 0x1p-53;
}

static double normal(uint64_t *state)
{
    const double r = sqrt(-2 * log(uniform(state)));
    return r * cos(6.283185307179586 * uniform(state));
}

static bool is_i32(const op_input *in)
{
    return in->fill == OP_INDEX || in->fill == OP_INDEX_VALUES;
}

/* What the device will hold, as double. */
static double *fill(const op_input *in, uint64_t seed)
{
    const size_t n = (size_t)pipe_shape_count(&in->shape);
    double *x = pipe_alloc_array(n + 1, sizeof *x);
    uint64_t s = seed;
    for (size_t k = 0; k < n; k++) {
        switch (in->fill) {
        case OP_NONE:
            break;
        case OP_UNIFORM:
            x[k] = in->low + (in->high - in->low) * uniform(&s);
            break;
        case OP_NORMAL:
            x[k] = in->low + in->high * normal(&s);
            break;
        case OP_DISTINCT:
            x[k] = in->low + (in->high - in->low) * ((double)k + 0.5) / (double)n;
            break;
        case OP_VALUES:
        case OP_INDEX_VALUES:
            x[k] = in->values[k % in->n_values];
            break;
        case OP_INDEX:
            x[k] = floor(in->low + (in->high - in->low) * uniform(&s));
            break;
        }
    }
    for (size_t k = n; in->fill == OP_DISTINCT && k > 1; k--) {
        const size_t j = (size_t)(next(&s) % k);
        const double swap = x[k - 1];
        x[k - 1] = x[j];
        x[j] = swap;
    }
    for (size_t k = 0; k < n && !is_i32(in); k++)
        x[k] = (double)(float)x[k];
    return x;
}

/* ---- one case, on the host and on the device ---- */
typedef struct trial {
    const op_case *c;
    size_t index;
    const pipe_op *op;
    pipe_engine *e;
    uint64_t seed;
    size_t n_in;
    double *x[MAX_IN];            /* what the device holds */
    pipe_shape shape[MAX_IN];
    pipe_tensor *in[MAX_IN];      /* kept leaves */
    pipe_shape out_shape;
    pipe_dtype out_dtype;
    size_t n_out;
    int complaints;
} trial;

static void complain(trial *t, const char *what, size_t element, double got, double want)
{
    if (t->complaints++ < 4)
        cr_expect(false, "%s, case %zu (%s): %s, element %zu: %.9g instead of %.9g", t->op->name, t->index,
                  t->c->why, what, element, got, want);
}

static bool near(double got, double want, double tolerance, double scale)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    if (fabs(want) > (double)FLT_MAX)
        want = copysign((double)INFINITY, want);
    if (isinf(want) || isinf(got))
        return want == got;
    return fabs(got - want) <= tolerance * scale;
}

static size_t count_of(const trial *t, size_t k)
{
    return (size_t)pipe_shape_count(&t->shape[k]);
}

/* A kept leaf that holds x, rounded to f32 or i32. */
static pipe_tensor *leaf(pipe_engine *e, const pipe_shape *s, const double *x, bool i32)
{
    const size_t n = (size_t)pipe_shape_count(s);
    float *f = pipe_alloc_array(n + 1, sizeof *f);
    int32_t *i = pipe_alloc_array(n + 1, sizeof *i);
    for (size_t k = 0; k < n; k++) {
        f[k] = (float)x[k];
        i[k] = i32 ? (int32_t)x[k] : 0;
    }
    pipe_tensor *held = NULL;
    pipe_keep(&held, i32 ? pipe_from_i32(e, *s, i) : pipe_from_f32(e, *s, f));
    pipe_free(f);
    pipe_free(i);
    OK(pipe_check(held, &err_));
    return held;
}

static double *read_back(pipe_tensor *t, size_t n)
{
    double *x = pipe_alloc_array(n + 1, sizeof *x);
    void *raw = pipe_alloc_array(n + 1, 4);
    if (pipe_tensor_dtype(t) == PIPE_F32)
        OK(pipe_read_f32(t, raw, n, &err_));
    else
        OK(pipe_read_i32(t, raw, n, &err_));
    for (size_t k = 0; k < n; k++)
        x[k] = pipe_tensor_dtype(t) == PIPE_F32 ? (double)((float *)raw)[k] : (double)((int32_t *)raw)[k];
    pipe_free(raw);
    return x;
}

static pipe_tensor *apply(trial *t)
{
    pipe_tensor *y = pipe_op_apply(t->e, t->op, t->in, t->n_in, &t->c->attr);
    pipe_error err = PIPE_ERROR_INIT;
    cr_assert_eq(pipe_check(y, &err), PIPE_OK, "%s, case %zu (%s): %s", t->op->name, t->index, t->c->why,
                 err.message);
    return y;
}

static void trial_open(trial *t, pipe_engine *e, const op_case *c, size_t index)
{
    *t = (trial){.c = c, .index = index, .op = pipei_op_find(c->op), .e = e};
    cr_assert(t->op, "there is a case of %s, but no such op", c->op);
    t->seed = pipe_hash64(c->op, strlen(c->op), index);
    for (; t->n_in < MAX_IN && c->in[t->n_in].fill != OP_NONE; t->n_in++) {
        const op_input *in = &c->in[t->n_in];
        t->shape[t->n_in] = in->shape;
        t->x[t->n_in] = fill(in, t->seed + 977 * (t->n_in + 1));
        t->in[t->n_in] = leaf(e, &in->shape, t->x[t->n_in], is_i32(in));
    }
    pipe_tensor *y = apply(t);
    t->out_shape = *pipe_tensor_shape(y);
    t->out_dtype = pipe_tensor_dtype(y);
    t->n_out = (size_t)pipe_count(y);
}

static void trial_close(trial *t)
{
    for (size_t k = 0; k < t->n_in; k++) {
        pipe_keep(&t->in[k], NULL);
        pipe_free(t->x[k]);
    }
}

/* The reference at x + sum of a[j] * direction[j]; directions hold one array per
 * input, NULL where it stays. */
static double *reference_at(const trial *t, size_t n_directions, double *const directions[][MAX_IN],
                            const double *a)
{
    double *moved[MAX_IN] = {NULL};
    for (size_t k = 0; k < t->n_in; k++) {
        moved[k] = pipe_alloc_array(count_of(t, k) + 1, sizeof **moved);
        for (size_t i = 0; i < count_of(t, k); i++) {
            moved[k][i] = t->x[k][i];
            for (size_t j = 0; j < n_directions; j++)
                if (directions[j][k])
                    moved[k][i] += a[j] * directions[j][k][i];
        }
    }
    double *y = pipe_alloc_array(t->n_out + 1, sizeof *y);
    const pipe_reference r = {.n_in = t->n_in, .in = (const double *const *)moved, .in_shape = t->shape,
                              .out = y, .out_shape = t->out_shape, .n = t->n_out, .attr = &t->c->attr};
    if (t->n_out > 0)
        t->op->reference(&r);
    for (size_t k = 0; k < t->n_in; k++)
        pipe_free(moved[k]);
    return y;
}

static double dot(const double *a, const double *b, size_t n)
{
    double s = 0;
    for (size_t k = 0; k < n; k++)
        s += a[k] * b[k];
    return s;
}

static double dot_size(const double *a, const double *b, size_t n)
{
    double s = 1;
    for (size_t k = 0; k < n; k++)
        s += fabs(a[k] * b[k]);
    return s;
}

static void compare(trial *t, const char *what, const double *got, const double *want, size_t n,
                    double tolerance)
{
    for (size_t k = 0; k < n; k++)
        if (!near(got[k], want[k], tolerance, 1 + fabs(want[k])))
            complain(t, what, k, got[k], want[k]);
}

/* ---- forward ---- */
/* A buffer from the pool is larger than asked for: what lies behind the result is
 * filled with words that no kernel may touch.  The pool gives the buffer that was
 * freed last. */
static const uint32_t GUARD = 0x7fa5a5a5;

static cl_mem lay_guard(trial *t)
{
    pipei_device *d = pipei_engine_device(t->e);
    cl_mem mem = NULL;
    size_t size = 0;
    OK(pipei_buffer_new(d, t->n_out * 4, "guard", &mem, &err_));
    clGetMemObjectInfo(mem, CL_MEM_SIZE, sizeof size, &size, NULL);
    uint32_t *words = pipe_alloc_array(size / 4, sizeof *words);
    for (size_t k = 0; k < size / 4; k++)
        words[k] = GUARD;
    OK(pipei_device_write(d, mem, 0, words, size, &err_));
    pipe_free(words);
    pipei_buffer_free(d, mem);
    clRetainMemObject(mem);          /* were it released, a new one could have its address */
    return mem;
}

static void check_guard(trial *t, const pipe_tensor *y, cl_mem mem)
{
    size_t size = 0;
    cr_assert_eq(y->mem, mem, "%s, case %zu (%s): the result is not in the guarded buffer", t->op->name,
                 t->index, t->c->why);
    clGetMemObjectInfo(mem, CL_MEM_SIZE, sizeof size, &size, NULL);
    const size_t rest = size - t->n_out * 4;
    uint32_t *words = pipe_alloc_array(rest / 4 + 1, sizeof *words);
    OK(pipei_device_read(pipei_engine_device(t->e), mem, t->n_out * 4, words, rest, &err_));
    for (size_t k = 0; k < rest / 4; k++)
        if (words[k] != GUARD) {
            cr_expect(false, "%s, case %zu (%s): wrote %08" PRIx32 " %zu words behind its output",
                      t->op->name, t->index, t->c->why, words[k], k);
            break;
        }
    pipe_free(words);
    clReleaseMemObject(mem);
}

static void check_forward(trial *t)
{
    double *want = reference_at(t, 0, NULL, NULL), *got = NULL;
    /* The second time nothing else needs memory, so the result finds its guard. */
    for (int time = 0; time < 2; time++) {
        OK(pipe_eval(t->e, &err_));              /* nothing of the past in the plan */
        pipe_tensor *y = NULL;
        pipe_keep(&y, apply(t));
        const cl_mem mem = time == 1 && t->n_out > 0 ? lay_guard(t) : NULL;
        got = read_back(y, t->n_out);
        compare(t, time == 0 ? "kernel" : "kernel, again", got, want, t->n_out, t->c->tolerance);
        if (mem)
            check_guard(t, y, mem);
        pipe_keep(&y, NULL);
        pipe_free(got);
    }

    if (t->op->composed) {
        const pipe_op_call call = {.op = t->op, .n_in = t->n_in, .in = t->in, .attr = &t->c->attr,
                                   .out = apply(t), .engine = t->e};
        pipe_tensor *z = t->op->composed(&call);
        cr_expect(pipe_shape_equal(pipe_tensor_shape(z), &t->out_shape), "%s: composed has another shape",
                  t->op->name);
        got = read_back(z, t->n_out);
        compare(t, "composed", got, want, t->n_out, fmax(t->c->tolerance, 1e-5));
        pipe_free(got);
    }
    pipe_free(want);
}

/* ---- derivatives ---- */
/* Where the reference is at x + h d and x - h d: its derivative along d. */
static double *slope(const trial *t, double *const d[MAX_IN], double h)
{
    double *directions[1][MAX_IN];
    memcpy(directions[0], d, sizeof directions[0]);
    double *up = reference_at(t, 1, directions, (double[]){h});
    double *down = reference_at(t, 1, directions, (double[]){-h});
    for (size_t k = 0; k < t->n_out; k++)
        up[k] = (up[k] - down[k]) / (2 * h);
    pipe_free(down);
    return up;
}

/* d/da d/db <u, reference(x + a v + b w)> at 0 */
static double mixed(const trial *t, const double *u, double *const v[MAX_IN], double *const w[MAX_IN],
                    double h)
{
    double *directions[2][MAX_IN], sum = 0;
    memcpy(directions[0], v, sizeof directions[0]);
    memcpy(directions[1], w, sizeof directions[1]);
    for (int i = -1; i <= 1; i += 2)
        for (int j = -1; j <= 1; j += 2) {
            double *y = reference_at(t, 2, directions, (double[]){i * h, j * h});
            sum += i * j * dot(u, y, t->n_out);
            pipe_free(y);
        }
    return sum / (4 * h * h);
}

/* Random directions for all f32 inputs. */
static void directions_of(const trial *t, uint64_t seed, double *d[MAX_IN])
{
    uint64_t s = t->seed ^ seed;
    memset(d, 0, MAX_IN * sizeof *d);
    for (size_t k = 0; k < t->n_in; k++) {
        if (is_i32(&t->c->in[k]))
            continue;
        d[k] = pipe_alloc_array(count_of(t, k) + 1, sizeof **d);
        for (size_t i = 0; i < count_of(t, k); i++)
            d[k][i] = (double)(float)normal(&s);
    }
}

static void free_directions(double *d[MAX_IN])
{
    for (size_t k = 0; k < MAX_IN; k++)
        pipe_free(d[k]);
}

/* Single elements of the gradient: all of them while that is cheap, else some,
 * the first and the last among them. */
static void check_elements(trial *t, size_t k, const double *u, const double *gx, double tolerance)
{
    const size_t n = count_of(t, k);
    const bool all = n * (n + t->n_out) <= 1000000;      /* a reference takes at least n + n_out steps */
    const size_t checks = all ? n : 12;
    uint64_t s = t->seed;
    for (size_t c = 0; c < checks && n > 0; c++) {
        const size_t i = all ? c : c == 0 ? 0 : c == 1 ? n - 1 : (size_t)(next(&s) % n);
        double *d[MAX_IN] = {NULL};
        d[k] = pipe_alloc_array(n, sizeof **d);
        d[k][i] = 1;
        double *y = slope(t, d, 1e-4);
        const double want = dot(u, y, t->n_out);
        if (!near(gx[i], want, tolerance, 1 + fabs(want)))
            complain(t,
                     k == 0   ? "vjp, input 0"
                     : k == 1 ? "vjp, input 1"
                              : "vjp, another input",
                     i, gx[i], want);
        pipe_free(y);
        pipe_free(d[k]);
    }
}

static void check_along(trial *t, const char *what, double *const got[MAX_IN], double *const d[MAX_IN],
                        double want, double tolerance)
{
    double sum = 0, scale = 1 + fabs(want);
    for (size_t k = 0; k < t->n_in; k++)
        if (d[k]) {
            sum += dot(got[k], d[k], count_of(t, k));
            scale += dot_size(got[k], d[k], count_of(t, k));
        }
    if (!near(sum, want, tolerance, scale))
        complain(t, what, 0, sum, want);
}

/* One evaluation computes the op's gradient, its directional derivative, and the
 * gradient of <gradient, w>; then all are held against the reference. */
static void check_derivatives(trial *t)
{
    const double tolerance = t->c->gradient > 0 ? t->c->gradient : 2e-4;
    const bool second = !(t->c->flags & CASE_NO_SECOND);
    double *v[MAX_IN], *w[MAX_IN];
    directions_of(t, 1, v);
    directions_of(t, 2, w);
    double *u = pipe_alloc_array(t->n_out + 1, sizeof *u);
    uint64_t s = t->seed ^ 3;
    for (size_t k = 0; k < t->n_out; k++)
        u[k] = (double)(float)normal(&s);

    pipe_tensor *x[MAX_IN + 1], *vs[MAX_IN], *ws[MAX_IN], *us = leaf(t->e, &t->out_shape, u, false);
    size_t which[MAX_IN], n = 0;
    for (size_t k = 0; k < t->n_in; k++)
        if (v[k]) {
            which[n] = k;
            x[n] = t->in[k];
            vs[n] = leaf(t->e, &t->shape[k], v[k], false);
            ws[n] = leaf(t->e, &t->shape[k], w[k], false);
            n++;
        }
    OK(pipe_eval(t->e, &err_));

    pipe_tensor *y = apply(t), *gx[MAX_IN], *hx[MAX_IN + 1] = {NULL}, *keep[2 * MAX_IN + 2] = {NULL};
    OK(pipe_grad(y, us, x, n, gx, &err_));
    pipe_tensor *jv = pipe_jvp(y, x, vs, n);
    size_t kept = 0;
    for (size_t j = 0; j < n; j++)
        pipe_keep(&keep[kept++], gx[j]);
    pipe_keep(&keep[kept++], jv);
    if (second) {
        pipe_tensor *sum = NULL;
        for (size_t j = 0; j < n; j++) {
            pipe_tensor *product = pipe_sum_all(pipe_mul(gx[j], ws[j]));
            sum = sum ? pipe_add(sum, product) : product;
        }
        x[n] = us;
        OK(pipe_grad(sum, NULL, x, n + 1, hx, &err_));
        for (size_t j = 0; j <= n; j++)
            pipe_keep(&keep[kept++], hx[j]);
    }
    pipe_error err = PIPE_ERROR_INIT;
    cr_assert_eq(pipe_eval(t->e, &err), PIPE_OK, "%s, case %zu (%s): derivatives: %s", t->op->name, t->index,
                 t->c->why, err.message);

    double *got[MAX_IN] = {NULL}, *got2[MAX_IN] = {NULL};
    for (size_t j = 0; j < n; j++) {
        got[which[j]] = read_back(keep[j], count_of(t, which[j]));
        check_elements(t, which[j], u, got[which[j]], tolerance);
    }
    double *want = slope(t, v, 1e-4), *along = read_back(keep[n], t->n_out);
    compare(t, "jvp", along, want, t->n_out, tolerance);
    check_along(t, "vjp along a direction", got, v, dot(u, want, t->n_out), tolerance);
    pipe_free(want);
    pipe_free(along);
    if (second) {
        for (size_t j = 0; j < n; j++)
            got2[which[j]] = read_back(keep[n + 1 + j], count_of(t, which[j]));
        double *hu = read_back(keep[2 * n + 1], t->n_out), *ju = slope(t, w, 1e-4);
        compare(t, "vjp of the vjp, in the adjoint", hu, ju, t->n_out, tolerance);
        for (uint64_t r = 0; r < 3; r++) {
            double *d[MAX_IN];
            directions_of(t, 100 + r, d);
            check_along(t, "vjp of the vjp", got2, d, mixed(t, u, d, w, 1e-3), tolerance);
            free_directions(d);
        }
        pipe_free(hu);
        pipe_free(ju);
    }

    for (size_t j = 0; j < kept; j++)
        pipe_keep(&keep[j], NULL);
    for (size_t j = 0; j < n; j++) {
        pipe_keep(&vs[j], NULL);
        pipe_keep(&ws[j], NULL);
    }
    pipe_keep(&us, NULL);
    free_directions(v);
    free_directions(w);
    free_directions(got);
    free_directions(got2);
    pipe_free(u);
}

static bool differentiable(const trial *t)
{
    bool f32 = false;
    for (size_t k = 0; k < t->n_in; k++)
        f32 = f32 || !is_i32(&t->c->in[k]);
    return f32 && t->out_dtype == PIPE_F32 && !(t->c->flags & CASE_FORWARD_ONLY);
}

/* ---- the tests ---- */
typedef struct row_name {
    char op[64];
} row_name;

/* All rows; while one works on some: those whose name contains $PIPE_TEST_OPS. */
static struct criterion_test_params all_rows(void)
{
    const char *wanted = getenv("PIPE_TEST_OPS");
    row_name *names = cr_malloc((pipei_op_count() + 1) * sizeof *names);
    size_t n = 0;
    for (size_t k = 0; k < pipei_op_count(); k++)
        if (!wanted || strstr(pipei_op_at(k)->name, wanted))
            snprintf(names[n++].op, sizeof names->op, "%s", pipei_op_at(k)->name);
    return cr_make_param_array(row_name, names, n, NULL);
}

typedef struct run {
    pipe_engine *e;
    bool derivatives, small;
} run;

static void run_case(const op_case *c, size_t index, void *context)
{
    const run *r = context;
    trial t;
    if (r->small && (c->flags & CASE_LARGE))
        return;
    trial_open(&t, r->e, c, index);
    check_forward(&t);
    if (r->derivatives && differentiable(&t))
        check_derivatives(&t);
    trial_close(&t);
}


ParameterizedTestParameters(ops, row) { return all_rows(); }
ParameterizedTest(row_name *row, ops, row)
{
    /* Under a checker of accesses a kernel is a thousand times slower; derivatives are
     * made of rows that are walked themselves. */
    const bool checker = getenv("PIPE_TEST_SMALL");
    run r = {.e = open_engine(NULL), .derivatives = !checker, .small = checker};
    each_case(row->op, run_case, &r);
    pipei_engine_free(r.e);
}

/* The same with the kernels that a GPU would get. */
ParameterizedTestParameters(ops, row_gpu) { return all_rows(); }
ParameterizedTest(row_name *row, ops, row_gpu)
{
    run r = {.e = open_engine("gpu"), .small = true};
    each_case(row->op, run_case, &r);
    pipei_engine_free(r.e);
}

/* A row that nothing tests, or that cannot be tested, does not get in. */
Test(ops, table_is_complete)
{
    for (size_t k = 0; k < pipei_op_count(); k++) {
        const pipe_op *op = pipei_op_at(k);
        cr_expect(op->reference, "%s has no reference", op->name);
        cr_expect(op->shape, "%s has no shape rule", op->name);
        cr_expect(op->vjp || op->composed, "%s has no derivative; pipei_vjp_zero declares that it is zero",
                  op->name);
        cr_expect(op->expression || op->lower || op->view, "%s has no kernel", op->name);
        cr_expect(each_case(op->name, NULL, NULL) > 0, "%s has no case", op->name);
        cr_expect(pipei_op_find(op->name) == op, "%s is in the table twice", op->name);
    }
}

static void check_text(const op_case *c, size_t index, void *context)
{
    (void)context;
    cr_expect(pipei_op_find(c->op), "there is a case of %s, but no such op", c->op);
    cr_expect(c->why && c->why[0], "case %zu, %s, does not say why it is there", index, c->op);
}

Test(ops, cases_are_complete)
{
    cr_expect(each_case(NULL, check_text, NULL) > 100);
}
