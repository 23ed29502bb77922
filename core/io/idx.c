/* IDX, the format of MNIST (LeCun): bytes 0, 0, element type, rank; rank
 * big-endian u32 dimensions; big-endian data. */
#include "core/base/file.h"
#include "core/io/formats.h"

#include <inttypes.h>

static bool element_of(unsigned code, pipe_element *out)
{
    switch (code) {
    case 0x08: *out = PIPE_ELEMENT_U8; return true;
    case 0x09: *out = PIPE_ELEMENT_I8; return true;
    case 0x0B: *out = PIPE_ELEMENT_I16; return true;
    case 0x0C: *out = PIPE_ELEMENT_I32; return true;
    case 0x0D: *out = PIPE_ELEMENT_F32; return true;
    case 0x0E: *out = PIPE_ELEMENT_F64; return true;
    default: return false;
    }
}

static pipe_status read_header(const char *name, pipei_stream *s, pipe_element *element, pipe_shape *shape,
                               pipe_error *err)
{
    unsigned char head[4], dims[4 * PIPE_MAX_RANK];
    char text[16];
    size_t got;

    PIPE_TRY(pipei_stream_read(s, head, sizeof head, &got, err));
    if (got < sizeof head)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: an IDX file begins with 4 bytes, %zu are there",
                         name, got);
    if (head[0] != 0 || head[1] != 0 || !element_of(head[2], element))
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: not an IDX file: begins with %s, expected 00 00, a type (08 09 0b "
                         "0c 0d 0e) and the number of dimensions", name,
                         pipei_bytes_text(head, sizeof head, text, sizeof text));
    if (head[3] == 0 || head[3] > PIPE_MAX_RANK)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %u dimensions, expected 1 to %d", name, head[3],
                         PIPE_MAX_RANK);

    const size_t rank = head[3];
    PIPE_TRY(pipei_stream_read(s, dims, 4 * rank, &got, err));
    if (got < 4 * rank)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: %zu dimensions need %zu bytes, %zu are there",
                         name, rank, 4 * rank, got);
    *shape = (pipe_shape){.rank = (uint32_t)rank};
    for (size_t k = 0; k < rank; k++)
        shape->dim[k] =
            (int64_t)dims[4 * k] << 24 | dims[4 * k + 1] << 16 | dims[4 * k + 2] << 8 | dims[4 * k + 3];
    return PIPE_OK;
}

pipe_status pipei_idx_parse(const char *name, const void *bytes, size_t n, pipe_array **out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_stream_free) pipei_stream *s = pipei_stream_new(name, bytes, n);
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    pipe_element element = PIPE_ELEMENT_U8;
    pipe_shape shape = {0};
    size_t needed, got;
    void *data;
    char extra;

    PIPE_TRY(read_header(name, s, &element, &shape, err));
    if (!pipei_array_bytes(element, &shape, &needed))
        return pipe_fail(err, PIPE_EFORMAT, "%s: the product of its dimensions overflows", name);
    if (needed > pipei_stream_bound(s))           /* before it is allocated */
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: truncated: its dimensions need %zu bytes of data, at most %" PRIu64
                         " are there", name, needed, pipei_stream_bound(s));
    PIPE_TRY(pipei_array_new(name, element, shape, &a, &data, err));
    PIPE_TRY(pipei_stream_read(s, data, needed, &got, err));
    if (got < needed)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: truncated: its dimensions need %zu bytes of data, %zu are there", name,
                         needed, got);
    PIPE_TRY(pipei_stream_read(s, &extra, 1, &got, err));
    if (got)
        return pipe_fail(err, PIPE_EFORMAT, "%s: longer than its dimensions say (%zu bytes of data)", name,
                         needed);
    const size_t width = pipe_element_bits(element) / 8;
    if (width > 1)
        pipei_swap_bytes(data, needed / width, width);
    *out = a;
    a = NULL;
    return PIPE_OK;
}

pipe_status pipe_idx_read(const char *path, pipe_array **out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};
    PIPE_TRY(pipei_map_open(path, &map, err));
    return pipei_idx_parse(path, map.data, map.size, out, err);
}
