#!/usr/bin/env bash
# Trains and tests what docs/results.md shows: two classes, three seeds, both hypotheses, and one long run; one folder a run
# under RUNS. What is there already is not done again. From any folder; every setting can be given in the environment.
set -euo pipefail

DATAPATH=${DATAPATH:-data/mvtec}              # MVTec layout: screw (MVTec AD) and magnetic_tile
AUGPATH=${AUGPATH:-data/dtd/images}           # DTD
WEIGHTS=${WEIGHTS:-imagenet}                  # of ResNet-18: "imagenet", or a file
CLASSES=${CLASSES:-"magnetic_tile screw"}
SEEDS=${SEEDS:-"0 1 2"}
HYPOTHESES=${HYPOTHESES:-"2 3"}               # 2 manifold, 3 hypersphere
EPOCHS=${EPOCHS:-10}
LR=${LR:-0.0005}
LONG_EPOCHS=${LONG_EPOCHS:-30}                # of the long run: the first class and seed, as a manifold
SIZE=${SIZE:-192}
EVAL_EPOCHS=${EVAL_EPOCHS:-1}
SELECT=${SELECT:-best}                        # which epoch is kept: best, last, val or synthetic
CALIBRATION=${CALIBRATION:-0}                 # share of the training images that is held out for the threshold
RUNS=${RUNS:-results/benchmarks}
PYTHON=${PYTHON:-python}

main=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/main.py

train() { # CLASS HYPOTHESIS SEED EPOCHS
    "$PYTHON" "$main" --results_path "$RUNS/$1-$2-$3-$4-$LR-$SIZE-$EVAL_EPOCHS-$SELECT-$CALIBRATION" --seed "$3" --select "$SELECT" \
        net -b resnet18 --backbone_weights "$WEIGHTS" --pretrain_embed_dimension 256 --target_embed_dimension 256 \
        --dsc_hidden 512 --lr "$LR" --meta_epochs "$4" --eval_epochs "$EVAL_EPOCHS" \
        dataset -d "$1" --resize "$SIZE" --imagesize "$SIZE" --distribution "$2" --fg 0 --calibration "$CALIBRATION" \
        mvtec "$DATAPATH" "$AUGPATH"
}

for hypothesis in $HYPOTHESES; do
    for seed in $SEEDS; do
        for class in $CLASSES; do
            train "$class" "$hypothesis" "$seed" "$EPOCHS"
        done
    done
    if [ "$hypothesis" = "${HYPOTHESES%% *}" ] && [ "$LONG_EPOCHS" != 0 ]; then
        train "${CLASSES%% *}" "$hypothesis" "${SEEDS%% *}" "$LONG_EPOCHS"
    fi
done
