/* Descriptors for the tests of the graph language: one of everything that the
 * language tells apart.  No shared object is needed. */
#ifndef TESTS_GRAPH_PLUGINS_H
#define TESTS_GRAPH_PLUGINS_H

#include "core/graph/graph.h"
#include <pipe/pipe.h>

typedef struct {
    pipe_object *in, *more;
    pipe_objects list;
    int64_t n, m, choice;
    double x;
    bool flag;
    const char *text, *path;
    pipe_ints ints;
    pipe_floats floats;
    pipe_strings strings;
} graph_state;

static const char *const graph_choices[] = {"eps", "x0", "v", NULL};

static const pipe_param params_ddim[] = {
    {.name = "steps", .type = PIPE_TYPE_INT, .offset = offsetof(graph_state, n), .fallback = "50", .min = 1,
     .max = 1000, .unit = "steps", .help = "steps of the solver", .alias = "n_steps"},
    {.name = "eta", .type = PIPE_TYPE_FLOAT, .offset = offsetof(graph_state, x), .fallback = "0.0", .min = 0,
     .max = 1, .help = "noise per step"},
    PIPE_PARAM_END
};
static const pipe_param params_heun[] = {
    {.name = "steps", .type = PIPE_TYPE_INT, .offset = offsetof(graph_state, n), .fallback = "20", .min = 1,
     .max = 500, .unit = "steps", .help = "steps of the solver"},
    PIPE_PARAM_END
};
static const pipe_param params_cosine[] = {{.name = "shift",
                                            .type = PIPE_TYPE_FLOAT,
                                            .offset = offsetof(graph_state, x),
                                            .fallback = "0.008",
                                            .min = 0,
                                            .max = 1,
                                            .help = "offset of the curve"},
                                           PIPE_PARAM_END};
static const pipe_param params_unet[] = {{.name = "channels",
                                          .type = PIPE_TYPE_INT,
                                          .offset = offsetof(graph_state, n),
                                          .min = 1,
                                          .max = 4096,
                                          .help = "width of the first level"},
                                         {.name = "multipliers",
                                          .type = PIPE_TYPE_INTS,
                                          .offset = offsetof(graph_state, ints),
                                          .fallback = "[1, 2, 2]",
                                          .min = 1,
                                          .max = 64,
                                          .help = "width of each level"},
                                         {.name = "attention",
                                          .type = PIPE_TYPE_BOOL,
                                          .offset = offsetof(graph_state, flag),
                                          .fallback = "true",
                                          .min = 1,
                                          .max = 0,
                                          .help = "attention at the lowest level"},
                                         PIPE_PARAM_END};
static const pipe_param params_idx[] = {{.name = "path",
                                         .type = PIPE_TYPE_PATH,
                                         .flags = PIPE_PARAM_INPUT_FILE,
                                         .offset = offsetof(graph_state, path),
                                         .min = 1,
                                         .max = 0,
                                         .help = "the file"},
                                        {.name = "label",
                                         .type = PIPE_TYPE_STRING,
                                         .offset = offsetof(graph_state, text),
                                         .fallback = "",
                                         .min = 1,
                                         .max = 0,
                                         .help = "a text"},
                                        PIPE_PARAM_END};
static const pipe_param params_denoise[] = {
    {.name = "predict", .type = PIPE_TYPE_CHOICE, .offset = offsetof(graph_state, choice), .fallback = "eps",
     .min = 1, .max = 0, .choices = graph_choices, .help = "what the network predicts"},
    PIPE_PARAM_END
};
static const pipe_param params_fit[] = {{.name = "steps",
                                         .type = PIPE_TYPE_INT,
                                         .offset = offsetof(graph_state, n),
                                         .fallback = "100",
                                         .min = 1,
                                         .max = 1e9,
                                         .help = "steps of training"},
                                        {.name = "rates",
                                         .type = PIPE_TYPE_FLOATS,
                                         .offset = offsetof(graph_state, floats),
                                         .fallback = "[0.001]",
                                         .min = 0,
                                         .max = 1,
                                         .help = "learning rates"},
                                        PIPE_PARAM_END};
static const pipe_param params_cfg[] = {{.name = "scale",
                                         .type = PIPE_TYPE_FLOAT,
                                         .offset = offsetof(graph_state, x),
                                         .fallback = "2.0",
                                         .min = 0,
                                         .max = 100,
                                         .help = "1 = none"},
                                        PIPE_PARAM_END};
static const pipe_param params_png[] = {
    {.name = "columns", .type = PIPE_TYPE_INT, .offset = offsetof(graph_state, n), .fallback = "10", .min = 1,
     .max = 100, .help = "pictures in a row"},
    {.name = "names", .type = PIPE_TYPE_STRINGS, .offset = offsetof(graph_state, strings), .fallback = "[]",
     .min = 1, .max = 0, .help = "captions"},
    PIPE_PARAM_END
};

static const pipe_input inputs_denoise[] = {
    {.name = "schedule", .kind = "schedule", .fallback = "cosine", .help = "noise levels"}, PIPE_INPUT_END
};
static const pipe_input inputs_fit[] = {
    {.name = "model", .kind = "denoiser|classifier", .help = "what is trained"},
    {.name = "objective", .kind = "objective", .help = "its loss"},
    {.name = "data", .kind = "dataset", .flags = PIPE_OPTIONAL, .help = "what it is trained on"},
    PIPE_INPUT_END};
static const pipe_input inputs_cfg[] = {{.name = "denoiser", .kind = "denoiser"}, PIPE_INPUT_END};
static const pipe_input inputs_mix[] = {{.name = "experts", .kind = "denoiser", .flags = PIPE_LIST},
                                        PIPE_INPUT_END};
static const pipe_input inputs_generate[] = {
    {.name = "denoiser", .kind = "denoiser"}, {.name = "sampler", .kind = "sampler"}, PIPE_INPUT_END
};
static const pipe_input inputs_png[] = {{.name = "images", .kind = "dataset"}, PIPE_INPUT_END};
static const pipe_input inputs_plot[] = {
    {.name = "curves", .kind = "metrics", .flags = PIPE_LIST | PIPE_OPTIONAL}, PIPE_INPUT_END
};
static const pipe_input inputs_pass[] = {
    {.name = "value", .kind = "any", .flags = PIPE_OPTIONAL}, PIPE_INPUT_END
};

static const pipe_output outputs_fit[] = {PIPE_OUTPUT_LIKE("model", "model", "trained"),
                                          PIPE_OUTPUT_LIKE("ema", "model", "its average"), PIPE_OUTPUT_END};
static const pipe_output outputs_generate[] = {PIPE_OUTPUT("samples", "dataset", "images"), PIPE_OUTPUT_END};
static const pipe_output outputs_pass[] = {PIPE_OUTPUT_LIKE("value", "value", "the same"), PIPE_OUTPUT_END};

static const pipe_param params_rules[] = {{.name = "n",
                                           .type = PIPE_TYPE_INT,
                                           .offset = offsetof(graph_state, n),
                                           .fallback = "1",
                                           .min = 1,
                                           .max = 9,
                                           .help = "of images"},
                                          PIPE_PARAM_END};
static const pipe_input inputs_rules[] = {
    {.name = "images", .kind = "schedule", .flags = PIPE_OPTIONAL},
    {.name = "noise", .kind = "schedule", .flags = PIPE_OPTIONAL},
    {.name = "mask", .kind = "schedule", .flags = PIPE_OPTIONAL},
    PIPE_INPUT_END
};
static const pipe_rule rules_rules[] = {
    {.name = "images", .excludes = "noise"},
    {.name = "mask", .needs = "images|noise"},
    {.name = "n", .needs = "images"},
    PIPE_RULE_END
};

#define COMPONENT(kind_, name_, params_, inputs_)                                                       \
    {.meta = {PIPE_ABI(kind_), .name = (name_), .version = "1.2.0", .summary = "for tests",             \
              .params = (params_), .inputs = (inputs_)},                                                \
     .path = "/nowhere.so", .sha256 = "", .origin = "option"}
#define STEP(kind_, name_, params_, inputs_, outputs_)                                                  \
    {.meta = {PIPE_ABI(kind_), .name = (name_), .version = "2.0.1", .summary = "for tests",             \
              .params = (params_), .inputs = (inputs_), .outputs = (outputs_)},                         \
     .step = true, .path = "/nowhere.so", .sha256 = "", .origin = "option"}

static const pipei_plugin graph_plugins[] = {
    COMPONENT("dataset", "dataset.idx", params_idx, NULL),
    COMPONENT("denoiser", "denoiser.unet", params_unet, NULL),
    COMPONENT("denoiser", "guidance.cfg", params_cfg, inputs_cfg),
    COMPONENT("denoiser", "guidance.mix", NULL, inputs_mix),
    COMPONENT("objective", "objective.denoise", params_denoise, inputs_denoise),
    COMPONENT("sampler", "sampler.ddim", params_ddim, NULL),
    COMPONENT("sampler", "sampler.heun", params_heun, NULL),
    COMPONENT("schedule", "schedule.cosine", params_cosine, NULL),
    COMPONENT("schedule", "schedule.flow", NULL, NULL),
    STEP("sink", "sink.plot", NULL, inputs_plot, NULL),
    STEP("sink", "sink.png", params_png, inputs_png, NULL),
    STEP("step", "fit", params_fit, inputs_fit, outputs_fit),
    STEP("step", "generate", NULL, inputs_generate, outputs_generate),
    STEP("step", "pass", NULL, inputs_pass, outputs_pass),
    {.meta = {PIPE_ABI("step"), .name = "rules", .version = "1.0.0", .summary = "for tests",
              .params = params_rules, .inputs = inputs_rules, .rules = rules_rules},
     .step = true, .path = "/nowhere.so", .sha256 = "", .origin = "option"},
};

#define graph_registry() pipei_registry_of(graph_plugins, sizeof graph_plugins / sizeof graph_plugins[0])

#endif
