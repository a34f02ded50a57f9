#!/bin/sh
# Make an empty virtual environment with pip, using the first interpreter that the pinned stack can be installed in.
# Usage: [PYTHON=interpreter] sh make_venv.sh FOLDER        What is in FOLDER already is removed.
set -eu

fits="TensorFlow 2.15.1 has wheels for Python 3.9, 3.10 and 3.11 only"

version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null || true
}

# Debian packs ensurepip, which puts pip into a new environment, apart from the interpreter.
has_ensurepip() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null </dev/null
}

has_uv() {
    command -v uv >/dev/null
}

make_with_uv() {
    # uv will not clear a folder that was left before it became an environment.
    rm -rf "$folder"
    uv venv --quiet --seed --no-project --python "$1" "$folder"
}

give_up() {
    echo "make_venv.sh: $1" >&2
    exit 1
}

folder=$1
if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    set -- python3.11 python3.10 python3.9 python3
fi

without_pip=
found=
for python in "$@"; do
    found_version=$(version "$python")
    case $found_version in
        3.9 | 3.10 | 3.11)
            if has_ensurepip "$python"; then
                echo "Making $folder with $python (Python $found_version)"
                exec "$python" -m venv --clear "$folder"
            fi
            without_pip=${without_pip:-$python}
            ;;
        ?*) found="$found, but $python is Python $found_version" ;;
    esac
done

if [ -n "$without_pip" ]; then
    if has_uv; then
        echo "Making $folder with uv and $without_pip, which lacks ensurepip"
        make_with_uv "$without_pip"
        exit
    fi
    give_up "$without_pip has no ensurepip to put pip into $folder: run \`apt-get install python$(version "$without_pip")-venv\` (or install uv), then try again."
fi
if [ -n "${PYTHON:-}" ]; then
    give_up "PYTHON=$PYTHON cannot be used: $fits${found:-, and it does not run}."
fi
if has_uv; then
    echo "Making $folder with uv and its Python 3.11 (no python3.11, python3.10 or python3.9 here)"
    make_with_uv 3.11 || give_up "uv could not supply Python 3.11: $fits, so install one of these (or name it with PYTHON=...)."
    exit
fi
give_up "no fitting Python: $fits${found:-, and no python3 was found}; install python3.11 with python3.11-venv, or uv (which brings its own Python), or name an interpreter with PYTHON=..."
