/* The registry: which plugins there are, from descriptors that a child process
 * has read and an on-disk cache remembers; nothing is opened before it is used. */
#ifndef PIPE_CORE_REGISTRY_H
#define PIPE_CORE_REGISTRY_H

#include "core/plugin/param.h"

typedef struct pipei_registry pipei_registry;

/* What is known of a plugin without opening it.  `meta` is a copy of the
 * descriptor with every function pointer NULL.
 *
 * meta.params holds the plugin's own rows, own_params of them, and behind them
 * those that its kind adds to all its plugins (pipei_kind_params: a sampler's steps
 * and grid).  The offsets of the latter count from the kind's common state
 * (pipei_object_common), not from the plugin's; names are unique over both.  The
 * live descriptor that pipei_registry_load() gives has the plugin's own rows only. */
typedef struct pipei_plugin {
    pipe_plugin meta;
    size_t own_params;
    bool step;                   /* its kind is step, metric or sink */
    bool trainable;
    const char *path;            /* of the shared object */
    const char *sha256;          /* of that file, hex */
    const char *origin;          /* "option", "environment", "user", "installed", "build" */
} pipei_plugin;

/* A file that is not used, with the reason in the loader's own words. */
typedef struct pipei_broken {
    const char *path, *reason;
} pipei_broken;

/* `extra`: folders (or single shared objects) from --plugin-path, NULL-terminated,
 * or NULL; one that does not exist is an error.  Order: extra, PIPE_PLUGIN_PATH
 * (separated by colons), $PIPE_DATA_DIR/plugins, the installed folder; a library
 * that runs from its build tree takes the build tree's plugins in place of the
 * installed ones, so that the two are never mixed.  Of two plugins with one name
 * the first is used and the other is broken.
 *
 * Files that are new or changed since the last scan are opened in child processes,
 * one each; what is broken is warned of in one line and listed by
 * pipei_registry_broken(). */
PIPE_INTERNAL pipe_status pipei_registry_open(const char *const *extra, pipei_registry **out,
                                              pipe_error *err);
PIPE_INTERNAL void pipei_registry_close(pipei_registry *r);
/* A registry of descriptors in memory, sorted by kind, then name; `plugins` is
 * borrowed.  Nothing of it can be loaded: for tests and fuzzing of the language. */
PIPE_INTERNAL pipei_registry *pipei_registry_of(const pipei_plugin *plugins, size_t n);
PIPE_INTERNAL size_t pipei_registry_count(const pipei_registry *r);
/* By kind, then name; NULL past the last. */
PIPE_INTERNAL const pipei_plugin *pipei_registry_at(const pipei_registry *r, size_t k);
PIPE_INTERNAL const pipei_plugin *pipei_registry_find(const pipei_registry *r, const char *name);
/* Removes what earlier scans remembered, so that the next open scans anew. */
PIPE_INTERNAL pipe_status pipei_registry_forget(pipe_error *err);
/* The folders that were searched, in order, existing or not. */
PIPE_INTERNAL size_t pipei_registry_folders(const pipei_registry *r, const char *const **out);
/* Nearest name, among those of a kind ("a|b") if given, else NULL. */
PIPE_INTERNAL const char *pipei_registry_nearest(const pipei_registry *r, const char *name, const char *kind);
PIPE_INTERNAL size_t pipei_registry_broken(const pipei_registry *r, const pipei_broken **out);
/* Opens the shared object (once) and gives the live descriptor, which must be the
 * one that was scanned.  It stays open until the process ends: objects, op rows and
 * destructors may still need it. */
PIPE_INTERNAL pipe_status pipei_registry_load(pipei_registry *r, const pipei_plugin *p,
                                              const pipe_plugin **out, pipe_error *err);
/* Does `kind` satisfy the alternatives of an input ("a|b", "any")? */
PIPE_INTERNAL bool pipei_kind_matches(const char *alternatives, const char *kind);
/* The kinds that the engine itself knows; NULL past the last. */
PIPE_INTERNAL const char *pipei_kind_at(size_t k);

#endif
