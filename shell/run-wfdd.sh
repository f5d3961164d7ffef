#!/usr/bin/env bash
# Train and test on WFDD: bash shell/run-wfdd.sh [main.py's options, e.g. --test test]
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-wfdd.sh
set -euo pipefail

DATAPATH="${DATAPATH:-/path/to/WFDD}"
AUGPATH="${AUGPATH:-/path/to/dtd/images}"
CLASSES="${CLASSES:-grey_cloth grid_cloth yellow_cloth pink_flower}"
DISTRIBUTION="${DISTRIBUTION:-0}"
FG="${FG:-1}"

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_folder DATAPATH
run_glass wfdd "$DATAPATH" "$@"
