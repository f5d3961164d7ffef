#!/usr/bin/env bash
# Train the rows of the paper's ablations on MVTec AD, and print a table for each study: bash shell/run-ablation.sh
# docs/ablation.md lists the rows. Repetitions: SEEDS=0,1,2 bash shell/run-ablation.sh
# Settings stand here and in common.sh; the environment overrides them: STUDIES="components" CLASSES="screw" ...
set -euo pipefail

DATAPATH="${DATAPATH:-/path/to/mvtec_anomaly_detection}"
AUGPATH="${AUGPATH:-/path/to/dtd/images}"
CLASSES="${CLASSES:-carpet grid leather tile wood bottle cable capsule hazelnut metal_nut pill screw toothbrush transistor zipper}"
DISTRIBUTION="${DISTRIBUTION:-2}" # manifold everywhere, as in the paper's ablations, but for the study hypotheses
FG="${FG:-1}"
SEEDS="${SEEDS:-0}"
STUDIES="${STUDIES:-components masks losses radii backbones hypotheses}"
RADII="${RADII:-0.25,0.5 1,2 2,4}" # of the study radii, beside full

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_folder DATAPATH
base="$RESULTS/ablation" given_distribution="$DISTRIBUTION" given_net="$NET_OPTIONS" given_dataset="$DATASET_OPTIONS" given_backbones="$BACKBONES"

# rows_of STUDY: print the names of its rows; each is trained once, "full" is shared.
rows_of() {
    local radii
    case "$1" in
        components) echo "las noise las_noise las_ascent full" ;;
        masks) echo "mask_one mask_union mask_intersection full" ;;
        losses) echo "bce all_rows full" ;;
        radii) for radii in $RADII; do echo "radii_$radii"; done; echo full ;;
        backbones) echo "resnet18 resnet50 resnet101 full" ;;
        hypotheses) echo "hypersphere judged full" ;;
        *) echo "STUDIES: no study is called '$1': components masks losses radii backbones hypotheses." >&2; exit 2 ;;
    esac
}

# choose_row NAME: set what is special about a row; what it leaves without effect is as by default, else it is refused.
choose_row() {
    local shell="--manifold_radii 0.5,1"
    NET_OPTIONS="" DATASET_OPTIONS="" BACKBONES="$given_backbones" DISTRIBUTION="$given_distribution"
    case "$1" in
        las) NET_OPTIONS="--gas 0 --noise 0.015 --mining 1 --step 20 --project 1 $shell" ;;
        noise)
            NET_OPTIONS="--las 0 --mining 0 --p 0.5 --local_loss focal --project 1 $shell"
            DATASET_OPTIONS="--mean 0.5 --std 0.1 --mask_mode mixed --rand_aug 1" ;;
        las_noise) NET_OPTIONS="--mining 0 --project 1 $shell" ;;
        las_ascent) NET_OPTIONS="--project 0 $shell" ;;
        mask_*) DATASET_OPTIONS="--mask_mode ${1#mask_}" ;;
        bce) NET_OPTIONS="--local_loss bce" ;;
        all_rows) NET_OPTIONS="--p 0" ;;
        radii_*) NET_OPTIONS="--manifold_radii ${1#radii_}" ;;
        resnet*) BACKBONES="$1" ;;
        hypersphere) DISTRIBUTION=3 NET_OPTIONS="$shell" ;;
        judged) DISTRIBUTION=0 ;;
    esac
    NET_OPTIONS="$given_net $NET_OPTIONS" DATASET_OPTIONS="$given_dataset $DATASET_OPTIONS"
}

all=() failed=0
for study in $STUDIES; do
    rows="$(rows_of "$study")"
    for row in $rows; do
        [[ " ${all[*]-} " == *" $row "* ]] || all+=("$row")
    done
done
for row in "${all[@]}"; do
    echo "== $row"
    choose_row "$row"
    RESULTS="$base/$row" status=0
    run_glass mvtec "$DATAPATH" "$@" || status=$?
    (( status < 2 )) || exit "$status" # wrong input, or interrupted
    (( status == 0 )) || failed=1
done
for study in $STUDIES; do
    tables=()
    for row in $(rows_of "$study"); do
        [[ ! -d "$base/$row" ]] || tables+=("$base/$row")
    done
    echo "== $study"
    (( ${#tables[@]} == 0 )) || "$PYTHON" "$ROOT/report.py" "${tables[@]}" --table text
done
exit "$failed"
