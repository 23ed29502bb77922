/* SOURCES: core/base/ core/io/ core/tensor/shape.c */
#include "core/io/formats.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    PIPE_CLEANUP(pipe_text_free) pipe_text head = {0};
    if (pipei_npy_parse("fuzz", data, size, &a, &err) != PIPE_OK)
        return fuzz_failed(&err);
    fuzz_use(a);
    /* What is read can be written and read again. */
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *again = NULL;
    if (pipei_npy_header(a, &head, &err) != PIPE_OK)
        abort();
    pipe_text_add_bytes(&head, a->data, a->bytes);
    if (pipei_npy_parse("fuzz", head.data, head.length, &again, &err) != PIPE_OK || again->bytes != a->bytes ||
        memcmp(again->data, a->data, a->bytes) != 0)
        abort();
    return 0;
}
