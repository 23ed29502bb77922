# @NAME@

A plugin of kind @KIND@ for `pipe`.

    make
    make check
    PIPE_PLUGIN_PATH=$PWD pipe inspect @NAME@

`make install` puts it beside the engine's own plugins. For yourself alone, copy `@NAME@.so` to
`~/.local/share/pipe/plugins/`, or name this folder in `PIPE_PLUGIN_PATH` or with `--plugin-path`.

| file | what it is |
| --- | --- |
| `@NAME@.c` | the plugin: state, parameters, functions, descriptor |
| `Makefile` | builds it with `pkg-config pipe` |
| `test.yaml` | a pipeline that uses it and says what must come out |
| `test.sh` | `make check`: runs that pipeline |

When the engine does not list it, `pipe inspect --broken` says why. A new `.version` makes results that were
computed with the old one stale: raise it when the results change.
