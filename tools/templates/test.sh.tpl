#!/bin/sh
# Is the plugin found, is its descriptor in order, does it do what it should?
# PIPE: the program to run (default: pipe).
set -eu
cd "$(dirname "$0")"
pipe=${PIPE:-pipe}
PIPE_PLUGIN_PATH=$PWD
export PIPE_PLUGIN_PATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if ! "$pipe" inspect --exists=@NAME@@0.1; then
    "$pipe" inspect --broken
    echo "FAIL: the engine does not have @NAME@ 0.1.0" >&2
    exit 1
fi
"$pipe" validate test.yaml

run() { # OVERRIDE...
    "$pipe" run --output "$folder" --progress=none test.yaml "$@"
}
@RUNS@
echo "PASS: @NAME@"
