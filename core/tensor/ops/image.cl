/* Pooling and resizing of images [n, h, w, c].  An item is one pixel of the
 * output by up to `wide` channels: all of them on a CPU, in vectors, one on a
 * GPU.  Adjoints gather what their forward kernels scatter, so every element is
 * written once and sums have a fixed order. */
#define LOAD_float16(p) vload16(0, p)
#define LOAD_float(p) (*(p))
#define STORE_float16(v, p) vstore16(v, 0, p)
#define STORE_float(v, p) (*(p) = (v))
#define LOAD_int16(p) vload16(0, p)
#define LOAD_int(p) (*(p))

/* Where item is: pixel (row, column) of image `image`, channels c to end. */
#define PIXELS(item, height, width)                                        \
    const int blocks = (channels + wide - 1) / wide;                       \
    EACH(item, images * (height) * (width) * blocks) {                     \
        const int pixel = item / blocks;                                   \
        int c = (item - pixel * blocks) * wide;                            \
        const int end = min(channels, c + wide);                           \
        const int line = pixel / (width), column = pixel - line * (width); \
        const int image = line / (height), row = line - image * (height);  \
        const long out = (long)pixel * channels;
#define PIXELS_END }
#define CHANNELS(BODY)                                                     \
    for (; c + 16 <= end; c += 16)                                         \
        BODY(float16, int16)                                               \
    for (; c < end; c++)                                                   \
        BODY(float, int)

/* The part of the window of output (row, column) that lies within the image. */
#define WINDOW                                                                         \
    const int top = max(0, row * stride - pad), bottom = min(h, row * stride - pad + size);    \
    const int left = max(0, column * stride - pad), right = min(w, column * stride - pad + size);
/* The outputs whose windows hold the image's pixel (row, column). */
#define WINDOWS                                                                        \
    const int top = max(0, row + pad - size + stride) / stride;                        \
    const int bottom = min(oh - 1, (row + pad) / stride);                              \
    const int left = max(0, column + pad - size + stride) / stride;                    \
    const int right = min(ow - 1, (column + pad) / stride);

#define GEOMETRY const int images, const int h, const int w, const int channels, const int oh, const int ow, \
    const int size, const int stride, const int pad, const int wide

kernel void avg_pool2d(PIPE_BUF(float, x), PIPE_BUF(float, y), GEOMETRY)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    const float scale = 1.0f / (float)(size * size);
    PIXELS(item, oh, ow)
        WINDOW
#define BODY(T, TI) {                                                                          \
            T sum = (T)(0.0f);                                                                 \
            for (int i = top; i < bottom; i++)                                                 \
                for (int j = left; j < right; j++)                                             \
                    sum += LOAD_##T(x + (((long)image * h + i) * w + j) * channels + c);       \
            STORE_##T(sum * scale, y + out + c);                                               \
        }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

kernel void avg_pool2d_adjoint(PIPE_BUF(float, x), PIPE_BUF(float, y), GEOMETRY)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    const float scale = 1.0f / (float)(size * size);
    PIXELS(item, h, w)
        WINDOWS
#define BODY(T, TI) {                                                                          \
            T sum = (T)(0.0f);                                                                 \
            for (int i = top; i <= bottom; i++)                                                \
                for (int j = left; j <= right; j++)                                            \
                    sum += LOAD_##T(x + (((long)image * oh + i) * ow + j) * channels + c);     \
            STORE_##T(sum * scale, y + out + c);                                               \
        }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

/* The first maximum in reading order; NaN counts as larger than anything. */
#define FIRST_MAXIMUM(T, TI)                                                                   \
            T best = (T)(-INFINITY);                                                           \
            TI at = (TI)(top * w + left);                                                      \
            for (int i = top; i < bottom; i++)                                                 \
                for (int j = left; j < right; j++) {                                           \
                    const T v = LOAD_##T(x + (((long)image * h + i) * w + j) * channels + c);  \
                    const TI more = (v > best) | ((v != v) & (best == best));                  \
                    best = more ? v : best;                                                    \
                    at = more ? (TI)(i * w + j) : at;                                          \
                }

kernel void max_pool2d(PIPE_BUF(float, x), PIPE_BUF(float, y), GEOMETRY)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    PIXELS(item, oh, ow)
        WINDOW
#define BODY(T, TI) { FIRST_MAXIMUM(T, TI) (void)at; STORE_##T(best, y + out + c); }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

kernel void max_pool2d_index(PIPE_BUF(float, x), PIPE_BUF(int, y), GEOMETRY)
{
    PIPE_BIND(float, x);
    PIPE_BIND(int, y);
    PIXELS(item, oh, ow)
        WINDOW
#define BODY(T, TI) { FIRST_MAXIMUM(T, TI) STORE_##T(at, y + out + c); }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

kernel void pool_take(PIPE_BUF(float, x), PIPE_BUF(int, index), PIPE_BUF(float, y), const int images,
                      const int h, const int w, const int channels, const int oh, const int ow)
{
    PIPE_BIND(float, x);
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    EACH(item, images * oh * ow * channels) {
        const int pixel = item / channels, image = pixel / (oh * ow);
        const int at = clamp(index[item], 0, h * w - 1);
        y[item] = x[((long)image * h * w + at) * channels + (item - pixel * channels)];
    }
}

kernel void pool_scatter(PIPE_BUF(float, x), PIPE_BUF(int, index), PIPE_BUF(float, y), GEOMETRY)
{
    PIPE_BIND(float, x);
    PIPE_BIND(int, index);
    PIPE_BIND(float, y);
    PIXELS(item, h, w)
        WINDOWS
#define BODY(T, TI) {                                                                          \
            T sum = (T)(0.0f);                                                                 \
            for (int i = top; i <= bottom; i++)                                                \
                for (int j = left; j <= right; j++) {                                          \
                    const long from = (((long)image * oh + i) * ow + j) * channels + c;        \
                    const TI here = LOAD_##TI(index + from) == (TI)(row * w + column);         \
                    sum += here ? LOAD_##T(x + from) : (T)(0.0f);                              \
                }                                                                              \
            STORE_##T(sum, y + out + c);                                                       \
        }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

#define SIZES const int images, const int h, const int w, const int channels, const int oh, const int ow, \
    const int wide

kernel void resize_nearest(PIPE_BUF(float, x), PIPE_BUF(float, y), SIZES)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    PIXELS(item, oh, ow)
        const long from = (((long)image * h + row * h / oh) * w + column * w / ow) * channels;
#define BODY(T, TI) STORE_##T(LOAD_##T(x + from + c), y + out + c);
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

/* Input position s is where the outputs from ceil(s out / in) on come from. */
int first_of(const int s, const int in, const int out)
{
    return (s * out + in - 1) / in;
}

kernel void resize_nearest_adjoint(PIPE_BUF(float, x), PIPE_BUF(float, y), SIZES)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    PIXELS(item, h, w)
        const int top = first_of(row, h, oh), bottom = first_of(row + 1, h, oh);
        const int left = first_of(column, w, ow), right = first_of(column + 1, w, ow);
#define BODY(T, TI) {                                                                          \
            T sum = (T)(0.0f);                                                                 \
            for (int i = top; i < bottom; i++)                                                 \
                for (int j = left; j < right; j++)                                             \
                    sum += LOAD_##T(x + (((long)image * oh + i) * ow + j) * channels + c);     \
            STORE_##T(sum, y + out + c);                                                       \
        }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

/* Half-pixel centres: output i lies at ((2 i + 1) in - out) / (2 out), never
 * below 0.  The lower neighbour, and the weight of the upper one. */
int lower_of(const int i, const int in, const int out, float *weight)
{
    const int at = max(0, (2 * i + 1) * in - out), low = at / (2 * out);
    *weight = (float)(at - low * 2 * out) / (float)(2 * out);
    return low;
}

/* How much of input s is in output i. */
float weight_of(const int i, const int s, const int in, const int out)
{
    float upper;
    const int low = lower_of(i, in, out, &upper), high = min(low + 1, in - 1);
    return (low == s ? 1.0f - upper : 0.0f) + (high == s ? upper : 0.0f);
}

kernel void resize_bilinear(PIPE_BUF(float, x), PIPE_BUF(float, y), SIZES)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    PIXELS(item, oh, ow)
        float v, u;
        const int i0 = lower_of(row, h, oh, &v), i1 = min(i0 + 1, h - 1);
        const int j0 = lower_of(column, w, ow, &u), j1 = min(j0 + 1, w - 1);
        global const float *const above = x + ((long)image * h + i0) * w * channels;
        global const float *const below = x + ((long)image * h + i1) * w * channels;
#define BODY(T, TI) {                                                                          \
            const T a = LOAD_##T(above + (long)j0 * channels + c);                             \
            const T b = LOAD_##T(above + (long)j1 * channels + c);                             \
            const T d = LOAD_##T(below + (long)j0 * channels + c);                             \
            const T e = LOAD_##T(below + (long)j1 * channels + c);                             \
            const T ab = (1.0f - u) * a + u * b, de = (1.0f - u) * d + u * e;                  \
            STORE_##T((1.0f - v) * ab + v * de, y + out + c);                                  \
        }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}

kernel void resize_bilinear_adjoint(PIPE_BUF(float, x), PIPE_BUF(float, y), SIZES)
{
    PIPE_BIND(float, x);
    PIPE_BIND(float, y);
    PIXELS(item, h, w)
        /* outputs less than one input pixel away, and those that the edges took in */
        const int top = max(0, (((row - 1) * 2 + 1) * oh / h) / 2 - 1);
        const int bottom = min(oh - 1, (((row + 1) * 2 + 1) * oh / h) / 2 + 1);
        const int left = max(0, (((column - 1) * 2 + 1) * ow / w) / 2 - 1);
        const int right = min(ow - 1, (((column + 1) * 2 + 1) * ow / w) / 2 + 1);
#define BODY(T, TI) {                                                                          \
            T sum = (T)(0.0f);                                                                 \
            for (int i = top; i <= bottom; i++) {                                              \
                const float v = weight_of(i, row, h, oh);                                      \
                for (int j = left; j <= right; j++)                                            \
                    sum += (v * weight_of(j, column, w, ow)) *                                 \
                           LOAD_##T(x + (((long)image * oh + i) * ow + j) * channels + c);     \
            }                                                                                  \
            STORE_##T(sum, y + out + c);                                                       \
        }
        CHANNELS(BODY)
#undef BODY
    PIXELS_END
}
