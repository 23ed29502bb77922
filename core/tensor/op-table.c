/* The op table: the groups of built-in rows, and rows of third parties.
 *
 * A group is an array of pointers that ends with NULL, in the file that defines
 * its rows.  The references are weak so that a program that links only a part of
 * the library (a fuzzer, a probe) gets the rows of that part. */
#include "core/tensor/engine.h"

#include <pthread.h>
#include <string.h>

#define GROUP(name) extern const pipe_op *const pipei_ops_##name[] __attribute__((weak));
#define GROUPS(X)                                                                             \
    X(elementwise) X(shape) X(reduce) X(index) X(random) X(linear) X(conv) X(attention) X(norm) X(norm_affine) \
    X(image) X(order) X(recompute)
GROUPS(GROUP)

#define GROUP_POINTER(name) pipei_ops_##name,
static const pipe_op *const *const groups[] = {GROUPS(GROUP_POINTER)};
enum { GROUP_COUNT = sizeof groups / sizeof groups[0] };

/* The one mutable table of the process: registration has no engine to go to,
 * because plugins register rows while they are loaded. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const pipe_op **added;
static size_t n_added;

static const pipe_op *builtin_at(size_t *k)
{
    for (size_t g = 0; g < GROUP_COUNT; g++)
        for (const pipe_op *const *row = groups[g]; row && *row; row++)
            if ((*k)-- == 0)
                return *row;
    return NULL;
}

static size_t builtin_count(void)
{
    size_t n = 0;
    for (size_t g = 0; g < GROUP_COUNT; g++)
        for (const pipe_op *const *row = groups[g]; row && *row; row++)
            n++;
    return n;
}

size_t pipei_op_count(void)
{
    pthread_mutex_lock(&lock);
    const size_t n = builtin_count() + n_added;
    pthread_mutex_unlock(&lock);
    return n;
}

const pipe_op *pipei_op_at(size_t k)
{
    const pipe_op *op = builtin_at(&k);
    if (op)
        return op;
    pthread_mutex_lock(&lock);
    op = k < n_added ? added[k] : NULL;
    pthread_mutex_unlock(&lock);
    return op;
}

/* Of built-in and added rows; the caller holds the lock. */
static const pipe_op *find(const char *name)
{
    for (size_t g = 0; g < GROUP_COUNT; g++)
        for (const pipe_op *const *row = groups[g]; row && *row; row++)
            if (strcmp((*row)->name, name) == 0)
                return *row;
    for (size_t k = 0; k < n_added; k++)
        if (strcmp(added[k]->name, name) == 0)
            return added[k];
    return NULL;
}

const pipe_op *pipei_op_find(const char *name)
{
    pthread_mutex_lock(&lock);
    const pipe_op *op = find(name);
    pthread_mutex_unlock(&lock);
    return op;
}

static pipe_status check_row(const pipe_op *op, pipe_error *err)
{
    if (!op->name || !op->name[0])
        return pipe_fail(err, PIPE_EPLUGIN, "an op row has no name");
    if (op->size < offsetof(pipe_op, view) || op->size > 4096)
        return pipe_fail(err, PIPE_EPLUGIN,
                         "op %s: size %zu is not that of a pipe_op: start the row with PIPE_OP_INIT",
                         op->name, op->size);
    if (!op->shape)
        return pipe_fail(err, PIPE_EPLUGIN, "op %s has no shape rule", op->name);
    if (!op->reference)
        return pipe_fail(err, PIPE_EPLUGIN, "op %s has no reference: nothing says what it should compute",
                         op->name);
    if (!op->expression && !op->lower && !op->view)
        return pipe_fail(err, PIPE_EPLUGIN,
                         "op %s has neither an expression nor lower: no device can compute it", op->name);
    if (op->expression && (op->arity < 0 || op->arity > 4))
        return pipe_fail(err, PIPE_EPLUGIN, "op %s: an expression takes 0 to 4 inputs, not %d", op->name,
                         op->arity);
    return PIPE_OK;
}

pipe_status pipe_op_register(const pipe_op *const *rows, pipe_error *err)
{
    size_t n = 0;
    pipe_status status = PIPE_OK;

    for (; rows[n]; n++)
        PIPE_TRY(check_row(rows[n], err));

    pthread_mutex_lock(&lock);
    for (size_t k = 0; k < n && status == PIPE_OK; k++) {
        const pipe_op *known = find(rows[k]->name);
        for (size_t j = 0; j < k && !known; j++)
            known = strcmp(rows[j]->name, rows[k]->name) == 0 ? rows[j] : NULL;
        if (known)
            status = pipe_fail(err, PIPE_EEXIST, "op %s is in the table already", rows[k]->name);
    }
    if (status == PIPE_OK) {
        added = pipe_realloc(added, (n_added + n) * sizeof *added);
        memcpy(added + n_added, rows, n * sizeof *added);
        n_added += n;
    }
    pthread_mutex_unlock(&lock);
    return status;
}
