/* The registry: search path, duplicates, lookup, opening. */
#include "core/plugin/scan.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A plugin and what is needed to open it. */
typedef struct entry {
    pipei_plugin plugin; /* first: what callers have a pointer to */
    const pipei_record *record;
    const pipe_plugin *live; /* NULL until opened */
} entry;

/* A file or folder to look at. */
typedef struct place {
    const char *path, *origin;
    bool must_exist;
} place;

struct pipei_registry {
    pipe_arena *arena;
    pipei_scan_cache *cache; /* decoded texts point into it */
    const char **folders;
    size_t n_folders;
    pipei_record *records; /* of this run, in search order */
    const char **origin; /* parallel */
    struct {
        dev_t device;
        ino_t inode;
    } * id; /* parallel: a file found twice is one file */
    size_t n_records, room;
    bool changed; /* the cache does not hold all that was found */
    entry **entries; /* by kind, then name */
    size_t n;
    pipei_broken *broken;
    size_t n_broken;
};

/* ---- what lies there ---- */

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

/* Cached knowledge holds while the file is the same and, of a failure, while the
 * libraries that it links to are. */
static bool holds(const pipei_record *known, const pipei_record *now)
{
    return known && pipei_stamp_equal(known->stamp, now->stamp) &&
           (known->found != PIPEI_FOUND_BROKEN || known->links == pipei_elf_links(now->path));
}

static void scan(pipei_registry *r, pipei_record *now)
{
    char hex[65];
    pipe_error err = PIPE_ERROR_INIT;

    r->changed = true;
    if (pipei_elf_symbol(now->path, PIPE_ENTRY_SYMBOL) == PIPEI_SYMBOL_ABSENT) {
        now->found = PIPEI_FOUND_LIBRARY;
        return;
    }
    pipei_scan_file(now->path, r->arena, now);
    if (now->found == PIPEI_FOUND_PLUGIN) {
        if (pipe_sha256_file(now->path, hex, &err) == PIPE_OK) {
            now->sha256 = pipe_arena_strdup(r->arena, hex);
        } else {
            now->found = PIPEI_FOUND_BROKEN;
            now->reason = pipe_arena_strdup(r->arena, err.message);
            now->transient = true;
        }
    }
    if (now->found == PIPEI_FOUND_BROKEN)
        now->links = pipei_elf_links(now->path);
}

static pipei_record *add_record(pipei_registry *r, const char *path, const char *origin)
{
    if (r->n_records == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        r->records = pipe_realloc(r->records, r->room * sizeof *r->records);
        r->origin = pipe_realloc(r->origin, r->room * sizeof *r->origin);
        r->id = pipe_realloc(r->id, r->room * sizeof *r->id);
    }
    r->records[r->n_records] = (pipei_record){.path = pipe_arena_strdup(r->arena, path)};
    r->origin[r->n_records] = origin;
    r->id[r->n_records].device = 0;
    r->id[r->n_records].inode = 0;
    return &r->records[r->n_records++];
}

static bool seen(const pipei_registry *r, const struct stat *info)
{
    for (size_t k = 0; k < r->n_records; k++)
        if (r->id[k].inode == info->st_ino && r->id[k].device == info->st_dev)
            return true;
    return false;
}

static void add_file(pipei_registry *r, const char *path, const char *origin)
{
    struct stat info;
    const bool there = stat(path, &info) == 0;
    const int code = errno;

    if (there && (S_ISDIR(info.st_mode) || seen(r, &info)))
        return;
    pipei_record *now = add_record(r, path, origin);
    if (!there || !S_ISREG(info.st_mode)) {
        now->found = PIPEI_FOUND_BROKEN;
        now->transient = true;
        now->reason = there ? "it is not a regular file" : pipe_arena_format(r->arena, "%s", strerror(code));
        return;
    }
    r->id[r->n_records - 1].device = info.st_dev;
    r->id[r->n_records - 1].inode = info.st_ino;
    now->stamp = pipei_stamp_of(&info);
    const pipei_record *known = pipei_scan_cache_find(r->cache, path);
    if (holds(known, now))
        *now = *known;
    else
        scan(r, now);
}

static pipe_status add_place(pipei_registry *r, const place *p, pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    pipe_error why = PIPE_ERROR_INIT;
    struct stat info;

    r->folders[r->n_folders++] = pipe_arena_strdup(r->arena, p->path);
    if (stat(p->path, &info) == 0 && S_ISREG(info.st_mode)) {
        add_file(r, p->path, p->origin);
        return PIPE_OK;
    }
    if (pipei_list_folder(p->path, &list, &why) != PIPE_OK) {
        if (p->must_exist)
            return pipe_fail(err, why.status, "--plugin-path: %s", why.message);
        pipe_log(why.status == PIPE_ENOTFOUND ? PIPE_LOG_DEBUG : PIPE_LOG_WARN, "plugins", "not searched: %s",
                 why.message);
        return PIPE_OK;
    }
    for (size_t k = 0; k < list.count; k++) {
        if (list.entries[k].name[0] == '.' || !ends_with(list.entries[k].name, ".so"))
            continue;
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(p->path, list.entries[k].name);
        add_file(r, path, p->origin);
    }
    return PIPE_OK;
}

/* ---- where to look ---- */

static char *user_folder(void)
{
    const char *own = getenv("PIPE_DATA_DIR"), *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (own && *own)
        return pipei_path_join(own, "plugins");
    if (xdg && *xdg == '/')
        return pipei_path_join(xdg, "pipe/plugins");
    return home && *home == '/' ? pipei_path_join(home, ".local/share/pipe/plugins") : NULL;
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* Plugins that come with the engine.  A moved installation (make install DESTDIR)
 * finds its own beside its library. */
static char *bundled_folder(const char **origin)
{
    PIPE_CLEANUP(pipe_free_ptr) char *library = pipei_library_path();
    PIPE_CLEANUP(pipe_free_ptr) char *folder = library ? pipei_path_folder(library) : NULL;

    *origin = "build";
    if (folder && same_folder(folder, PIPE_BUILD_PLUGIN_DIR "/../../.libs"))
        return pipe_strdup(PIPE_BUILD_PLUGIN_DIR);
    *origin = "installed";
    if (folder) {
        PIPE_CLEANUP(pipe_free_ptr) char *beside = pipei_path_join(folder, "pipe/plugins");
        if (pipei_is_folder(beside)) {
            char *result = beside;
            beside = NULL;
            return result;
        }
    }
    return pipe_strdup(PIPE_PLUGIN_DIR);
}

static pipe_status add_all(pipei_registry *r, const char *const *extra, pipe_error *err)
{
    const char *variable = getenv("PIPE_PLUGIN_PATH"), *origin;
    PIPE_CLEANUP(pipe_free_ptr) char *user = user_folder(), *bundled = bundled_folder(&origin);
    size_t most = 3;

    for (size_t k = 0; extra && extra[k]; k++)
        most++;
    for (const char *c = variable; c && *c; c++)
        most += *c == ':';
    r->folders = pipe_arena_alloc(r->arena, (most + 1) * sizeof *r->folders);
    for (size_t k = 0; extra && extra[k]; k++)
        PIPE_TRY(add_place(r, &(place){extra[k], "option", true}, err));
    while (variable && *variable) {
        const size_t n = strcspn(variable, ":");
        const char *folder = pipe_arena_strndup(r->arena, variable, n);
        if (n)
            PIPE_TRY(add_place(r, &(place){folder, "environment", false}, err));
        variable += n + (variable[n] == ':');
    }
    if (user)
        PIPE_TRY(add_place(r, &(place){user, "user", false}, err));
    return add_place(r, &(place){bundled, origin, false}, err);
}

/* ---- from records to plugins ---- */

static size_t kind_rank(const char *kind)
{
    size_t k = 0;
    while (pipei_kind_at(k) && strcmp(pipei_kind_at(k), kind) != 0)
        k++;
    return k;
}

/* The engine's kinds in its own order, then those of third parties by name. */
static int by_kind_and_name(const void *a, const void *b)
{
    const pipe_plugin *x = &(*(entry *const *)a)->plugin.meta, *y = &(*(entry *const *)b)->plugin.meta;
    const size_t i = kind_rank(x->kind), j = kind_rank(y->kind);
    if (i != j)
        return i < j ? -1 : 1;
    const int kind = strcmp(x->kind, y->kind);
    return kind ? kind : strcmp(x->name, y->name);
}

static void add_broken(pipei_registry *r, const char *path, const char *reason)
{
    r->broken[r->n_broken++] = (pipei_broken){path, reason};
    pipe_log(PIPE_LOG_DEBUG, "plugins", "%s: %s", path, reason);
}

static entry *find(const pipei_registry *r, const char *name)
{
    for (size_t k = 0; k < r->n; k++)
        if (strcmp(r->entries[k]->plugin.meta.name, name) == 0)
            return r->entries[k];
    return NULL;
}

static void add_plugin(pipei_registry *r, const pipei_record *record, const char *origin)
{
    entry *e = pipe_arena_alloc(r->arena, sizeof *e);
    if (!pipei_plugin_decode(record->blob, record->blob_size, r->arena, &e->plugin)) {
        add_broken(r, record->path,
                   "its description could not be read back: `pipe inspect --rescan` reads it anew");
        return;
    }
    const entry *first = find(r, e->plugin.meta.name);
    if (first) {
        add_broken(r, record->path,
                   pipe_arena_format(r->arena, "another plugin is named \"%s\" too and was found first: %s",
                                     e->plugin.meta.name, first->plugin.path));
        return;
    }
    e->record = record;
    e->plugin.path = record->path;
    e->plugin.sha256 = record->sha256;
    e->plugin.origin = origin;
    r->entries[r->n++] = e;
}

static void sort_out(pipei_registry *r)
{
    r->entries = pipe_arena_alloc(r->arena, (r->n_records + 1) * sizeof *r->entries);
    r->broken = pipe_arena_alloc(r->arena, (r->n_records + 1) * sizeof *r->broken);
    for (size_t k = 0; k < r->n_records; k++) {
        const pipei_record *record = &r->records[k];
        if (record->found == PIPEI_FOUND_PLUGIN)
            add_plugin(r, record, r->origin[k]);
        else if (record->found == PIPEI_FOUND_BROKEN)
            add_broken(r, record->path, record->reason);
    }
    if (r->n)
        qsort(r->entries, r->n, sizeof *r->entries, by_kind_and_name);
    if (r->n_broken)
        pipe_log(PIPE_LOG_WARN, "plugins", "%zu file%s skipped; `pipe inspect --broken` tells why",
                 r->n_broken, r->n_broken == 1 ? " was" : "s were");
}

pipe_status pipei_registry_open(const char *const *extra, pipei_registry **out, pipe_error *err)
{
    pipei_registry *r = pipe_alloc(sizeof *r);
    r->arena = pipe_arena_new();
    r->cache = pipei_scan_cache_open();
    const pipe_status status = add_all(r, extra, err);
    if (status != PIPE_OK) {
        pipei_registry_close(r);
        return status;
    }
    if (r->changed)
        pipei_scan_cache_save(r->cache, r->records, r->n_records);
    sort_out(r);
    *out = r;
    return PIPE_OK;
}

pipei_registry *pipei_registry_of(const pipei_plugin *plugins, size_t n)
{
    pipei_registry *r = pipe_alloc(sizeof *r);
    r->arena = pipe_arena_new();
    r->entries = pipe_arena_alloc(r->arena, (n + 1) * sizeof *r->entries);
    for (size_t k = 0; k < n; k++) {
        entry *e = pipe_arena_alloc(r->arena, sizeof *e);
        e->plugin = plugins[k];
        r->entries[r->n++] = e;
    }
    return r;
}

void pipei_registry_close(pipei_registry *r)
{
    if (!r)
        return;
    pipei_scan_cache_close(r->cache);
    pipe_free(r->records);
    pipe_free(r->origin);
    pipe_free(r->id);
    pipe_arena_free(r->arena);
    pipe_free(r);
}

/* ---- lookup ---- */

size_t pipei_registry_count(const pipei_registry *r)
{
    return r->n;
}

const pipei_plugin *pipei_registry_at(const pipei_registry *r, size_t k)
{
    return k < r->n ? &r->entries[k]->plugin : NULL;
}

const pipei_plugin *pipei_registry_find(const pipei_registry *r, const char *name)
{
    const entry *e = find(r, name);
    return e ? &e->plugin : NULL;
}

size_t pipei_registry_broken(const pipei_registry *r, const pipei_broken **out)
{
    *out = r->broken;
    return r->n_broken;
}

size_t pipei_registry_folders(const pipei_registry *r, const char *const **out)
{
    *out = r->folders;
    return r->n_folders;
}

bool pipei_kind_matches(const char *alternatives, const char *kind)
{
    const size_t length = strlen(kind);
    for (const char *s = alternatives;; s++) {
        const size_t n = strcspn(s, "|");
        if ((n == length && memcmp(s, kind, n) == 0) || (n == 3 && memcmp(s, "any", 3) == 0))
            return true;
        s += n;
        if (*s == '\0')
            return false;
    }
}

const char *pipei_registry_nearest(const pipei_registry *r, const char *name, const char *kind)
{
    PIPE_CLEANUP(pipe_free_ptr) const char **names = pipe_alloc_array(r->n + 1, sizeof *names);
    size_t n = 0;
    for (size_t k = 0; k < r->n; k++)
        if (!kind || pipei_kind_matches(kind, r->entries[k]->plugin.meta.kind))
            names[n++] = r->entries[k]->plugin.meta.name;
    return pipe_nearest(name, names, n);
}

/* ---- opening ---- */

static pipe_status check_unchanged(const pipei_record *record, pipe_error *err)
{
    struct stat info;
    if (stat(record->path, &info) < 0)
        return pipei_fail_errno(err, errno, "%s", record->path);
    if (!pipei_stamp_equal(pipei_stamp_of(&info), record->stamp))
        return pipe_fail(err, PIPE_EPLUGIN, "%s: was replaced while this program was running; start it again",
                         record->path);
    return PIPE_OK;
}

static pipe_status check_live(const pipei_record *record, const pipe_plugin *live, pipe_error *err)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text blob = {0};
    const pipe_status status = pipei_plugin_check(live, err);
    if (status != PIPE_OK)
        return pipe_context_fail(err, status, "%s", record->path);
    pipei_plugin_encode(live, &blob);
    if (blob.length != record->blob_size || memcmp(blob.data, record->blob, blob.length) != 0)
        return pipe_fail(
            err, PIPE_EPLUGIN,
            "%s: describes itself differently from when it was scanned (version %s now); a descriptor "
            "must be constant. `pipe inspect --rescan` reads it anew",
            record->path, live->version);
    return PIPE_OK;
}

pipe_status pipei_registry_load(pipei_registry *r, const pipei_plugin *p, const pipe_plugin **out,
                                pipe_error *err)
{
    entry *e = find(r, p->meta.name);
    if (!e || &e->plugin != p)
        return pipe_fail(err, PIPE_ENOTFOUND, "the plugin \"%s\" is not of this registry", p->meta.name);
    if (!e->record)                      /* pipei_registry_of() */
        return pipe_fail(err, PIPE_EUNSUPPORTED, "the plugin \"%s\" is a description without a file",
                         p->meta.name);
    if (!e->live) {
        if (!e->record)
            return pipe_fail(err, PIPE_EUNSUPPORTED, "the plugin \"%s\" has no shared object", p->meta.name);
        PIPE_TRY(check_unchanged(e->record, err));
        void *handle = dlopen(p->path, RTLD_NOW | RTLD_LOCAL);
        if (!handle)
            return pipe_fail(err, PIPE_EPLUGIN, "the plugin \"%s\" cannot be opened: %s", p->meta.name,
                             dlerror());
        const pipe_plugin *live = dlsym(handle, PIPE_ENTRY_SYMBOL);
        if (!live)
            return pipe_fail(err, PIPE_EPLUGIN, "%s: has no symbol %s any more", p->path, PIPE_ENTRY_SYMBOL);
        PIPE_TRY(check_live(e->record, live, err));
        e->live = live;
    }
    *out = e->live;
    return PIPE_OK;
}
