/* pipe env: all that a bug report needs, as one document that is printed as text
 * or as JSON. */
#include "core/base/libraries.h"
#include "core/device/device.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static const cli_option options[] = {
    {"json", 0, NULL, "print one JSON document"},
    {NULL}
};

/* The first "key : value" line of a file of /proc. */
static json_t *proc_value(const char *path, const char *key)
{
    char line[512];
    json_t *found = NULL;
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0)
            continue;
        const char *value = colon + 1 + strspn(colon + 1, " \t");
        found = json_stringn(value, strcspn(value, "\n"));
    }
    if (f)
        fclose(f);
    return found ? found : json_string("unknown");
}

static json_t *system_json(void)
{
    struct utsname u;
    json_t *o = json_object();
    if (uname(&u) == 0)
        json_object_set_new(o, "kernel", json_sprintf("%s %s %s", u.sysname, u.release, u.machine));
    char line[256];
    FILE *f = fopen("/etc/os-release", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "PRETTY_NAME=", 12) == 0) {
            const char *name = line + 12 + (line[12] == '"');
            json_object_set_new(o, "distribution", json_stringn(name, strcspn(name, "\"\n")));
        }
    if (f)
        fclose(f);
    json_object_set_new(o, "processor", proc_value("/proc/cpuinfo", "model name"));
    json_object_set_new(o, "processors", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(o, "memory", proc_value("/proc/meminfo", "MemTotal"));
    json_object_set_new(o, "locale", json_string(getenv("LC_ALL") ? getenv("LC_ALL") :
                                                 getenv("LANG") ? getenv("LANG") : "C"));
    return o;
}

static json_t *libraries_json(void)
{
    const pipei_library *list;
    const size_t n = pipei_libraries(&list);
    json_t *o = json_object();
    for (size_t k = 0; k < n; k++)
        json_object_set_new(o, list[k].name, json_string(list[k].version));
    return o;
}

static json_t *devices_json(void)
{
    pipei_device_info *d = NULL;
    size_t n = 0;
    pipe_error err = PIPE_ERROR_INIT;
    json_t *list = json_array();
    if (pipei_device_list(&d, &n, &err) != PIPE_OK)
        json_array_append_new(list, json_string(err.message));
    for (size_t k = 0; k < n; k++)
        json_array_append_new(list, json_sprintf("%s: %s (%s, %s, %s, driver %s, %u compute units)",
                                                 d[k].selector, d[k].name, d[k].type, d[k].platform,
                                                 d[k].version, d[k].driver, (unsigned)d[k].compute_units));
    pipe_free(d);
    return list;
}

/* Folders with their number of plugins, then what could not be loaded. */
static void add_plugins(json_t *document, const pipei_registry *reg)
{
    json_t *folders = json_object(), *broken = json_array();
    for (size_t k = 0; k < pipei_registry_count(reg); k++) {
        const pipei_plugin *p = pipei_registry_at(reg, k);
        const char *slash = strrchr(p->path, '/');
        PIPE_CLEANUP(pipe_free_ptr) char *folder = pipe_format("%.*s", slash ? (int)(slash - p->path) : 1,
                                                               slash ? p->path : ".");
        PIPE_CLEANUP(pipe_free_ptr) char *key = pipe_format("%s (%s)", folder, p->origin);
        const json_int_t before = json_integer_value(json_object_get(folders, key));
        json_object_set_new(folders, key, json_integer(before + 1));
    }
    const pipei_broken *b;
    const size_t n = pipei_registry_broken(reg, &b);
    for (size_t k = 0; k < n; k++)
        json_array_append_new(broken, json_sprintf("%s: %s", b[k].path, b[k].reason));
    json_object_set_new(document, "plugins", folders);
    json_object_set_new(document, "broken plugins", broken);
}

static json_t *variables_json(void)
{
    static const char *const names[] = {
        "PIPE_PLUGIN_PATH",
        "PIPE_CACHE_DIR",
        "PIPE_DATA_DIR",
        "PIPE_DEVICE",
        "PIPE_LOG",
        "PIPE_DEVICE_MEMORY_LIMIT",
        "PIPE_DEVICE_MEMORY",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "HOME",
        "NO_COLOR",
        "TERM",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "OCL_ICD_VENDORS",
        "OPENCL_VENDOR_PATH",
        "POCL_CACHE_DIR",
        "POCL_DEVICES",
        "POCL_MAX_PTHREAD_COUNT",
        "POCL_AFFINITY",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
    };
    json_t *o = json_object();
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
        if (getenv(names[k]))
            json_object_set_new(o, names[k], json_string(getenv(names[k])));
    return o;
}

static void print_value(const json_t *v, const char *name)
{
    const char *key;
    json_t *item;
    size_t k;
    if (json_is_string(v)) {
        printf("%s: %s\n", name, json_string_value(v));
    } else if (json_is_integer(v)) {
        printf("%s: %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(v));
    } else if (json_is_object(v)) {
        printf("%s:%s\n", name, json_object_size(v) ? "" : " none");
        json_object_foreach((json_t *)v, key, item) {
            printf("  ");
            print_value(item, key);
        }
    } else {
        printf("%s:%s\n", name, json_array_size(v) ? "" : " none");
        json_array_foreach(v, k, item)
            printf("  %s\n", json_string_value(item));
    }
}

static int run(const cli_args *a)
{
    if (!cli_operands(a, 0, 0, "argument"))
        return EXIT_USAGE;
    PIPE_CLEANUP(cli_close_registry) pipei_registry *reg = cli_open_registry();
    if (!reg)
        return EXIT_RUN;
    json_t *document = json_pack("{s:s, s:s}", "pipe", pipe_version(), "compiler", pipei_compiler());
    json_object_set_new(document, "ABI", json_sprintf("%d.%d", PIPE_ABI_MAJOR, PIPE_ABI_MINOR));
    json_object_set_new(document, "system", system_json());
    json_object_set_new(document, "libraries", libraries_json());
    json_object_set_new(document, "devices", devices_json());
    add_plugins(document, reg);
    json_object_set_new(document, "environment", variables_json());
    if (cli_flag(a, "json"))
        return cli_output_json(document);
    const char *key;
    json_t *item;
    json_object_foreach(document, key, item)
        print_value(item, key);
    json_decref(document);
    return 0;
}

const cli_verb cli_verb_env = {
    .name = "env",
    .summary = "Prints all that a bug report needs",
    .usage = "[OPTIONS]",
    .help =
        "Versions, libraries, OpenCL devices, plugins by folder, those that are broken, and the environment "
        "variables that matter.",
    .options = options,
    .run = run,
};
