/* Wrong pipelines: what is said, where. */
#include "graph/support.h"

/* One more node, so that only its mistake is reported. */
#define NODE(text) BASE "  " text "\n"                          /* line 7 */

static const struct {
    const char *why, *text, *expected;
} cases[] = {
    /* ---- YAML itself ---- */
    {"nothing", "", "1:1 error: there is nothing in it\n"},
    {"a comment only", "# nodes\n", "1:1 error: there is nothing in it\n"},
    {"a scalar", "hello\n",
     "1:1 error: a pipeline is a mapping with the key nodes, not a scalar; nodes: {solver: {plugin: "
     "sampler.ddim}}\n"},
    {"a list", "- a\n",
     "1:1 error: a pipeline is a mapping with the key nodes, not a list; nodes: {solver: {plugin: "
     "sampler.ddim}}\n"},
    {"no nodes", "seed: 1\n", "1:1 error: there are no nodes; nodes: {solver: {plugin: sampler.ddim}}\n"},
    {"empty nodes", "nodes:\n", "1:1 error: there are no nodes; nodes: {solver: {plugin: sampler.ddim}}\n"},
    {"two documents", BASE "---\nnodes: {}\n",
     "7:1 error: a second document starts here: a file holds one; put other pipelines in files of their "
     "own\n"},
    {"an unclosed brace", "nodes: {a: {plugin: x\n",
     "2:1 error: YAML: did not find expected ',' or '}'; while parsing a flow mapping that starts at line 1, "
     "column 12\n"},
    {"a tab", "nodes:\n\ta: 1\n", "2:1 error: a tab cannot indent YAML: use spaces\n"},
    {"a key twice",
     NODE("heun: {plugin: sampler.ddim, steps: 3, steps: 4}") "  p: {plugin: pass, value: heun}\n",
     "7:42 error: key \"steps\" is given twice: first at line 7\n"},
    {"a node twice", BASE "  unet: {plugin: denoiser.unet, channels: 1}\n",
     "7:3 error: key \"unet\" is given twice: first at line 2\n"},
    {"a mapping as key", "nodes:\n  {a: b}: c\n", "2:3 error: a key must be a word, not a mapping\n"},
    {"a tag", "seed: !!int 3\n" BASE,
     "1:7 error: tags such as tag:yaml.org,2002:int are not part of the language; a value takes its type "
     "from the "
     "parameter that it is given to\n"},
    {"an unknown alias", "vars: {x: &width 3, y: *widht}\n" BASE,
     "1:24 error: alias *widht has no anchor before it; did you mean *width?\n"},
    {"an alias inside its anchor", "vars: {x: &a [*a]}\n" BASE,
     "1:15 error: alias *a is inside its own anchor\n"},
    {"<< of a scalar", "nodes:\n  a: {<<: 3, plugin: pass}\n",
     "2:11 error: << takes a mapping or a list of mappings; <<: *anchor\n"},
    {"<< twice", "vars: {a: &a {x: 1}}\nnodes:\n  s: {<<: *a, <<: *a, plugin: pass}\n",
     "1:15 error: s.x: pass has no parameter or input of that name; pass takes value\n"
     "3:15 error: key \"<<\" is given twice: first at line 1; merge several with <<: [*a, *b]\n"},
    {"Latin-1", "nodes: {\"\xE9\": 1}\n", "1:10 error: byte 0xE9 is not UTF-8; save the file as UTF-8\n"},
    {"cut UTF-8", "# \xE2\x82\n", "1:3 error: byte 0xE2 is not UTF-8; save the file as UTF-8\n"},
    {"overlong UTF-8", "# \xC0\xAF\n", "1:3 error: byte 0xC0 is not UTF-8; save the file as UTF-8\n"},
    {"a surrogate", "# \xED\xA0\x80\n", "1:3 error: byte 0xED is not UTF-8; save the file as UTF-8\n"},
    {"UTF-16", "\xFF\xFEn\n", "1:1 error: byte 0xFF is not UTF-8; save the file as UTF-8, not as UTF-16\n"},
    {"columns count characters", "vars: {\"\xC3\xA9\xE2\x82\xAC\": !x 1}\n" BASE,
     "1:14 error: tags such as !x are not part of the language; a value takes its type from the parameter "
     "that it is "
     "given to\n"},
    {"a control character", "a: \x01\n", "1:4 error: control characters are not allowed\n"},
    {"a NUL in a text", "vars: {a: \"x\\0y\"}\n" BASE, "1:11 error: a text cannot contain a NUL character\n"},

    /* ---- what goes together ---- */
    {"an input that needs another", NODE("p: {plugin: rules, mask: cosine}"),
     "7:28 error: p: `mask` is given, but does nothing without `images` or `noise`\n"},
    {"two that exclude each other", NODE("p: {plugin: rules, noise: cosine, images: cosine}"),
     "7:45 error: p: `images` and `noise` exclude each other\n"},
    {"a parameter that needs an input", NODE("p: {plugin: rules, n: 3}"),
     "7:25 error: p: `n` is given, but does nothing without `images`\n"},
    {"what has its default is not given", NODE("p: {plugin: rules, n: 1, mask: ~}"), ""},
    {"one that has what it needs", NODE("p: {plugin: rules, n: 3, mask: cosine, images: cosine}"), ""},

    /* ---- top level ---- */
    {"an unknown key", "pipelin: q\n" BASE, "1:1 error: unknown key pipelin; did you mean pipeline?\n"},
    {"a node at the top level", "solver2: {plugin: sampler.ddim}\n" BASE,
     "1:1 error: unknown key solver2; at the top level: language, pipeline, seed, device, include, vars, "
     "nodes, "
     "sweep, expect; nodes go under nodes:\n"},
    {"another language", "language: 2\n" BASE,
     "1:11 error: language 2 is newer than this program; write language: 1\n"},
    {"no language", "language: [1]\n" BASE, "1:11 error: language is a number; write language: 1\n"},
    {"a seed below zero", "seed: -1\n" BASE,
     "1:7 error: seed: \"-1\" is not a seed; an integer from 0 to 18446744073709551615\n"},
    {"a seed of 65 bits", "seed: 18446744073709551616\n" BASE,
     "1:7 error: seed: \"18446744073709551616\" is not a seed; an integer from 0 to 18446744073709551615\n"},
    {"a list as seed", "seed: [1]\n" BASE, "1:7 error: seed is one value, not a list\n"},
    {"a name that is a path", "pipeline: a/b\n" BASE,
     "1:11 error: pipeline: \"a/b\" cannot name a folder: letters, digits, hyphens, underscores and dots, at "
     "most "
     "100\n"},
    {"nodes as a list", "nodes: [a]\n", "1:8 error: nodes is a mapping from names, not a list\n"},

    /* ---- nodes ---- */
    {"an unknown plugin", NODE("x: {plugin: sampler.hoin}"),
     "7:15 error: there is no plugin sampler.hoin; did you mean sampler.heun?\n"},
    {"a plugin unlike any", NODE("x: {plugin: quux.zzzzzzz}"),
     "7:15 error: there is no plugin quux.zzzzzzz; `pipe inspect` lists the plugins, `pipe inspect --broken` "
     "those "
     "that could not be loaded\n"},
    {"another major version", NODE("x: {plugin: sampler.heun@2}"),
     "7:15 error: plugin sampler.heun has version 1.2.0, not 2; sampler.heun@1\n"},
    {"no plugin", NODE("x: {steps: 3}"), "7:3 error: x: the key plugin is missing; x: {plugin: ...}\n"},
    {"not a mapping", NODE("x: sampler.ddim"),
     "7:3 error: x: a node is a mapping with the key plugin, not a scalar; x: {plugin: ...}\n"},
    {"a bad name", NODE("a.b: {plugin: pass}"),
     "7:3 error: \"a.b\" cannot name a node: letters, digits, hyphens and underscores, a letter first, at "
     "most 64\n"},
    {"a reserved name", NODE("vars: {plugin: pass}"),
     "7:3 error: a node cannot be called vars: vars.NAME means a variable\n"},
    {"an unknown key, near", NODE("x: {plugin: pass, valeu: unet}"),
     "7:21 error: x.valeu: pass has no parameter or input of that name; did you mean value?\n"},
    {"an unknown key, far", NODE("x: {plugin: sink.png, images: images, colour: red}"),
     "7:41 error: x.colour: sink.png has no parameter or input of that name; sink.png takes images, columns, "
     "names\n"},

    /* ---- parameters ---- */
    {"above the maximum", NODE("x: {plugin: sink.png, images: images, columns: 2000}"),
     "7:50 error: x.columns: 2000 is above the maximum 100; sink.png columns: integer, 1 to 100, default "
     "10\n"},
    {"a missing parameter", BASE "  u: {plugin: denoiser.unet}\n  p: {plugin: pass, value: u}\n",
     "7:3 error: u.channels is missing; denoiser.unet channels: integer, 1 to 4096, required\n"},
    {"a mapping for a number", NODE("x: {plugin: sink.png, images: images, columns: {a: 1}}"),
     "7:50 error: x.columns: a parameter cannot be a mapping; sink.png columns: integer, 1 to 100, default "
     "10\n"},
    {"a list of lists", NODE("x: {plugin: sink.png, images: images, names: [a, [b]]}"),
     "7:52 error: x.names: a list of lists or mappings is no value; sink.png names: list of texts, default "
     "[]\n"},
    {"a wrong list element", NODE("x: {plugin: fit, model: unet, objective: ddpm, rates: [0.1, 7]}"),
     "7:63 error: x.rates: 7 is above the maximum 1; fit rates: list of numbers, each 0 to 1, default "
     "[0.001]\n"},
    {"an old name", BASE "  s: {plugin: sampler.ddim, n_steps: 4}\n  p: {plugin: pass, value: s}\n",
     "7:29 warning: s: n_steps is deprecated; write steps\n"},
    {"an old and the new name",
     BASE "  s: {plugin: sampler.ddim, n_steps: 4, steps: 3}\n  p: {plugin: pass, value: s}\n",
     "7:29 error: s: n_steps is the old name of steps, which is given too\n"},
    {"a missing file",
     BASE "  d: {plugin: dataset.idx, path: /nonexistent/x}\n  p: {plugin: pass, value: d}\n",
     "7:34 error: d.path: /nonexistent/x does not exist; the folder /nonexistent does not exist either\n"},

    /* ---- references ---- */
    {"an unknown node", NODE("x: {plugin: sink.png, images: imges}"),
     "7:33 error: x.images: there is no node imges; did you mean images?\n"},
    {"an unknown node or shorthand",
     BASE "  o: {plugin: objective.denoise, schedule: cosin}\n  p: {plugin: pass, value: o}\n",
     "7:44 error: o.schedule: there is no node cosin; did you mean cosine?\n"},
    {"nothing near", BASE "  o: {plugin: objective.denoise, schedule: quux}\n  p: {plugin: pass, value: o}\n",
     "7:44 error: o.schedule: there is no node quux; a node of kind schedule, or one of cosine, flow\n"},
    {"a wrong kind", NODE("x: {plugin: sink.png, images: solver}"),
     "7:33 error: x.images needs kind dataset, but solver (sampler.ddim) is of kind sampler; nodes of that "
     "kind: "
     "images\n"},
    {"a wrong kind of an output", NODE("x: {plugin: sink.png, images: model.ema}"),
     "7:33 error: x.images needs kind dataset, but model.ema (fit) is of kind denoiser; nodes of that kind: "
     "images\n"},
    {"none of two kinds", NODE("x: {plugin: fit, model: solver, objective: ddpm}"),
     "7:27 error: x.model needs kind denoiser|classifier, but solver (sampler.ddim) is of kind sampler; "
     "nodes of that "
     "kind: unet, model\n"},
    {"an unknown output", NODE("x: {plugin: pass, value: model.emaa}"),
     "7:28 error: x.value: model (fit) has no output emaa; did you mean ema?\n"},
    {"an unknown output, nothing near", NODE("x: {plugin: pass, value: model.zzzz}"),
     "7:28 error: x.value: model (fit) has no output zzzz; model.model, model.ema, model.metrics\n"},
    {"an output of a component", NODE("x: {plugin: pass, value: solver.x}"),
     "7:28 error: x.value: solver is a sampler and has no outputs; write solver\n"},
    {"a list for one", NODE("x: {plugin: sink.png, images: [images]}"),
     "7:33 error: x.images: takes one dataset, not a list\n"},
    {"an empty list", BASE "  m: {plugin: guidance.mix, experts: []}\n  p: {plugin: pass, value: m}\n",
     "7:38 error: m.experts: needs at least one denoiser\n"},
    {"a missing input", NODE("x: {plugin: sink.png}"),
     "7:3 error: x.images is missing; sink.png images: a node of kind dataset\n"},
    {"a mistake in an inline node", NODE("x: {plugin: pass, value: {plugin: denoiser.unet, channels: 0}}"),
     "7:62 error: x.value.channels: 0 is below the minimum 1; denoiser.unet channels: integer, 1 to 4096, "
     "required\n"},
    {"no value behind an optional input", BASE "  p: {plugin: pass}\n  x: {plugin: sink.png, images: p}\n",
     "8:33 error: x.images: p has no value, since an optional input of p is not given\n"},
    {"a cycle",
     BASE "  a: {plugin: guidance.cfg, denoiser: b}\n  b: {plugin: guidance.cfg, denoiser: c}\n"
          "  c: {plugin: guidance.cfg, denoiser: a}\n",
     "9:39 error: nodes need each other in a circle: a -> b -> c -> a\n"},
    {"a cycle of one", NODE("x: {plugin: pass, value: x}"),
     "7:28 error: nodes need each other in a circle: x -> x\n"},
    {"a cycle through an inline node", NODE("x: {plugin: pass, value: {plugin: guidance.cfg, denoiser: x}}"),
     "7:61 error: nodes need each other in a circle: x -> x.value -> x\n"},
    {"a mistake reported once: what depends on it is left alone",
     "nodes:\n  u: {plugin: denoiser.unt, channels: 1}\n  o: {plugin: objective.denoise}\n"
     "  m: {plugin: fit, model: u, objective: o}\n  g: {plugin: generate, denoiser: m.ema, sampler: heun}\n",
     "2:15 error: there is no plugin denoiser.unt; did you mean denoiser.unet?\n"},

    /* ---- variables ---- */
    {"an undefined variable",
     "vars: {width: 3}\n" NODE("x: {plugin: sink.png, images: images, columns: \"${widht}\"}"),
     "8:50 error: variable widht is not defined; did you mean width?\n"},
    {"no variables at all", NODE("x: {plugin: sink.png, images: images, columns: \"${w}\"}"),
     "7:50 error: variable w is not defined; define it under vars:, or write $${ for a literal ${\n"},
    {"an open brace", NODE("x: {plugin: sink.png, images: images, columns: \"${w\"}"),
     "7:50 error: ${ without }; write $${ for a literal ${\n"},
    {"a variable of itself", "vars:\n  a: ${b}\n  b: ${a}\n" BASE,
     "2:3 error: variable a is defined by itself\n"},
    {"a list inside a text",
     "vars: {l: [1, 2]}\n" NODE("x: {plugin: sink.png, images: images, columns: \"1${l}\"}"),
     "8:50 error: variable l is a list and cannot be part of a text\n"},
    {"a value that a variable brought",
     "vars: {c: 500}\n" NODE("x: {plugin: sink.png, images: images, columns: \"${c}\"}"),
     "8:50 error: x.columns: 500 is above the maximum 100; sink.png columns: integer, 1 to 100, default "
     "10\n"},

    /* ---- expect ---- */
    {"no metric", BASE "expect: {images: {min: 1}}\n",
     "7:10 error: expect: images is not of the form node.metric; expect: {grid.written: {min: 1}}\n"},
    {"an unknown node in expect", BASE "expect: {imges.n: {min: 1}}\n",
     "7:10 error: expect imges.n: there is no node imges; did you mean images?\n"},
    {"a component in expect", BASE "expect: {solver.n: {min: 1}}\n",
     "7:10 error: expect solver.n: solver is a sampler, only steps report numbers\n"},
    {"a bound misspelt", BASE "expect: {images.n: {mni: 1}}\n",
     "7:21 error: expect images.n: unknown key mni; did you mean min?\n"},
    {"a bound that is no number", BASE "expect: {images.n: {min: many, max: nan}}\n",
     "7:26 error: expect images.n: \"many\" is not a number\n"
     "7:37 error: expect images.n: \"nan\" is not a number\n"},
    {"bounds the wrong way round", BASE "expect: {images.n: {min: 2, max: 1}}\n",
     "7:20 error: expect images.n: min 2 is above max 1\n"},
    {"no bounds", BASE "expect: {images.n: 3}\n",
     "7:20 error: expect images.n: a mapping with min or max; {min: 0.85}, {max: 20} or both\n"},

    /* ---- sweep ---- */
    {"a sweep over nothing", BASE "sweep: {foo: [1]}\n",
     "7:9 error: sweep: foo cannot be varied; node.key, vars.name, seed or device\n"},
    {"an unknown node in a sweep", BASE "sweep: {solvr.steps: [1]}\n",
     "7:9 error: sweep solvr.steps: there is no node solvr; did you mean solver?\n"},
    {"an unknown key in a sweep", BASE "sweep: {solver.stepps: [1]}\n",
     "7:9 error: sweep solver.stepps: sampler.ddim has no parameter or input of that name; did you mean "
     "steps?\n"},
    {"an unknown variable in a sweep", BASE "sweep: {vars.x: [1]}\n",
     "7:9 error: sweep vars.x: variable x is not defined\n"},
    {"no list in a sweep", BASE "sweep: {solver.steps: 3}\n",
     "7:23 error: sweep solver.steps: a list of values; [1, 2, 3]\n"},
    {"wrong values in a sweep", BASE "sweep: {solver.steps: [10, 0, x]}\n",
     "7:28 error: solver.steps: 0 is below the minimum 1; sampler.ddim steps: integer, 1 to 1000, default "
     "50, steps\n"
     "7:31 error: solver.steps: \"x\" is not an integer; sampler.ddim steps: integer, 1 to 1000, default 50, "
     "steps\n"},
    {"an unknown plugin in a sweep", BASE "sweep: {solver.plugin: [sampler.heun, sampler.dim]}\n",
     "7:39 error: there is no plugin sampler.dim; did you mean sampler.ddim?\n"},
    {"an unknown node as a value", BASE "sweep: {images.denoiser: [model, unt]}\n",
     "7:34 error: sweep images.denoiser: there is no node unt; did you mean unet?\n"},
    {"a sweep into a shorthand", BASE "sweep: {ddpm.schedule.shift: [0.1]}\n",
     "7:9 error: sweep ddpm.schedule.shift: ddpm.schedule is not written as an inline node; write it as "
     "{plugin: "
     "schedule.cosine}\n"},

    /* ---- warnings ---- */
    {"an unused component", BASE "  idle: {plugin: sampler.heun}\n",
     "7:3 warning: idle is not used by any step\n"},
    {"no step", "nodes:\n  s: {plugin: sampler.ddim}\n  t: {plugin: sampler.heun}\n",
     "2:3 warning: no node does anything: there is no step such as fit, generate or a sink\n"},

    /* ---- several at once, in file order ---- */
    {"all in one pass",
     "seed: x\n" BASE
     "  a: {plugin: sampler.x}\n  b: {plugin: pass, value: nobody}\nexpect: {c.d: {min: 1}}\n",
     "1:7 error: seed: \"x\" is not a seed; an integer from 0 to 18446744073709551615\n"
     "8:15 error: there is no plugin sampler.x; did you mean sampler.ddim?\n"
     "9:28 error: b.value: there is no node nobody\n"
     "10:10 error: expect c.d: there is no node c\n"},
};

Test(graph, mistakes_are_found_with_their_place)
{
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        loaded l = load_text(cases[k].text, NULL);
        char *said = summary(&l.diag);
        cr_expect_str_eq(said, cases[k].expected, "%s:\n%s", cases[k].why, said);
        const bool wrong = strstr(cases[k].expected, " error: ") != NULL;
        cr_expect_eq(l.status, wrong ? PIPE_EPIPELINE : PIPE_OK, "%s: %s", cases[k].why, l.err.message);
        cr_expect_eq(l.graph == NULL, wrong, "%s", cases[k].why);
        pipe_free(said);
        unload(&l);
    }
}
