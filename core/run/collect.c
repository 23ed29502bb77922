/* `pipe cache`: what is in the cache, and getting rid of it.
 *
 * Results and checkpoints of unfinished steps are entries alike; each is removed
 * only with its key's exclusive lock, so what a run is using stays. */
#include "core/run/cache.h"
#include "core/run/json.h"
#include "core/run/run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct entry {
    char *key, *path;
    bool checkpoint;                /* of an unfinished step */
    uint64_t bytes;
    double used;                    /* seconds since the epoch */
    json_t *result;                 /* NULL: damaged, or a checkpoint */
} entry;

typedef struct entries {
    entry *v;
    size_t n;
    uint64_t bytes;
} entries;

static void entries_free(entries *e)
{
    for (size_t k = 0; k < e->n; k++) {
        pipe_free(e->v[k].key);
        pipe_free(e->v[k].path);
        json_decref(e->v[k].result);
    }
    pipe_free(e->v);
}

/* Bytes of all files below; *newest: the latest change. */
static uint64_t measure(const char *path, double *newest)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    uint64_t bytes = 0;

    if (pipei_list_folder(path, &list, NULL) != PIPE_OK)
        return 0;
    for (size_t k = 0; k < list.count; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *file = pipei_path_join(path, list.entries[k].name);
        struct stat s;
        if (list.entries[k].is_folder) {
            bytes += measure(file, newest);
        } else if (lstat(file, &s) == 0) {
            const double changed = (double)s.st_mtim.tv_sec + 1e-9 * (double)s.st_mtim.tv_nsec;
            bytes += (uint64_t)s.st_size;
            *newest = changed > *newest ? changed : *newest;
        }
    }
    return bytes;
}

static pipe_status add_entries(const pipei_cache *c, const char *folder, bool checkpoints, entries *out,
                               pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};

    PIPE_TRY(pipei_list_folder(folder, &list, err));
    for (size_t k = 0; k < list.count; k++) {
        if (!list.entries[k].is_folder || strcmp(pipei_path_extension(list.entries[k].name), "partial") == 0)
            continue;
        out->v = pipe_realloc(out->v, (out->n + 1) * sizeof *out->v);
        entry *e = &out->v[out->n++];
        *e = (entry){.key = pipe_strdup(list.entries[k].name),
                     .path = pipei_path_join(folder, list.entries[k].name),
                     .checkpoint = checkpoints};
        e->bytes = measure(e->path, &e->used);          /* using a result touches its result.json */
        out->bytes += e->bytes;
        if (!checkpoints && pipei_cache_find(c, e->key, &e->result, NULL) != PIPE_OK)
            e->result = NULL;
    }
    return PIPE_OK;
}

static int by_use(const void *a, const void *b)
{
    const entry *x = a, *y = b;

    return x->used < y->used ? -1 : x->used > y->used ? 1 : strcmp(x->key, y->key);
}

/* Oldest use first. */
static pipe_status collect(const pipei_cache *c, entries *out, pipe_error *err)
{
    PIPE_TRY(add_entries(c, c->steps, false, out, err));
    PIPE_TRY(add_entries(c, c->checkpoints, true, out, err));
    if (out->n)
        qsort(out->v, out->n, sizeof *out->v, by_use);
    return PIPE_OK;
}

static const char *text_of(const entry *e, const char *key)
{
    const char *text = e->result ? pipei_json_text(e->result, key) : NULL;

    return text ? text : "?";
}

static const char *state_of(const entry *e)
{
    return e->checkpoint ? "checkpoints" : e->result ? "result" : "damaged";
}

static void list_json(const pipei_cache *c, const entries *all, pipe_text *out)
{
    PIPE_CLEANUP(pipei_json_free) json_t *j = json_object();
    json_t *list = json_array();

    for (size_t k = all->n; k-- > 0; ) {
        const entry *e = &all->v[k];
        json_t *item = json_object();
        char used[32];
        pipei_time_text(e->used, used);
        pipei_json_set_text(item, "key", e->key);
        pipei_json_set_text(item, "what", state_of(e));
        if (e->result) {
            pipei_json_set_text(item, "pipeline", text_of(e, "pipeline"));
            pipei_json_set_text(item, "node", text_of(e, "node"));
            pipei_json_set_text(item, "plugin", text_of(e, "plugin"));
            json_object_set_new(item, "seconds", json_real(pipei_json_number(e->result, "seconds", 0.0)));
        }
        json_object_set_new(item, "bytes", json_integer((json_int_t)e->bytes));
        pipei_json_set_text(item, "used", used);
        json_array_append_new(list, item);
    }
    pipei_json_set_text(j, "folder", c->root);
    json_object_set_new(j, "bytes", json_integer((json_int_t)all->bytes));
    json_object_set_new(j, "entries", list);
    char *text = json_dumps(j, JSON_INDENT(2));
    pipe_text_addf(out, "%s\n", text ? text : "{}");
    free(text);
}

static void list_text(const pipei_cache *c, const entries *all, pipe_text *out)
{
    char size[32], used[32];

    pipei_bytes_in_words(all->bytes, size, sizeof size);
    pipe_text_addf(out, "%s: %zu entries, %s\n", c->root, all->n, size);
    for (size_t k = all->n; k-- > 0; ) {
        const entry *e = &all->v[k];
        pipei_time_text(e->used, used);
        used[16] = '\0';
        used[10] = ' ';
        pipei_bytes_in_words(e->bytes, size, sizeof size);
        pipe_text_addf(out, "%.12s  %s  %9s  %-11s  ", e->key, used, size, state_of(e));
        if (e->result)
            pipe_text_addf(out, "%s/%s (%s)", text_of(e, "pipeline"), text_of(e, "node"),
                           text_of(e, "plugin"));
        pipe_text_add(out, "\n");
    }
}

pipe_status pipei_cache_list(pipe_text *out, bool json, pipe_error *err)
{
    PIPE_CLEANUP(pipei_cache_close_ptr) pipei_cache *c = NULL;
    PIPE_CLEANUP(entries_free) entries all = {0};

    PIPE_TRY(pipei_cache_open(&c, err));
    PIPE_TRY(collect(c, &all, err));
    if (json)
        list_json(c, &all, out);
    else
        list_text(c, &all, out);
    return PIPE_OK;
}

/* *removed: false when somebody is using it.  The lock's file goes with it, while
 * it is held: see pipei_cache_lock(). */
static pipe_status remove_entry(const pipei_cache *c, const entry *e, bool *removed, pipe_error *err)
{
    PIPE_CLEANUP(pipe_free_ptr) char *lock_path = pipei_path_join(c->locks, e->key);
    int lock;

    *removed = false;
    pipe_status status = pipei_cache_lock(c, e->key, true, false, &lock, err);
    if (status == PIPE_EEXIST)
        return PIPE_OK;
    PIPE_TRY(status);
    status = pipei_remove_tree(e->path, err);
    if (status == PIPE_OK) {
        unlink(lock_path);
        *removed = true;
    }
    pipei_unlock(lock);
    return status;
}

pipe_status pipei_cache_gc(uint64_t max_bytes, pipe_text *out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_cache_close_ptr) pipei_cache *c = NULL;
    PIPE_CLEANUP(entries_free) entries all = {0};
    size_t gone = 0, busy = 0;
    uint64_t left;
    char size[32];

    PIPE_TRY(pipei_cache_open(&c, err));
    PIPE_TRY(collect(c, &all, err));
    left = all.bytes;
    for (size_t k = 0; k < all.n; k++) {
        const entry *e = &all.v[k];
        const bool damaged = !e->checkpoint && !e->result;
        bool removed;
        if (left <= max_bytes && !damaged)
            continue;
        PIPE_TRY(remove_entry(c, e, &removed, err));
        left -= removed ? e->bytes : 0;
        gone += removed;
        busy += !removed;
    }
    pipei_bytes_in_words(left, size, sizeof size);
    pipe_text_addf(out, "%zu of %zu entries removed, %s left", gone, all.n, size);
    if (busy)
        pipe_text_addf(out, "; %zu in use stayed", busy);
    pipe_text_add(out, "\n");
    return PIPE_OK;
}

static pipe_status empty_folder(const char *folder, pipe_error *err)
{
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};

    PIPE_TRY(pipei_list_folder(folder, &list, err));
    for (size_t k = 0; k < list.count; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, list.entries[k].name);
        PIPE_TRY(pipei_remove_tree(path, err));
    }
    return PIPE_OK;
}

pipe_status pipei_cache_clear(pipe_text *out, pipe_error *err)
{
    PIPE_CLEANUP(pipei_cache_close_ptr) pipei_cache *c = NULL;
    PIPE_CLEANUP(entries_free) entries all = {0};
    size_t gone = 0;
    char size[32];

    PIPE_TRY(pipei_cache_open(&c, err));
    PIPE_TRY(collect(c, &all, err));
    uint64_t freed = 0;
    for (size_t k = 0; k < all.n; k++) {
        bool removed;
        PIPE_TRY(remove_entry(c, &all.v[k], &removed, err));
        gone += removed;
        freed += removed ? all.v[k].bytes : 0;
    }
    PIPE_TRY(empty_folder(c->files, err));
    PIPE_TRY(empty_folder(c->index, err));
    pipei_bytes_in_words(freed, size, sizeof size);
    pipe_text_addf(out, "%zu entries removed, %s freed", gone, size);
    if (gone < all.n)
        pipe_text_addf(out, "; %zu in use stayed", all.n - gone);
    pipe_text_add(out, "\n");
    return PIPE_OK;
}

/* All that is wrong with one entry; the number of findings. */
static size_t verify_entry(const pipei_cache *c, const entry *e, pipe_text *out)
{
    PIPE_CLEANUP(pipei_json_free) json_t *result = NULL;
    pipe_error err = PIPE_ERROR_INIT;
    json_t *file;
    size_t k, bad = 0;

    if (pipei_cache_find(c, e->key, &result, &err) != PIPE_OK) {
        pipe_text_addf(out, "%.12s: %s\n", e->key, err.message);
        return 1;
    }
    json_array_foreach(json_object_get(result, "files"), k, file) {
        PIPE_CLEANUP(pipe_free_ptr) char *path = NULL;
        const char *name = pipei_json_text(file, "name");
        if (pipei_cache_check(c, e->key, result, name ? name : "?", &path, &err) == PIPE_OK)
            continue;
        pipe_text_addf(out, "%.12s: %s\n", e->key, err.message);
        bad++;
    }
    return bad;
}

pipe_status pipei_cache_verify(pipe_text *out, size_t *bad, pipe_error *err)
{
    PIPE_CLEANUP(pipei_cache_close_ptr) pipei_cache *c = NULL;
    PIPE_CLEANUP(entries_free) entries all = {0};
    size_t results = 0;

    PIPE_TRY(pipei_cache_open(&c, err));
    PIPE_TRY(collect(c, &all, err));
    *bad = 0;
    for (size_t k = 0; k < all.n; k++) {
        if (all.v[k].checkpoint)
            continue;
        results++;
        *bad += verify_entry(c, &all.v[k], out) > 0;
    }
    pipe_text_addf(out, "%zu results, %zu damaged%s\n", results, *bad,
                   *bad ? ": they are computed again when they are needed; `pipe cache gc` removes them"
                        : "");
    return PIPE_OK;
}
