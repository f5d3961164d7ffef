#!/usr/bin/env bash
# Trains by recipes: each ingredient of quick alone, all but one, and all, three seeds, and the paper's
# recipe at a greater length. What is there already is not done again. Every setting can be given in the environment.
set -euo pipefail

DATAPATH=${DATAPATH:-data/mvtec}              # MVTec layout
AUGPATH=${AUGPATH:-data/dtd/images}           # DTD
WEIGHTS=${WEIGHTS:-imagenet}                  # of the backbone: "imagenet", or a file
BACKBONE=${BACKBONE:-resnet18}
CLASSES=${CLASSES:-"magnetic_tile screw"}
SEEDS=${SEEDS:-"0 1 2"}
ITERATIONS=${ITERATIONS:-320}
LONG_ITERATIONS=${LONG_ITERATIONS:-1640}      # of the paper's recipe alone, first seed; 0 leaves it out
SIZE=${SIZE:-192}
HYPOTHESIS=${HYPOTHESIS:-2}                   # 2 manifold, 3 hypersphere
RUNS=${RUNS:-results/recipe}
PYTHON=${PYTHON:-python}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

train() { # SEEDS ITERATIONS, then further options
    local seeds=$1 iterations=$2 chosen=()
    shift 2
    for seed in $seeds; do chosen+=(--seed "$seed"); done
    for class in $CLASSES; do chosen+=(-c "$class"); done
    "$PYTHON" -m benchmarks.recipe run --runs "$RUNS" --weights "$WEIGHTS" --backbone "$BACKBONE" --size "$SIZE" \
        --hypothesis "$HYPOTHESIS" --iterations "$iterations" "${chosen[@]}" "$@" "$DATAPATH" "$AUGPATH"
}

train "$SEEDS" "$ITERATIONS"
if [ "$LONG_ITERATIONS" != 0 ]; then
    train "${SEEDS%% *}" "$LONG_ITERATIONS" --only paper
fi
"$PYTHON" -m benchmarks.recipe collect "$RUNS"
