/* What of a node's parameters and inputs goes together: its plugin's rules, and its kind's. */
#include "core/graph/load.h"
#include "core/run/object.h"

#include <string.h>

static bool is_given(const void *arg, const char *name)
{
    const pipei_node *node = arg;
    const pipe_plugin *meta = &node->plugin->meta;

    for (size_t k = 0; k < node->n_params; k++)
        if (strcmp(meta->params[k].name, name) == 0)
            return pipei_param_changed(&meta->params[k], node->param[k]);
    const size_t input = pipei_input_index(node->plugin, name);
    return input != SIZE_MAX && node->input_count[input] > 0;
}

static pipei_position position_of(const pipei_node *node, const char *name)
{
    bool deprecated;
    const size_t param = pipei_param_index(node->plugin, name, &deprecated),
                 input = pipei_input_index(node->plugin, name);

    if (param != SIZE_MAX && node->param_at[param].file)
        return node->param_at[param];
    return param == SIZE_MAX && input != SIZE_MAX && node->input_count[input] > 0 ? node->input[input][0].at
                                                                                 : node->at;
}

static pipe_status check_common(const pipei_node *node, const char **at, pipe_error *err)
{
    const pipei_plugin *p = node->plugin;
    PIPE_CLEANUP(pipe_free_ptr) void *common = pipe_alloc(pipei_kind_state_size(p->meta.kind) + 1);
    pipe_arena *a = pipe_arena_new();
    pipe_status status = PIPE_OK;

    for (const pipe_param *row = pipei_kind_params(p->meta.kind); row && row->name && status == PIPE_OK; row++) {
        const size_t k = pipei_param_index(p, row->name, &(bool){false});
        status = pipei_param_store(row, k < node->n_params ? node->param[k] : NULL, common, a, err);
    }
    if (status == PIPE_OK)
        status = pipei_kind_check(&p->meta, common, is_given, node, at, err);
    pipe_arena_free(a);
    return status;
}

void pipei_check_together(pipei_loader *l, const pipei_draft *d)
{
    const pipei_node *node = &d->node;
    pipe_error err = PIPE_ERROR_INIT;
    const char *at = "";

    for (size_t k = 0; k < node->n_params; k++) /* one that is wrong has been reported */
        if (!node->param[k] && (node->param_at[k].file || !node->plugin->meta.params[k].fallback))
            return;
    if (pipei_rules_check(node->plugin->meta.rules, is_given, node, &at, &err) == PIPE_OK &&
        check_common(node, &at, &err) == PIPE_OK)
        return;
    const pipei_position where = position_of(node, at);
    pipei_report_error(&l->reporter, &where, NULL, "%s: %s", node->name, err.message);
}
