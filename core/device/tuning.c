/* Parameters of CLBlast's kernels.  Values and conditions are those of CLBlast's own
 * tuners (src/tuning/kernels/xgemm.hpp, xgemm_direct.hpp), without the second family
 * of large kernels (GEMMK 1).
 *
 *     {"format": 1, "device": "...", "vendor": "...", "driver": "...",
 *      "kernels": {"Xgemm": {"GEMMK": 0, "KREG": 1, ...}, ...}}
 */
#include "core/device/tuning.h"

#include "core/base/file.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1, MOST_BYTES = 64 * 1024 };

#define ONE_OF(...) {__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)

enum { GEMMK, KREG, KWG, KWI, MDIMA, MDIMC, MWG, NDIMB, NDIMC, NWG, SA, SB, STRM, STRN, VWM, VWN };
enum { KWID, MDIMAD, MDIMCD, NDIMBD, NDIMCD, PADA, PADB, VWMD, VWND, WGD };

const pipei_tuning_kernel pipei_tuning_kernels[PIPEI_TUNING_KERNELS] = {
    [PIPEI_TUNING_LARGE] = {"Xgemm",
                            {[GEMMK] = {"GEMMK", ONE_OF(0)},
                             [KREG] = {"KREG", ONE_OF(1)},
                             [KWG] = {"KWG", ONE_OF(16, 32)},
                             [KWI] = {"KWI", ONE_OF(2, 8)},
                             [MDIMA] = {"MDIMA", ONE_OF(8, 16, 32)},
                             [MDIMC] = {"MDIMC", ONE_OF(8, 16, 32)},
                             [MWG] = {"MWG", ONE_OF(16, 32, 64, 128)},
                             [NDIMB] = {"NDIMB", ONE_OF(8, 16, 32)},
                             [NDIMC] = {"NDIMC", ONE_OF(8, 16, 32)},
                             [NWG] = {"NWG", ONE_OF(16, 32, 64, 128)},
                             [SA] = {"SA", ONE_OF(0, 1)},
                             [SB] = {"SB", ONE_OF(0, 1)},
                             [STRM] = {"STRM", ONE_OF(0, 1)},
                             [STRN] = {"STRN", ONE_OF(0, 1)},
                             [VWM] = {"VWM", ONE_OF(1, 2, 4, 8)},
                             [VWN] = {"VWN", ONE_OF(1, 2, 4, 8)}},
                            VWN + 1},
    [PIPEI_TUNING_SMALL] = {"XgemmDirect",
                            {[KWID] = {"KWID", ONE_OF(2, 8, 16)},
                             [MDIMAD] = {"MDIMAD", ONE_OF(8, 16, 32)},
                             [MDIMCD] = {"MDIMCD", ONE_OF(8, 16, 32)},
                             [NDIMBD] = {"NDIMBD", ONE_OF(8, 16, 32)},
                             [NDIMCD] = {"NDIMCD", ONE_OF(8, 16, 32)},
                             [PADA] = {"PADA", ONE_OF(0, 1)},
                             [PADB] = {"PADB", ONE_OF(0, 1)},
                             [VWMD] = {"VWMD", ONE_OF(1, 2, 4, 8)},
                             [VWND] = {"VWND", ONE_OF(1, 2, 4, 8)},
                             [WGD] = {"WGD", ONE_OF(8, 16, 32, 64)}},
                            WGD + 1},
    [PIPEI_TUNING_BORDER] = {"GemmRoutine",
                             {{"XGEMM_MIN_INDIRECT_SIZE",
                               ONE_OF(0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 65536)}},
                             1},
};

void pipei_tuned_device_of(const pipei_device *d, pipei_tuned_device *out)
{
    const pipei_device_info *info = pipei_device_describe(d);
    const pipe_device_profile *p = pipei_device_profile(d);

    *out = (pipei_tuned_device){.local_memory = p->local_memory, .max_work_group = p->max_work_group};
    memcpy(out->name, info->name, sizeof out->name);
    memcpy(out->driver, info->driver, sizeof out->driver);
    clGetDeviceInfo(pipei_device_id(d), CL_DEVICE_VENDOR, sizeof out->vendor - 1, out->vendor, NULL);
}

/* ---- conditions ---- */
static const char *flaw_of_large(const uint32_t *v, const pipei_tuned_device *d)
{
    const uint32_t threads = v[MDIMC] * v[NDIMC];
    const uint64_t local = 4ull * v[KWG] * (v[SA] * v[MWG] + v[SB] * v[NWG]);

    if (v[KWG] % v[KWI])
        return "KWG is no multiple of KWI";
    if (v[MWG] % (v[MDIMC] * v[VWM]) || v[MWG] % (v[MDIMA] * v[VWM]))
        return "MWG is no multiple of MDIMC and of MDIMA, times VWM";
    if (v[NWG] % (v[NDIMC] * v[VWN]) || v[NWG] % (v[NDIMB] * v[VWN]))
        return "NWG is no multiple of NDIMC and of NDIMB, times VWN";
    if (threads % v[MDIMA] || threads % v[NDIMB] || v[KWG] % (threads / v[MDIMA]) ||
        v[KWG] % (threads / v[NDIMB]))
        return "KWG is no multiple of MDIMC NDIMC / MDIMA and of MDIMC NDIMC / NDIMB";
    if (threads > d->max_work_group)
        return "the work-groups are larger than the device's";
    return local > d->local_memory ? "the device has less local memory" : NULL;
}

static const char *flaw_of_small(const uint32_t *v, const pipei_tuned_device *d)
{
    const uint32_t threads = v[MDIMCD] * v[NDIMCD];
    const uint64_t local = 4ull * v[WGD] * (2 * v[WGD] + v[PADA] + v[PADB]);

    if (v[WGD] % v[KWID])
        return "WGD is no multiple of KWID";
    if (v[WGD] % (v[MDIMCD] * v[VWMD]) || v[WGD] % (v[MDIMAD] * v[VWMD]))
        return "WGD is no multiple of MDIMCD and of MDIMAD, times VWMD";
    if (v[WGD] % (v[NDIMCD] * v[VWND]) || v[WGD] % (v[NDIMBD] * v[VWND]))
        return "WGD is no multiple of NDIMCD and of NDIMBD, times VWND";
    if (threads % v[MDIMAD] || threads % v[NDIMBD] || v[WGD] % (threads / v[MDIMAD]) ||
        v[WGD] % (threads / v[NDIMBD]))
        return "WGD is no multiple of MDIMCD NDIMCD / MDIMAD and of MDIMCD NDIMCD / NDIMBD";
    if (threads > d->max_work_group)
        return "the work-groups are larger than the device's";
    return local > d->local_memory ? "the device has less local memory" : NULL;
}

static bool allowed(const pipei_tuning_param *p, json_int_t value)
{
    for (size_t k = 0; k < p->n_values; k++)
        if (value == (json_int_t)p->values[k])
            return true;
    return false;
}

const char *pipei_tuning_flaw(size_t kernel, const pipei_tuning_values *v, const pipei_tuned_device *d)
{
    const pipei_tuning_kernel *k = &pipei_tuning_kernels[kernel];

    for (size_t i = 0; i < k->n_params; i++)
        if (!allowed(&k->params[i], v->of[i]))
            return "a value is none of those that are allowed";
    return kernel == PIPEI_TUNING_LARGE ? flaw_of_large(v->of, d)
         : kernel == PIPEI_TUNING_SMALL ? flaw_of_small(v->of, d) : NULL;
}

/* ---- the file ---- */
char *pipei_tuning_path(const pipei_tuned_device *d)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_cache_folder();
    const uint64_t id = pipe_hash64(d->vendor, strlen(d->vendor), pipe_hash64(d->name, strlen(d->name), 0));
    PIPE_CLEANUP(pipe_free_ptr) char *name = pipe_format("clblast-%016" PRIx64 ".json", id);

    return folder ? pipei_path_join(folder, name) : NULL;
}

static void drop(json_t **j) { json_decref(*j); }

static pipe_status read_kernel(size_t kernel, const json_t *from, const pipei_tuned_device *d,
                               pipei_tuning *out, pipe_error *err)
{
    const pipei_tuning_kernel *k = &pipei_tuning_kernels[kernel];
    pipei_tuning_values *v = &out->values[kernel];

    if (json_object_size(from) != k->n_params)
        return pipe_fail(err, PIPE_EFORMAT, "%s has %zu parameters, not %zu", k->name, json_object_size(from),
                         k->n_params);
    for (size_t i = 0; i < k->n_params; i++) {
        const json_t *value = json_object_get(from, k->params[i].name);
        if (!json_is_integer(value) || !allowed(&k->params[i], json_integer_value(value)))
            return pipe_fail(err, PIPE_EFORMAT, "%s: %s is missing or none of the values that are allowed",
                             k->name, k->params[i].name);
        v->of[i] = (uint32_t)json_integer_value(value);
    }
    const char *flaw = pipei_tuning_flaw(kernel, v, d);
    if (flaw)
        return pipe_fail(err, PIPE_EFORMAT, "%s: %s", k->name, flaw);
    out->set[kernel] = true;
    return PIPE_OK;
}

static pipe_status same(const json_t *document, const char *key, const char *wanted, pipe_error *err)
{
    const char *text = json_string_value(json_object_get(document, key));

    if (!text)
        return pipe_fail(err, PIPE_EFORMAT, "\"%s\" is missing", key);
    return strcmp(text, wanted) == 0
               ? PIPE_OK
               : pipe_fail(err, PIPE_EFORMAT, "it was measured with %s \"%s\", and this is \"%s\"", key, text,
                           wanted);
}

static pipe_status understand(const json_t *document, const pipei_tuned_device *d, pipei_tuning *out,
                              pipe_error *err)
{
    json_t *kernels = json_object_get(document, "kernels");
    const json_t *format = json_object_get(document, "format");
    size_t known = 0;

    if (!json_is_integer(format) || json_integer_value(format) != FORMAT)
        return pipe_fail(err, PIPE_EFORMAT, "\"format\" is not %d", FORMAT);
    PIPE_TRY(same(document, "device", d->name, err));
    PIPE_TRY(same(document, "vendor", d->vendor, err));
    PIPE_TRY(same(document, "driver", d->driver, err));
    if (json_object_size(document) != 5 || !json_is_object(kernels))
        return pipe_fail(err, PIPE_EFORMAT,
                         "it must hold \"format\", \"device\", \"vendor\", \"driver\" and \"kernels\" alone");
    for (size_t k = 0; k < PIPEI_TUNING_KERNELS; k++) {
        const json_t *one = json_object_get(kernels, pipei_tuning_kernels[k].name);
        if (one)
            PIPE_TRY(read_kernel(k, one, d, out, err));
        known += one != NULL;
    }
    return known == json_object_size(kernels)
               ? PIPE_OK
               : pipe_fail(err, PIPE_EFORMAT, "\"kernels\" names one that is not known");
}

pipe_status pipei_tuning_read(const char *path, const pipei_tuned_device *d, pipei_tuning *out,
                              pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *text = NULL;
    pipei_tuning found = {0};
    json_error_t reason;
    size_t n = 0;

    PIPE_TRY(pipei_file_read(path, MOST_BYTES, &text, &n, err));
    PIPE_CLEANUP(drop) json_t *document = json_loadb(text, n, JSON_REJECT_DUPLICATES, &reason);
    if (!document)
        return pipe_fail(err, PIPE_EFORMAT, "%s:%d: %s", path, reason.line, reason.text);
    const pipe_status status = understand(document, d, &found, err);
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "%s", path);
    *out = found;
    return PIPE_OK;
}

pipe_status pipei_tuning_write(const char *path, const pipei_tuned_device *d, const pipei_tuning *t,
                               pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *folder = pipei_path_folder(path);
    json_t *kernels = json_object();
    PIPE_CLEANUP(drop) json_t *document =
        json_pack("{s:i, s:s, s:s, s:s, s:o}", "format", FORMAT, "device", d->name, "vendor", d->vendor,
                  "driver", d->driver, "kernels", kernels);

    for (size_t k = 0; document && k < PIPEI_TUNING_KERNELS; k++) {
        const pipei_tuning_kernel *kernel = &pipei_tuning_kernels[k];
        json_t *one = t->set[k] ? json_object() : NULL;
        for (size_t i = 0; one && i < kernel->n_params; i++)
            json_object_set_new(one, kernel->params[i].name, json_integer(t->values[k].of[i]));
        if (one)
            json_object_set_new(kernels, kernel->name, one);
    }
    char *text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;
    if (!text)
        return pipe_fail(err, PIPE_EFORMAT, "%s: the names of the device are not UTF-8", d->name);
    pipe_status status = pipei_make_folders(folder, err);
    if (status == PIPE_OK)
        status = pipei_file_write(path, text, strlen(text), err);
    free(text);
    return status;
}
