#!/usr/bin/env bash
# Train and test on your own pictures: bash shell/run-custom.sh [main.py's options, e.g. --test test]
# DATAPATH/<class> holds pictures of good parts, or MVTec AD's layout, train/good, test/*, ground_truth/*, in part.
# Settings stand here and in common.sh; the environment overrides them: DATAPATH=/my/data bash shell/run-custom.sh
set -euo pipefail

DATAPATH="${DATAPATH:-/path/to/data}"
AUGPATH="${AUGPATH:-none}" # none: textures drawn by formula; /path/to/dtd/images is better
CLASSES="${CLASSES:-class1 class2}"
DISTRIBUTION="${DISTRIBUTION:-0}" # 0 judged from the images, 2 manifold, 3 hypersphere
FG="${FG:-0}"                     # 1 with foreground masks in DATAPATH/fg_mask/<class>
NET_OPTIONS="--recipe paper ${NET_OPTIONS:-}" # the paper's settings; "--recipe quick --iterations 320" takes minutes
RESIZE="${RESIZE-}"               # only with DATASET_OPTIONS="--resize_mode crop"

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_folder DATAPATH
run_glass folder "$DATAPATH" "$@"
