/* SOURCES: core/base/ core/io/ core/tensor/shape.c */
#include "core/io/formats.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_npz_free_ptr) pipe_npz *z = NULL;
    if (pipei_npz_parse("fuzz", data, size, 1 << 24, &z, &err) != PIPE_OK)
        return fuzz_failed(&err);
    for (size_t k = 0; k < pipe_npz_count(z); k++)
        fuzz_use(pipe_npz_at(z, k));
    return 0;
}
