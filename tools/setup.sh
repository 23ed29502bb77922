# Sourced by tools/quickstart and tools/check: where the tree is, Debian packages, the build.
top=$(cd "$(dirname "$0")/.." && pwd)
jobs=$(nproc 2>/dev/null || echo 2)

say() { printf '\n==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_packages build [test]: installs what is missing; silent and without root when nothing is.
need_packages() {
    wanted=$(for when; do sed -n "s/^$when //p" "$top/tools/packages.txt"; done)
    if ! command -v dpkg-query >/dev/null; then
        echo "This is no Debian system: the packages of tools/packages.txt, or what corresponds to them, must be there." >&2
        return 0
    fi
    missing=
    for p in $wanted; do
        dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    say "installing Debian packages:$missing"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "not root, and no sudo; as root: apt-get install$missing"
        as_root=sudo
    fi
    # shellcheck disable=SC2086
    $as_root apt-get update -q &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing ||
        die "apt-get could not install:$missing"
}

# configured DIRECTORY [configure arguments]: an up-to-date build folder.
configured() {
    dir=$top/$1; shift
    if [ ! -x "$top/configure" ] || ! "$top/autogen.sh" --check; then
        "$top/autogen.sh" || die "autogen.sh failed"
    fi
    mkdir -p "$dir"
    if [ ! -e "$dir/config.status" ] || [ "$(cat "$dir/.arguments" 2>/dev/null)" != "$*" ]; then
        (cd "$dir" && ../configure -q "$@" && printf '%s' "$*" > .arguments) || die "configure failed: see $dir/config.log"
    fi
}
