/* Operations: the rows of the op table, and how a third party adds one.
 *
 * An op is one const struct.  Everything that treats ops alike walks the table:
 * recording, shape checks, fusion, differentiation, tests.  A row needs a shape
 * rule, a reference in double precision, and how to compute it on a device:
 * either an `expression` (elementwise: the engine fuses it with its neighbours)
 * or `lower` (its own OpenCL source).  Its derivatives are recorded ops.
 *
 *     static void silu_reference(const pipe_reference *r) {...}
 *     static void silu_vjp(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx)
 *     {
 *         pipe_tensor *s = pipe_sigmoid(c->in[0]);
 *         gx[0] = pipe_mul(gy, pipe_add(s, pipe_mul(c->out, pipe_affine(s, -1.0, 1.0))));
 *     }
 *     static const pipe_op silu = {
 *         PIPE_OP_INIT, .name = "silu", .arity = 1, .shape = pipe_shape_same,
 *         .reference = silu_reference, .expression = "a / (1.0f + exp(-a))",
 *         .vjp = silu_vjp, .jvp = pipe_jvp_diagonal,
 *     };
 *     y = pipe_op_apply(engine, &silu, (pipe_tensor *[]){x}, 1, NULL);
 */
#ifndef PIPE_OP_H
#define PIPE_OP_H

#include <pipe/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PIPE_MAX_INPUTS 16     /* ops of variable arity (concat) take any number */

/** What distinguishes two uses of one op.  Integers are structural: another
 *  value makes another plan and may be baked into kernel source.  Floats and
 *  words are run-time arguments: they never do. */
typedef struct pipe_attr {
    int64_t i[24];
    float f[4];
    uint32_t u[8];
} pipe_attr;

/** One recorded use of an op, as its functions see it. */
typedef struct pipe_op_call {
    const struct pipe_op *op;
    size_t n_in;
    pipe_tensor *const *in;
    const pipe_attr *attr;
    pipe_tensor *out;             /* NULL in `shape` */
    pipe_engine *engine;
} pipe_op_call;

/** What `shape` fills in. */
typedef struct pipe_op_result {
    pipe_shape shape;
    pipe_dtype dtype;
} pipe_op_result;

/** Inputs and output of the reference, all as double (i32 values exactly). */
typedef struct pipe_reference {
    size_t n_in;
    const double *const *in;
    const pipe_shape *in_shape;   /* [n_in] */
    double *out;
    pipe_shape out_shape;
    size_t n;                     /* elements of out */
    const pipe_attr *attr;
} pipe_reference;

/* ---- lowering to kernels ---- */
typedef struct pipe_device_profile {
    size_t size;
    bool cpu;                     /* work-group size 1 and explicit vectors pay */
    uint32_t vector_width;        /* f32 lanes of one register: 4, 8, 16 */
    uint32_t vector_registers;    /* 16 (SSE, AVX2) or 32 (AVX-512, NEON); 0 on a GPU */
    uint32_t compute_units;
    uint32_t max_work_group;
    size_t local_memory;          /* bytes */
    size_t cache_bytes;           /* of one core's level 2, or 256 KiB where unknown */
} pipe_device_profile;

typedef enum pipe_arg_kind {
    PIPE_ARG_INPUT,      /* index: which input of the op */
    PIPE_ARG_OUTPUT,
    PIPE_ARG_SCRATCH,    /* index: what pipe_lower_scratch() returned */
    PIPE_ARG_INT,        /* a structural int, passed as `const int` */
    PIPE_ARG_FLOAT,      /* index into attr->f, passed as `const float` */
    PIPE_ARG_WORD        /* index into attr->u, passed as `const uint` */
} pipe_arg_kind;

typedef struct pipe_arg {
    pipe_arg_kind kind;
    uint32_t index;
    int32_t value;       /* PIPE_ARG_INT */
} pipe_arg;

#define PIPE_MAX_ARGS 32

/** One kernel launch.  `source` is OpenCL C 1.2; programs are cached by content
 *  and built together with the other kernels of a plan.  Kernel parameters must
 *  follow `args` in order.  A buffer argument is two parameters, written with
 *  the macros that the engine puts in front of every source:
 *
 *      kernel void twice(PIPE_BUF(float, x), PIPE_BUF(float, y), const int n)
 *      {
 *          PIPE_BIND(float, x); PIPE_BIND(float, y);
 *          for (int i = (int)get_global_id(0); i < n; i += (int)get_global_size(0))
 *              y[i] = 2.0f * x[i];
 *      }
 *
 *  (PIPE_BUF(T, x) is `global T *x_base, const ulong x_offset`.)  Kernel names
 *  need only be unique within their source.
 *
 *  An op whose row sets `epilogue` finishes every store to its output through
 *  PIPE_EPILOGUE8(v, i) (or PIPE_EPILOGUE16, PIPE_EPILOGUE4, PIPE_EPILOGUE1): v
 *  is a float8 of consecutive output elements, the first of linear index i
 *  (a size_t); the engine defines it as the elementwise ops fused behind, or as v. */
typedef struct pipe_launch {
    const char *source;           /* copied */
    const char *kernel;           /* copied */
    uint32_t dims;                /* 1 to 3 */
    size_t global[3];
    size_t local[3];              /* 0: no preference */
    uint32_t n_args;
    pipe_arg args[PIPE_MAX_ARGS];
} pipe_launch;

typedef struct pipe_lowering pipe_lowering;    /* one op being lowered */
PIPE_API const pipe_device_profile *pipe_lower_profile(const pipe_lowering *l);
/** A buffer of `count` elements of 4 bytes that lives during this op's launches;
 *  returns its index for PIPE_ARG_SCRATCH. */
PIPE_API uint32_t pipe_lower_scratch(pipe_lowering *l, size_t count);
/** Appends a launch; launches of an op run in order, each after the last is done. */
PIPE_API void pipe_lower_launch(pipe_lowering *l, const pipe_launch *launch);
/** printf into memory that lives as long as the lowering: for sources and names. */
PIPE_API const char *pipe_lower_text(pipe_lowering *l, const char *fmt, ...) PIPE_PRINTF(2, 3);

/* ---- the row ---- */
typedef struct pipe_op {
    size_t size;
    const char *name;             /* unique; third parties: "vendor.name" */
    int32_t arity;                /* -1: any number */
    /** Checks the inputs and gives the output's shape and dtype; an error says
     *  what would fit.  Inputs are not poisoned and not NULL. */
    pipe_status (*shape)(const pipe_op_call *c, pipe_op_result *out, pipe_error *err);
    /** The definition, in double.  Tests compare with it; never used in a run. */
    void (*reference)(const pipe_reference *r);
    /** Elementwise ops: one OpenCL C expression in the variables a, b, c, d (the
     *  inputs, each broadcast to the output's shape: "a" alone is broadcast_to, an
     *  arity of 0 makes a constant), p0 ... p3 (attr->f, of type T) and k0 ...
     *  (attr->i, literals), valid for scalar and vector types alike: T is the
     *  floating type at hand (float, float8, ...), TI the integer type of the same
     *  width (i32 inputs have it); use (T)(0.0f) in ternaries, convert with
     *  PIPE_TO_T(x), PIPE_TO_TI(x).  A comparison gives 0 or non-zero per lane
     *  (1 or -1): PIPE_TRUTH(cmp) turns it into 0.0f or 1.0f.  A variable may be
     *  used more than once: it is computed once. */
    const char *expression;
    /** Other ops: adds launches that compute the output. */
    pipe_status (*lower)(pipe_lowering *l, const pipe_op_call *c, pipe_error *err);
    /** The same value in other recorded ops, or NULL.  Where vjp or jvp is NULL
     *  the engine differentiates this; tests compare it with the kernel. */
    pipe_tensor *(*composed)(const pipe_op_call *c);
    /** gx[k] = adjoint with respect to input k, or NULL where it is zero (also
     *  for i32 inputs).  gy has the output's shape; gx[k] must have in[k]'s.
     *  needs[k] false: nobody wants gx[k], it may stay NULL. */
    void (*vjp)(const pipe_op_call *c, pipe_tensor *gy, pipe_tensor **gx, const bool *needs);
    /** Output tangent from input tangents (NULL = zero); NULL when it is zero. */
    pipe_tensor *(*jvp)(const pipe_op_call *c, pipe_tensor *const *dx);
    bool epilogue;                /* stores through PIPE_EPILOGUE */
    bool view;                    /* output shares the first input's elements in order (reshape) */
    /** NULL, or: is this use a run of the first input's elements in order (a
     *  slice along the leading axis)?  Then it writes the first one's index and
     *  returns true, and the use costs nothing; else it is computed like any other. */
    bool (*window)(const pipe_op_call *c, int64_t *first);
    /** NULL, or of an op with an `epilogue` that is only for the first elements: how
     *  many they are.  (A gradient with sums behind it.) */
    int64_t (*epilogue_count)(const pipe_op_call *c);
} pipe_op;

#define PIPE_OP_INIT .size = sizeof(pipe_op)

/** Records one use.  attr may be NULL (zeros).  Never returns NULL. */
PIPE_API pipe_tensor *pipe_op_apply(pipe_engine *e, const pipe_op *op, pipe_tensor *const *in, size_t n,
                                    const pipe_attr *attr);
/** A poisoned tensor, for functions that build on ops. */
PIPE_API pipe_tensor *pipe_poison(pipe_engine *e, pipe_status status, const char *fmt, ...)
    PIPE_PRINTF(3, 4);

/* Shape rules and derivatives that many rows share. */
PIPE_API pipe_status pipe_shape_same(const pipe_op_call *c, pipe_op_result *out, pipe_error *err);      /* input 0's */
PIPE_API pipe_status pipe_shape_broadcast(const pipe_op_call *c, pipe_op_result *out, pipe_error *err); /* f32 */
/** For unary elementwise ops: dx * (vjp with gy = 1): their Jacobian is diagonal. */
PIPE_API pipe_tensor *pipe_jvp_diagonal(const pipe_op_call *c, pipe_tensor *const *dx);

/** Adds rows (arrays end with a NULL pointer) to the table that tests and
 *  `pipe inspect --ops` walk. The rows must outlive the process. Applying an op
 *  does not need it. */
PIPE_API pipe_status pipe_op_register(const pipe_op *const *rows, pipe_error *err);

#ifdef __cplusplus
}
#endif
#endif
