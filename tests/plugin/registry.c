/* The registry with good and deliberately broken plugins (tests/plugins), each
 * test in folders of its own. */
#include "core/plugin/scan.h"
#include "support/folder.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#define BUILT TEST_BUILDDIR "/tests/plugins/.libs/"

static char *folder, *cache;

static void start(void)
{
    folder = folder_make();
    cache = folder_make();
    setenv("PIPE_CACHE_DIR", cache, 1);
    setenv("PIPE_DATA_DIR", cache, 1);
    setenv("PIPE_PLUGIN_PATH", folder, 1);
    setenv("PIPE_LOG", "error", 1);
}

static void stop(void)
{
    folder_drop(&folder);
    folder_drop(&cache);
}

TestSuite(registry, .init = start, .fini = stop);

static char *in(const char *where, const char *name)
{
    return pipe_format("%s/%s", where, name);
}

/* Puts a shared object of the test suite into a folder, as `as`. */
static void put_as(const char *name, const char *where, const char *as)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *from = pipe_format(BUILT "%s.so", name), *to = in(where, as), *data;
    size_t n;
    MUST(pipei_file_read(from, 1u << 28, &data, &n, &err));
    MUST(pipei_file_write(to, data, n, &err));
    pipe_free(data);
    pipe_free(from);
    pipe_free(to);
}

static void put(const char *name)
{
    char *as = pipe_format("%s.so", name);
    put_as(name, folder, as);
    pipe_free(as);
}

static void put_text(const char *as, const char *text)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *to = in(folder, as);
    MUST(pipei_file_write(to, text, strlen(text), &err));
    pipe_free(to);
}

static pipei_registry *open_registry(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_registry *r = NULL;
    MUST(pipei_registry_open(NULL, &r, &err));
    return r;
}

/* The reason why <folder>/<name> is broken, or NULL. */
static const char *reason(const pipei_registry *r, const char *name)
{
    const pipei_broken *b;
    const size_t n = pipei_registry_broken(r, &b);
    for (size_t k = 0; k < n; k++)
        if (strcmp(pipei_path_name(b[k].path), name) == 0)
            return b[k].reason;
    return NULL;
}

static void expect_reason(const pipei_registry *r, const char *name, const char *parts)
{
    pipe_error err = PIPE_ERROR_INIT;
    const char *why = reason(r, name);
    cr_assert_not_null(why, "%s is not reported", name);
    pipe_fail(&err, PIPE_EPLUGIN, "%s", why);
    check_failure(PIPE_EPLUGIN, PIPE_EPLUGIN, &err, parts, name);
}

static const struct {
    const char *name, *parts;
} broken[] = {
    {"wrong-magic", "magic number is 0x12345678"},
    {"wrong-abi", "plugin ABI 2.0, this engine has 1.0|build it again"},
    {"newer-abi", "newer plugin ABI 1.1|install a newer engine"},
    {"truncated", "has 40 bytes|truncated"},
    {"null-name", "name \"(NULL)\""},
    {"bad-default", "default of parameter \"strength\": 2.0 is above the maximum 1"},
    {"crash", "crashed while it was opened|Segmentation fault"},
    {"exit", "ended the process with status 7 while it was opened"},
    {"bad-pointer", "crashed while its descriptor was read"},
    {"unresolved", "undefined symbol: tests_function_that_no_library_has"},
};
enum { BROKEN = sizeof broken / sizeof broken[0] };

Test(registry, broken_plugins_are_reported_and_the_others_work)
{
    pipe_error err = PIPE_ERROR_INIT;
    const pipe_plugin *live = NULL;
    put("good");
    put("no-entry");
    put("other");
    for (size_t k = 0; k < BROKEN; k++)
        put(broken[k].name);
    put_text("text.so",
             "this is not a shared object, though it is long enough for the header of one ............\n");
    put_text("empty.so", "");
    put_text("notes.txt", "not looked at");
    pipei_registry *r = open_registry();
    for (size_t k = 0; k < BROKEN; k++) {
        char *file = pipe_format("%s.so", broken[k].name);
        expect_reason(r, file, broken[k].parts);
        pipe_free(file);
    }
    expect_reason(r, "text.so", "invalid ELF header|text.so");
    expect_reason(r, "empty.so", "file too short");
    cr_expect_null(reason(r, "no-entry.so"), "a library is no broken plugin");
    const pipei_broken *b;
    cr_expect_eq(pipei_registry_broken(r, &b), BROKEN + 2);
    const pipei_plugin *p = pipei_registry_find(r, "test.good");
    cr_assert_not_null(p);
    cr_assert_not_null(pipei_registry_find(r, "test.other"));
    cr_expect_null(pipei_registry_find(r, "test.crash"));
    cr_expect_str_eq(p->origin, "environment");
    cr_expect_eq(strlen(p->sha256), 64);
    cr_expect_not(p->step);
    MUST(pipei_registry_load(r, p, &live, &err));
    cr_expect_str_eq(live->name, "test.good");
    cr_expect_not_null(live->sampler.step);
    pipei_registry_close(r);
}

Test(registry, a_loop_and_hunger_for_memory_come_to_an_end)
{
    put("good");
    put("loop");
    put("memory");
    const time_t before = time(NULL);
    pipei_registry *r = open_registry();
    cr_expect_lt(time(NULL) - before, 60);
    expect_reason(r, "loop.so", "did not come to an end within|while it was opened");
    cr_expect_not_null(reason(r, "memory.so"));
    cr_expect_not_null(pipei_registry_find(r, "test.good"));
    pipei_registry_close(r);
}

Test(registry, what_a_plugin_prints_is_not_heard_and_its_processes_do_not_hold_us_up)
{
    int ends[2];
    char heard[256];
    put("noisy");
    setenv("PIPE_TEST_LEAVE_PROCESS", "1", 1);
    cr_assert_eq(pipe(ends), 0);
    fflush(NULL);
    const int saved = dup(1);
    dup2(ends[1], 1);
    printf("ours"); /* in the buffer when the child is made */
    pipei_registry *r = open_registry();
    fflush(stdout);
    dup2(saved, 1);
    close(ends[1]);
    const ssize_t n = read(ends[0], heard, sizeof heard - 1);
    heard[n > 0 ? n : 0] = '\0';
    cr_expect_str_eq(heard, "ours");
    cr_expect_not_null(pipei_registry_find(r, "test.noisy"), "%s", reason(r, "noisy.so"));
    pipei_registry_close(r);
    close(ends[0]);
    close(saved);
}

Test(registry, of_two_plugins_with_one_name_the_first_is_used)
{
    char *second = folder_make(), *path = pipe_format("%s:%s", second, folder);
    put("duplicate");
    put("other");
    put_as("good", second, "good.so");
    setenv("PIPE_PLUGIN_PATH", path, 1);
    pipei_registry *r = open_registry();
    const pipei_plugin *p = pipei_registry_find(r, "test.good");
    cr_assert_not_null(p);
    cr_expect(strncmp(p->path, second, strlen(second)) == 0, "%s", p->path);
    char *both = pipe_format("\"test.good\" too and was found first: %s/good.so", second);
    expect_reason(r, "duplicate.so", both);
    cr_expect_not_null(pipei_registry_find(r, "test.other"));
    pipei_registry_close(r);
    pipe_free(both);
    pipe_free(path);
    folder_drop(&second);
}

Test(registry, a_file_found_twice_is_one_file)
{
    char *link = in(cache, "plugins"), *path = pipe_format("%s::%s/:%s", folder, folder, folder);
    put("good");
    cr_assert_eq(symlink(folder, link), 0); /* $PIPE_DATA_DIR/plugins */
    setenv("PIPE_PLUGIN_PATH", path, 1);
    pipei_registry *r = open_registry();
    cr_expect_not_null(pipei_registry_find(r, "test.good"));
    cr_expect_null(reason(r, "good.so"));
    pipei_registry_close(r);
    pipe_free(link);
    pipe_free(path);
}

Test(registry, a_file_that_cannot_be_read_is_reported)
{
    char *link = in(folder, "dangling.so"), *dir = in(folder, "folder.so"), *secret = in(folder, "secret.so");
    put("good");
    cr_assert_eq(symlink("/nowhere/at/all.so", link), 0);
    cr_assert_eq(mkdir(dir, 0777), 0);
    put_as("other", folder, "secret.so");
    cr_assert_eq(chmod(secret, 0), 0);
    pipei_registry *r = open_registry();
    expect_reason(r, "dangling.so", "No such file");
    cr_expect_null(reason(r, "folder.so"));
    if (geteuid() != 0) /* root reads everything */
        expect_reason(r, "secret.so", "Permission denied");
    cr_expect_not_null(pipei_registry_find(r, "test.good"));
    pipei_registry_close(r);
    pipe_free(link);
    pipe_free(dir);
    pipe_free(secret);
}

Test(registry, an_extra_folder_must_exist_and_comes_first)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_registry *r = NULL;
    char *second = folder_make(), *file = pipe_format("%s/just.so", second);
    const char *missing[] = {"/nowhere/at/all", NULL}, *some[] = {file, NULL};
    check_failure(pipei_registry_open(missing, &r, &err), PIPE_ENOTFOUND, &err,
                  "--plugin-path|/nowhere/at/all", "missing");
    put("good");
    put_as("duplicate", second, "just.so");
    put_as("other", second, "not-named.so");
    MUST(pipei_registry_open(some, &r, &err));
    const pipei_plugin *p = pipei_registry_find(r, "test.good");
    cr_assert_not_null(p);
    cr_expect_str_eq(p->origin, "option");
    cr_expect_str_eq(p->path, file);
    cr_expect_null(pipei_registry_find(r, "test.other"), "a single file is not its folder");
    pipei_registry_close(r);
    pipe_free(file);
    folder_drop(&second);
}

/* ---- the cache ---- */

/* Path of the one file in the cache folder. */
static char *cache_file(void)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_listing list = {0};
    char *path = NULL;
    MUST(pipei_list_folder(cache, &list, &err));
    for (size_t k = 0; k < list.count; k++)
        if (strcmp(pipei_path_extension(list.entries[k].name), "bin") == 0)
            path = in(cache, list.entries[k].name);
    pipei_listing_free(&list);
    return path;
}

static uint64_t nanoseconds(const char *path)
{
    struct stat info;
    cr_assert_eq(stat(path, &info), 0);
    return (uint64_t)info.st_mtim.tv_sec * 1000000000u + (uint64_t)info.st_mtim.tv_nsec;
}

Test(registry, a_second_start_opens_nothing)
{
    put("good");
    put("crash");
    put("no-entry");
    pipei_registry_close(open_registry());
    char *file = cache_file();
    cr_assert_not_null(file);
    const uint64_t written = nanoseconds(file);
    pipei_registry *r = open_registry();
    cr_expect_eq(nanoseconds(file), written, "nothing changed, yet the cache was written again");
    cr_expect_not_null(pipei_registry_find(r, "test.good"));
    expect_reason(r, "crash.so", "crashed while it was opened");
    pipei_registry_close(r);
    pipe_free(file);
}

Test(registry, a_changed_file_is_scanned_again)
{
    put_as("crash", folder, "one.so");
    pipei_registry *r = open_registry();
    cr_expect_not_null(reason(r, "one.so"));
    pipei_registry_close(r);
    put_as("good", folder, "one.so");
    r = open_registry();
    cr_expect_null(reason(r, "one.so"));
    cr_expect_not_null(pipei_registry_find(r, "test.good"));
    pipei_registry_close(r);
    put_as("other", folder, "one.so");
    r = open_registry();
    cr_expect_null(pipei_registry_find(r, "test.good"));
    cr_expect_not_null(pipei_registry_find(r, "test.other"));
    pipei_registry_close(r);
}

Test(registry, a_removed_file_is_forgotten)
{
    char *path = in(folder, "good.so");
    put("good");
    pipei_registry_close(open_registry());
    cr_assert_eq(unlink(path), 0);
    pipei_registry *r = open_registry();
    cr_expect_null(pipei_registry_find(r, "test.good"));
    pipei_registry_close(r);
    pipe_free(path);
}

Test(registry, a_damaged_cache_is_rebuilt)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *data;
    size_t n;
    put("good");
    pipei_registry_close(open_registry());
    char *file = cache_file();
    MUST(pipei_file_read(file, 1u << 28, &data, &n, &err));
    const size_t where[] = {0, 9, 20, n / 2, n - 1};
    for (size_t k = 0; k <= sizeof where / sizeof where[0]; k++) {
        const bool cut = k == sizeof where / sizeof where[0];
        if (!cut)
            data[where[k]] ^= 0x40;
        MUST(pipei_file_write(file, data, cut ? n / 3 : n, &err));
        if (!cut)
            data[where[k]] ^= 0x40;
        pipei_registry *r = open_registry();
        cr_expect_not_null(pipei_registry_find(r, "test.good"), "case %zu", k);
        pipei_registry_close(r);
        pipei_scan_cache *c = pipei_scan_cache_open();
        char *path = in(folder, "good.so");
        cr_expect_not_null(pipei_scan_cache_find(c, path), "case %zu: not written again", k);
        pipe_free(path);
        pipei_scan_cache_close(c);
    }
    pipe_free(data);
    pipe_free(file);
}

Test(registry, a_cache_that_cannot_be_written_is_done_without)
{
    put("good");
    setenv("PIPE_CACHE_DIR", "/proc/nothing/here", 1);
    for (int k = 0; k < 2; k++) {
        pipei_registry *r = open_registry();
        cr_expect_not_null(pipei_registry_find(r, "test.good"));
        pipei_registry_close(r);
    }
}

Test(registry, runs_with_other_folders_keep_each_others_records)
{
    char *second = folder_make();
    put("good");
    put_as("other", second, "other.so");
    pipei_registry_close(open_registry());
    setenv("PIPE_PLUGIN_PATH", second, 1);
    pipei_registry_close(open_registry());
    pipei_scan_cache *c = pipei_scan_cache_open();
    char *one = in(folder, "good.so"), *two = in(second, "other.so");
    cr_expect_not_null(pipei_scan_cache_find(c, one));
    cr_expect_not_null(pipei_scan_cache_find(c, two));
    pipei_scan_cache_close(c);
    pipe_free(one);
    pipe_free(two);
    folder_drop(&second);
}

Test(registry, forgetting_scans_anew)
{
    pipe_error err = PIPE_ERROR_INIT;
    put("good");
    pipei_registry_close(open_registry());
    char *file = cache_file();
    MUST(pipei_registry_forget(&err));
    cr_expect_not(pipei_path_exists(file));
    MUST(pipei_registry_forget(&err));
    pipei_registry_close(open_registry());
    cr_expect(pipei_path_exists(file));
    pipe_free(file);
}

static void shell(const char *fmt, ...) PIPE_PRINTF(1, 2);
static void shell(const char *fmt, ...)
{
    char command[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    const int status = system(command);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", command);
}

Test(registry, a_failure_is_tried_again_when_a_library_it_links_to_changes)
{
    if (system("cc --version >/dev/null 2>&1") != 0)
        cr_skip_test("no compiler `cc`");
    put_text("help.c", "int tests_help(void) { return 1; }\n");
    put_text("needs.c", "#include \"minimal.h\"\nint tests_help(void);\n"
                        "static void destroy(void *self) { (void)self; tests_help(); }\n"
                        "PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {MINIMAL(\"test.needs\"), "
                        ".destroy = destroy};\n");
    shell("cd %s && mkdir lib && cc -shared -fPIC -o lib/libhelp.so help.c && "
          "cc -std=c11 -w -shared -fPIC -I" TEST_TOPDIR "/include -I" TEST_TOPDIR
          "/tests/plugins -o needs.so needs.c "
          "-Llib -lhelp -Wl,-rpath,'$ORIGIN/lib' && mv lib/libhelp.so lib/away",
          folder);
    pipei_registry *r = open_registry();
    expect_reason(r, "needs.so", "libhelp.so: cannot open shared object file");
    pipei_registry_close(r);
    shell("mv %s/lib/away %s/lib/libhelp.so", folder, folder);
    r = open_registry();
    cr_expect_not_null(pipei_registry_find(r, "test.needs"), "%s", reason(r, "needs.so"));
    pipei_registry_close(r);
}

Test(registry, links_are_followed)
{
    const uint64_t before = pipei_elf_links(BUILT "noisy.so");
    cr_expect_eq(before, pipei_elf_links(BUILT "noisy.so"));
    cr_expect_neq(before, pipei_elf_links("/nowhere"), "it links to the C library");
}

Test(registry, symbols_are_found_without_opening)
{
    char *cut = in(folder, "cut.so"), *data;
    pipe_error err = PIPE_ERROR_INIT;
    size_t n;
    cr_expect_eq(pipei_elf_symbol(BUILT "good.so", PIPE_ENTRY_SYMBOL), PIPEI_SYMBOL_PRESENT);
    cr_expect_eq(pipei_elf_symbol(BUILT "no-entry.so", PIPE_ENTRY_SYMBOL), PIPEI_SYMBOL_ABSENT);
    cr_expect_eq(pipei_elf_symbol(BUILT "unresolved.so", "tests_function_that_no_library_has"),
                 PIPEI_SYMBOL_ABSENT, "used, not defined");
    cr_expect_eq(pipei_elf_symbol("/etc/passwd", "x"), PIPEI_SYMBOL_UNKNOWN);
    /* damaged anywhere: any answer, no crash */
    MUST(pipei_file_read(BUILT "good.so", 1u << 28, &data, &n, &err));
    for (size_t k = 1; k < n; k = k < 4096 ? k + 61 : k + n / 50) {
        MUST(pipei_file_write(cut, data, k, &err));
        pipei_elf_symbol(cut, PIPE_ENTRY_SYMBOL);
        pipei_elf_links(cut);
    }
    for (size_t k = 0; k < 64; k++) { /* the header, a byte at a time */
        data[k] ^= (char)0xFF;
        MUST(pipei_file_write(cut, data, n, &err));
        pipei_elf_symbol(cut, PIPE_ENTRY_SYMBOL);
        pipei_elf_links(cut);
        data[k] ^= (char)0xFF;
    }
    pipe_free(data);
    pipe_free(cut);
}

/* ---- opening ---- */

Test(registry, a_descriptor_must_be_what_was_scanned)
{
    pipe_error err = PIPE_ERROR_INIT;
    const pipe_plugin *live = NULL;
    put("changing");
    pipei_registry *r = open_registry();
    const pipei_plugin *p = pipei_registry_find(r, "test.changing");
    cr_assert_not_null(p);
    setenv("PIPE_TEST_VERSION", "2.0.0", 1);
    check_failure(pipei_registry_load(r, p, &live, &err), PIPE_EPLUGIN, &err,
                  "changing.so|differently|version 2.0.0", "changing");
    cr_expect_null(live);
    pipei_registry_close(r);
}

Test(registry, a_file_that_was_replaced_meanwhile_is_not_opened)
{
    pipe_error err = PIPE_ERROR_INIT;
    const pipe_plugin *live = NULL;
    put("good");
    pipei_registry *r = open_registry();
    const pipei_plugin *p = pipei_registry_find(r, "test.good");
    cr_assert_not_null(p);
    put_as("other", folder, "good.so");
    check_failure(pipei_registry_load(r, p, &live, &err), PIPE_EPLUGIN, &err, "good.so|was replaced",
                  "replaced");
    pipei_registry_close(r);
}

Test(registry, steps_and_their_tables)
{
    put("a-step");
    pipei_registry *r = open_registry();
    const pipei_plugin *p = pipei_registry_find(r, "test-step");
    cr_assert_not_null(p, "%s", reason(r, "a-step.so"));
    cr_expect(p->step);
    cr_expect_eq(p->own_params, 1);
    cr_expect_null(p->meta.params[0].fallback, "required");
    cr_expect_null(p->meta.params[1].name, "a step has no common parameters");
    cr_expect_str_eq(p->meta.inputs[1].name, "more");
    cr_expect_eq(p->meta.inputs[1].flags, PIPE_OPTIONAL | PIPE_LIST);
    cr_expect_str_eq(p->meta.outputs[1].like, "data");
    cr_expect_null(p->meta.outputs[2].name);
    pipei_registry_close(r);
}

/* ---- lookup ---- */

Test(registry, plugins_are_sorted_and_near_names_found)
{
    put("good");
    put("other");
    put("a-step");
    pipei_registry *r = open_registry();
    for (size_t k = 1; k < pipei_registry_count(r); k++) {
        const pipe_plugin *a = &pipei_registry_at(r, k - 1)->meta, *b = &pipei_registry_at(r, k)->meta;
        cr_expect(strcmp(a->kind, b->kind) != 0 || strcmp(a->name, b->name) < 0, "%s before %s", a->name,
                  b->name);
    }
    cr_expect_null(pipei_registry_at(r, pipei_registry_count(r)));
    cr_expect_str_eq(pipei_registry_nearest(r, "test.goood", NULL), "test.good");
    cr_expect_str_eq(pipei_registry_nearest(r, "good", "denoiser|sampler"), "test.good");
    const char *near = pipei_registry_nearest(r, "test.good", "dataset");
    cr_expect(!near || strcmp(near, "test.good") != 0, "of another kind");
    pipei_registry_close(r);
}

static const struct {
    const char *alternatives, *kind;
    bool match;
} kinds[] = {
    {"sampler", "sampler", true},
    {"denoiser|sampler", "sampler", true},
    {"sampler|denoiser", "sampler", true},
    {"any", "sampler", true},
    {"x|any", "sampler", true},
    {"samplers", "sampler", false},
    {"sample", "sampler", false},
    {"denoiser", "sampler", false},
    {"", "sampler", false},
    {"anything", "sampler", false},
};

Test(registry, kinds_match_alternatives)
{
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        cr_expect_eq(pipei_kind_matches(kinds[k].alternatives, kinds[k].kind), kinds[k].match, "%s, %s",
                     kinds[k].alternatives, kinds[k].kind);
}

Test(registry, a_warm_start_takes_milliseconds)
{
    enum { PLUGINS = 60, TRIES = 5 };
    struct timespec a, b;
    double best = 1e9;
    for (int k = 0; k < PLUGINS; k++) { /* one name, so 59 are broken: decoded all the same */
        char *as = pipe_format("p%02d.so", k);
        put_as("good", folder, as);
        pipe_free(as);
    }
    pipei_registry_close(open_registry());
    for (int k = 0; k < TRIES; k++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        pipei_registry_close(open_registry());
        clock_gettime(CLOCK_MONOTONIC, &b);
        const double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6;
        best = ms < best ? ms : best;
    }
    cr_log_info("warm start with %d plugins: %.2f ms", PLUGINS, best);
    cr_expect_lt(best, 20.0, "%.2f ms", best); /* about 1 ms; room for sanitizers and a busy machine */
}
