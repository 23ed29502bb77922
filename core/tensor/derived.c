/* What kernels make of a leaf alone, kept until the leaf changes: packed weights.
 *
 * An op asks for it in lowering (call.h).  Where no assignment of the plan writes the
 * leaf, the result goes into a buffer that hangs on the leaf, so that all plans share
 * it, with the version of the leaf that it was made of.  A replay leaves out the
 * launches whose result is there.  Plans that write the leaf, a training step as a
 * whole, make it anew each time, in the arena. */
#include "core/tensor/build.h"

#include <string.h>

struct pipei_derived {
    struct pipei_derived *next;
    uint64_t key;             /* of the launch: its source, numbers and place in the leaf */
    uint64_t version;         /* of the leaf when it was made; 0: not yet */
    size_t bytes;
    cl_mem mem;
};

void pipei_derived_free(pipe_tensor *leaf)
{
    for (struct pipei_derived *d = leaf->derived, *next; d; d = next) {
        next = d->next;
        pipei_buffer_free(leaf->engine->device, d->mem);
        pipe_free(d);
    }
    leaf->derived = NULL;
}

/* Keys are not compared in full: a leaf has a few, and two of 64 bits do not meet. */
uint64_t pipei_derived_key(const draft *d)
{
    uint64_t h = pipe_hash64(d->source, strlen(d->source), 0);
    h = pipe_hash64(d->kernel, strlen(d->kernel), h);
    h = pipe_hash64(d->global, sizeof d->global, h);
    for (uint32_t k = 0; k < d->n_args; k++)
        if (d->args[k].kind == ARG_INT || d->args[k].kind == ARG_VALUE)
            h = pipe_hash64(&d->args[k].number, sizeof d->args[k].number, h);
    return h;
}

pipe_status pipei_derived_bind(pipe_engine *e, plan *p, pipe_error *err)
{
    for (size_t k = 0; k < p->n_derived; k++) {
        plan_derived *want = &p->derived[k];
        pipe_tensor *leaf = e->request.leaves[want->leaf];
        struct pipei_derived *d = leaf->derived;
        while (d && (d->key != want->key || d->bytes != want->bytes))
            d = d->next;
        if (!d) {
            cl_mem mem = NULL;
            PIPE_TRY(pipei_buffer_new(e->device, want->bytes, "packed weights", &mem, err));
            d = pipe_alloc(sizeof *d);
            *d = (struct pipei_derived){
                .next = leaf->derived, .key = want->key, .bytes = want->bytes, .mem = mem};
            leaf->derived = d;
        }
        want->now = d;
        want->mem = d->mem;
        want->fresh = d->version == leaf->version;
    }
    return PIPE_OK;
}

void pipei_derived_made(pipe_engine *e, plan *p)
{
    for (size_t k = 0; k < p->n_derived; k++)
        p->derived[k].now->version = e->request.leaves[p->derived[k].leaf]->version;
}
