/* SOURCES: core/base/ core/io/ core/tensor/shape.c */
#include "core/io/formats.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(pipe_table_free_ptr) pipe_table *t = NULL;
    if (pipei_csv_parse("fuzz", data, size, 0, &t, &err) != PIPE_OK)
        return fuzz_failed(&err);
    const size_t rows = pipe_table_rows(t);
    PIPE_CLEANUP(pipe_free_ptr) double *values = pipe_alloc_array(rows, sizeof *values);
    for (size_t c = 0; c < pipe_table_columns(t) && c < 16; c++) {
        const bool number = pipe_table_is_number(t, c);
        if (number != (pipe_table_numbers(t, c, values, &err) == PIPE_OK))
            abort();
        for (size_t r = 0; r < rows; r++)
            if (!pipe_table_text(t, r, c))
                abort();
    }
    return 0;
}
