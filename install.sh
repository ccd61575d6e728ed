#!/usr/bin/env bash
# Without arguments: sets up .venv in this folder. With --threestudio DIR: links the extension there. See --help.
set -euo pipefail
unset CDPATH

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
name=threestudio-pullback
ours=$root/custom/$name
tested=28d9d80d9d00f308244adfcf3be8b17ca0cb6465
tested_version=0.2.3
url=${THREESTUDIO_URL:-https://github.com/threestudio-project/threestudio}
commit=${THREESTUDIO_COMMIT:-$tested}

usage() {
    cat <<EOF
./install.sh                              set up .venv in this folder with all the project needs (no threestudio)
./install.sh --threestudio DIR            link the extension and its configs into the threestudio in DIR, and check
./install.sh --threestudio DIR --check    say what is there, what is missing and what to run; change nothing
                                          (exit status 0: ready to run, 1: something is missing)
./install.sh --threestudio DIR --uninstall    remove that link
./install.sh --clone DIR                  clone threestudio $tested_version at the tested commit into DIR, then link

PYTHON=…  the Python to set up .venv with, or the one that runs threestudio (else that of the active environment, else
          python3)
TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
          where pip gets PyTorch from when .venv is made; this index has the CPU's build: 0.2 GB to download, where the
          build for CUDA, which pip takes on Linux otherwise, has 2.7 GB
THREESTUDIO_URL=… THREESTUDIO_COMMIT=…  another repository or commit to clone
EOF
}

fail() {
    echo "error: $*" >&2
    exit 2
}

set_up_venv() {
    cd -- "$root"
    local python=${PYTHON:-python3} stamp=.venv/installed wanted
    "$python" - <<'EOF' || fail "Python 3.10 or newer is needed; set PYTHON=/path/to/python3.11"
import sys
sys.exit(sys.version_info < (3, 10))
EOF
    # does nothing where that has been done for these requirements
    wanted=$(cat requirements/locked/requirements.txt requirements.txt pyproject.toml | "$python" -c \
        'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest(), " -")')
    if [ -x .venv/bin/pullback ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "Setting up .venv (PyTorch, diffusers, Lightning; 2 GB, or 6 with PyTorch for CUDA: see --help; some minutes)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    # --no-compile: Python compiles what it imports, which is a small part of what is installed
    local pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile)
    # each file is held against its hash, but PyTorch's: it may come from another index, where it is another file. It comes
    # after the rest, among which is what it needs itself
    "${pip[@]}" --no-deps --require-hashes -r requirements/locked/requirements.txt
    "${pip[@]}" ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$(grep '^torch==' requirements.txt)" ||
        fail "cannot install PyTorch${TORCH_INDEX_URL:+ from TORCH_INDEX_URL=$TORCH_INDEX_URL}; see pip's words above"
    "${pip[@]}" --no-build-isolation --no-deps -e .  # built by the setuptools that is there now
    echo "$wanted" > "$stamp"
    echo "Done. Try: .venv/bin/pullback --help"
}

# Makes `dir` absolute and sets `link`, where the extension belongs in it.
find_threestudio() {
    dir=$(cd -- "$1" 2>/dev/null && pwd) || fail "there is no folder $1; name threestudio's, or make one with --clone"
    if [ ! -f "$dir/launch.py" ] || [ ! -f "$dir/threestudio/__init__.py" ]; then
        fail "$dir is no threestudio: it has no launch.py or no threestudio/__init__.py; name the folder that has both"
    fi
    link=$dir/custom/$name
}

# Sets `state` of the link (absent, linked, dangling, other, occupied) and `leads`, where it leads.
look() {
    leads=$(readlink -- "$link" || true)
    if [ ! -L "$link" ]; then
        state=absent
        [ ! -e "$link" ] || state=occupied
    elif [ "$link" -ef "$ours" ]; then
        state=linked
    elif [ ! -e "$link" ] && [ "$leads" != "${leads%"/custom/$name"}" ]; then
        state=dangling # of a clone that was moved or removed
    else
        state=other
    fi
}

make_link() {
    local told
    [ -f "$ours/configs/pullback-nerf.yaml" ] ||
        fail "$ours/configs leads nowhere: this copy has lost its symbolic links; clone it with git -c core.symlinks=true"
    [ -d "$dir/custom" ] ||
        fail "$dir has no folder custom, where threestudio $tested_version looks for extensions; update it, or make that folder"
    look
    case $state in
        linked) echo "Already linked: $link" && return ;;
        other) fail "$link leads to $leads, not to this clone; remove that link first: rm $(printf %q "$link")" ;;
        occupied) fail "$link is there and no link of ours; move it away first, out of $dir/custom" ;;
        dangling) told=$(rm -- "$link" 2>&1) || fail "cannot replace the broken link $link: ${told##*: }" ;;
    esac
    told=$(ln -s -- "$ours" "$link" 2>&1) ||
        fail "cannot make the link $link: ${told##*: }; make $dir/custom writable and run this again"
    [ "$state" = absent ] || echo "Replaced a link to $leads, which is gone."
    echo "Linked $link -> $ours"
}

uninstall() {
    local told
    look
    case $state in
        absent) echo "Nothing to remove: $link is not there." && return ;;
        other) fail "$link leads to $leads, which is another clone's; left as it is" ;;
        occupied) fail "$link is no link, so it was not put there by this script; left as it is" ;;
    esac
    told=$(rm -- "$link" 2>&1) || fail "cannot remove $link: ${told##*: }"
    echo "Removed the link $link"
}

# Prints what is in `dir` and in the Python that runs it; status 1 where something is missing.
report() {
    local version head="" python status=0
    version=$(sed -n 's/^__version__ *= *["'\'']\([^"'\'']*\).*/\1/p' "$dir/threestudio/__init__.py")
    if [ "$(git -C "$dir" rev-parse --show-toplevel 2>/dev/null || true)" -ef "$dir" ]; then
        head=$(git -C "$dir" rev-parse HEAD 2>/dev/null || true)
    fi
    if [ "$head" = "$tested" ]; then
        echo "threestudio  $version, commit ${head:0:7}, the tested one, in $dir"
    else
        head=${head:0:7}
        echo "threestudio  ${version:-of unknown version}, commit ${head:-unknown} (tested: $tested_version," \
            "commit ${tested:0:7}), in $dir"
    fi
    look
    case $state in
        linked) echo "extension    linked: $link -> $leads" ;;
        absent) echo "extension    not linked; run: $(printf %q "$root/install.sh") --threestudio $(printf %q "$dir")" ;;
        dangling) echo "extension    broken link to $leads; run: $(printf %q "$root/install.sh") --threestudio" \
            "$(printf %q "$dir")" ;;
        other) echo "extension    another clone is linked: $link -> $leads" ;;
        occupied) echo "extension    $link is something else, and no link to this clone" ;;
    esac
    [ "$state" = linked ] || status=1
    python=$(find_python)
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null ||
        fail "$python does not run, or is older than 3.8; Python 3.10 or newer is needed: set PYTHON=/path/to/python3.11"
    "$python" "$root/tools/check_threestudio.py" "$dir" || status=1
    return $status
}

# The Python that would run threestudio.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON"
    elif [ -x "${VIRTUAL_ENV:-}/bin/python" ] && [ -n "${VIRTUAL_ENV:-}" ]; then
        echo "$VIRTUAL_ENV/bin/python"
    elif [ -n "${CONDA_PREFIX:-}" ] && [ -x "${CONDA_PREFIX:-}/bin/python" ]; then
        echo "$CONDA_PREFIX/bin/python"
    else
        echo python3
    fi
}

clone() {
    local there=$1 told
    command -v git >/dev/null || fail "git is needed to clone threestudio; install it"
    [ -d "$(dirname -- "$there")" ] || fail "there is no folder $(dirname -- "$there") to clone into; make it first"
    if [ -d "$there" ] && [ -z "$(ls -A -- "$there")" ]; then
        half=$there/. # keep the user's empty folder
    elif [ -e "$there" ] || [ -L "$there" ]; then
        fail "$there is there already and not empty; name a new folder, or use --threestudio for a threestudio in it"
    else
        half=$there
    fi
    trap clean_up EXIT
    echo "Cloning $url into $there"
    told=$(GIT_TERMINAL_PROMPT=0 git clone --quiet --no-checkout -- "$url" "$there" 2>&1) ||
        fail "cannot clone $url ($(last_line "$told")); check the network, or set THREESTUDIO_URL to a copy"
    told=$(git -C "$there" -c advice.detachedHead=false checkout --quiet --detach "$commit" 2>&1) ||
        fail "cannot check out commit $commit of $url ($(last_line "$told")); nothing was kept"
    trap - EXIT
}

clean_up() {
    if [ "$half" = "${half%/.}" ]; then
        rm -rf -- "$half"
    else
        find "$half" -mindepth 1 -delete
    fi
}

last_line() {
    printf '%s\n' "$1" | grep . | tail -n 1
}

# The value of an option, or a sentence.
value_of() {
    if [ $# -lt 2 ] || [ -z "$2" ] || [ "${2#-}" != "$2" ]; then
        fail "$1 needs a folder: ./install.sh $1 DIR"
    fi
}

main() {
    local action="" option="" folder=""
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && return ;;
            --threestudio | --clone)
                value_of "$@"
                [ -z "$option" ] || fail "$option and $1 do not go together; see ./install.sh --help"
                option=$1 folder=$2
                shift
                ;;
            --check | --uninstall)
                [ -z "$action" ] || fail "$action and $1 do not go together; see ./install.sh --help"
                action=$1
                ;;
            *) fail "unknown argument $1; see ./install.sh --help" ;;
        esac
        shift
    done
    case $option$action in
        "")
            set_up_venv
            return
            ;;
        --threestudio*) find_threestudio "$folder" ;;
        --clone)
            clone "$folder"
            find_threestudio "$folder"
            ;;
        --clone*) fail "$action does not go with --clone; use --threestudio DIR $action" ;;
        *) fail "$action needs --threestudio DIR" ;;
    esac
    case $action in
        --check) report ;;
        --uninstall) uninstall ;;
        *)
            make_link
            echo
            report || echo "The extension is linked; install what is missing before a run."
            ;;
    esac
}

main "$@"
