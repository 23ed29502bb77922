/* Parameters of CLBlast's kernels: which there are, what they may be, and the file
 * that remembers the best for a device.  Internal. */
#ifndef PIPE_CORE_TUNING_H
#define PIPE_CORE_TUNING_H

#include "core/device/device.h"

enum { PIPEI_TUNING_PARAMS = 16, PIPEI_TUNING_VALUES = 16 };

/* The kernels behind a product: for large matrices (padded copies first), for small
 * ones (in place), and the size that parts them. */
enum { PIPEI_TUNING_LARGE, PIPEI_TUNING_SMALL, PIPEI_TUNING_BORDER, PIPEI_TUNING_KERNELS };

typedef struct pipei_tuning_param {
    const char *name;                            /* as CLBlast has it */
    uint32_t values[PIPEI_TUNING_VALUES];        /* allowed, ascending */
    size_t n_values;
} pipei_tuning_param;

typedef struct pipei_tuning_kernel {
    const char *name;
    pipei_tuning_param params[PIPEI_TUNING_PARAMS];
    size_t n_params;
} pipei_tuning_kernel;

PIPE_INTERNAL extern const pipei_tuning_kernel pipei_tuning_kernels[PIPEI_TUNING_KERNELS];

/* Values in the order of the kernel's parameters. */
typedef struct pipei_tuning_values {
    uint32_t of[PIPEI_TUNING_PARAMS];
} pipei_tuning_values;

typedef struct pipei_tuning {
    bool set[PIPEI_TUNING_KERNELS];              /* false: CLBlast's own values */
    pipei_tuning_values values[PIPEI_TUNING_KERNELS];
} pipei_tuning;

/* What a tuning is good for. */
typedef struct pipei_tuned_device {
    char name[128], vendor[128], driver[64];
    uint64_t local_memory;
    uint32_t max_work_group;
} pipei_tuned_device;

PIPE_INTERNAL void pipei_tuned_device_of(const pipei_device *d, pipei_tuned_device *out);

/* NULL, or why a kernel cannot be made with these values on this device. */
PIPE_INTERNAL const char *pipei_tuning_flaw(size_t kernel, const pipei_tuning_values *v,
                                            const pipei_tuned_device *d);

/* The device's file in the cache folder, one for each name and vendor; NULL without
 * a cache folder; owned by the caller. */
PIPE_INTERNAL char *pipei_tuning_path(const pipei_tuned_device *d);
/* No file: PIPE_ENOTFOUND.  Of another device or driver, or with anything in it that
 * is not understood: PIPE_EFORMAT, and what is wrong. */
PIPE_INTERNAL pipe_status pipei_tuning_read(const char *path, const pipei_tuned_device *d, pipei_tuning *out,
                                            pipe_error *err);
/* Atomically; makes the folder. */
PIPE_INTERNAL pipe_status pipei_tuning_write(const char *path, const pipei_tuned_device *d,
                                             const pipei_tuning *t, pipe_error *err);

#endif
