#!/usr/bin/env bash
# Test models trained on MVTec AD (shell/run-mvtec.sh) on MAD-sys: bash shell/run-mad-sys.sh [main.py's options]
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-mad-sys.sh
# The paper's figures are of manifold models: DISTRIBUTION=2 RESULTS=DIR bash shell/run-mvtec.sh, then MODELS=DIR here.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

DATAPATH="${DATAPATH:-/path/to/MAD-sys}"
CLASSES="${CLASSES:-carpet grid leather tile wood}"
SUBSETS="${SUBSETS:-Beta_0.1 Beta_0.3 Beta_0.5 Beta_0.7}"
[[ "${BETA_09:-0}" != 1 ]] || SUBSETS+=" Beta_0.9" # on request, as it is not in the paper's mean
DISTRIBUTION="${DISTRIBUTION:-0}"
FG="${FG:-1}"
MODELS="${MODELS:-$ROOT/results}" # the results folder that run-mvtec.sh wrote
RESULTS="${RESULTS:-$ROOT/results/mad-sys}"

source "$ROOT/shell/common.sh"
need_folder DATAPATH
need_folder MODELS
SUBSETS="$(found_subsets $SUBSETS)"
test_subsets "$@"
