/* Valid pipelines: what comes out of them. */
#include "graph/support.h"

static char *resolved(const loaded *l)
{
    pipe_text t = {0};
    pipei_graph_resolved(l->graph, &t);
    return t.data;
}

Test(graph, scalars_take_the_type_of_the_parameter)
{
    loaded l =
        load_text("nodes:\n"
                  "  a: {plugin: sink.png, images: g, columns: 8, names: [no, 08, 12:30, \"1e-4\", ~]}\n"
                  "  g: {plugin: generate, denoiser: u, sampler: heun}\n"
                  "  u: {plugin: denoiser.unet, channels: 16, multipliers: 2, attention: false}\n",
                  NULL);
    MUST_LOAD(l);
    P("a", "names", "no,08,12:30,1e-4,~", "texts stay as they are written");
    P("a", "columns", "8", "a number");
    P("u", "multipliers", "2", "a list of one without brackets");
    P("u", "attention", "false", "a truth value");
    cr_expect_eq(l.diag.n, 0);
    unload(&l);
}

Test(graph, references_of_every_sort)
{
    loaded l = load_text(
        "nodes:\n"
        "  flow: {plugin: schedule.cosine}\n"                /* a node hides the shorthand of that name */
        "  unet: {plugin: denoiser.unet, channels: 1}\n"
        "  o1: {plugin: objective.denoise, schedule: flow}\n"
        "  o2: {plugin: objective.denoise, schedule: cosine}\n"
        "  o3: {plugin: objective.denoise}\n"
        "  o4: {plugin: objective.denoise, schedule: {plugin: schedule.cosine@1, shift: 0.1}}\n"
        "  m1: {plugin: fit, model: unet, objective: o1}\n"
        "  m2: {plugin: fit, model: m1.ema, objective: o2, data: ~}\n"
        "  m3: {plugin: fit, model: cfg1, objective: {plugin: objective.denoise, schedule: o4}}\n"
        "  cfg1: {plugin: guidance.mix, experts: [m1, {plugin: guidance.cfg, denoiser: m2}, m2.ema]}\n"
        "  plot: {plugin: sink.plot, curves: m1.metrics}\n"
        "  plot2: {plugin: sink.plot, curves: [plot, m2.metrics]}\n"
        "  g: {plugin: generate, denoiser: cfg1, sampler: heun}\n", NULL);
    char *said = summary(&l.diag);
    cr_assert_str_eq(
        said, "10:83 error: m3.objective.schedule needs kind schedule, but o4 (objective.denoise) is of "
              "kind objective; nodes of that kind: flow\n");
    pipe_free(said);
    unload(&l);

    l = load_text(
        "nodes:\n"
        "  flow: {plugin: schedule.cosine}\n"
        "  unet: {plugin: denoiser.unet, channels: 1}\n"
        "  o1: {plugin: objective.denoise, schedule: flow}\n"
        "  o2: {plugin: objective.denoise, schedule: cosine}\n"
        "  o3: {plugin: objective.denoise}\n"
        "  o4: {plugin: objective.denoise, schedule: {plugin: schedule.cosine@1, shift: 0.1}}\n"
        "  m1: {plugin: fit, model: unet, objective: o1}\n"
        "  m2: {plugin: fit, model: m1.ema, objective: o2, data: ~}\n"
        "  m3: {plugin: fit, model: cfg1, objective: o3}\n"
        "  m4: {plugin: fit, model: m3, objective: o4}\n"
        "  cfg1: {plugin: guidance.mix, experts: [m1, {plugin: guidance.cfg, denoiser: m2}, m2.ema]}\n"
        "  plot: {plugin: sink.plot, curves: m1.metrics}\n"
        "  plot2: {plugin: sink.plot, curves: [plot, m2.metrics]}\n"
        "  g: {plugin: generate, denoiser: cfg, sampler: heun}\n"
        "  cfg: {plugin: guidance.mix, experts: m4}\n", NULL);
    MUST_LOAD(l);
    I("o1", "schedule", "flow:schedule", "a node");
    I("o2", "schedule", "o2.schedule:schedule", "a shorthand");
    I("o3", "schedule", "o3.schedule:schedule", "the input's default");
    I("o4", "schedule", "o4.schedule:schedule", "an inline node");
    P("o4.schedule", "shift", "0.1", "its parameter");
    I("m1", "data", "", "optional and not given");
    I("m2", "model", "m1.ema:denoiser", "an output that has the kind of an input");
    I("m2", "data", "", "taken back with ~");
    I("m4", "model", "m3:denoiser", "the kind goes through several");
    I("cfg1", "experts", "m1:denoiser cfg1.experts.1:denoiser m2.ema:denoiser", "a list with an inline node");
    I("cfg", "experts", "m4:denoiser", "a list of one without brackets");
    I("plot", "curves", "m1.metrics:metrics", "what every step has");
    I("plot2", "curves", "plot:metrics m2.metrics:metrics", "a sink means its metrics");
    cr_expect_str_eq(node(&l, "m1")->kind, "denoiser");
    cr_expect_str_eq(node(&l, "o1")->kind, "objective");
    cr_expect(node(&l, "o2.schedule")->anonymous);
    cr_expect_not(node(&l, "flow")->anonymous);
    unload(&l);
}

Test(graph, inputs_come_before_their_users)
{
    loaded l = load_text("nodes:\n"
                         "  z: {plugin: generate, denoiser: y, sampler: heun}\n"
                         "  y: {plugin: guidance.cfg, denoiser: x}\n"
                         "  x: {plugin: denoiser.unet, channels: 1}\n", NULL);
    MUST_LOAD(l);
    cr_assert_eq(l.graph->n_nodes, 4);
    for (size_t k = 0; k < l.graph->n_nodes; k++) {
        const pipei_node *n = l.graph->node[k];
        cr_expect_eq(n->index, k);
        for (size_t i = 0; i < n->n_inputs; i++)
            for (size_t j = 0; j < n->input_count[i]; j++)
                cr_expect_lt(n->input[i][j].from->index, k, "%s before %s", n->input[i][j].from->name,
                             n->name);
    }
    unload(&l);
}

Test(graph, header)
{
    loaded l =
        load_text("language: 1\npipeline: quick\nseed: 18446744073709551615\ndevice: gpu\n" BASE, NULL);
    MUST_LOAD(l);
    cr_expect_str_eq(l.graph->name, "quick");
    cr_expect_eq(l.graph->seed, UINT64_MAX);
    cr_expect_str_eq(l.graph->device, "gpu");
    unload(&l);
    l = load_text(BASE, NULL);
    MUST_LOAD(l);
    cr_expect_str_eq(l.graph->name, "q", "the file's name");
    cr_expect_eq(l.graph->seed, 0);
    cr_expect_str_eq(l.graph->device, "auto");
    cr_expect_eq(l.graph->text_length, strlen(BASE));
    cr_expect_str_eq(l.graph->text, BASE);
    unload(&l);
}

Test(graph, a_bom_and_windows_line_ends_are_fine)
{
    loaded l = load_text("\xEF\xBB\xBFpipeline: b\r\nnodes:\r\n  p: {plugin: pass}\r\n", NULL);
    MUST_LOAD(l);
    cr_expect_str_eq(l.graph->name, "b");
    unload(&l);
}

Test(graph, anchors_aliases_and_merges)
{
    loaded l = load_text("vars:\n"
                         "  a: &a {steps: 7, eta: 0.5}\n"
                         "  b: &b {eta: 0.25}\n"
                         "nodes:\n"
                         "  s: &s {plugin: sampler.ddim, <<: *a}\n"
                         "  t: {<<: *s, steps: 8}\n"
                         "  u: {<<: [*b, *s]}\n"
                         "  v: *s\n"
                         "  d: &d {plugin: denoiser.unet, channels: &c 5}\n"
                         "  e: {plugin: denoiser.unet, channels: *c}\n"
                         "  g: {plugin: generate, denoiser: d, sampler: s}\n"
                         "  h: {plugin: generate, denoiser: e, sampler: t}\n"
                         "  i: {plugin: generate, denoiser: e, sampler: u}\n"
                         "  j: {plugin: generate, denoiser: *d, sampler: v}\n", NULL);
    MUST_LOAD(l);
    P("s", "steps", "7", "merged");
    P("t", "steps", "8", "its own key wins");
    P("t", "eta", "0.5", "merged through");
    P("u", "eta", "0.25", "the first of a list wins");
    P("u", "steps", "7", "then the second");
    P("v", "steps", "7", "a whole node");
    P("e", "channels", "5", "a scalar");
    I("j", "denoiser", "j.denoiser:denoiser", "an inline node");
    cr_expect_eq(l.diag.n, 0);
    unload(&l);
}

Test(graph, variables)
{
    loaded l = load_text(
        "vars: {w: 3, list: [1, 2], name: \"${w}x\", inline: {plugin: schedule.cosine, shift: 0.2},\n"
        "       solver: heun}\n"
        "seed: ${w}\n"
        "pipeline: run-${name}\n"
        "nodes:\n"
        "  u: {plugin: \"denoiser.${net}\", channels: \"${w}\", multipliers: \"${list}\"}\n"
        "  o: {plugin: objective.denoise, schedule: \"${inline}\"}\n"
        "  m: {plugin: fit, model: u, objective: o}\n"
        "  g: {plugin: generate, denoiser: m, sampler: \"${solver}\"}\n"
        "  p: {plugin: sink.png, images: g, names: [\"$5 ${w}$\", \"$${w}\", \"a$${b}c\", \"$$${w}\"]}\n",
        (const char *[]){"vars.net=unet", NULL});
    MUST_LOAD(l);
    cr_expect_eq(l.graph->seed, 3);
    cr_expect_str_eq(l.graph->name, "run-3x");
    P("u", "channels", "3", "a number");
    P("u", "multipliers", "1,2", "a list");
    P("o.schedule", "shift", "0.2", "an inline node");
    I("g", "sampler", "g.sampler:sampler", "a shorthand");
    P("p", "names", "$5 3$,${w},a${b}c,$${w}", "dollars");
    unload(&l);
}

Test(graph, overrides)
{
    const char *const sets[] = {"solver.steps=30",
                                "unet.multipliers=[1, 4]",
                                "seed=9",
                                "device=cpu",
                                "images.sampler=heun",
                                "ddpm.schedule={plugin: schedule.cosine, shift: 0.3}",
                                "ddpm.schedule.shift=0.4",
                                "model.rates=[1e-3]",
                                NULL};
    loaded l = load_text(BASE, sets);
    MUST_LOAD(l);
    P("solver", "steps", "30", "a scalar");
    P("unet", "multipliers", "1,4", "a list, of a key that the file does not have");
    cr_expect_eq(l.graph->seed, 9);
    cr_expect_str_eq(l.graph->device, "cpu");
    I("images", "sampler", "images.sampler:sampler", "a shorthand");
    P("ddpm.schedule", "shift", "0.4", "a key inside an inline node that came from an override");
    P("model", "rates", "1e-3", "a list of one");
    unload(&l);
}

Test(graph, an_override_does_not_change_what_shares_an_anchor)
{
    loaded l =
        load_text("nodes:\n"
                  "  a: &a {plugin: sampler.ddim, steps: 3}\n"
                  "  b: *a\n"
                  "  o: {plugin: objective.denoise, schedule: &i {plugin: schedule.cosine, shift: 0.1}}\n"
                  "  n: {plugin: objective.denoise, schedule: *i}\n"
                  "  x: {plugin: pass, value: a}\n"
                  "  y: {plugin: pass, value: b}\n"
                  "  z: {plugin: pass, value: o}\n"
                  "  w: {plugin: pass, value: n}\n",
                  (const char *[]){"b.steps=4", "n.schedule.shift=0.2", NULL});
    MUST_LOAD(l);
    P("a", "steps", "3", "untouched");
    P("b", "steps", "4", "changed");
    P("o.schedule", "shift", "0.1", "untouched");
    P("n.schedule", "shift", "0.2", "changed");
    unload(&l);
}

Test(graph, another_plugin_by_override_keeps_what_fits)
{
    loaded l = load_text(BASE, (const char *[]){"solver.plugin=sampler.heun", NULL});
    MUST_LOAD(l);
    cr_expect_str_eq(node(&l, "solver")->plugin->meta.name, "sampler.heun");
    P("solver", "steps", "20", "both have it");
    char *said = summary(&l.diag);
    cr_expect_str_eq(said, "5:45 warning: solver.eta is left out: sampler.heun does not have it\n");
    pipe_free(said);
    unload(&l);
}

static const struct {
    const char *why, *set, *expected;
} wrong_sets[] = {
    {"an unknown key beside another plugin", "solver.plugin=sampler.heun|solver.etaa=1",
     "5:45 warning: solver.eta is left out: sampler.heun does not have it\n"
     "0:0 error: solver.etaa: sampler.heun has no parameter or input of that name; sampler.heun takes "
     "steps\n"},
    {"an unknown node", "solvr.steps=3", "0:0 error: there is no node solvr; did you mean solver?\n"},
    {"an unknown key", "solver.stpes=3",
     "0:0 error: solver.stpes: sampler.ddim has no parameter or input of that name; did you mean steps?\n"},
    {"out of range", "solver.steps=2000",
     "0:0 error: solver.steps: 2000 is above the maximum 1000; sampler.ddim steps: integer, 1 to 1000, "
     "default 50, "
     "steps\n"},
    {"no value", "solver.steps",
     "0:0 error: this is no assignment; node.key=value, seed=value, device=value or vars.name=value\n"},
    {"no key", "solver=3",
     "0:0 error: solver cannot be set; node.key=value, seed=value, device=value or vars.name=value\n"},
    {"a misspelt seed", "sede=3", "0:0 error: sede cannot be set; did you mean seed?\n"},
    {"an open bracket", "unet.multipliers=[1, 2",
     "0:0 error: YAML: did not find expected ',' or ']'; while parsing a flow sequence\n"},
    {"an undefined variable", "vars.x=3", "0:0 error: variable x is neither defined nor used\n"},
    {"a misspelt variable", "vars.sale=3",
     "0:0 error: variable sale is neither defined nor used; did you mean scale?\n"},
    {"inside a shorthand", "ddpm.schedule.shift=0.1",
     "0:0 error: ddpm.schedule is not written as an inline node, so nothing in it can be set; give all of "
     "it: "
     "ddpm.schedule={plugin: ..., shift: ...}\n"},
    {"an empty path", "solver.=3",
     "0:0 error: this is no assignment; node.key=value, seed=value, device=value "
     "or vars.name=value\n"},
    {"a seed that is none", "seed=x",
     "0:0 error: seed: \"x\" is not a seed; an integer from 0 to 18446744073709551615\n"},
};

Test(graph, wrong_overrides_are_shown_as_given)
{
    for (size_t k = 0; k < sizeof wrong_sets / sizeof wrong_sets[0]; k++) {
        const char *sets[4] = {0};
        char *copy = pipe_strdup(wrong_sets[k].set), *bar = strchr(copy, '|');
        if (bar)
            *bar = '\0';
        sets[0] = copy;
        sets[1] = bar ? bar + 1 : NULL;
        loaded l = load_text(BASE "vars: {scale: 1}\n", sets);
        char *said = summary(&l.diag), *where = pipe_format("--set: %s", bar ? bar + 1 : copy);
        cr_expect_str_eq(said, wrong_sets[k].expected, "%s:\n%s", wrong_sets[k].why, said);
        cr_expect(l.diag.n > 0 && strcmp(l.diag.v[l.diag.n - 1].at.file, where) == 0, "%s",
                  wrong_sets[k].why);
        pipe_free(said);
        pipe_free(where);
        pipe_free(copy);
        unload(&l);
    }
}

/* ---- resolved ---- */
static const struct {
    const char *why, *text;
} round_trips[] = {
    {"the base", BASE},
    {"inline nodes, lists, outputs",
     "nodes:\n  u: {plugin: denoiser.unet, channels: 4, multipliers: [], attention: false}\n"
     "  o: {plugin: objective.denoise, schedule: {plugin: schedule.cosine, shift: 1e-4}, predict: x0}\n"
     "  m: {plugin: fit, model: u, objective: o}\n"
     "  x: {plugin: guidance.mix, experts: [m.ema, {plugin: guidance.mix, experts: [{plugin: guidance.cfg, "
     "denoiser: m}, m]}]}\n"
     "  g: {plugin: generate, denoiser: {plugin: guidance.cfg, denoiser: x}, sampler: heun}\n"
     "  l: {plugin: sink.plot, curves: [m.metrics, g.metrics]}\n"
     "  e: {plugin: sink.plot, curves: []}\n"
     "  q: {plugin: sink.plot}\n"},
    {"texts that need quotes",
     "nodes:\n  g: {plugin: generate, denoiser: {plugin: denoiser.unet, channels: 1}, sampler: ddim}\n"
     "  p:\n    plugin: sink.png\n    images: g\n    names: ['', ' a', 'null', '~', 'true', '1e3', '- b', "
     "'a: b', 'a #b', "
     "'$${x} $$$${y}', '\"', '\\', '[', '{', '*a', '&a', '!t', '%', '@', \"a\\nb\\tc\\x01\", '\xC3\xA9', "
     "\"it's\", '---', '...', '-1', '.5', 'a,b']\n"},
    {"header, expectations, sweep",
     "pipeline: x.y\nseed: 77\ndevice: NVIDIA H100\n" BASE
     "expect: {images.n: {min: 0.1, max: 1e300}, model.loss: {max: 0.3333333333333333}}\n"
     "sweep: {solver.steps: [1, 2], images.sampler: [solver, heun, {plugin: sampler.ddim, eta: 0.1}], "
     "unet.multipliers: [[1], [1, 2]], seed: [1, 2]}\n"},
};

Test(graph, resolved_parses_to_the_same)
{
    for (size_t k = 0; k < sizeof round_trips / sizeof round_trips[0]; k++) {
        loaded a = load_text(round_trips[k].text, NULL);
        MUST_LOAD(a);
        char *once = resolved(&a);
        loaded b = load_text(once, NULL);
        char *said = summary(&b.diag);
        cr_assert_eq(b.status, PIPE_OK, "%s: %s\n%s", round_trips[k].why, once, said);
        pipe_free(said);
        char *twice = resolved(&b);
        cr_expect_str_eq(once, twice, "%s:\n%s\n%s", round_trips[k].why, once, twice);
        cr_expect_eq(a.graph->n_nodes, b.graph->n_nodes);
        for (size_t i = 0; i < a.graph->n_nodes && i < b.graph->n_nodes; i++) {
            const pipei_node *x = a.graph->node[i], *y = pipei_graph_find(b.graph, x->name);
            cr_assert_not_null(y, "%s: %s", round_trips[k].why, x->name);
            cr_expect_str_eq(x->plugin->meta.name, y->plugin->meta.name);
            for (size_t p = 0; p < x->n_params; p++) {
                pipe_arena *arena = pipe_arena_new();
                const pipe_param *row = &x->plugin->meta.params[p];
                cr_expect_str_eq(pipei_param_canonical(row, x->param[p], arena),
                                 pipei_param_canonical(row, y->param[p], arena), "%s: %s.%s",
                                 round_trips[k].why, x->name, row->name);
                pipe_arena_free(arena);
            }
        }
        cr_expect_eq(pipei_graph_members(a.graph), pipei_graph_members(b.graph));
        pipe_free(once);
        pipe_free(twice);
        unload(&a);
        unload(&b);
    }
}

Test(graph, resolved_is_explicit)
{
    loaded l = load_text("nodes:\n  s: {plugin: sampler.ddim, eta: 0.50}\n"
                         "  o: {plugin: objective.denoise}\n"
                         "  p: {plugin: pass, value: s}\n  q: {plugin: pass, value: o}\n", NULL);
    MUST_LOAD(l);
    char *text = resolved(&l);
    cr_expect_str_eq(text, "language: 1\npipeline: q\nseed: 0\ndevice: auto\nnodes:\n"
                     "  s:\n    plugin: sampler.ddim@1\n    steps: 50\n    eta: 0.5\n"
                     "  o:\n    plugin: objective.denoise@1\n    schedule:\n      plugin: schedule.cosine@1\n"
                     "      shift: 0.008\n    predict: eps\n"
                     "  p:\n    plugin: pass@2\n    value: s\n"
                     "  q:\n    plugin: pass@2\n    value: o\n", "%s", text);
    pipe_free(text);
    unload(&l);
}

/* ---- sweep ---- */
Test(graph, a_sweep_is_a_grid)
{
    const char *text =
        BASE "sweep: {solver.steps: [5, 10], images.sampler: [solver, {plugin: sampler.ddim, eta: 0.1}, "
             "heun], seed: [4]}\n";
    static const char *const expected[] = {
        "solver.steps=5 images.sampler=solver seed=4",
        "solver.steps=5 images.sampler={plugin: sampler.ddim, eta: 0.1} seed=4",
        "solver.steps=5 images.sampler=heun seed=4",
        "solver.steps=10 images.sampler=solver seed=4",
        "solver.steps=10 images.sampler={plugin: sampler.ddim, eta: 0.1} seed=4",
        "solver.steps=10 images.sampler=heun seed=4",
    };
    loaded l = load_text(text, NULL);
    MUST_LOAD(l);
    cr_assert_eq(pipei_graph_members(l.graph), 6);
    for (size_t k = 0; k < 6; k++) {
        const char *out[4] = {0};
        cr_assert_eq(pipei_graph_member_overrides(l.graph, k, out), 3);
        char *all = pipe_format("%s %s %s", out[0], out[1], out[2]);
        cr_expect_str_eq(all, expected[k]);
        pipe_free(all);
        loaded m = load_text(text, out);
        MUST_LOAD(m);
        cr_expect_eq(pipei_graph_members(m.graph), 1, "a member has no axes left");
        cr_expect_eq(m.graph->n_axes, 0);
        cr_expect_eq(m.graph->seed, 4);
        unload(&m);
    }
    unload(&l);
}

Test(graph, an_override_pins_an_axis)
{
    loaded l = load_text(BASE "sweep: {solver.steps: [5, 10], seed: [1, 2, 3]}\n",
                         (const char *[]){"solver.steps=7", NULL});
    MUST_LOAD(l);
    cr_expect_eq(pipei_graph_members(l.graph), 3);
    P("solver", "steps", "7", "as set");
    unload(&l);
}

Test(graph, a_swept_key_need_not_be_in_the_node)
{
    loaded l = load_text("nodes:\n  u: {plugin: denoiser.unet}\n  p: {plugin: sink.png}\n"
                         "  g: {plugin: generate, denoiser: u, sampler: heun}\n"
                         "sweep: {u.channels: [8, 16], p.images: [g]}\n", NULL);
    MUST_LOAD(l);
    P("u", "channels", "8", "the first value stands in");
    I("p", "images", "g:dataset", "an input too");
    unload(&l);
}

Test(graph, an_endless_sweep_is_refused)
{
    loaded l = load_text(BASE "sweep: {solver.steps: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], unet.channels: *a, "
                         "model.steps: *a, seed: *a, ddpm.predict: [eps, x0]}\n", NULL);
    cr_expect_eq(l.status, PIPE_EPIPELINE);
    cr_assert_eq(l.diag.n, 1);
    cr_expect_str_eq(l.diag.v[0].message, "the sweep has more than 10000 members");
    unload(&l);
}
