#!/usr/bin/env bash
# Train and test on a small data set made here, without GPU, data or downloads but the packages: bash shell/run-demo.sh
# Further arguments go to demo.py: bash shell/run-demo.sh -s 0 -s 1    Installs what it needs first; see venv.sh.
set -euo pipefail

REQUIREMENTS=requirements.txt
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

"$VENV/bin/python" "$ROOT/demo.py" "$@"
