/* WAV by libsndfile, over memory on both sides: reading has the file mapped,
 * writing collects the bytes for an atomic write. */
#include "core/base/file.h"
#include "core/io/formats.h"

#include <sndfile.h>
#include <string.h>

enum { RATE_MAX = 768000, CHANNELS_MAX = 1024 };

typedef struct memory {
    const unsigned char *read;      /* NULL: `write` grows instead */
    pipe_text write;
    sf_count_t size, at;
} memory;

static sf_count_t get_length(void *data)
{
    return ((memory *)data)->size;
}

static sf_count_t seek(sf_count_t offset, int whence, void *data)
{
    memory *m = data;
    sf_count_t at;
    const sf_count_t base = whence == SEEK_CUR ? m->at : whence == SEEK_END ? m->size : 0;
    if (__builtin_add_overflow(base, offset, &at) || at < 0 || at > m->size)
        return -1;
    return m->at = at;
}

static sf_count_t read_bytes(void *out, sf_count_t n, void *data)
{
    memory *m = data;
    if (n > m->size - m->at)
        n = m->size - m->at;
    if (n <= 0)
        return 0;
    memcpy(out, m->read + m->at, (size_t)n);
    m->at += n;
    return n;
}

/* libsndfile goes back to complete the header. */
static sf_count_t write_bytes(const void *in, sf_count_t n, void *data)
{
    memory *m = data;
    const sf_count_t over = n < m->size - m->at ? n : m->size - m->at;
    if (over > 0)
        memcpy(m->write.data + m->at, in, (size_t)over);
    if (n > over)
        pipe_text_add_bytes(&m->write, (const char *)in + over, (size_t)(n - over));
    m->at += n;
    m->size = (sf_count_t)m->write.length;
    return n;
}

static sf_count_t tell(void *data)
{
    return ((memory *)data)->at;
}

static SF_VIRTUAL_IO io = {get_length, seek, read_bytes, write_bytes, tell};

static void close_sound(SNDFILE **s)
{
    if (*s)
        sf_close(*s);
}

pipe_status pipei_wav_parse(const char *name, const void *bytes, size_t n, pipe_array **out, uint32_t *rate,
                            pipe_error *err)
{
    char text[16];
    if (n < 12 || (memcmp(bytes, "RIFF", 4) != 0 && memcmp(bytes, "RIFX", 4) != 0 &&
                   memcmp(bytes, "RF64", 4) != 0) ||
        memcmp((const char *)bytes + 8, "WAVE", 4) != 0)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: not a WAV file: begins with %s, expected RIFF, a length and WAVE", name,
                         pipei_bytes_text(bytes, n < 4 ? n : 4, text, sizeof text));
    memory m = {.read = bytes, .size = (sf_count_t)n};
    SF_INFO info = {0};
    PIPE_CLEANUP(close_sound) SNDFILE *s = sf_open_virtual(&io, SFM_READ, &info, &m);
    if (!s)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %s", name, sf_strerror(NULL));
    if (info.channels < 1 || info.channels > CHANNELS_MAX || info.samplerate < 1 ||
        info.samplerate > RATE_MAX)
        return pipe_fail(err, PIPE_EFORMAT,
                         "%s: %d channels at %d frames per second; 1 to %d at 1 to %d are possible",
                         name, info.channels, info.samplerate, CHANNELS_MAX, RATE_MAX);
    /* The most compact coding that WAV knows has above one bit per sample. */
    if (info.frames < 0 || (uint64_t)info.frames > (uint64_t)n * 8)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: %lld frames cannot be in %zu bytes", name,
                         (long long)info.frames, n);
    PIPE_CLEANUP(pipe_array_free_ptr) pipe_array *a = NULL;
    void *data;
    PIPE_TRY(pipei_array_new(name, PIPE_ELEMENT_F32, PIPE_SHAPE(info.frames, info.channels), &a, &data, err));
    const sf_count_t got = sf_readf_float(s, data, info.frames);
    if (got != info.frames)
        return pipe_fail(err, PIPE_EFORMAT, "%s: truncated: %lld frames announced, %lld are there", name,
                         (long long)info.frames, (long long)got);
    *rate = (uint32_t)info.samplerate;
    *out = a;
    a = NULL;
    return PIPE_OK;
}

pipe_status pipe_wav_read(const char *path, pipe_array **out, uint32_t *rate, pipe_error *err)
{
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};
    PIPE_TRY(pipei_map_open(path, &map, err));
    return pipei_wav_parse(path, map.data, map.size, out, rate, err);
}

static pipe_status encode(memory *m, const char *path, const pipe_array *sound, int channels, uint32_t rate,
                          pipe_error *err)
{
    SF_INFO info = {.samplerate = (int)rate, .channels = channels, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
    SNDFILE *s = sf_open_virtual(&io, SFM_WRITE, &info, m);
    if (!s)
        return pipe_fail(err, PIPE_EINVAL, "%s: %s", path, sf_strerror(NULL));
    /* The chunk of peaks holds the time of writing: equal sounds should give equal files. */
    sf_command(s, SFC_SET_ADD_PEAK_CHUNK, NULL, SF_FALSE);
    PIPE_CLEANUP(pipe_free_ptr) float *aligned = pipe_alloc(sound->bytes);
    if (sound->bytes)
        memcpy(aligned, sound->data, sound->bytes);
    const sf_count_t written = sf_writef_float(s, aligned, sound->shape.dim[0]);
    const int closed = sf_close(s);
    if (written != sound->shape.dim[0] || closed != 0)
        return pipe_fail(err, PIPE_EIO, "%s: libsndfile could not encode it", path);
    return PIPE_OK;
}

pipe_status pipe_wav_write(const char *path, const pipe_array *sound, uint32_t rate, pipe_error *err)
{
    char text[PIPE_SHAPE_TEXT];
    PIPE_TRY(pipei_array_check(sound, path, err));
    const pipe_shape *s = &sound->shape;
    const int64_t channels = s->rank == 2 ? s->dim[1] : 1;
    if (sound->element != PIPE_ELEMENT_F32 || s->rank < 1 || s->rank > 2 || channels < 1 ||
        channels > CHANNELS_MAX)
        return pipe_fail(err, PIPE_ESHAPE, "%s: a sound is F32 [frames] or [frames, 1 to %d], not %s %s",
                         path,
                         CHANNELS_MAX, pipe_element_name(sound->element),
                         pipe_shape_text(s, text, sizeof text));
    if (rate < 1 || rate > RATE_MAX)
        return pipe_fail(err, PIPE_EINVAL, "%s: %u frames per second; 1 to %d are possible", path, rate,
                         RATE_MAX);
    if (sound->bytes > UINT32_MAX - 4096)
        return pipe_fail(err, PIPE_EUNSUPPORTED, "%s: WAV holds less than 4 GiB", path);
    memory m = {0};
    pipe_status status = encode(&m, path, sound, (int)channels, rate, err);
    if (status == PIPE_OK)
        status = pipei_file_write(path, m.write.data, m.write.length, err);
    pipe_text_free(&m.write);
    return status;
}
