/* pipe devices */
#include "core/device/device.h"
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"json", 0, NULL, "print one JSON document"},
    {NULL}
};

static size_t first_of(const pipei_device_info *d, size_t n, const char *type)
{
    for (size_t k = 0; k < n; k++)
        if (strcmp(d[k].type, type) == 0)
            return k;
    return SIZE_MAX;
}

/* The one that "auto" means: a GPU if there is one, else the first CPU. */
static size_t automatic(const pipei_device_info *d, size_t n)
{
    size_t k = first_of(d, n, "gpu");
    if (k == SIZE_MAX)
        k = first_of(d, n, "cpu");
    return k == SIZE_MAX ? 0 : k;
}

static json_t *to_json(const pipei_device_info *d, size_t n)
{
    json_t *list = json_array();
    for (size_t k = 0; k < n; k++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:i, s:b}", "selector", d[k].selector,
                            "name", d[k].name, "type", d[k].type, "platform", d[k].platform, "version",
                            d[k].version, "driver", d[k].driver, "memory", (json_int_t)d[k].memory,
                            "max_allocation", (json_int_t)d[k].max_allocation, "compute_units",
                            (int)d[k].compute_units, "default", k == automatic(d, n)));
    return list;
}

static int run(const cli_args *a)
{
    pipei_device_info *d = NULL;
    size_t n = 0;
    pipe_error err = PIPE_ERROR_INIT;
    if (!cli_operands(a, 0, 0, "argument"))
        return EXIT_USAGE;
    const pipe_status status = pipei_device_list(&d, &n, &err);
    if (status != PIPE_OK)
        return cli_fail_error(status, &err);
    if (cli_flag(a, "json")) {
        json_t *document = json_pack("{s:o}", "devices", to_json(d, n));
        pipe_free(d);
        return cli_output_json(document);
    }
    for (size_t k = 0; k < n; k++) {
        printf("%s%-3s %s\n", k == automatic(d, n) ? "* " : "  ", d[k].selector, d[k].name);
        printf("      %s, %" PRIu32 " compute units, %.1f GiB memory, allocations up to %.1f GiB\n",
               d[k].type, d[k].compute_units, (double)d[k].memory / (1 << 30),
               (double)d[k].max_allocation / (1 << 30));
        printf("      %s, %s, driver %s\n", d[k].platform, d[k].version, d[k].driver);
    }
    printf("* is what `device: auto` means\n");
    pipe_free(d);
    return 0;
}

const cli_verb cli_verb_devices = {
    .name = "devices", .summary = "Lists the OpenCL devices", .usage = "[OPTIONS]",
    .help = "The number in front of a device, or a part of its name, is what --device and `device:` take.",
    .options = options, .run = run,
};
