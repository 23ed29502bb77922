/* Kind `denoiser`: a network (or a closed form, or guidance around others) that
 * predicts from noisy data x_t = alpha x0 + sigma eps. */
#ifndef PIPE_DENOISER_H
#define PIPE_DENOISER_H

#include <pipe/model.h>
#include <pipe/schedule.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What the output means. */
typedef enum pipe_prediction {
    PIPE_PREDICT_NONE = 0,      /* not known yet: an untrained network */
    PIPE_PREDICT_EPS,           /* the noise */
    PIPE_PREDICT_X0,            /* the clean data */
    PIPE_PREDICT_V,             /* alpha eps - sigma x0 (Salimans and Ho 2022) */
    PIPE_PREDICT_SCORE,         /* grad log p_t(x) = -eps / sigma */
    PIPE_PREDICT_FLOW,          /* alpha' x0 + sigma' eps: the velocity dx/dt */
    PIPE_PREDICT_EDM,           /* F of Karras et al. 2022: D = c_skip x/alpha + c_out F */
    PIPE_PREDICT_TRIGFLOW       /* F of Lu and Song 2024, arXiv:2410.11081: x0 = cos(t) x - sin(t) sigma_data F with
                                   tan(t) = sigma_data^-1 sigma / alpha and x scaled to that schedule */
} pipe_prediction;
PIPE_API const char *pipe_prediction_name(pipe_prediction p);
/** "eps", "x0", "v", "score", "flow", "edm", "trigflow", NULL: choices for parameters. */
PIPE_API extern const char *const pipe_prediction_names[];

/** What a network says of the variance of a step of DDPM, besides its prediction: its output then has twice the
 *  samples' last axis, the prediction first. */
typedef enum pipe_variance {
    PIPE_VARIANCE_NONE = 0,
    PIPE_VARIANCE_RANGE,            /* o, -1 to 1, leads from the posterior's to the forward step's, in logarithms
                                       (Nichol and Dhariwal 2021, arXiv:2102.09672, equation 15; see pipe_posterior) */
    PIPE_VARIANCE_LOG               /* ln of the variance itself: of the steps that it was trained with, no others */
} pipe_variance;
PIPE_API extern const char *const pipe_variance_names[];
/** The parameter of a network that can do so; of a state with int64_t variance. */
#define PIPE_VARIANCE_PARAM(state)                                                                              \
    PIPE_CHOICE(state, variance, "none", pipe_variance_names,                                                   \
                "what it says of the variance of each step, for sampler.ddpm with `variance: learned`: none, "   \
                "range (where it lies between small and large), log (its logarithm, for the steps that it was "  \
                "trained with alone)")

typedef struct pipe_denoiser_info {
    size_t size;
    pipe_shape sample;              /* of one sample, without the batch axis; rank 0 while unknown */
    pipe_prediction predicts;
    pipe_schedule *schedule;        /* that it was trained under; borrowed */
    int64_t classes;                /* labels 0 ... classes - 1; 0: unconditional */
    double sigma_data;              /* EDM's; 0.5 unless set */
    int64_t attention_blocks;       /* that a pipe_perturbation may name: 0 ... attention_blocks - 1; 0: none */
    pipe_variance variance;         /* that it, or the network in it, predicts as well */
} pipe_denoiser_info;

/** How a network is made worse on purpose, so that guidance can lead away from what it then predicts. */
typedef enum pipe_perturbation_kind {
    PIPE_PERTURB_NONE = 0,
    PIPE_PERTURB_IDENTITY,      /* the attention map is the identity: a token attends to itself alone (Ahn et al.
                                   2024, arXiv:2403.17377) */
    PIPE_PERTURB_SKIP,          /* the block is left out (Hyung et al. 2024, arXiv:2411.18664) */
    PIPE_PERTURB_BLUR           /* the queries are blurred over the grid of tokens (Hong 2024, arXiv:2408.00760) */
} pipe_perturbation_kind;

typedef struct pipe_perturbation {
    size_t size;
    pipe_perturbation_kind kind;
    pipe_ints blocks;               /* of the network, as it numbers them; at least one; borrowed */
    double sigma;                   /* of PIPE_PERTURB_BLUR, in tokens; 0: none; above 9999, as in diffusers:
                                       each query becomes the mean of all */
} pipe_perturbation;

/** What a sample is conditioned on.  Start as {.size = sizeof(pipe_condition)}. */
typedef struct pipe_condition {
    size_t size;
    pipe_tensor *labels;            /* i32 [n]; -1: none for this row; NULL: none for all */
    pipe_tensor *embedding;         /* [n, tokens, width] or NULL */
    pipe_tensor *mask;              /* [n, tokens], 1 = present; or NULL */
    const pipe_perturbation *perturbation; /* borrowed; NULL: the network as it is */
    pipe_tensor **variance;         /* where not NULL, and it points to NULL, the first network that is asked puts
                                       there what it says of the variance: samples' shape.  So what guidance passes
                                       on is that of the prediction under the condition */
} pipe_condition;

typedef struct pipe_denoiser_api {
    /** Fills what it knows.  For networks the core has already put in what their
     *  training declared; guidance copies from what it wraps. NULL: nothing to add. */
    pipe_status (*describe)(void *self, pipe_denoiser_info *info, pipe_error *err);
    /** x [n, ...] at level l -> prediction of the same shape, twice its last axis for a network with a
     *  `variance`.  `m` is NULL unless PIPE_TRAINABLE; c may be NULL.  Thread: the pipeline's. */
    pipe_tensor *(*predict)(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l,
                            const pipe_condition *c);
    /* What closed forms know besides; NULL: not known.  See <pipe/gaussian.h>. */
    /** ln p(x) of noisy samples at level l, in nats: [n]. */
    pipe_tensor *(*log_density)(void *self, pipe_tensor *x, const pipe_level *l, const pipe_condition *c);
    /** Where the probability flow takes x between two noise levels: x's shape. */
    pipe_tensor *(*flow)(void *self, pipe_tensor *x, const pipe_schedule_point *from,
                         const pipe_schedule_point *to, const pipe_condition *c);
    /** A new trajectory begins: forgets what was remembered of the last one.  NULL:
     *  nothing is remembered. */
    void (*begin)(void *self);
} pipe_denoiser_api;

/** Adds a learned vector of its label to each row of e [n, width]: row `label` of
 *  "NAME.weight" [classes + 1, width].  The last row stands for "no label" (-1, or
 *  a condition without labels), which training with label_dropout teaches.
 *  classes 0: e itself. */
PIPE_API pipe_tensor *pipe_layer_label(pipe_model *m, const char *name, pipe_tensor *e, const pipe_condition *c,
                                       int64_t classes, pipe_init init);

/** Self-attention of a network's block over a grid of tokens, as the perturbation of
 *  c has it: pipe_attention(q, k, v, NULL, 0, false) where it does not name `block`.
 *  A network that calls this tells its number of blocks as `attention_blocks`.
 *
 * @param q, k, v  [n, rows * columns, heads, d], the grid row by row
 * @param c        may be NULL
 * @return         q's shape, recorded
 * The blur is that of the paper's code: a Gaussian cut at 3 sigma and at half the grid,
 * normalized, with the grid reflected at its edges (the edge itself not repeated). */
PIPE_API pipe_tensor *pipe_layer_block_attention(pipe_tensor *q, pipe_tensor *k, pipe_tensor *v, int64_t rows,
                                                 int64_t columns, const pipe_condition *c, int64_t block);
/** Is the block to be left out?  Networks ask before they compute it. */
PIPE_API bool pipe_block_skipped(const pipe_condition *c, int64_t block);

PIPE_API pipe_status pipe_denoiser_describe(pipe_denoiser *d, pipe_denoiser_info *info, pipe_error *err);
/** What an objective says of the network it trains; saved with its weights. */
PIPE_API pipe_status pipe_denoiser_declare(pipe_denoiser *d, pipe_prediction predicts, pipe_schedule *schedule,
                                           const pipe_shape *sample, double sigma_data, pipe_error *err);
/** The raw output, of x's shape: without what is said of a variance, which goes to c->variance.  Poisoned with
 *  PIPE_EINVAL where c has a perturbation of blocks that the denoiser has not: guidance has none of its own,
 *  whatever it is around. */
PIPE_API pipe_tensor *pipe_denoise(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l, const pipe_condition *c);
/** Samples that it has been asked about since it was made, whoever asked: the difference around a piece of
 *  work is what that took.  Guidance counts the questions to itself; those that it asks are counted by the
 *  denoisers within.
 *  Since ABI 1.0. */
PIPE_API uint64_t pipe_denoiser_evaluations(const pipe_denoiser *d);
/** Converted to `want` with the level's alpha and sigma (card 17, section 3.2).
 *  `l` must be of the denoiser's own schedule.  Poisoned with PIPE_EDOMAIN where
 *  the conversion is undetermined (uniform levels only: checked on the host). */
PIPE_API pipe_tensor *pipe_predict(pipe_denoiser *d, pipe_tensor *x, const pipe_level *l, const pipe_condition *c,
                                   pipe_prediction want);
/** E[x0 | x0 + ratio eps = x]: asks the denoiser where sigma / alpha of its own
 *  schedule is `ratio`, giving it alpha x.  So denoisers of different schedules
 *  can be asked the same.
 *
 * @param x      [n, ...] = x_t / alpha; borrowed
 * @param ratio  sigma / alpha > 0 of all rows
 * @return       x's shape, recorded
 * Errors (poisoned): PIPE_EDOMAIN  its schedule does not reach this ratio (the range is said)
 *                    PIPE_EINVAL   an untrained network */
PIPE_API pipe_tensor *pipe_predict_x0_of_ratio(pipe_denoiser *d, pipe_tensor *x, double ratio,
                                               const pipe_condition *c);
/** The conversion at one level as numbers: want = *x times x + *output times the output.  Not finite where
 *  it is not determined.  *output of a conversion to x0 is how errors carry over. */
PIPE_API void pipe_conversion_at(pipe_prediction from, pipe_prediction to, const pipe_schedule_point *p,
                                 double sigma_data, double *x, double *output);
/** The conversion alone. */
PIPE_API pipe_tensor *pipe_convert_prediction(pipe_tensor *output, pipe_prediction from, pipe_prediction to,
                                              pipe_tensor *x, const pipe_level *l, double sigma_data);

#ifdef __cplusplus
}
#endif
#endif
