/* The registry: which plugins there are, from descriptors that a child process
 * has read and an on-disk cache remembers; nothing is opened before it is used. */
#ifndef PIPE_CORE_REGISTRY_H
#define PIPE_CORE_REGISTRY_H

#include "core/plugin/param.h"

typedef struct pipei_registry pipei_registry;

/* What is known of a plugin without opening it.  `meta` is a copy of the
 * descriptor with every function pointer NULL; meta.run is non-NULL for steps
 * only as pipei_plugin.step says. */
typedef struct pipei_plugin {
    pipe_plugin meta;
    bool step;
    bool trainable;
    const char *path;            /* of the shared object */
    const char *sha256;          /* of that file, hex */
    const char *origin;          /* "option", "environment", "user", "installed", "build" */
} pipei_plugin;

/* A file that is not used, with the reason in the loader's own words. */
typedef struct pipei_broken {
    const char *path, *reason;
} pipei_broken;

/* `extra`: folders from --plugin-path, NULL-terminated, or NULL.  Order: extra,
 * PIPE_PLUGIN_PATH, $PIPE_DATA_DIR/plugins, the installed folder, the build tree
 * (only when the library runs from its build tree). */
PIPE_INTERNAL pipe_status pipei_registry_open(const char *const *extra, pipei_registry **out, pipe_error *err);
PIPE_INTERNAL void pipei_registry_close(pipei_registry *r);
/* A registry of descriptors in memory, sorted by kind, then name; `plugins` is
 * borrowed.  Nothing of it can be loaded: for tests and fuzzing of the language. */
PIPE_INTERNAL pipei_registry *pipei_registry_of(const pipei_plugin *plugins, size_t n);
PIPE_INTERNAL size_t pipei_registry_count(const pipei_registry *r);
PIPE_INTERNAL const pipei_plugin *pipei_registry_at(const pipei_registry *r, size_t k);    /* by kind, then name */
PIPE_INTERNAL const pipei_plugin *pipei_registry_find(const pipei_registry *r, const char *name);
/* Nearest name, among those of a kind ("a|b") if given, else NULL. */
PIPE_INTERNAL const char *pipei_registry_nearest(const pipei_registry *r, const char *name, const char *kind);
PIPE_INTERNAL size_t pipei_registry_broken(const pipei_registry *r, const pipei_broken **out);
/* Opens the shared object (once) and gives the live descriptor. */
PIPE_INTERNAL pipe_status pipei_registry_load(pipei_registry *r, const pipei_plugin *p, const pipe_plugin **out,
                                              pipe_error *err);
/* Does `kind` satisfy the alternatives of an input ("a|b", "any")? */
PIPE_INTERNAL bool pipei_kind_matches(const char *alternatives, const char *kind);

#endif
