/* What the device can do: the rates that all other rows are compared with. */
#include "bench.h"

enum {
    CHAINS = 12, /* independent sums per work-item: more than latency times width of any core */
    TURNS = 65536, /* multiply-adds of each */
    GPU_GROUP = 256,
    GPU_GROUPS = 16 /* per compute unit */
};
#define STREAM_BYTES ((int64_t)64 << 20)

/* attr->i */
enum { A_ITEMS, A_LANES };

static pipe_status fma_shape(const pipe_op_call *c, pipe_op_result *out, pipe_error *err)
{
    (void)err;
    *out = (pipe_op_result){.shape = PIPE_SHAPE(c->attr->i[A_ITEMS] * c->attr->i[A_LANES]),
                            .dtype = PIPE_F32};
    return PIPE_OK;
}

/* The factors come from memory, so that nothing can be computed beforehand. */
static pipe_status fma_lower(pipe_lowering *l, const pipe_op_call *c, pipe_error *err)
{
    const bool cpu = pipe_lower_profile(l)->cpu;
    const int lanes = (int)c->attr->i[A_LANES];
    PIPE_CLEANUP(pipe_text_free) pipe_text start = {0}, body = {0}, sum = {0};

    (void)err;
    for (int k = 0; k < CHAINS; k++) {
        pipe_text_addf(&start, "    V a%d = (V)(in[%d]);\n", k, k);
        pipe_text_addf(&body, "        a%d = fma(a%d, b, c);\n", k, k);
        pipe_text_addf(&sum, "%sa%d", k ? " + " : "", k);
    }
    pipe_launch launch = {
        .source = pipe_lower_text(l,
                                  "typedef float%d V;\n"
                                  "kernel void multiply_add(PIPE_BUF(float, in), PIPE_BUF(float, out))\n"
                                  "{\n"
                                  "    PIPE_BIND(float, in); PIPE_BIND(float, out);\n"
                                  "    const V b = (V)(in[%d]), c = (V)(in[%d]);\n"
                                  "%s"
                                  "    for (int t = 0; t < %d; t++) {\n"
                                  "%s"
                                  "    }\n"
                                  "    vstore%d(%s, get_global_id(0), out);\n"
                                  "}\n",
                                  lanes, CHAINS, CHAINS + 1, start.data, TURNS, body.data, lanes, sum.data),
        .kernel = "multiply_add",
        .dims = 1,
        .global = {(size_t)c->attr->i[A_ITEMS]},
        .local = {cpu ? 1 : GPU_GROUP},
        .n_args = 2,
        .args = {{.kind = PIPE_ARG_INPUT, .index = 0}, {.kind = PIPE_ARG_OUTPUT}},
    };
    pipe_lower_launch(l, &launch);
    return PIPE_OK;
}

static const pipe_op fma_row = {PIPE_OP_INIT, .name = "bench.fma", .arity = 1, .shape = fma_shape,
                                .lower = fma_lower};

typedef struct machine {
    pipe_engine *engine;
    pipe_tensor *in, *out;
    pipe_attr attr;
} machine;

static void machine_free(machine *m)
{
    pipe_keep(&m->in, NULL);
    pipe_keep(&m->out, NULL);
}

static pipe_status run_fma(void *arg, size_t times, pipe_error *err)
{
    machine *m = arg;

    for (size_t k = 0; k < times; k++) {
        pipe_keep(&m->out, pipe_op_apply(m->engine, &fma_row, &m->in, 1, &m->attr));
        PIPE_TRY(pipe_eval(m->engine, err));
    }
    return PIPE_OK;
}

/* One item per core and run has too little to do for the clock to be fair to it:
 * several, so that cores which are late take fewer. */
static pipe_status measure_fma(bench *b, uint32_t units, bench_time *t, double *work, pipe_error *err)
{
    enum { SHARES = 16 };
    const pipe_device_profile *p = pipei_device_profile(pipei_engine_device(b->engine));
    PIPE_CLEANUP(machine_free) machine m = {.engine = b->engine};
    const int64_t lanes = p->cpu ? p->vector_width : 4;
    const int64_t items = p->cpu ? (units == 1 ? 1 : (int64_t)units * SHARES)
                                 : (int64_t)units * GPU_GROUP * GPU_GROUPS;
    bench_case c = {
        .name = "multiply-add", .unit = BENCH_FLOPS, .run = run_fma, .arg = &m, .engine = b->engine};
    float numbers[CHAINS + 2];

    m.attr = (pipe_attr){.i = {[A_ITEMS] = items, [A_LANES] = lanes}};
    for (int k = 0; k < CHAINS; k++)
        numbers[k] = 0.25f + 0.01f * (float)k;
    numbers[CHAINS] = 0.999f; /* the sums stay of ordinary size */
    numbers[CHAINS + 1] = 0.001f;
    pipe_keep(&m.in, pipe_from_f32(b->engine, PIPE_SHAPE(CHAINS + 2), numbers));
    c.work = 2.0 * CHAINS * TURNS * (double)(lanes * items);
    snprintf(c.shape, sizeof c.shape, "%u of %u cores, %d chains of %d", units, p->compute_units, CHAINS,
             (int)lanes);
    *work = c.work;
    return bench_measure(b, &c, 1, t, err);
}

static pipe_status run_copy(void *arg, size_t times, pipe_error *err)
{
    machine *m = arg;

    for (size_t k = 0; k < times; k++) {
        pipe_keep(&m->out, pipe_affine(m->in, 1.5, 0.5));
        PIPE_TRY(pipe_eval(m->engine, err));
    }
    return PIPE_OK;
}

static pipe_status measure_copy(bench *b, bench_time *t, pipe_error *err)
{
    PIPE_CLEANUP(machine_free) machine m = {.engine = b->engine};
    bench_case c = {.name = "memory",
                    .shape = "64 MiB read, 64 MiB written",
                    .work = 2.0 * (double)STREAM_BYTES,
                    .unit = BENCH_BYTES,
                    .run = run_copy,
                    .arg = &m,
                    .engine = b->engine};

    PIPE_TRY(bench_leaf(b->engine, PIPE_SHAPE(STREAM_BYTES / 4), 1, &m.in, err));
    return bench_measure(b, &c, 1, t, err);
}

/* The best of the repetitions, as peaks are; so what else ran meanwhile matters least. */
pipe_status bench_machine(bench *b, pipe_error *err)
{
    const pipe_device_profile *p = pipei_device_profile(pipei_engine_device(b->engine));
    bench_time t;
    double work;

    if (p->cpu && p->compute_units > 1)
        PIPE_TRY(measure_fma(b, 1, &t, &work, err));
    PIPE_TRY(measure_fma(b, p->compute_units, &t, &work, err));
    b->flops = work / t.least;
    b->flops_cpu = work / t.cpu;
    PIPE_TRY(measure_copy(b, &t, err));
    b->bandwidth = 2.0 * (double)STREAM_BYTES / t.least;
    b->bandwidth_cpu = 2.0 * (double)STREAM_BYTES / t.cpu;
    return PIPE_OK;
}
