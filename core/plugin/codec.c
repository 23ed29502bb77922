/* Descriptors as bytes: what the scanner's child reports and the cache holds.
 * The bytes stay on the machine that wrote them, so numbers are in its own order.
 * A text is its length, its bytes and a NUL: decoded texts point into the buffer. */
#include "core/plugin/scan.h"

#include "core/run/object.h"

#include <string.h>

#define NULL_STRING UINT32_MAX

void pipei_put_u32(pipe_text *t, uint32_t v)
{
    pipe_text_add_bytes(t, &v, sizeof v);
}

void pipei_put_u64(pipe_text *t, uint64_t v)
{
    pipe_text_add_bytes(t, &v, sizeof v);
}

void pipei_put_bytes(pipe_text *t, const void *data, size_t n)
{
    pipei_put_u32(t, (uint32_t)n);
    pipe_text_add_bytes(t, data, n);
    pipe_text_add_bytes(t, "", 1);
}

void pipei_put_string(pipe_text *t, const char *s)
{
    if (s)
        pipei_put_bytes(t, s, strlen(s));
    else
        pipei_put_u32(t, NULL_STRING);
}

static void put_double(pipe_text *t, double v)
{
    pipe_text_add_bytes(t, &v, sizeof v);
}

static bool take(pipei_bytes *b, void *out, size_t n)
{
    if (b->bad || b->left < n) {
        b->bad = true;
        memset(out, 0, n);
        return false;
    }
    memcpy(out, b->at, n);
    b->at += n;
    b->left -= n;
    return true;
}

uint32_t pipei_get_u32(pipei_bytes *b)
{
    uint32_t v;
    take(b, &v, sizeof v);
    return v;
}

uint64_t pipei_get_u64(pipei_bytes *b)
{
    uint64_t v;
    take(b, &v, sizeof v);
    return v;
}

static double get_double(pipei_bytes *b)
{
    double v;
    take(b, &v, sizeof v);
    return v;
}

static const void *get_counted(pipei_bytes *b, uint32_t n)
{
    if (b->bad || b->left <= n || b->at[n] != '\0') {
        b->bad = true;
        return NULL;
    }
    const void *p = b->at;
    b->at += (size_t)n + 1;
    b->left -= (size_t)n + 1;
    return p;
}

const void *pipei_get_bytes(pipei_bytes *b, size_t *n)
{
    const uint32_t length = pipei_get_u32(b);
    const void *p = get_counted(b, length);
    *n = p ? length : 0;
    return p;
}

const char *pipei_get_string(pipei_bytes *b)
{
    const uint32_t n = pipei_get_u32(b);
    return b->bad || n == NULL_STRING ? NULL : get_counted(b, n);
}

/* ---- descriptors ---- */

static uint32_t count_params(const pipe_param *p)
{
    uint32_t n = 0;
    while (p && p[n].name)
        n++;
    return n;
}

static void put_param(pipe_text *t, const pipe_param *p)
{
    uint32_t choices = 0;
    while (p->choices && p->choices[choices])
        choices++;
    pipei_put_string(t, p->name);
    pipei_put_u32(t, (uint32_t)p->type);
    pipei_put_u32(t, p->flags);
    pipei_put_u64(t, p->offset);
    pipei_put_string(t, p->fallback);
    put_double(t, p->min);
    put_double(t, p->max);
    pipei_put_string(t, p->unit);
    pipei_put_string(t, p->help);
    pipei_put_string(t, p->alias);
    pipei_put_u32(t, choices);
    for (uint32_t k = 0; k < choices; k++)
        pipei_put_string(t, p->choices[k]);
}

static void get_param(pipei_bytes *b, pipe_param *p, pipe_arena *a)
{
    p->name = pipei_get_string(b);
    p->type = (pipe_type)pipei_get_u32(b);
    p->flags = pipei_get_u32(b);
    p->offset = (size_t)pipei_get_u64(b);
    p->fallback = pipei_get_string(b);
    p->min = get_double(b);
    p->max = get_double(b);
    p->unit = pipei_get_string(b);
    p->help = pipei_get_string(b);
    p->alias = pipei_get_string(b);
    const uint32_t n = pipei_get_u32(b);
    if (n == 0 || b->bad || n > b->left)
        return;
    const char **choices = pipe_arena_alloc(a, ((size_t)n + 1) * sizeof *choices);
    for (uint32_t k = 0; k < n; k++)
        choices[k] = pipei_get_string(b);
    p->choices = choices;
}

void pipei_plugin_encode(const pipe_plugin *p, pipe_text *t)
{
    uint32_t inputs = 0, outputs = 0;
    while (p->inputs && p->inputs[inputs].name)
        inputs++;
    while (p->outputs && p->outputs[outputs].name)
        outputs++;

    pipei_put_u32(t, p->abi_major);
    pipei_put_u32(t, p->abi_minor);
    pipei_put_u32(t, p->size);
    pipei_put_u32(t, p->flags);
    pipei_put_u64(t, p->state_size);
    const char *const texts[] = {p->kind, p->name,     p->version, p->summary,
                                 p->help, p->citation, p->licence, p->example};
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
        pipei_put_string(t, texts[k]);

    pipei_put_u32(t, count_params(p->params));
    for (const pipe_param *row = p->params; row && row->name; row++)
        put_param(t, row);
    pipei_put_u32(t, inputs);
    for (uint32_t k = 0; k < inputs; k++) {
        const pipe_input *in = &p->inputs[k];
        pipei_put_string(t, in->name);
        pipei_put_string(t, in->kind);
        pipei_put_u32(t, in->flags);
        pipei_put_u64(t, in->offset);
        pipei_put_string(t, in->fallback);
        pipei_put_string(t, in->help);
    }
    pipei_put_u32(t, outputs);
    for (uint32_t k = 0; k < outputs; k++) {
        const pipe_output *out = &p->outputs[k];
        pipei_put_string(t, out->name);
        pipei_put_string(t, out->kind);
        pipei_put_string(t, out->like);
        pipei_put_string(t, out->help);
    }
    uint32_t rules = 0;
    while (p->rules && p->rules[rules].name)
        rules++;
    pipei_put_u32(t, rules);
    for (uint32_t k = 0; k < rules; k++) {
        pipei_put_string(t, p->rules[k].name);
        pipei_put_string(t, p->rules[k].needs);
        pipei_put_string(t, p->rules[k].excludes);
    }
    /* what a kind's table says beside its functions */
    const bool sampler = strcmp(p->kind, PIPE_KIND_SAMPLER) == 0;
    pipei_put_u32(t, sampler ? (uint32_t)p->sampler.order : 0);
    pipei_put_u32(t, sampler ? (uint32_t)p->sampler.calls_per_step : 0);
    pipei_put_u32(t, sampler && p->sampler.stochastic);
}

/* Room for `n` rows and their end; a count that the bytes cannot hold gives NULL. */
static void *rows(pipei_bytes *b, size_t n, size_t more, size_t each, pipe_arena *a)
{
    if (b->bad || n > b->left) {
        b->bad = true;
        return NULL;
    }
    return pipe_arena_alloc(a, (n + more + 1) * each);
}

static void get_params(pipei_bytes *b, pipe_arena *a, pipei_plugin *out)
{
    const pipe_param *common = out->meta.kind ? pipei_kind_params(out->meta.kind) : NULL;
    const size_t own = pipei_get_u32(b), more = count_params(common);
    pipe_param *params = rows(b, own, more, sizeof *params, a);
    for (size_t k = 0; params && k < own; k++)
        get_param(b, &params[k], a);
    if (params && more)
        memcpy(params + own, common, more * sizeof *params);
    out->meta.params = params;
    out->own_params = own;
}

static void get_inputs(pipei_bytes *b, pipe_arena *a, pipei_plugin *out)
{
    const size_t n = pipei_get_u32(b);
    pipe_input *inputs = rows(b, n, 0, sizeof *inputs, a);
    for (size_t k = 0; inputs && k < n; k++) {
        inputs[k].name = pipei_get_string(b);
        inputs[k].kind = pipei_get_string(b);
        inputs[k].flags = pipei_get_u32(b);
        inputs[k].offset = (size_t)pipei_get_u64(b);
        inputs[k].fallback = pipei_get_string(b);
        inputs[k].help = pipei_get_string(b);
    }
    out->meta.inputs = inputs;
}

static void get_outputs(pipei_bytes *b, pipe_arena *a, pipei_plugin *out)
{
    const size_t n = pipei_get_u32(b);
    pipe_output *outputs = rows(b, n, 0, sizeof *outputs, a);
    for (size_t k = 0; outputs && k < n; k++) {
        outputs[k].name = pipei_get_string(b);
        outputs[k].kind = pipei_get_string(b);
        outputs[k].like = pipei_get_string(b);
        outputs[k].help = pipei_get_string(b);
    }
    out->meta.outputs = outputs;
}

static void get_rules(pipei_bytes *b, pipe_arena *a, pipei_plugin *out)
{
    const size_t n = pipei_get_u32(b);
    pipe_rule *rules = rows(b, n, 0, sizeof *rules, a);
    for (size_t k = 0; rules && k < n; k++) {
        rules[k].name = pipei_get_string(b);
        rules[k].needs = pipei_get_string(b);
        rules[k].excludes = pipei_get_string(b);
    }
    out->meta.rules = rules;
}

bool pipei_plugin_decode(const void *blob, size_t size, pipe_arena *a, pipei_plugin *out)
{
    pipei_bytes b = {.at = blob, .left = size};
    pipe_plugin *m = &out->meta;

    *m = (pipe_plugin){.magic = PIPE_ABI_MAGIC};
    m->abi_major = (uint16_t)pipei_get_u32(&b);
    m->abi_minor = (uint16_t)pipei_get_u32(&b);
    m->size = pipei_get_u32(&b);
    m->flags = pipei_get_u32(&b);
    m->state_size = (size_t)pipei_get_u64(&b);
    const char **texts[] = {&m->kind, &m->name,     &m->version, &m->summary,
                            &m->help, &m->citation, &m->licence, &m->example};
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
        *texts[k] = pipei_get_string(&b);
    get_params(&b, a, out);
    get_inputs(&b, a, out);
    get_outputs(&b, a, out);
    get_rules(&b, a, out);
    const uint32_t order = pipei_get_u32(&b), calls = pipei_get_u32(&b), stochastic = pipei_get_u32(&b);
    if (b.bad || b.left || !m->kind || !m->name || !m->version || !m->summary)
        return false;
    if (strcmp(m->kind, PIPE_KIND_SAMPLER) == 0) {
        m->sampler.order = (int32_t)order;
        m->sampler.calls_per_step = (int32_t)calls;
        m->sampler.stochastic = stochastic != 0;
    }
    out->step = pipei_plugin_is_step(m);
    out->trainable = m->flags & PIPE_TRAINABLE;
    return true;
}
