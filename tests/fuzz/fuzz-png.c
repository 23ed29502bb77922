/* SOURCES: core/base/ core/io/ core/tensor/shape.c */
#include "core/io/formats.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipe_png_text text = PIPE_PNG_TEXT_INIT;
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    if (pipei_png_parse("fuzz", data, size, &a, &text, &err) != PIPE_OK)
        return fuzz_failed(&err);
    fuzz_use(a);
    pipe_png_text_free(&text);
    return 0;
}
