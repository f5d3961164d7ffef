#!/usr/bin/env bash
# Train and test on VisA: bash shell/run-visa.sh [main.py's options, e.g. --test test]
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-visa.sh
set -euo pipefail

DATAPATH="${DATAPATH:-/path/to/VisA}"
AUGPATH="${AUGPATH:-/path/to/dtd/images}"
CLASSES="${CLASSES:-candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum}"
DISTRIBUTION="${DISTRIBUTION:-0}"
FG="${FG:-1}"

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_folder DATAPATH
run_glass visa "$DATAPATH" "$@"
