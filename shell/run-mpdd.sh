#!/usr/bin/env bash
# Train and test on MPDD: bash shell/run-mpdd.sh [main.py's options, e.g. --test test]
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-mpdd.sh
set -euo pipefail

DATAPATH="${DATAPATH:-/path/to/MPDD}"
AUGPATH="${AUGPATH:-/path/to/dtd/images}"
CLASSES="${CLASSES:-bracket_black bracket_brown bracket_white connector metal_plate tubes}"
DISTRIBUTION="${DISTRIBUTION:-0}"
FG="${FG:-0}"

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_folder DATAPATH
run_glass mpdd "$DATAPATH" "$@"
