/* Running the built program `pipe` as a user would. */
#ifndef TESTS_SUPPORT_COMMAND_H
#define TESTS_SUPPORT_COMMAND_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct command {
    int status; /* exit status; 128 + signal when it was killed */
    char *out, *err; /* what it printed; never NULL */
} command;

/* Runs a shell command line in `folder` (NULL: here); the variables PIPE and TOP
 * name the program and the source tree.  cache: PIPE_CACHE_DIR (NULL: as it is). */
command command_run(const char *folder, const char *cache, const char *line);
/* Starts it without waiting, its output thrown away; for signals. */
pid_t command_start(const char *folder, const char *cache, const char *line);
void command_free(command *c);
/* Fails the test unless the command ended with this status; prints both outputs. */
void command_expect(const command *c, int status, const char *why);

#endif
