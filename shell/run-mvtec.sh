#!/usr/bin/env bash
# Train and test on MVTec AD: bash shell/run-mvtec.sh [main.py's options, e.g. --test test]
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-mvtec.sh
set -euo pipefail

DATAPATH="${DATAPATH:-/path/to/mvtec_anomaly_detection}"
AUGPATH="${AUGPATH:-/path/to/dtd/images}"
CLASSES="${CLASSES:-carpet grid leather tile wood bottle cable capsule hazelnut metal_nut pill screw toothbrush transistor zipper}"
DISTRIBUTION="${DISTRIBUTION:-0}"
FG="${FG:-1}"

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_folder DATAPATH
run_glass mvtec "$DATAPATH" "$@"
