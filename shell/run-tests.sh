#!/usr/bin/env bash
# Run ruff and all tests, in two processes; further arguments go to pytest: bash shell/run-tests.sh -k metrics
# Installs what it needs first; see venv.sh.
set -euo pipefail

REQUIREMENTS=requirements/dev.txt
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

cd "$ROOT"
"$VENV/bin/python" -m ruff check .
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
"$VENV/bin/python" -m pytest -n 2 --dist loadfile "$@"
