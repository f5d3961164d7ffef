# Shared by the scripts that install what they need; sourced with REQUIREMENTS set to one file.
# The packages go to .venv, or to the folder in VENV, and are installed again only when a requirement changes.
# PYTHON names the Python to build it with. Afterwards $ROOT is the repository and $VENV the folder, both absolute.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
PYTHON="${PYTHON:-python3}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$PYTHON is not Python 3.11 or newer: install one, or name it in PYTHON." >&2
    exit 2
fi

# A stamp for each file of requirements, so that installing one does not undo what another brought.
stamp="$VENV/$(basename "$REQUIREMENTS").cksum"
wanted="$(cat "$ROOT/requirements.txt" "$ROOT/$REQUIREMENTS" | cksum)"
if [[ ! -f "$stamp" || "$(<"$stamp")" != "$wanted" ]]; then
    echo "Installing $REQUIREMENTS into $VENV ..."
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r "$ROOT/$REQUIREMENTS"
    printf '%s\n' "$wanted" >"$stamp"
fi
