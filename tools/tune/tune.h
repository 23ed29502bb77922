/* pipe tune, from the inside.
 *
 *     tune.c       the verb: options, the order of things, what is printed and stored
 *     search.c     candidates for one kernel
 *     measure.c    one set of parameters, verified and timed in a process of its own */
#ifndef PIPE_TOOLS_TUNE_H
#define PIPE_TOOLS_TUNE_H

#include "core/device/blas.h"
#include "tools/cli.h"

/* A product of square matrices, with its result in double precision. */
typedef struct tune_problem {
    size_t n;
    float *a, *b;
    double *want, *size;      /* of each element: its value; the sum of its terms' sizes */
} tune_problem;

typedef struct tune {
    const char *device, *profile;       /* as given; NULL: chosen by the machine */
    pipei_tuned_device info;
    bool cpu;                           /* products do not go through CLBlast */
    double end;                         /* pipei_seconds() */
    size_t candidates;                  /* at most, per kernel */
    double patience;                    /* seconds that one process may take: what hangs is ended */
} tune;

/* What became of a set of parameters. */
typedef struct tune_result {
    bool right;               /* it compiled, and every result that was looked at is right */
    double seconds;           /* of one product, the least of several */
    char why[256];            /* it is not right */
} tune_result;

void tune_problem_make(tune_problem *p, size_t n);
void tune_problem_free(tune_problem *p);

/* Opens the device and says what it is, in a process of its own: this one must have no
 * OpenCL of its own, or its children could not. */
pipe_status tune_identify(tune *t, pipe_error *err);

/* Runs the product with these parameters in a process of its own: CLBlast cannot take
 * parameters back, and a bad kernel may crash the driver or hang (ended when patience
 * is).  all: also small products of odd sizes, all transpositions, batched. */
pipe_status tune_measure(const tune *t, const pipei_tuning *parameters, const tune_problem *p, bool all,
                         tune_result *out, pipe_error *err);

/* The best parameters of one kernel for this problem, the rest as in `best`, until
 * `end` by the clock.  best->set[kernel] stays false unless some are right and at least
 * 2 % faster than CLBlast's own.  Patience with candidates is as long as CLBlast's own
 * parameters took, several times. */
pipe_status tune_search(tune *t, size_t kernel, const tune_problem *p, double end, pipei_tuning *best,
                        pipe_error *err);

/* GFLOP/s */
double tune_rate(const tune_problem *p, double seconds);

#endif
