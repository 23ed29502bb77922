/* A folder, a cache and a handful of plugins of the test itself, to run pipelines with. */
#ifndef TESTS_RUN_TEST_H
#define TESTS_RUN_TEST_H

#include "core/run/json.h"
#include "core/run/session.h"
#include "support/folder.h"

/* A run, which was a process of its own, and what came of it.  out.exit_status is
 * 128 + signal when it was killed, and then nothing else is known. */
typedef struct result {
    pipe_status status;
    pipei_outcome out;
    pipe_error err;
} result;

/* A fresh folder as working directory, with its cache inside; freed when the test ends. */
char *run_place(void);
void run_leave(char **folder);                          /* for PIPE_CLEANUP */
pipei_registry *run_registry(void);                     /* of the plugins in run-test.c */
/* `change`: "node.key=value" texts, NULL-terminated, or NULL. */
result run_text(const char *yaml, const pipei_run_options *o, const char *const *change);
/* The same with nothing special. */
result run_plain(const char *yaml);
void result_free(result *r);                            /* for PIPE_CLEANUP */
/* The exit status alone. */
int run_status(const char *yaml, const pipei_run_options *o, const char *const *change);

/* How often the step of this node has run, in whatever process. */
size_t run_count(const char *node);
/* State of a node in the manifest: "done", "cached", ... */
const char *run_state(const result *r, const char *node);
/* Member of the node's entry in the manifest. */
json_t *run_node(const result *r, const char *node, const char *key);
char *run_read(const char *folder, const char *name);   /* a file's text; owned */
/* Asserts that r->status is PIPE_OK. */
#define RAN(r) cr_assert_eq((r).status, PIPE_OK, "%s", (r).err.message)

#endif
