/* A step with outputs, of kind step: its name has no prefix. */
#include <pipe/pipe.h>

typedef struct {
    pipe_dataset *data;
    pipe_objects more;
    const char *file;
} state;

static const pipe_param params[] = {
    PIPE_PATH(state, file, NULL, PIPE_PARAM_INPUT_FILE, "what is read"), PIPE_PARAM_END};
static const pipe_input inputs[] = {
    PIPE_INPUT(state, data, "dataset|encoder", "what is worked on"),
    PIPE_INPUT_LIST(state, more, "any", PIPE_OPTIONAL, "whatever else"),
    PIPE_INPUT_END};
static const pipe_output outputs[] = {
    PIPE_OUTPUT("result", PIPE_KIND_DATASET, "what came out"),
    PIPE_OUTPUT_LIKE("same", "data", "what went in"),
    PIPE_OUTPUT_END};

static pipe_status run(void *self, pipe_context *ctx, pipe_error *err)
{
    (void)self;
    (void)ctx;
    return pipe_fail(err, PIPE_EUNSUPPORTED, "a step for the tests");
}

PIPE_EXPORT const pipe_plugin pipe_plugin_entry = {
    PIPE_ABI(PIPE_KIND_STEP), .name = "test-step", .version = "2.1.0-rc.1", .summary = "a step for the tests",
    .params = params, .inputs = inputs, .outputs = outputs, .state_size = sizeof(state), .run = run,
    .flags = PIPE_NONDETERMINISTIC};
