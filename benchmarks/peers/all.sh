#!/usr/bin/env bash
# Measures what docs/results.md shows beside other programs, one file a run under OUT; what is there is not measured
# again. From any folder, with nothing else running; every setting can be given in the environment.
set -euo pipefail

DATAPATH=${DATAPATH:-data/mvtec}              # MVTec layout: screw (MVTec AD) and magnetic_tile
AUGPATH=${AUGPATH:-data/dtd/images}           # DTD
WEIGHTS=${WEIGHTS:-resnet18.pth}              # state dict of torchvision's ResNet-18
CLASSES=${CLASSES:-"magnetic_tile screw"}
PROGRAMS=${PROGRAMS:-"padim patchcore ours glass"}
SEEDS=${SEEDS:-"0"}
SIZE=${SIZE:-192}
LR=${LR:-}                                    # of both GLASS; by default what docs/results.md trains the class with
OURS_EPOCHS=${OURS_EPOCHS:-40}
GLASS_EPOCHS=${GLASS_EPOCHS:-8}               # of anomalib's, which takes longer for one
OUT=${OUT:-results/peers}
PYTHON=${PYTHON:-python}                      # of the repository's environment

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$OUT"

measure() { # PROGRAM CLASS SEED
    local out="$OUT/$1_$2_$3.json" lr=0.0001
    [ -e "$out" ] && return
    [ "$2" = magnetic_tile ] && lr=0.0005
    local common=(--data "$DATAPATH" --class "$2" --size "$SIZE" --weights "$WEIGHTS" --seed "$3" --out "$out")
    local glass=(--textures "$AUGPATH" --width 256 --hidden 512 --lr "${LR:-$lr}" --every 2)
    case $1 in
        ours) PYTHONPATH="$here/../.." "$PYTHON" -m benchmarks.peers.ours "${common[@]}" "${glass[@]}" --epochs "$OURS_EPOCHS" ;;
        glass) bash "$here/run.sh" --model glass "${common[@]}" "${glass[@]}" --epochs "$GLASS_EPOCHS" ;;
        *) bash "$here/run.sh" --model "$1" "${common[@]}" ;;
    esac
}

for program in $PROGRAMS; do
    for class in $CLASSES; do
        for seed in $SEEDS; do
            measure "$program" "$class" "$seed"
        done
    done
done
