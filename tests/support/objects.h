/* Engines, contexts and objects of the built plugins, without a pipeline. */
#ifndef TESTS_SUPPORT_OBJECTS_H
#define TESTS_SUPPORT_OBJECTS_H

#include "core/run/object.h"
#include "core/tensor/engine.h"

/* Lives as long as the process: what a test need not free (and the leak checker
 * knows of).  Returns p. */
void *test_hold(void *p);
/* One CPU engine per test process (Criterion forks one per test). */
pipe_engine *test_engine(void);
/* A context with this name and seed, freed with the process. */
pipe_context *test_context(const char *node, uint64_t seed);
/* The descriptor of a built plugin: "sampler.ddim" (or "generate", of kind step)
 * from plugins/.libs of the build folder.  Fails the test when it is not there. */
const pipe_plugin *test_plugin(const char *kind, const char *name);
/* An object of a plugin; params: key, value, ..., NULL; inputs end with a NULL
 * name; both may be NULL.  Fails the test on error. */
pipe_object *test_object(const char *kind, const char *name, const char *const *params,
                         const pipei_named_object *inputs);
/* The same, giving the error back. */
pipe_status test_object_try(const char *kind, const char *name, const char *const *params,
                            const pipei_named_object *inputs, pipe_object **out, pipe_error *err);
/* Fails the test, with the message, unless the status is PIPE_OK. */
void test_ok(pipe_status status, const pipe_error *err, const char *file, int line);
#define OK(call)                                                                                             \
    do {                                                                                                     \
        err = (pipe_error)PIPE_ERROR_INIT;                                                                   \
        test_ok((call), &err, __FILE__, __LINE__);                                                           \
    } while (0)

#endif
