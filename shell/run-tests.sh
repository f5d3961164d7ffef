#!/usr/bin/env bash
# Run ruff and all tests; further arguments go to pytest: bash shell/run-tests.sh -k metrics
# Installs what it needs first; see venv.sh.
set -euo pipefail

REQUIREMENTS=requirements/dev.txt
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

cd "$ROOT"
"$VENV/bin/python" -m ruff check .
"$VENV/bin/python" -m pytest "$@"
