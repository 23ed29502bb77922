#!/bin/sh
# Writes sources.mk (the lists of sources, plugins and tests: Automake cannot
# glob) and then configure.  Run it after a clone and after adding a file.
#   ./autogen.sh --check     only says, by its exit status, whether that is needed
set -eu
cd "$(dirname "$0")"

list() { # VARIABLE FILE...: a Makefile list
    name=$1; shift
    printf '%s =' "$name"
    for f; do printf ' \\\n\t%s' "$f"; done
    printf '\n\n'
}
find_sorted() { find "$@" | LC_ALL=C sort; }

{
    echo '# Written by autogen.sh.'
    list INCLUDE_FILES $(find_sorted include/pipe -name '*.h')
    list CORE_SOURCES $(find_sorted core -name '*.[ch]')
    list CORE_KERNELS $(find_sorted core -name '*.cl')
    list TOOL_SOURCES $(find_sorted tools -name '*.[ch]')
    list TOOL_TEMPLATES $(find_sorted tools/templates -name '*.tpl')
    list TEST_SOURCES $(find_sorted tests -name '*.[ch]' ! -path 'tests/data/*' ! -path 'tests/plugins/*' ! -path 'tests/fuzz/*')
    list DIST_FILES $(find_sorted tests docs .ci -type f ! -name '*.[ch]') \
        $(find_sorted tests/data tests/plugins tests/fuzz -name '*.[ch]' 2>/dev/null || :) \
        $(find_sorted tools -type f ! -name '*.[ch]')
    echo "nobase_dist_pipeline_DATA +="

    # plugins/<kind>/<name>.c, or a folder plugins/<kind>/<name>/*.c for a larger one
    for p in $(find_sorted plugins -mindepth 2 -maxdepth 2 \( -name '*.c' -o -type d \)); do
        kind=$(basename "$(dirname "$p")")
        name=$(basename "$p" .c)
        id=plugins_$(printf '%s_%s' "$kind" "$name" | tr -c 'A-Za-z0-9\n' _)_la
        if [ -d "$p" ]; then files=$(find_sorted "$p" -name '*.[ch]'); else files=$p; fi
        printf 'plugin_LTLIBRARIES += plugins/%s-%s.la\n' "$kind" "$name"
        printf '%s_SOURCES = %s\n' "$id" "$(echo $files)"
        printf '%s_LDFLAGS = $(PLUGIN_LDFLAGS)\n%s_LIBADD = $(PLUGIN_LIBADD)\n\n' "$id" "$id" |
            sed "s/\\(plugins_[A-Za-z0-9_]*_la\\)/$id/"
    done

    # tests/plugins/<name>.c: shared objects, good and broken, that the tests load
    echo 'if TESTS_ENABLED'
    for p in $(find_sorted tests/plugins -name '*.c'); do
        name=$(basename "$p" .c)
        id=tests_plugins_$(printf '%s' "$name" | tr -c 'A-Za-z0-9\n' _)_la
        printf 'check_LTLIBRARIES += tests/plugins/%s.la\n' "$name"
        printf '%s_SOURCES = %s\n%s_LDFLAGS = $(TEST_PLUGIN_LDFLAGS)\n\n' "$id" "$p" "$id"
    done
    echo 'endif'
} > sources.mk.tmp
if cmp -s sources.mk.tmp sources.mk; then
    rm sources.mk.tmp
    if [ "${1:-}" = --check ]; then exit 0; fi
elif [ "${1:-}" = --check ]; then
    rm sources.mk.tmp
    exit 1
else
    mv sources.mk.tmp sources.mk
fi

mkdir -p m4
autoreconf --install --warnings=all,no-obsolete,no-portability

# configure's tests remove dump files named `core`; here that is the folder of the
# sources, and a second run in a build folder would complain about it each time.
sed -i 's/rm -f core /rm -f /' configure
