#!/bin/sh
# Resolve setup.py with every extra for each supported Python and write constraints.txt; `make constraints` runs it.
# Needs uv. Versions already in constraints.txt are kept where they still fit; arguments go to uv, such as
# `--upgrade-package NAME`, or `--upgrade` for the newest of everything.
set -eu
cd "$(dirname "$0")"
command -v uv >/dev/null || { echo "make_constraints.sh: uv was not found on PATH; install it first." >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for version in 3.9 3.10 3.11; do
    # uv prefers the versions it finds in its output file, so an unchanged setup.py gives an unchanged result.
    grep -v '^#' constraints.txt > "$scratch/$version" || true
    uv pip compile setup.py --extra gpu --extra dev --extra convert --extra tfx --output-file "$scratch/$version" \
        --python-version "$version" --python-platform x86_64-manylinux_2_28 --no-annotate --no-header --quiet "$@"
done

# One line a version: without a marker where all three interpreters share it, else with the interpreters it is for.
cd "$scratch"
{
    grep '^#' "$OLDPWD/constraints.txt" || true
    awk 'BEGIN { bit["3.9"] = 1; bit["3.10"] = 2; bit["3.11"] = 4 }
         { users[$0] += bit[FILENAME] }
         END {
             marker[1] = "== \"3.9\""; marker[2] = "== \"3.10\""; marker[4] = "== \"3.11\""
             marker[3] = "< \"3.11\""; marker[6] = ">= \"3.10\""; marker[5] = "!= \"3.10\""
             for (pin in users) print pin (users[pin] == 7 ? "" : " ; python_version " marker[users[pin]])
         }' 3.9 3.10 3.11 | LC_ALL=C sort
} > merged
mv merged "$OLDPWD/constraints.txt"
