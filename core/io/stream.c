/* Reads plain or gzipped bytes from memory through one interface. */
#include "core/io/formats.h"

#include <limits.h>
#include <string.h>
#include <zlib.h>

struct pipei_stream {
    const char *name;
    const unsigned char *bytes;
    size_t size, at;                /* at: of plain bytes only */
    bool gzip, ended;
    z_stream z;
};

pipei_stream *pipei_stream_new(const char *name, const void *bytes, size_t n)
{
    pipei_stream *s = pipe_alloc(sizeof *s);
    s->name = name;
    s->bytes = bytes;
    s->size = n;
    s->gzip = n >= 2 && s->bytes[0] == 0x1F && s->bytes[1] == 0x8B;
    return s;
}

void pipei_stream_free(pipei_stream **s)
{
    if (!*s)
        return;
    if ((*s)->z.state)
        inflateEnd(&(*s)->z);
    pipe_free(*s);
    *s = NULL;
}

bool pipei_stream_is_gzip(const pipei_stream *s)
{
    return s->gzip;
}

uint64_t pipei_stream_bound(const pipei_stream *s)
{
    if (!s->gzip)
        return s->size - s->at;
    const uint64_t left = s->size - (s->z.state ? (size_t)(s->z.next_in - s->bytes) : 0);
    /* and the window not yet given out */
    return left > UINT64_MAX / 2048 ? UINT64_MAX : left * 1032 + 65536;
}

static pipe_status damaged(const pipei_stream *s, int code, pipe_error *err)
{
    if (code == Z_BUF_ERROR)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: the gzip data end before their end mark",
                         s->name);
    if (code == Z_MEM_ERROR)
        return pipe_fail(err, PIPE_ENOMEM, "%s: no memory to inflate", s->name);
    return pipe_fail(err, PIPE_EFORMAT, "%s: damaged gzip data%s%s", s->name, s->z.msg ? ": " : "",
                     s->z.msg ? s->z.msg : "");
}

/* After a member: another one, or the end.  Zero bytes that pad to a block are
 * tolerated, as gzip does. */
static pipe_status next_member(pipei_stream *s, pipe_error *err)
{
    const unsigned char *p = s->z.next_in, *end = s->bytes + s->size;
    while (p < end && *p == 0)
        p++;
    if (p == end) {
        s->ended = true;
        return PIPE_OK;
    }
    if (p != s->z.next_in || end - p < 2 || p[0] != 0x1F || p[1] != 0x8B)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %td bytes that are not gzip follow the gzip data", s->name,
                         end - s->z.next_in);
    if (inflateReset(&s->z) != Z_OK)
        return damaged(s, Z_DATA_ERROR, err);
    return PIPE_OK;
}

static pipe_status start_inflate(pipei_stream *s, pipe_error *err)
{
    s->z.next_in = (unsigned char *)(uintptr_t)s->bytes;    /* zlib does not write there */
    const int code = inflateInit2(&s->z, 15 + 16);          /* 16: gzip only */
    return code == Z_OK ? PIPE_OK : damaged(s, code, err);
}

pipe_status pipei_stream_read(pipei_stream *s, void *out, size_t n, size_t *got, pipe_error *err)
{
    size_t done = 0;
    if (!s->gzip) {
        done = n < s->size - s->at ? n : s->size - s->at;
        if (done)
            memcpy(out, s->bytes + s->at, done);
        s->at += done;
        *got = done;
        return PIPE_OK;
    }
    if (!s->z.state)
        PIPE_TRY(start_inflate(s, err));
    while (done < n && !s->ended) {
        /* zlib counts in 32 bits */
        const size_t left = s->size - (size_t)(s->z.next_in - s->bytes), room = n - done;
        s->z.avail_in = left < UINT_MAX ? (uInt)left : UINT_MAX;
        s->z.avail_out = room < UINT_MAX ? (uInt)room : UINT_MAX;
        s->z.next_out = (unsigned char *)out + done;
        const int code = inflate(&s->z, Z_NO_FLUSH);
        done = (size_t)(s->z.next_out - (unsigned char *)out);
        if (code == Z_STREAM_END)
            PIPE_TRY(next_member(s, err));
        else if (code != Z_OK)
            return damaged(s, code, err);
    }
    *got = done;
    return PIPE_OK;
}

pipe_status pipei_stream_all(pipei_stream *s, size_t limit, pipe_text *out, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text text = {0};
    enum { CHUNK = 1 << 16 };
    PIPE_CLEANUP(pipe_free_ptr) char *chunk = pipe_alloc(CHUNK);
    size_t got;
    pipe_text_add_bytes(&text, "", 0);
    do {
        PIPE_TRY(pipei_stream_read(s, chunk, CHUNK, &got, err));
        if (got > limit - text.length)
            return pipe_fail(err, PIPE_EFORMAT, "%s: longer than the limit of %zu bytes", s->name, limit);
        pipe_text_add_bytes(&text, chunk, got);
    } while (got == CHUNK);
    *out = text;
    text = (pipe_text){0};
    return PIPE_OK;
}
