/* What the fuzz targets share. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <pipe/io.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A failure must say something. */
static inline int fuzz_failed(const pipe_error *err)
{
    if (err->status == PIPE_OK || !err->message[0])
        abort();
    return 0;
}

/* An array that was accepted can be converted, and its sizes agree. */
static inline void fuzz_use(const pipe_array *a)
{
    pipe_error err = PIPE_ERROR_INIT;
    const size_t n = pipe_array_count(a), some = n < 4096 ? n : 4096;
    PIPE_CLEANUP(pipe_free_ptr) double *wide = pipe_alloc_array(some, sizeof *wide);
    PIPE_CLEANUP(pipe_free_ptr) float *narrow = pipe_alloc_array(some, sizeof *narrow);
    PIPE_CLEANUP(pipe_free_ptr) int32_t *whole = pipe_alloc_array(some, sizeof *whole);
    if (n * pipe_element_bits(a->element) != a->bytes * 8)
        abort();
    /* Both ends: the last element is where a wrong size shows. */
    for (int end = 0; end < 2; end++) {
        const size_t first = end ? n - some : 0;
        const pipe_status status = pipe_array_f64(a, first, some, wide, &err);
        if (status != PIPE_OK && status != PIPE_EUNSUPPORTED)
            abort();
        if (status != pipe_array_f32(a, first, some, narrow, &err))
            abort();
        pipe_array_i32(a, first, some, whole, &err);
    }
}

#endif
