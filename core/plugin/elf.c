/* What can be known of a shared object without opening it: whether it defines a
 * symbol, and which libraries it links to.  Reads the section table of files of
 * this machine's class; every offset in them is checked. */
#include "core/plugin/scan.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE_DATA ELFDATA2LSB
#else
#define NATIVE_DATA ELFDATA2MSB
#endif

enum { MAX_LIBRARIES = 256 }; /* followed from one file; more than any program links */

typedef struct image {
    pipei_map map;
    const ElfW(Shdr) * sections;
    size_t n_sections;
} image;

/* `count` items of `each` bytes at `offset`, aligned; NULL when they are not inside the file. */
static const void *inside(const image *e, uint64_t offset, uint64_t count, size_t each)
{
    if (offset > e->map.size || count > (e->map.size - offset) / each || offset % 8)
        return NULL;
    return e->map.data + offset;
}

static void image_close(image *e)
{
    pipei_map_close(&e->map);
}

static bool image_open(const char *path, image *e)
{
    *e = (image){0};
    if (pipei_map_open(path, &e->map, NULL) != PIPE_OK)
        return false;
    const ElfW(Ehdr) *head = inside(e, 0, 1, sizeof *head);
    if (!head || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 || head->e_ident[EI_DATA] != NATIVE_DATA ||
        head->e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) ||
        head->e_type != ET_DYN || head->e_shentsize != sizeof(ElfW(Shdr)))
        return false;
    e->sections = inside(e, head->e_shoff, head->e_shnum, sizeof *e->sections);
    e->n_sections = e->sections ? head->e_shnum : 0;
    return e->n_sections > 0;
}

/* The string table that section `s` refers to; *size 0: none. */
static const char *strings_of(const image *e, const ElfW(Shdr) * s, size_t *size)
{
    *size = 0;
    if (s->sh_link >= e->n_sections)
        return NULL;
    const ElfW(Shdr) *t = &e->sections[s->sh_link];
    if (t->sh_type != SHT_STRTAB || t->sh_offset > e->map.size || t->sh_size > e->map.size - t->sh_offset)
        return NULL;
    *size = t->sh_size;
    return (const char *)e->map.data + t->sh_offset;
}

/* The text at `offset` of a string table, or NULL when it does not end inside. */
static const char *text_at(const char *strings, size_t size, uint64_t offset)
{
    if (offset >= size || !memchr(strings + offset, '\0', size - offset))
        return NULL;
    return strings + offset;
}

static pipei_symbol find_symbol(const image *e, const ElfW(Shdr) * s, const char *name)
{
    size_t size;
    const char *strings = strings_of(e, s, &size);
    const size_t n = s->sh_size / sizeof(ElfW(Sym));
    const ElfW(Sym) *symbols = inside(e, s->sh_offset, n, sizeof *symbols);
    if (!symbols || !strings)
        return PIPEI_SYMBOL_UNKNOWN;
    for (size_t k = 0; k < n; k++) {
        const char *text = text_at(strings, size, symbols[k].st_name);
        if (text && symbols[k].st_shndx != SHN_UNDEF && strcmp(text, name) == 0)
            return PIPEI_SYMBOL_PRESENT;
    }
    return PIPEI_SYMBOL_ABSENT;
}

pipei_symbol pipei_elf_symbol(const char *path, const char *name)
{
    pipei_symbol found = PIPEI_SYMBOL_UNKNOWN;
    image e;
    const bool open = image_open(path, &e);
    for (size_t k = 0; open && k < e.n_sections && found == PIPEI_SYMBOL_UNKNOWN; k++)
        if (e.sections[k].sh_type == SHT_DYNSYM)
            found = find_symbol(&e, &e.sections[k], name);
    image_close(&e);
    return found;
}

/* ---- libraries ----
 * Where the loader would look is not worked out exactly (RPATH against RUNPATH,
 * hardware folders, symlinks in ld.so.cache): every folder that could matter is
 * asked, and whatever the answer is goes into the hash.  A library that appears in
 * one of them, is replaced or vanishes changes it; so does a run of ldconfig. */

typedef struct walk {
    uint64_t hash;
    Dl_serinfo *system; /* LD_LIBRARY_PATH and the system's folders */
    pipe_arena *arena;
    const char *seen[MAX_LIBRARIES];
    size_t n_seen;
} walk;

static void mix(walk *w, const void *data, size_t n)
{
    w->hash = pipe_hash64(data, n, w->hash);
}

/* Adds what lies at `path` to the hash; true when there is a file. */
static bool mix_file(walk *w, const char *path)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return false;
    const uint64_t stamp[] = {(uint64_t)info.st_size, (uint64_t)info.st_mtim.tv_sec,
                              (uint64_t)info.st_mtim.tv_nsec, (uint64_t)info.st_ino};
    mix(w, path, strlen(path));
    mix(w, stamp, sizeof stamp);
    return true;
}

static void see(walk *w, const char *path)
{
    for (size_t k = 0; k < w->n_seen; k++)
        if (strcmp(w->seen[k], path) == 0)
            return;
    if (w->n_seen < MAX_LIBRARIES && mix_file(w, path))
        w->seen[w->n_seen++] = path;
}

/* A folder of RPATH or RUNPATH; $ORIGIN is the folder of the file that says it. */
static const char *expand(walk *w, const char *folder, size_t n, const char *origin)
{
    static const char *const variable[] = {"$ORIGIN", "${ORIGIN}"};
    for (size_t k = 0; k < 2; k++) {
        const size_t m = strlen(variable[k]);
        if (n >= m && memcmp(folder, variable[k], m) == 0)
            return pipe_arena_format(w->arena, "%s%.*s", origin, (int)(n - m), folder + m);
    }
    return pipe_arena_strndup(w->arena, folder, n);
}

static void look_for(walk *w, const char *library, const char *paths, const char *origin)
{
    mix(w, library, strlen(library) + 1);
    if (strchr(library, '/')) {
        see(w, pipe_arena_strdup(w->arena, library));
        return;
    }
    while (paths && *paths) {
        const size_t n = strcspn(paths, ":");
        see(w, pipe_arena_format(w->arena, "%s/%s", expand(w, paths, n, origin), library));
        paths += n + (paths[n] == ':');
    }
    for (unsigned k = 0; w->system && k < w->system->dls_cnt; k++)
        see(w, pipe_arena_format(w->arena, "%s/%s", w->system->dls_serpath[k].dls_name, library));
}

static void follow_section(walk *w, const image *e, const ElfW(Shdr) * s, const char *origin)
{
    size_t size;
    const char *strings = strings_of(e, s, &size), *paths = NULL;
    const size_t n = s->sh_size / sizeof(ElfW(Dyn));
    const ElfW(Dyn) *entries = inside(e, s->sh_offset, n, sizeof *entries);
    if (!strings || !entries)
        return;
    for (size_t k = 0; k < n; k++)
        if (entries[k].d_tag == DT_RUNPATH || (entries[k].d_tag == DT_RPATH && !paths))
            paths = text_at(strings, size, entries[k].d_un.d_val);
    for (size_t k = 0; k < n; k++) {
        const char *library = entries[k].d_tag == DT_NEEDED ? text_at(strings, size, entries[k].d_un.d_val)
                                                            : NULL;
        if (library)
            look_for(w, library, paths, origin);
    }
}

static void follow(walk *w, const char *path)
{
    image e;
    PIPE_CLEANUP(pipe_free_ptr) char *origin = pipei_path_folder(path);
    const bool open = image_open(path, &e);
    for (size_t k = 0; open && k < e.n_sections; k++)
        if (e.sections[k].sh_type == SHT_DYNAMIC)
            follow_section(w, &e, &e.sections[k], origin);
    image_close(&e);
}

/* The folders where this process looks for libraries; NULL when the loader will not say. */
static Dl_serinfo *system_folders(void)
{
    Dl_serinfo size;
    void *self = dlopen(NULL, RTLD_NOW);
    if (!self)
        return NULL;
    Dl_serinfo *all = NULL;
    if (dlinfo(self, RTLD_DI_SERINFOSIZE, &size) == 0) {
        all = pipe_alloc(size.dls_size);
        if (dlinfo(self, RTLD_DI_SERINFOSIZE, all) != 0 || dlinfo(self, RTLD_DI_SERINFO, all) != 0) {
            pipe_free(all);
            all = NULL;
        }
    }
    dlclose(self);
    return all;
}

uint64_t pipei_elf_links(const char *path)
{
    walk *w = pipe_alloc(sizeof *w);
    w->arena = pipe_arena_new();
    w->system = system_folders();
    mix_file(w, "/etc/ld.so.cache");
    follow(w, path);
    for (size_t k = 0; k < w->n_seen; k++) /* grows while it is walked */
        follow(w, w->seen[k]);
    const uint64_t hash = w->hash;
    pipe_free(w->system);
    pipe_arena_free(w->arena);
    pipe_free(w);
    return hash;
}
