/* Matrix products: the engine's own beside CLBlast, on the same device, and OpenBLAS,
 * which computes on the host and is taken where it is installed. */
#include "bench.h"
#include "core/device/blas.h"

#include <dlfcn.h>
#include <string.h>

/* A thread of OpenBLAS spins for about a tenth of a second before it sleeps: whoever is
 * measured behind it would pay for that. */
#define OPENBLAS_SPINS 0.15
static const char openblas_file[] = "libopenblas.so.0";
enum { CBLAS_ROWS = 101, CBLAS_AS_IS = 111, CBLAS_TRANSPOSED = 112 };

typedef void sgemm_function(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                            int row_a, const float *b, int row_b, float beta, float *c, int row_c);

typedef struct product {
    int batch, m, n, k;
    bool ta, tb;
} product;

static const product products[] = {
    {1, 64, 64, 64, false, false},       {1, 128, 128, 128, false, false},
    {1, 256, 256, 256, false, false},    {1, 512, 512, 512, false, false},
    {1, 512, 512, 512, true, false},     {1, 512, 512, 512, false, true},
    {1, 512, 512, 512, true, true},      {1, 1024, 1024, 1024, false, false},
    {1, 1024, 1024, 1024, true, false},  {1, 1024, 1024, 1024, false, true},
    {1, 1024, 1024, 1024, true, true},   {1, 2048, 2048, 2048, false, false},
    {1, 50176, 64, 64, false, false}, /* a layer over the pixels of a batch */
    {1, 12544, 1024, 256, false, false}, /* the first layer of a transformer's perceptron */
    {1, 64, 50176, 64, false, false},    {1, 64, 64, 50176, true, false}, /* the gradient of its weights */
    {1, 1, 2048, 2048, false, false},    {256, 49, 49, 16, false, true}, /* scores of attention */
    {256, 49, 16, 49, false, false},     {1024, 16, 16, 16, false, false},
};

typedef struct contest {
    product p;
    pipe_engine *engine;
    pipe_tensor *a, *b, *c; /* the engine's own */
    cl_mem mem[3]; /* CLBlast's */
    float *host[3]; /* OpenBLAS's */
    sgemm_function *sgemm;
} contest;

static void contest_free(contest *x)
{
    pipei_device *d = pipei_engine_device(x->engine);

    pipe_keep(&x->a, NULL);
    pipe_keep(&x->b, NULL);
    pipe_keep(&x->c, NULL);
    for (int k = 0; k < 3; k++) {
        if (x->mem[k])
            pipei_buffer_free(d, x->mem[k]);
        pipe_free(x->host[k]);
    }
}

static pipe_status run_engine(void *arg, size_t times, pipe_error *err)
{
    contest *x = arg;

    for (size_t k = 0; k < times; k++) {
        pipe_keep(&x->c, pipe_matmul(x->a, x->b, x->p.ta, x->p.tb));
        PIPE_TRY(pipe_eval(x->engine, err));
    }
    return PIPE_OK;
}

static pipe_status run_clblast(void *arg, size_t times, pipe_error *err)
{
    contest *x = arg;
    const size_t m = (size_t)x->p.m, n = (size_t)x->p.n, k = (size_t)x->p.k;
    const pipei_blas_operand a = {x->mem[0], 0, m * k, x->p.ta}, b = {x->mem[1], 0, k * n, x->p.tb},
                             c = {x->mem[2], 0, m * n, false};

    for (size_t i = 0; i < times; i++)
        PIPE_TRY(
            pipei_blas_gemm(pipei_engine_device(x->engine), m, n, k, (size_t)x->p.batch, &a, &b, &c, err));
    return PIPE_OK;
}

static pipe_status run_openblas(void *arg, size_t times, pipe_error *err)
{
    contest *x = arg;
    const product *p = &x->p;
    const size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;

    (void)err;
    for (size_t i = 0; i < times; i++)
        for (size_t z = 0; z < (size_t)p->batch; z++)
            x->sgemm(CBLAS_ROWS, p->ta ? CBLAS_TRANSPOSED : CBLAS_AS_IS,
                     p->tb ? CBLAS_TRANSPOSED : CBLAS_AS_IS, p->m, p->n, p->k, 1.0f, x->host[0] + z * m * k,
                     p->ta ? p->m : p->k, x->host[1] + z * k * n, p->tb ? p->k : p->n, 0.0f,
                     x->host[2] + z * m * n, p->n);
    return PIPE_OK;
}

/* The three have operands of their own with the same values. */
static pipe_status prepare(contest *x, pipe_error *err)
{
    const product *p = &x->p;
    const int64_t z = p->batch, m = p->m, n = p->n, k = p->k, count[3] = {z * m * k, z * k * n, z * m * n};
    pipei_device *d = pipei_engine_device(x->engine);

    PIPE_TRY(bench_leaf(x->engine, p->ta ? PIPE_SHAPE(z, k, m) : PIPE_SHAPE(z, m, k), 1, &x->a, err));
    PIPE_TRY(bench_leaf(x->engine, p->tb ? PIPE_SHAPE(z, n, k) : PIPE_SHAPE(z, k, n), 2, &x->b, err));
    for (int i = 0; i < 3; i++) {
        x->host[i] = pipe_alloc_array((size_t)count[i], sizeof(float));
        PIPE_TRY(pipei_buffer_new(d, (size_t)count[i] * sizeof(float), "pipe bench", &x->mem[i], err));
    }
    PIPE_TRY(pipe_read_f32(x->a, x->host[0], (size_t)count[0], err));
    PIPE_TRY(pipe_read_f32(x->b, x->host[1], (size_t)count[1], err));
    for (int i = 0; i < 2; i++)
        PIPE_TRY(pipei_device_write(d, x->mem[i], 0, x->host[i], (size_t)count[i] * sizeof(float), err));
    return PIPE_OK;
}

static pipe_status run_product(bench *b, const product *p, sgemm_function *sgemm, pipe_error *err)
{
    static const char *const names[] = {"gemm", "gemm CLBlast", "gemm OpenBLAS"};
    PIPE_CLEANUP(contest_free) contest x = {.p = *p, .engine = b->engine, .sgemm = sgemm};
    const bench_case all[] = {
        {.name = names[0], .run = run_engine, .arg = &x, .engine = b->engine},
        {.name = names[1], .run = run_clblast, .arg = &x, .engine = b->engine},
        {.name = names[2], .run = run_openblas, .arg = &x, .settle = OPENBLAS_SPINS},
    };
    bench_case wanted[3];
    char shape[sizeof wanted[0].shape];
    size_t n = 0;

    snprintf(shape, sizeof shape, "%d of %d x %d x %d, %c%c", p->batch, p->m, p->n, p->k, p->ta ? 't' : 'n',
             p->tb ? 't' : 'n');
    for (size_t k = 0; k < (sgemm ? 3 : 2); k++)
        if (bench_wanted(b, names[k], shape)) {
            wanted[n] = all[k];
            wanted[n].unit = BENCH_FLOPS;
            wanted[n].work = 2.0 * p->batch * p->m * p->n * p->k;
            memcpy(wanted[n++].shape, shape, sizeof shape);
        }
    if (n == 0)
        return PIPE_OK;
    PIPE_TRY(prepare(&x, err));
    return bench_measure(b, wanted, n, NULL, err);
}

static sgemm_function *find_openblas(void)
{
    sgemm_function *f = NULL;
    void *library = dlopen(openblas_file, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "cblas_sgemm") : NULL;

    memcpy(&f, &symbol, sizeof f); /* C has no cast from objects to functions */
    return f; /* the library stays open: its threads live on */
}

pipe_status bench_products(bench *b, pipe_error *err)
{
    sgemm_function *sgemm = find_openblas();

    if (!sgemm && bench_wanted(b, "gemm OpenBLAS", ""))
        bench_add_missing(b, "gemm OpenBLAS", openblas_file,
                          "apt-get install libopenblas0-pthread brings it");
    for (size_t k = 0; k < sizeof products / sizeof products[0]; k++)
        PIPE_TRY(run_product(b, &products[k], sgemm, err));
    return PIPE_OK;
}
