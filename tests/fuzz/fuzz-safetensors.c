/* SOURCES: core/base/ core/io/ core/tensor/shape.c */
#include "core/io/formats.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_safetensors_close_ptr) pipe_safetensors *f = NULL;
    if (pipei_safetensors_parse("fuzz", data, size, &f, &err) != PIPE_OK)
        return fuzz_failed(&err);
    for (size_t k = 0; k < pipe_safetensors_count(f); k++) {
        fuzz_use(pipe_safetensors_at(f, k));
        if (pipe_safetensors_find(f, pipe_safetensors_name(f, k)) != pipe_safetensors_at(f, k))
            abort();
    }
    return 0;
}
