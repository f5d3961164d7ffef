#!/usr/bin/env bash
# Train and test on your own data: bash shell/run-custom.sh [main.py's options, e.g. --test test]
# Expects MVTec AD's layout, DATAPATH/<class>/{train/good,test/*,ground_truth/*}.
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-custom.sh
set -euo pipefail

DATAPATH="${DATAPATH:-/path/to/data}"
AUGPATH="${AUGPATH:-/path/to/dtd/images}"
CLASSES="${CLASSES:-class1 class2}"
DISTRIBUTION="${DISTRIBUTION:-2}" # 2 manifold, 3 hypersphere, 0 judged from the images
FG="${FG:-0}"                     # 1 with foreground masks in DATAPATH/fg_mask/<class>

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_folder DATAPATH
run_glass mvtec "$DATAPATH" "$@"
