/* Bodies of kernels put into functions (core/tensor/source.c): which are, which are not.
 * That they compute the same is seen by all tests of ops. */
#include "core/tensor/build.h"

#include <criterion/criterion.h>
#include <string.h>

typedef struct outline_case {
    const char *source;
    const char *has;              /* a part of the result; NULL: the source stays as it is */
    const char *why;
} outline_case;

static const outline_case cases[] = {
    {"kernel void f(PIPE_BUF(float, x), const int n) { x_base[get_group_id(0)] = n; }",
     "\n{\n    if (x_base)\n        pipe_body_of_f(x_base, x_offset, n, get_global_id(0),",
     "a buffer is two arguments, and nothing is done without it"},
    {"kernel void f(const int n, PIPE_BUF(float, x)) { x_base[get_group_id(0)] = n; }",
     "pipe_body_of_f(const int n, PIPE_BUF(float, x), const size_t pipe_get_global_id_0,", "places are parameters"},
    {"kernel __attribute__((reqd_work_group_size(1, 1, 1)))\nvoid f(PIPE_BUF(float, x)) { *x_base = 1; }",
     "kernel __attribute__((reqd_work_group_size(1, 1, 1)))\nvoid f(PIPE_BUF(float, x))\n{\n    if (x_base)\n        pipe_body_of_f(x_base,",
     "attributes stay with the kernel"},
    {"int g;\n__attribute__((reqd_work_group_size(1, 1, 1)))\nkernel void f(PIPE_BUF(float, x)) { *x_base = 1; }",
     "__attribute__((reqd_work_group_size(1, 1, 1)))\nkernel void f(PIPE_BUF(float, x))\n{\n    if (x_base)\n        pipe_body_of_f(x_base,",
     "also in front of the keyword"},
    {"static float g(float a) { return a; }\nkernel void f(PIPE_BUF(float, x)) { *x_base = g(1); }",
     "static float g(float a) { return a; }\n#define", "what stands before it stays"},
    {"kernel void f(PIPE_BUF(float, x)) { local float t[4]; t[0] = 1; *x = t[0]; }", NULL, "shared memory"},
    {"kernel void f(PIPE_BUF(float, x)) { *x = get_local_id(0); }", NULL, "work-items of a group differ"},
    {"kernel void f(PIPE_BUF(float, x)) { x[0] = 1; barrier(1); }", NULL, "a barrier"},
    {"#define B barrier(1)\nkernel void f(PIPE_BUF(float, x)) { x[0] = 1; B; }", NULL, "a barrier in a macro"},
    {"kernel void f(PIPE_BUF(float, x), int d) { x_base[get_group_id(d)] = 1; }", NULL, "a dimension that is computed"},
    {"static int g(void) { return get_group_id(0); }\nkernel void f(PIPE_BUF(float, x)) { x[g()] = 1; }", NULL,
     "a place asked for outside of the kernel"},
    {"#define ARGS global float *x, int n\nkernel void f(ARGS) { x[0] = n; }", NULL, "parameters that are not seen"},
    {"kernel void f(global float *x) { *x = 1; }", NULL, "a buffer that is not seen as one"},
    {"static int g(void) { return 1; }", NULL, "no kernel"},
};

Test(outline, bodies)
{
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const outline_case *c = &cases[k];
        PIPE_CLEANUP(pipe_text_free) pipe_text out = {0};
        const bool any = pipei_source_outline(c->source, &out);
        cr_expect_eq(any, c->has != NULL, "%s", c->why);
        if (any && c->has)
            cr_expect(strstr(out.data, c->has) != NULL, "%s: %s", c->why, out.data);
    }
}

/* One kernel of two stays: the other goes. */
Test(outline, each_kernel_on_its_own)
{
    PIPE_CLEANUP(pipe_text_free) pipe_text out = {0};
    cr_assert(pipei_source_outline("kernel void f(PIPE_BUF(float, x)) { local float t[4]; t[0] = *x; *x = t[0]; }\n"
                                   "kernel void g(PIPE_BUF(float, x)) { x_base[get_global_id(0)] = 1; }\n",
                                   &out));
    cr_expect(strstr(out.data, "pipe_body_of_f") == NULL);
    cr_expect(strstr(out.data, "pipe_body_of_g") != NULL);
    cr_expect(strstr(out.data, "local float t[4]; t[0] = *x; *x = t[0];") != NULL);
}
