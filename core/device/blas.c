/* Matrix products through CLBlast.
 *
 * The library is opened at the first product: linked, it would cost every start of
 * the program 4 ms of relocations (a third of `pipe --help`), GPU or not.
 *
 * A single product may need room for padded copies of its operands.  It comes from a
 * buffer of the device that only ever grows (the queue is in order, so one serves
 * all), as a training step allocates nothing.  CLBlast cannot be given room for a
 * batch: it allocates where the matrices are too large for its direct kernel. */
#include "core/device/blas.h"

#include "core/device/internal.h"

#include <clblast_c.h>
#include <dlfcn.h>
#include <string.h>

#define ROWS CLBlastLayoutRowMajor

struct blas {
    __typeof__(CLBlastSgemmWithTempBuffer) *gemm;
    __typeof__(CLBlastSGemmTempBufferSize) *room_for_gemm;
    __typeof__(CLBlastSgemmStridedBatched) *batched;
    __typeof__(CLBlastOverrideParameters) *override;
    cl_mem room;              /* padded copies of operands */
    size_t room_bytes;
};

const char *pipei_blas_error(int code)
{
    static const struct {
        int code;
        const char *text;
    } names[] = {
        {CLBlastNotImplemented, "not implemented"},
        {CLBlastInvalidMatrixA, "matrix A is not a valid buffer"},
        {CLBlastInvalidMatrixB, "matrix B is not a valid buffer"},
        {CLBlastInvalidMatrixC, "matrix C is not a valid buffer"},
        {CLBlastInvalidDimension, "a dimension is zero"},
        {CLBlastInvalidLeadDimA, "the leading dimension of A is too small"},
        {CLBlastInvalidLeadDimB, "the leading dimension of B is too small"},
        {CLBlastInvalidLeadDimC, "the leading dimension of C is too small"},
        {CLBlastInsufficientMemoryA, "matrix A goes past the end of its buffer"},
        {CLBlastInsufficientMemoryB, "matrix B goes past the end of its buffer"},
        {CLBlastInsufficientMemoryC, "matrix C goes past the end of its buffer"},
        {CLBlastInsufficientMemoryTemp, "the temporary buffer is too small"},
        {CLBlastInvalidBatchCount, "the batch is empty"},
        {CLBlastInvalidLocalMemUsage, "its kernels need more local memory than the device has"},
        {CLBlastDatabaseError, "it has no parameters for the device"},
        {CLBlastUnknownError, "unknown error"},
        {CLBlastInvalidOverrideKernel, "it has no such kernel"},
        {CLBlastMissingOverrideParameter, "its kernels have other parameters"},
        {CLBlastUnexpectedError, "unexpected exception"},
    };
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        if (names[k].code == code)
            return names[k].text;
    return pipei_cl_error(code);                /* the others are OpenCL's own */
}

static void drop_room(pipei_device *d)
{
    if (d->blas->room)
        pipei_buffer_free(d, d->blas->room);
    d->blas->room = NULL;
    d->blas->room_bytes = 0;
}

void pipei_blas_close(pipei_device *d)
{
    if (!d->blas)
        return;
    drop_room(d);
    pipe_free(d->blas);
    d->blas = NULL;
}

static bool find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);   /* C has no cast from objects to functions */
    return symbol;
}

/* The library stays open: it keeps its compiled kernels until the process ends. */
static pipe_status open_blas(pipei_device *d, pipe_error *err)
{
    static const char file[] = "libclblast.so.1";
    struct blas b = {0};

    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return pipe_fail(err, PIPE_EDEVICE,
                         "matrix products on a GPU need CLBlast (Debian package libclblast1): %s", dlerror());
    if (!find(library, "CLBlastSgemmWithTempBuffer", &b.gemm) ||
        !find(library, "CLBlastSGemmTempBufferSize", &b.room_for_gemm) ||
        !find(library, "CLBlastSgemmStridedBatched", &b.batched) ||
        !find(library, "CLBlastOverrideParameters", &b.override)) {
        const pipe_status status =
            pipe_fail(err, PIPE_EDEVICE, "%s: CLBlast 1.4.0 or later is needed: %s", file, dlerror());
        dlclose(library);
        return status;
    }
    pipe_log(PIPE_LOG_INFO, "device", "preparing CLBlast for %s: its first call compiles kernels",
             d->info.name);
    d->blas = pipe_alloc(sizeof *d->blas);
    *d->blas = b;
    return PIPE_OK;
}

/* ---- parameters of kernels ---- */
static pipe_status apply(pipei_device *d, const pipei_tuning *t, pipe_error *err)
{
    for (size_t k = 0; k < PIPEI_TUNING_KERNELS; k++) {
        const pipei_tuning_kernel *kernel = &pipei_tuning_kernels[k];
        const char *names[PIPEI_TUNING_PARAMS];
        size_t values[PIPEI_TUNING_PARAMS];

        if (!t->set[k])
            continue;
        for (size_t i = 0; i < kernel->n_params; i++) {
            names[i] = kernel->params[i].name;
            values[i] = t->values[k].of[i];
        }
        const CLBlastStatusCode code =
            d->blas->override(d->id, kernel->name, CLBlastPrecisionSingle, kernel->n_params, names, values);
        if (code != CLBlastSuccess)
            return pipe_fail(err, PIPE_EDEVICE, "%s: CLBlast refuses parameters of %s: %s (status %d)",
                             d->info.name, kernel->name, pipei_blas_error((int)code), (int)code);
    }
    return PIPE_OK;
}

pipe_status pipei_blas_tune(pipei_device *d, const pipei_tuning *t, pipe_error *err)
{
    if (!d->blas)
        PIPE_TRY(open_blas(d, err));
    return apply(d, t, err);
}

/* What `pipe tune` stored.  Products are right without it, so nothing here fails. */
static void apply_stored(pipei_device *d)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_tuned_device now;
    pipei_tuning t = {0};

    pipei_tuned_device_of(d, &now);
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_tuning_path(&now);
    pipe_status status = path ? pipei_tuning_read(path, &now, &t, &err) : PIPE_ENOTFOUND;
    if (status == PIPE_ENOTFOUND)
        return;
    if (status == PIPE_OK)
        status = apply(d, &t, &err);
    if (status == PIPE_OK)
        pipe_log(PIPE_LOG_DEBUG, "device", "parameters of CLBlast from %s", path);
    else
        pipe_log(PIPE_LOG_WARN, "device",
                 "%s; CLBlast's own parameters are used: `pipe tune` measures the device again", err.message);
}

static CLBlastTranspose transposition(const pipei_blas_operand *x)
{
    return x->transposed ? CLBlastTransposeYes : CLBlastTransposeNo;
}

static pipe_status make_room(pipei_device *d, size_t bytes, pipe_error *err)
{
    if (bytes <= d->blas->room_bytes)
        return PIPE_OK;
    drop_room(d);
    PIPE_TRY(pipei_buffer_new(d, bytes, "temporaries of CLBlast", &d->blas->room, err));
    d->blas->room_bytes = bytes;
    return PIPE_OK;
}

pipe_status pipei_blas_gemm(pipei_device *d, size_t m, size_t n, size_t k, size_t batch,
                            const pipei_blas_operand *a, const pipei_blas_operand *b,
                            const pipei_blas_operand *c, pipe_error *err)
{
    const CLBlastTranspose ta = transposition(a), tb = transposition(b);
    const size_t row_a = a->transposed ? m : k, row_b = b->transposed ? k : n;
    const double start = pipei_seconds();
    CLBlastStatusCode code = CLBlastSuccess;

    if (!d->blas) {
        PIPE_TRY(open_blas(d, err));
        apply_stored(d);
    }
    if (batch == 1) {
        size_t room = 0;
        code = d->blas->room_for_gemm(ROWS, ta, tb, m, n, k, a->offset, row_a, b->offset, row_b, c->offset, n,
                                      &d->queue, &room);
        if (code == CLBlastSuccess) {
            PIPE_TRY(make_room(d, room, err));
            code = d->blas->gemm(ROWS, ta, tb, m, n, k, 1.0f, a->mem, a->offset, row_a, b->mem, b->offset,
                                 row_b, 0.0f, c->mem, c->offset, n, &d->queue, NULL, d->blas->room);
        }
    } else {
        code = d->blas->batched(ROWS, ta, tb, m, n, k, 1.0f, a->mem, a->offset, row_a, a->stride, b->mem,
                                b->offset, row_b, b->stride, 0.0f, c->mem, c->offset, n, c->stride, batch,
                                &d->queue, NULL);
    }
    const double seconds = pipei_seconds() - start;
    if (seconds > 1.0)
        pipe_log(PIPE_LOG_INFO, "device", "compiled kernels of CLBlast for %s in %.1f s", d->info.name,
                 seconds);
    if (code != CLBlastSuccess)
        return pipe_fail(err, PIPE_EDEVICE, "%s: CLBlast, %zu x %zu x %zu, batch %zu: %s (status %d)",
                         d->info.name, m, n, k, batch, pipei_blas_error((int)code), (int)code);
    return PIPE_OK;
}
