#!/usr/bin/env bash
# Test models trained on MVTec AD (shell/run-mvtec.sh) on MAD-man: bash shell/run-mad-man.sh [main.py's options]
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-mad-man.sh
# The paper's figures are of manifold models: DISTRIBUTION=2 RESULTS=DIR bash shell/run-mvtec.sh, then MODELS=DIR here.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

DATAPATH="${DATAPATH:-/path/to/MAD-man}"
CLASSES="${CLASSES:-carpet grid leather tile wood bottle cable capsule hazelnut metal_nut pill screw toothbrush transistor zipper}"
SUBSETS="${SUBSETS:-Person_1 Person_2 Person_3 Person_4 Person_5}"
DISTRIBUTION="${DISTRIBUTION:-0}"
FG="${FG:-1}"
MODELS="${MODELS:-$ROOT/results}" # the results folder that run-mvtec.sh wrote
RESULTS="${RESULTS:-$ROOT/results/mad-man}"

source "$ROOT/shell/common.sh"
need_folder DATAPATH
need_folder MODELS
SUBSETS="$(found_subsets $SUBSETS)"
test_subsets "$@"
