/* SOURCES: core/base/ core/io/ core/tensor/shape.c */
#include "core/io/formats.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pipe_error err = PIPE_ERROR_INIT;
    uint32_t rate = 0;
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    if (pipei_wav_parse("fuzz", data, size, &a, &rate, &err) != PIPE_OK)
        return fuzz_failed(&err);
    if (rate == 0)
        abort();
    fuzz_use(a);
    return 0;
}
