/* Status names and the filling of pipe_error. */
#include <pipe/base.h>

#include <stdio.h>
#include <string.h>

const char *pipe_status_name(pipe_status status)
{
    switch (status) {
    case PIPE_OK: return "ok";
    case PIPE_EINVAL: return "invalid";
    case PIPE_ENOMEM: return "memory";
    case PIPE_EIO: return "input/output";
    case PIPE_EFORMAT: return "format";
    case PIPE_ESHAPE: return "shape";
    case PIPE_EDOMAIN: return "domain";
    case PIPE_EDEVICE: return "device";
    case PIPE_ENOTFOUND: return "not found";
    case PIPE_EEXIST: return "exists";
    case PIPE_EUNSUPPORTED: return "unsupported";
    case PIPE_EINTERRUPTED: return "interrupted";
    case PIPE_EPLUGIN: return "plugin";
    case PIPE_EPIPELINE: return "pipeline";
    }
    return "unknown";
}

/* A caller built against an older, shorter pipe_error must not be written past its end. */
static size_t capacity(const pipe_error *err)
{
    const size_t before = offsetof(pipe_error, message);
    const size_t room = err->size > before ? err->size - before : 0;
    return room < sizeof err->message ? room : sizeof err->message;
}

/* What did not fit ends in "..."; a UTF-8 character is never cut in two. */
static void mark_cut(char *text, size_t size, int needed)
{
    static const char dots[] = "...";
    if (needed < 0 || (size_t)needed < size || size < sizeof dots)
        return;
    size_t end = size - sizeof dots;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    memcpy(text + end, dots, sizeof dots);
}

static void strip_newlines(char *text)
{
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
}

pipe_status pipe_vfail(pipe_error *err, pipe_status status, const char *fmt, va_list args)
{
    if (!err)
        return status;
    err->status = status;
    const size_t size = capacity(err);
    if (size == 0)
        return status;
    /* The arguments may point into err->message: "%s: more" of the old text. */
    char text[sizeof err->message];
    const int needed = vsnprintf(text, size, fmt, args);
    mark_cut(text, size, needed);
    strip_newlines(text);
    memcpy(err->message, text, strlen(text) + 1);
    return status;
}

pipe_status pipe_fail(pipe_error *err, pipe_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pipe_vfail(err, status, fmt, args);
    va_end(args);
    return status;
}

pipe_status pipe_context_fail(pipe_error *err, pipe_status status, const char *fmt, ...)
{
    if (!err)
        return status;
    char context[1024];
    va_list args;
    va_start(args, fmt);
    const int needed = vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    mark_cut(context, sizeof context, needed);
    return pipe_fail(err, status, "%s: %s", context, err->message);
}
