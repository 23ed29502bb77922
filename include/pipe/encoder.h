/* Kinds `encoder`, `decoder`, `classifier`: maps of data, differentiable. */
#ifndef PIPE_ENCODER_H
#define PIPE_ENCODER_H

#include <pipe/model.h>
#include <pipe/schedule.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pipe_encoder_api {
    pipe_tensor *(*encode)(void *self, pipe_model *m, pipe_tensor *x);      /* [n, ...] -> [n, ...] */
} pipe_encoder_api;
PIPE_API pipe_tensor *pipe_encode(pipe_encoder *e, pipe_tensor *x);

typedef struct pipe_decoder_api {
    pipe_tensor *(*decode)(void *self, pipe_model *m, pipe_tensor *z);
} pipe_decoder_api;
PIPE_API pipe_tensor *pipe_decode(pipe_decoder *d, pipe_tensor *z);

typedef struct pipe_classifier_api {
    int64_t (*classes)(void *self);
    /** x [n, ...] -> logits [n, classes]; l: the noise level of x, NULL for clean data. */
    pipe_tensor *(*logits)(void *self, pipe_model *m, pipe_tensor *x, const pipe_level *l);
} pipe_classifier_api;
PIPE_API int64_t pipe_classifier_classes(pipe_classifier *c);
PIPE_API pipe_tensor *pipe_classify(pipe_classifier *c, pipe_tensor *x, const pipe_level *l);

#ifdef __cplusplus
}
#endif
#endif
