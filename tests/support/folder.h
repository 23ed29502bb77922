/* A temporary folder per test, and a few checks of files.  Header-only. */
#ifndef TESTS_SUPPORT_FOLDER_H
#define TESTS_SUPPORT_FOLDER_H

#include "core/base/file.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* A fresh empty folder; free with folder_drop(). */
static inline char *folder_make(void)
{
    const char *root = getenv("TMPDIR");
    char *path = pipe_format("%s/pipe-test-XXXXXX", root && *root ? root : "/tmp");
    cr_assert_not_null(mkdtemp(path), "mkdtemp %s", path);
    return path;
}

static inline void folder_drop(char **path)
{
    pipe_error err = PIPE_ERROR_INIT;
    if (!*path)
        return;
    cr_expect_eq(pipei_remove_tree(*path, &err), PIPE_OK, "%s", err.message);
    pipe_free_ptr(path);
}

static inline size_t folder_count(const char *path)
{
    pipe_error err = PIPE_ERROR_INIT;
    pipei_listing list = {0};
    cr_assert_eq(pipei_list_folder(path, &list, &err), PIPE_OK, "%s", err.message);
    const size_t n = list.count;
    pipei_listing_free(&list);
    return n;
}

/* Asserts that `call` succeeds, printing the message otherwise (needs `pipe_error err`). */
#define MUST(call) cr_assert_eq((call), PIPE_OK, "%s", err.message)

/* Asserts that a call failed with `status` and that its message has all parts,
 * which are separated by '|'. */
static inline void check_failure(pipe_status got, pipe_status want, const pipe_error *err, const char *parts,
                                 const char *what)
{
    cr_expect_eq(got, want, "%s: status %s, expected %s (%s)", what, pipe_status_name(got),
                 pipe_status_name(want), err->message);
    for (const char *p = parts; *p; ) {
        const size_t n = strcspn(p, "|");
        char *part = pipe_format("%.*s", (int)n, p);
        cr_expect_not_null(strstr(err->message, part), "%s: \"%s\" is missing in \"%s\"", what, part,
                           err->message);
        pipe_free(part);
        p += n + (p[n] == '|');
    }
}

#endif
