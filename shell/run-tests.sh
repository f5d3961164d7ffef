#!/usr/bin/env bash
# Run ruff and all tests; further arguments go to pytest: bash shell/run-tests.sh -k metrics
# The packages go to .venv, or to the folder in VENV, and are installed again only when the requirements change.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${VENV:-$root/.venv}"
python="${PYTHON:-python3}"
[[ "$venv" == /* ]] || venv="$PWD/$venv"

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$python is not Python 3.11 or newer: install one, or name it in PYTHON." >&2
    exit 2
fi

stamp="$venv/requirements.cksum"
wanted="$(cat "$root/requirements.txt" "$root/requirements-dev.txt" | cksum)"
if [[ ! -f "$stamp" || "$(<"$stamp")" != "$wanted" ]]; then
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/requirements-dev.txt"
    printf '%s\n' "$wanted" >"$stamp"
fi

cd "$root"
"$venv/bin/python" -m ruff check .
"$venv/bin/python" -m pytest "$@"
