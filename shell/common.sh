# Shared by the run-*.sh scripts, which source it after their own settings. Each setting comes from the environment
# if it is there; the values here are the paper's.

SEED="${SEED:-0}"
SEEDS="${SEEDS:-}" # several, such as 0,1,2, instead of SEED
GPU="${GPU:-}" # number of the CUDA device; empty: the first one, or the CPU
BACKBONES="${BACKBONES:-wideresnet50}"
LAYERS="${LAYERS-layer2 layer3}" # empty: the natural ones of the backbone
EMBED="${EMBED:-1536}" # width of a feature row
EPOCHS="${EPOCHS:-640}"
EVAL_EPOCHS="${EVAL_EPOCHS:-1}"
BATCH_SIZE="${BATCH_SIZE:-8}"
NUM_WORKERS="${NUM_WORKERS:-16}"
RESIZE="${RESIZE-288}" # empty: main.py's own
IMAGESIZE="${IMAGESIZE:-288}"
NET_OPTIONS="${NET_OPTIONS:-}"         # more options of `net`, or other values: NET_OPTIONS="--step 10 --noise 0.02"
DATASET_OPTIONS="${DATASET_OPTIONS:-}" # the same for `dataset`

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
RESULTS="${RESULTS:-$ROOT/results}"
if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    [[ ! -x "$ROOT/.venv/bin/python" ]] || PYTHON="$ROOT/.venv/bin/python"
fi

# need_folder SETTING: stop unless the folder that the setting names exists.
need_folder() {
    [[ -d "${!1}" ]] && return
    echo "$1: there is no folder '${!1}'. Set $1 at the top of $0 or in the environment." >&2
    exit 2
}

# only_tests ARGUMENTS...: whether main.py will not train.
only_tests() {
    [[ " $* " == *" --test test "* || " $* " == *" --test=test "* ]]
}

# run_glass NAME DATA_PATH [OPTIONS OF main.py]...: run main.py with all settings on one data set.
run_glass() {
    local name="$1" data_path="$2" choice
    shift 2
    local net=() dataset=() textures=() seeds=(--seed "$SEED")
    [[ -z "$SEEDS" ]] || seeds=(--seeds "$SEEDS")
    [[ " $* " != *" --seeds"* ]] || seeds=()
    for choice in $BACKBONES; do net+=(-b "$choice"); done
    for choice in $LAYERS; do net+=(-le "$choice"); done
    for choice in $CLASSES; do dataset+=(-d "$choice"); done
    if ! only_tests "$@" && [[ "$AUGPATH" != none ]]; then
        need_folder AUGPATH
        textures=("$AUGPATH")
    fi

    # shellcheck disable=SC2086  # the *_OPTIONS are meant to be split
    "$PYTHON" "$ROOT/main.py" --results_path "$RESULTS" ${seeds[@]+"${seeds[@]}"} ${GPU:+--gpu "$GPU"} "$@" \
        net "${net[@]}" --pretrain_embed_dimension "$EMBED" --target_embed_dimension "$EMBED" --patchsize 3 \
        --meta_epochs "$EPOCHS" --eval_epochs "$EVAL_EPOCHS" --dsc_layers 2 --dsc_hidden 1024 --pre_proj 1 \
        --mining 1 --noise 0.015 --radius 0.75 --p 0.5 --step 20 --limit 392 $NET_OPTIONS \
        dataset "${dataset[@]}" --distribution "$DISTRIBUTION" --mean 0.5 --std 0.1 --fg "$FG" --rand_aug 1 \
        --batch_size "$BATCH_SIZE" --num_workers "$NUM_WORKERS" ${RESIZE:+--resize "$RESIZE"} --imagesize "$IMAGESIZE" \
        $DATASET_OPTIONS "$name" "$data_path" ${textures[@]+"${textures[@]}"}
}

# test_subsets [OPTIONS OF main.py]...: test the models in MODELS on each of the SUBSETS of DATAPATH, results under
# RESULTS/<subset>; then print a table per subset and their mean.
test_subsets() {
    local base="$RESULTS" subset status=0 failed=0 tables=()
    for subset in $SUBSETS; do
        echo "== $subset"
        RESULTS="$base/$subset"
        status=0
        run_glass mvtec "$DATAPATH/$subset" "$@" --test test --models_path "$MODELS" || status=$?
        (( status < 2 )) || exit "$status" # wrong input, or interrupted
        (( status == 0 )) || failed=1
        [[ ! -f "$RESULTS/results.csv" ]] || tables+=("$RESULTS/results.csv")
    done
    (( ${#tables[@]} == 0 )) || PYTHONPATH="$ROOT" "$PYTHON" -m reporting.tables "${tables[@]}"
    exit "$failed"
}

# found_subsets NAME...: print which of the names are folders of DATAPATH; stop if none is.
found_subsets() {
    local name found=()
    for name in "$@"; do
        if [[ -d "$DATAPATH/$name" ]]; then found+=("$name"); else echo "No $name in $DATAPATH: left out." >&2; fi
    done
    if (( ${#found[@]} == 0 )); then
        echo "DATAPATH: nothing to test in '$DATAPATH'. Set DATAPATH at the top of $0 or in the environment." >&2
        exit 2
    fi
    echo "${found[*]}"
}
