#include "runtime/rows.h"

static const pipe_attr none;

/* ---- shapes ---- */

static pipe_status broadcast(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    pipe_shape s = {0};
    for (size_t k = 0; k < c->n_in; k++) {
        const pipe_shape *in = pipe_tensor_shape(c->in[k]);
        if (in->rank > s.rank) {
            memmove(s.dim + (in->rank - s.rank), s.dim, s.rank * sizeof s.dim[0]);
            for (uint32_t j = 0; j < in->rank - s.rank; j++)
                s.dim[j] = 1;
            s.rank = in->rank;
        }
        for (uint32_t j = 0; j < in->rank; j++) {
            int64_t *d = &s.dim[s.rank - 1 - j];
            const int64_t have = in->dim[in->rank - 1 - j];
            if (*d == 1)
                *d = have;
            else if (have != 1 && have != *d)
                return pipe_fail(err, PIPE_ESHAPE, "these shapes do not broadcast");
        }
    }
    *out = (pipe_op_result){s, PIPE_F32};
    return PIPE_OK;
}

static pipe_status same(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)err;
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), pipe_tensor_dtype(c->in[0])};
    return PIPE_OK;
}

static pipe_status same_i32(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)err;
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), PIPE_I32};
    return PIPE_OK;
}

static pipe_status same_f32(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)err;
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), PIPE_F32};
    return PIPE_OK;
}

static pipe_attr shape_attr(pipe_shape s)
{
    pipe_attr a = {.i = {[0] = s.rank}};
    memcpy(a.i + 1, s.dim, s.rank * sizeof s.dim[0]);
    return a;
}

static pipe_status given(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)err;
    *out = (pipe_op_result){.shape.rank = (uint32_t)c->attr->i[0], .dtype = PIPE_F32};
    memcpy(out->shape.dim, c->attr->i + 1, out->shape.rank * sizeof out->shape.dim[0]);
    return PIPE_OK;
}

static pipe_status scalar(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)c, (void)err;
    *out = (pipe_op_result){PIPE_SCALAR, PIPE_F32};
    return PIPE_OK;
}

static pipe_status window_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)err;
    *out = (pipe_op_result){*pipe_tensor_shape(c->in[0]), pipe_tensor_dtype(c->in[0])};
    out->shape.dim[0] = c->attr->i[1];
    return PIPE_OK;
}

static bool window(const pipe_op_call *c, int64_t *first)
{
    const int64_t row = pipe_dim(c->in[0], 0) ? pipe_count(c->in[0]) / pipe_dim(c->in[0], 0) : 0;
    *first = c->attr->i[0] * row;
    return true;
}

/* ---- references: never run here, but a row must have one ---- */

static void unused(const pipe_reference *r)
{
    (void)r;
}

/* ---- lowered ---- */

static pipe_status lower_reverse(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    pipe_launch k = {
        .source =
            "#define STEP 1\n"
            "static size_t mirror(size_t i, size_t n) { return n - STEP - i; }\n"
            "kernel void run(PIPE_BUF(const float, x), PIPE_BUF(float, y), const int n)\n"
            "{ PIPE_BIND(const float, x); PIPE_BIND(float, y);\n"
            "  for (size_t i = get_global_id(0); i < n; i += get_global_size(0)) y[i] = x[mirror(i, n)]; }\n",
        .kernel = "run",
        .dims = 1,
        .global = {4},
        .local = {1},
        .n_args = 3,
        .args = {{.kind = PIPE_ARG_INPUT},
                 {.kind = PIPE_ARG_OUTPUT},
                 {.kind = PIPE_ARG_INT, .value = (int32_t)(pipe_count(c->out) + c->attr->i[0])}},
    };
    pipe_lower_launch(l, &k);
    return PIPE_OK;
}

/* Reverses too, in pieces of every width that an epilogue can have, with a helper and
 * a second kernel in the same source. */
static pipe_status lower_mirror(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const uint32_t width = c->attr->i[0] ? (uint32_t)c->attr->i[0] : 1;
    const char *load = width > 1 ? pipe_lower_text(l, "vload%u(0, t)", width) : "t[0]";
    const char *store =
        width > 1 ? pipe_lower_text(l, "vstore%u(PIPE_EPILOGUE%u(%s, i), 0, y + i)", width, width, load)
                  : pipe_lower_text(l, "y[i] = PIPE_EPILOGUE1(%s, i)", load);
    pipe_launch k = {
        .source = pipe_lower_text(l,
            "float pick(global const float *x, size_t i) { return x[i]; }\n"
            "__attribute__((reqd_work_group_size(1, 1, 1)))\n"
            "kernel void run(PIPE_BUF(const float, x), PIPE_BUF(float, y), const int n /* ) */)\n"
            "{ PIPE_BIND(const float, x); PIPE_BIND(float, y);\n"
            "  size_t i = 0; float t[16];\n"
            "  for (; i + %u <= n; i += %u) {\n"
            "    for (int k = 0; k < %u; k++) t[k] = pick(x, n - 1 - i - k);\n"
            "    %s;\n"
            "  }\n"
            "  for (; i < n; i++) y[i] = PIPE_EPILOGUE1(x[n - 1 - i], i); }\n"
            "kernel void other(PIPE_BUF(float, y))\n"
            "{ PIPE_BIND(float, y); y[0] = PIPE_EPILOGUE1(y[0], 0); }\n", width, width, width, store),
        .kernel = "run", .dims = 1, .global = {1}, .local = {1}, .n_args = 3,
        .args = {{.kind = PIPE_ARG_INPUT}, {.kind = PIPE_ARG_OUTPUT},
                 {.kind = PIPE_ARG_INT, .value = (int32_t)pipe_count(c->out)}},
    };
    pipe_lower_launch(l, &k);
    return PIPE_OK;
}

static pipe_status lower_total(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    const uint32_t parts = 8;
    /* Names that other sources have too: run, STEP, mirror. */
    static const char source[] =
        "#define STEP 2\n"
        "constant int mirror[2] = {0, 1};\n"
        "kernel void run(PIPE_BUF(const float, x), PIPE_BUF(float, y), const int n)\n"
        "{ PIPE_BIND(const float, x); PIPE_BIND(float, y); float s = 0.0f;\n"
        "  for (size_t i = get_global_id(0); i < n; i += get_global_size(0)) s += x[i];\n"
        "  y[get_global_id(0)] = s + (float)(mirror[0] * STEP); }\n";
    pipe_launch k = {
        .source = source, .kernel = "run", .dims = 1, .global = {parts}, .local = {1}, .n_args = 3};
    const uint32_t s = pipe_lower_scratch(l, parts);
    k.args[0] = (pipe_arg){.kind = PIPE_ARG_INPUT};
    k.args[1] = (pipe_arg){.kind = PIPE_ARG_SCRATCH, .index = s};
    k.args[2] = (pipe_arg){.kind = PIPE_ARG_INT, .value = (int32_t)pipe_count(c->in[0])};
    pipe_lower_launch(l, &k);
    k.global[0] = 1;
    k.args[0] = k.args[1];
    k.args[1] = (pipe_arg){.kind = PIPE_ARG_OUTPUT};
    k.args[2].value = (int32_t)parts;
    pipe_lower_launch(l, &k);
    return PIPE_OK;
}

/* Vectors of every type that OpenCL C has, at addresses that are not aligned: 4 + 8 + 16 of each. */
static pipe_status lower_vectors(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)c, (void)err;
    static const char source[] =
        "constant uchar table[5] = {9, 1, 2, 3, 4};\n"
        "#define ONE(T, n, load, store) { T t[n + 1]; for (int k = 0; k <= n; k++) t[k] = (T)k; \\\n"
        "                                 store(load(0, t + 1), 0, t); sum += (float)t[n - 1]; }\n"
        "#define ALL(T) ONE(T, 4, vload4, vstore4) ONE(T, 8, vload8, vstore8) ONE(T, 16, vload16, vstore16)\n"
        "__attribute__((reqd_work_group_size(1, 1, 1)))\n"
        "kernel void run(PIPE_BUF(float, y))\n"
        "{ PIPE_BIND(float, y); float sum = 0.0f; local short held[8];\n"
        "  ALL(char) ALL(uchar) ALL(short) ALL(ushort) ALL(int) ALL(uint) ALL(long) ALL(ulong) ALL(float)\n"
        "  vstore4(convert_short4(vload4(0, table + 1)), 1, held);\n"
        "  y[0] = sum + (float)vload4(1, held).w; }\n";
    const pipe_launch k = {.source = source, .kernel = "run", .dims = 1, .global = {1}, .local = {1}, .n_args = 1,
                           .args = {{.kind = PIPE_ARG_OUTPUT}}};
    pipe_lower_launch(l, &k);
    return PIPE_OK;
}

static pipe_status lower_words(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)err;
    pipe_launch k = {
        .source = pipe_lower_text(l,
                                  "kernel void %s(PIPE_BUF(float, y), const uint w, const float x)\n"
                                  "{ PIPE_BIND(float, y); size_t i = get_global_id(0);\n"
                                  "  y[i] = (float)w + (float)i + x; }\n",
                                  "fill"),
        .kernel = "fill",
        .dims = 1,
        .global = {(size_t)pipe_count(c->out)},
        .n_args = 3,
        .args = {{.kind = PIPE_ARG_OUTPUT},
                 {.kind = PIPE_ARG_WORD, .index = 1},
                 {.kind = PIPE_ARG_FLOAT, .index = 2}},
    };
    pipe_lower_launch(l, &k);
    return PIPE_OK;
}

static pipe_status lower_broken(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    (void)c, (void)err;
    pipe_launch k = {.source = "kernel void run(PIPE_BUF(float, y)) { undeclared = 1; }\n", .kernel = "run",
                     .dims = 1, .global = {1}, .n_args = 1, .args = {{.kind = PIPE_ARG_OUTPUT}}};
    pipe_lower_launch(l, &k);
    return PIPE_OK;
}

#define ELEMENTWISE(id, n, rule, text) \
    static const pipe_op id = {PIPE_OP_INIT, .name = "test." #id, .arity = n, .shape = rule, \
                               .reference = unused, .expression = text}
ELEMENTWISE(add, 2, broadcast, "a + b");
ELEMENTWISE(sub, 2, broadcast, "a - b");
ELEMENTWISE(mul, 2, broadcast, "a * b");
ELEMENTWISE(maximum, 2, broadcast, "fmax(a, b)");
ELEMENTWISE(less, 2, broadcast, "PIPE_TRUTH(a < b)");
ELEMENTWISE(where, 3, broadcast, "a != (T)(0.0f) ? b : c");
ELEMENTWISE(affine, 1, same, "p0 * a + p1");
ELEMENTWISE(tangent, 1, same, "tanh(a)");
ELEMENTWISE(power, 1, same,
            "k0 == 0 ? (T)(1.0f) : k0 == 1 ? a : k0 == 2 ? a * a : a * a * a");
ELEMENTWISE(full, 0, given, "p0");
ELEMENTWISE(spread, 1, given, "a");
ELEMENTWISE(to_i32, 1, same_i32, "PIPE_TO_TI(a)");
ELEMENTWISE(to_f32, 1, same_f32, "PIPE_TO_T(a)");
static const pipe_op reshape = {PIPE_OP_INIT, .name = "test.reshape", .arity = 1, .shape = given,
                                .reference = unused, .view = true};
static const pipe_op head = {PIPE_OP_INIT, .name = "test.head", .arity = 1, .shape = window_shape,
                             .reference = unused, .lower = lower_broken, .window = window};
static const pipe_op reverse = {PIPE_OP_INIT, .name = "test.reverse", .arity = 1, .shape = same,
                                .reference = unused, .lower = lower_reverse};
static const pipe_op mirror = {PIPE_OP_INIT, .name = "test.mirror", .arity = 1, .shape = same,
                               .reference = unused, .lower = lower_mirror, .epilogue = true};
static const pipe_op total = {PIPE_OP_INIT, .name = "test.total", .arity = 1, .shape = scalar,
                              .reference = unused, .lower = lower_total};
static const pipe_op vectors = {PIPE_OP_INIT, .name = "test.vectors", .arity = 0, .shape = given,
                                .reference = unused, .lower = lower_vectors};
static const pipe_op words = {PIPE_OP_INIT, .name = "test.words", .arity = 0, .shape = given,
                              .reference = unused, .lower = lower_words};
static const pipe_op broken = {PIPE_OP_INIT, .name = "test.broken", .arity = 1, .shape = same,
                               .reference = unused, .lower = lower_broken};

const pipe_op *const test_rows[] = {&add,     &sub,     &mul,   &maximum, &less,   &where,  &affine,
                                    &tangent, &power,   &full,  &spread,  &to_i32, &to_f32, &reshape,
                                    &head,    &reverse, &mirror, &total, &words,   &broken, NULL};

static pipe_tensor *apply1(const pipe_op *op, pipe_tensor *a, const pipe_attr *attr)
{
    return pipe_op_apply(pipe_tensor_engine(a), op, (pipe_tensor *[]){a}, 1, attr);
}

static pipe_tensor *apply2(const pipe_op *op, pipe_tensor *a, pipe_tensor *b)
{
    return pipe_op_apply(pipe_tensor_engine(a), op, (pipe_tensor *[]){a, b}, 2, &none);
}

pipe_tensor *row_add(pipe_tensor *a, pipe_tensor *b) { return apply2(&add, a, b); }
pipe_tensor *row_sub(pipe_tensor *a, pipe_tensor *b) { return apply2(&sub, a, b); }
pipe_tensor *row_mul(pipe_tensor *a, pipe_tensor *b) { return apply2(&mul, a, b); }
pipe_tensor *row_max(pipe_tensor *a, pipe_tensor *b) { return apply2(&maximum, a, b); }
pipe_tensor *row_less(pipe_tensor *a, pipe_tensor *b) { return apply2(&less, a, b); }
pipe_tensor *row_where(pipe_tensor *c, pipe_tensor *a, pipe_tensor *b)
{
    return pipe_op_apply(pipe_tensor_engine(c), &where, (pipe_tensor *[]){c, a, b}, 3, &none);
}
pipe_tensor *row_affine(pipe_tensor *a, double k, double c)
{
    return apply1(&affine, a, &(pipe_attr){.f = {(float)k, (float)c}});
}
pipe_tensor *row_tanh(pipe_tensor *a) { return apply1(&tangent, a, NULL); }
pipe_tensor *row_power(pipe_tensor *a, int64_t k) { return apply1(&power, a, &(pipe_attr){.i = {k}}); }
pipe_tensor *row_full(pipe_engine *e, pipe_shape s, double x)
{
    pipe_attr a = shape_attr(s);
    a.f[0] = (float)x;
    return pipe_op_apply(e, &full, NULL, 0, &a);
}
pipe_tensor *row_spread(pipe_tensor *a, pipe_shape s)
{
    const pipe_attr attr = shape_attr(s);
    return apply1(&spread, a, &attr);
}
pipe_tensor *row_to_i32(pipe_tensor *a) { return apply1(&to_i32, a, NULL); }
pipe_tensor *row_to_f32(pipe_tensor *a) { return apply1(&to_f32, a, NULL); }
pipe_tensor *row_reshape(pipe_tensor *a, pipe_shape s)
{
    const pipe_attr attr = shape_attr(s);
    return apply1(&reshape, a, &attr);
}
pipe_tensor *row_head(pipe_tensor *a, int64_t start, int64_t length)
{
    return apply1(&head, a, &(pipe_attr){.i = {start, length}});
}
pipe_tensor *row_overrun(pipe_tensor *a)
{
    const pipe_attr attr = {.i = {1}};
    return apply1(&reverse, a, &attr);
}

pipe_tensor *row_reverse(pipe_tensor *a) { return apply1(&reverse, a, NULL); }
pipe_tensor *row_mirror(pipe_tensor *a, int64_t width) { return apply1(&mirror, a, &(pipe_attr){.i = {width}}); }
pipe_tensor *row_total(pipe_tensor *a) { return apply1(&total, a, NULL); }
pipe_tensor *row_words(pipe_engine *e, int64_t n, uint32_t word, double x)
{
    pipe_attr a = shape_attr(PIPE_SHAPE(n));
    a.u[1] = word;
    a.f[2] = (float)x;
    return pipe_op_apply(e, &words, NULL, 0, &a);
}
pipe_tensor *row_vectors(pipe_engine *e)
{
    const pipe_attr a = shape_attr(PIPE_SHAPE(1));
    return pipe_op_apply(e, &vectors, NULL, 0, &a);
}
pipe_tensor *row_broken(pipe_tensor *a) { return apply1(&broken, a, NULL); }

/* ---- helpers ---- */

pipe_engine *runtime_engine(const char *profile)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_engine *e = NULL;
    cr_assert_eq(pipei_engine_new("auto", profile, &e, &err), PIPE_OK, "%s", err.message);
    return e;
}

void test_fill(float *out, size_t n, uint64_t seed)
{
    for (size_t k = 0; k < n; k++) {
        const uint64_t x[2] = {seed, k};
        out[k] = (float)(pipe_hash64(x, sizeof x, 0) >> 40) * (4.0f / (1 << 24)) - 2.0f;
    }
}

pipe_tensor *test_source(pipe_engine *e, pipe_shape s, uint64_t seed)
{
    const size_t n = (size_t)pipe_shape_count(&s);
    float *data = pipe_alloc_array(n + 1, sizeof *data);
    test_fill(data, n, seed);
    pipe_tensor *t = pipe_from_f32(e, s, data);
    pipe_free(data);
    return t;
}

pipe_tensor *test_leaf(pipe_engine *e, pipe_shape s, uint64_t seed)
{
    pipe_tensor *slot = NULL;
    pipe_keep(&slot, test_source(e, s, seed));
    return slot;
}

float *test_read(pipe_tensor *t)
{
    pipe_error err = PIPE_ERROR_INIT;
    const size_t n = (size_t)pipe_count(t);
    float *out = pipe_alloc_array(n + 1, sizeof *out);
    cr_assert_eq(pipe_read_f32(t, out, n, &err), PIPE_OK, "%s", err.message);
    return out;
}
