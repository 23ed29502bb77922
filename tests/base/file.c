/* Files: limits, atomic writes, a full disk, leftovers, locks, paths. */
#include "support/folder.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void put(const char *path, const char *text)
{
    pipe_error err = PIPE_ERROR_INIT;
    MUST(pipei_file_write(path, text, strlen(text), &err));
}

static void expect_content(const char *path, const char *expected)
{
    pipe_error err = PIPE_ERROR_INIT;
    char *data;
    size_t n;
    MUST(pipei_file_read(path, 1 << 20, &data, &n, &err));
    cr_expect_eq(n, strlen(expected));
    cr_expect_str_eq(data, expected);
    pipe_free(data);
}

Test(file, read_write)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a");
    put(path, "");
    expect_content(path, "");
    put(path, "new content");
    expect_content(path, "new content");
    cr_expect_eq(folder_count(folder), 1, "a temporary was left");
    char *data;
    size_t n;
    MUST(pipei_file_read(path, 11, &data, &n, &err));     /* exactly the limit */
    pipe_free(data);
    check_failure(pipei_file_read(path, 10, &data, &n, &err), PIPE_EFORMAT, &err, "11 bytes|limit of 10",
                  "limit");
    check_failure(pipei_file_read(folder, 10, &data, &n, &err), PIPE_EIO, &err, "is a folder", "folder");
    check_failure(pipei_file_read("/dev/zero", 100000, &data, &n, &err), PIPE_EFORMAT, &err,
                  "/dev/zero|100000", "endless");
}

Test(file, read_of_a_pipe_has_the_limit_too)
{
    pipe_error err = PIPE_ERROR_INIT;
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(write(ends[1], "12345", 5), 5);
    close(ends[1]);
    char *data;
    size_t n;
    MUST(pipei_fd_read(ends[0], "<stdin>", 5, &data, &n, &err));
    cr_expect_str_eq(data, "12345");
    pipe_free(data);
    close(ends[0]);
}

Test(file, writer_of_many_sizes)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a");
    PIPE_CLEANUP(pipe_text_free) pipe_text expected = {0};
    pipei_writer *w;
    MUST(pipei_writer_open(path, &w, &err));
    for (size_t n = 0; n < 300000; n = n * 2 + 1) {     /* below, at and above the buffer */
        PIPE_CLEANUP(pipe_free_ptr) char *piece = pipe_alloc(n);
        memset(piece, 'a' + (int)(n % 23), n);
        pipei_writer_put(w, piece, n);
        pipe_text_add_bytes(&expected, piece, n);
        pipei_writer_putf(w, "%zu;", n);
        pipe_text_addf(&expected, "%zu;", n);
    }
    cr_expect_eq(pipei_writer_size(w), expected.length);
    cr_expect_not(pipei_path_exists(path), "visible before the commit");
    MUST(pipei_writer_commit(w, &err));
    expect_content(path, expected.data);
    struct stat info;
    const mode_t mask = umask(0);
    umask(mask);
    cr_assert_eq(stat(path, &info), 0);
    cr_expect_eq(info.st_mode & 0777, 0666 & ~mask, "permissions are the user's");
}

Test(file, an_aborted_write_leaves_the_old_file)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a");
    put(path, "old");
    {
        PIPE_CLEANUP(pipei_writer_cleanup) pipei_writer *w = NULL;
        MUST(pipei_writer_open(path, &w, &err));
        pipei_writer_put(w, "new", 3);
    }
    expect_content(path, "old");
    cr_expect_eq(folder_count(folder), 1);
}

/* RLIMIT_FSIZE stands in for a full disk: the kernel refuses in the same place,
 * and no file system has to be mounted.  errno is EFBIG instead of ENOSPC. */
Test(file, a_write_that_does_not_fit_leaves_nothing)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a");
    put(path, "old");
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {100000, RLIM_INFINITY};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    PIPE_CLEANUP(pipe_free_ptr) char *data = pipe_alloc(200000);
    const pipe_status status = pipei_file_write(path, data, 200000, &err);
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &none);
    check_failure(status, PIPE_EIO, &err, path, "too large");
    check_failure(status, PIPE_EIO, &err, "cannot be written|limit", "too large");
    expect_content(path, "old");
    cr_expect_eq(folder_count(folder), 1, "a temporary was left");
}

Test(file, a_full_disk_is_said_clearly)
{
    pipe_error err = PIPE_ERROR_INIT;
    check_failure(pipei_fail_errno(&err, 28 /* ENOSPC */, "%s", "runs/x"), PIPE_EIO, &err,
                  "runs/x: No space left on device|free some space", "ENOSPC");
}

static const struct {
    const char *path, *parts;
    pipe_status status;
} refused[] = {
    {"/dev/null", "device", PIPE_EEXIST},
    {"/tmp", "folder", PIPE_EEXIST},
    {"/nonexistent/folder/x", "/nonexistent/folder/x|No such", PIPE_ENOTFOUND},
    {"", "empty", PIPE_EINVAL},
};

Test(file, targets_that_are_refused)
{
    for (size_t k = 0; k < sizeof refused / sizeof refused[0]; k++) {
        pipe_error err = PIPE_ERROR_INIT;
        check_failure(pipei_file_write(refused[k].path, "x", 1, &err), refused[k].status, &err,
                      refused[k].parts, refused[k].path);
    }
    struct stat info;
    cr_expect(stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode));
}

Test(file, leftovers_of_the_dead_go_those_of_the_living_stay)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *dead = pipei_path_join(folder, "dead"),
        *path = pipei_path_join(folder, "a");
    const pid_t child = fork();
    if (child == 0) {
        pipei_writer *w;
        if (pipei_writer_open(dead, &w, NULL) == PIPE_OK)
            pipei_writer_put(w, "x", 1);
        kill(getpid(), SIGKILL);
    }
    int state;
    cr_assert_eq(waitpid(child, &state, 0), child);
    cr_assert(WIFSIGNALED(state));
    PIPE_CLEANUP(pipe_free_ptr) char *own = pipei_path_join(folder, ".notes.tmp");
    put(own, "the user's");
    pipei_writer *w;
    MUST(pipei_writer_open(path, &w, &err));
    cr_assert_eq(folder_count(folder), 3);
    MUST(pipei_remove_leftovers(folder, &err));
    cr_expect_eq(folder_count(folder), 2, "the dead one's file goes, the living one's and the user's stay");
    pipei_writer_put(w, "done", 4);
    MUST(pipei_writer_commit(w, &err));
    expect_content(path, "done");
    MUST(pipei_remove_leftovers("/nonexistent/folder", &err));
}

Test(file, folders)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *deep = pipei_path_join(folder, "x/y/z/");
    PIPE_CLEANUP(pipe_free_ptr) char *file = pipei_path_join(folder, "x/file");
    PIPE_CLEANUP(pipe_free_ptr) char *below = pipei_path_join(file, "w");
    PIPE_CLEANUP(pipe_free_ptr) char *top = pipei_path_join(folder, "x");
    MUST(pipei_make_folders(deep, &err));
    MUST(pipei_make_folders(deep, &err));
    cr_expect(pipei_is_folder(deep));
    put(file, "1");
    check_failure(pipei_make_folders(file, &err), PIPE_EEXIST, &err, "x/file|not a folder",
                  "a file is there");
    cr_expect_neq(pipei_make_folders(below, &err), PIPE_OK);
    PIPE_CLEANUP(pipei_listing_free) pipei_listing list = {0};
    MUST(pipei_list_folder(top, &list, &err));
    cr_assert_eq(list.count, 2);
    cr_expect_str_eq(list.entries[0].name, "file");
    cr_expect_not(list.entries[0].is_folder);
    cr_expect_str_eq(list.entries[1].name, "y");
    cr_expect(list.entries[1].is_folder);
    MUST(pipei_remove_tree(top, &err));
    MUST(pipei_remove_tree(top, &err));
    cr_expect_not(pipei_path_exists(top));
}

Test(file, removing_a_tree_does_not_follow_links)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *tree = pipei_path_join(folder, "tree");
    PIPE_CLEANUP(pipe_free_ptr) char *kept = pipei_path_join(folder, "kept");
    PIPE_CLEANUP(pipe_free_ptr) char *precious = pipei_path_join(kept, "precious");
    PIPE_CLEANUP(pipe_free_ptr) char *link = pipei_path_join(tree, "link");
    MUST(pipei_make_folders(tree, &err));
    MUST(pipei_make_folders(kept, &err));
    put(precious, "1");
    cr_assert_eq(symlink(kept, link), 0);
    MUST(pipei_remove_tree(tree, &err));
    expect_content(precious, "1");
}

Test(file, maps)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "a");
    PIPE_CLEANUP(pipei_map_close) pipei_map map = {0};
    put(path, "");
    MUST(pipei_map_open(path, &map, &err));
    cr_expect(!map.data && map.size == 0);
    put(path, "abc");
    MUST(pipei_map_open(path, &map, &err));
    cr_expect(map.size == 3 && memcmp(map.data, "abc", 3) == 0);
    check_failure(pipei_map_open(folder, &map, &err), PIPE_EIO, &err, "not a regular file", "a folder");
}

static const struct {
    const char *folder, *name, *joined;
} joins[] = {
    {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}, {NULL, "b", "b"},
        {"/", "b", "/b"},
};

static const struct {
    const char *path, *folder, *name, *extension;
} parts[] = {
    {"a/b.png", "a", "b.png", "png"}, {"b", ".", "b", ""}, {"/b.tar.gz", "/", "b.tar.gz", "gz"},
    {"a.b/c", "a.b", "c", ""}, {".hidden", ".", ".hidden", ""},
};

Test(file, paths)
{
    for (size_t k = 0; k < sizeof joins / sizeof joins[0]; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *s = pipei_path_join(joins[k].folder, joins[k].name);
        cr_expect_str_eq(s, joins[k].joined);
    }
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        PIPE_CLEANUP(pipe_free_ptr) char *s = pipei_path_folder(parts[k].path);
        cr_expect_str_eq(s, parts[k].folder);
        cr_expect_str_eq(pipei_path_name(parts[k].path), parts[k].name);
        cr_expect_str_eq(pipei_path_extension(parts[k].path), parts[k].extension);
    }
}

Test(file, locks)
{
    pipe_error err = PIPE_ERROR_INIT;
    PIPE_CLEANUP(folder_drop) char *folder = folder_make();
    PIPE_CLEANUP(pipe_free_ptr) char *path = pipei_path_join(folder, "lock");
    int one = -1, two = -1;
    MUST(pipei_lock(path, false, false, &one, &err));
    MUST(pipei_lock(path, false, false, &two, &err));      /* shared */
    pipei_unlock(two);
    check_failure(pipei_lock(path, true, false, &two, &err), PIPE_EEXIST, &err, "another process", "taken");
    pipei_unlock(one);
    MUST(pipei_lock(path, true, false, &two, &err));
    pipei_unlock(two);
    pipei_unlock(-1);
}
