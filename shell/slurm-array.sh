#!/usr/bin/env bash
#SBATCH --job-name=glass
#SBATCH --array=0-14
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
# A SLURM array, each task a share of the classes of MVTec AD (or of SCRIPT), all into one results folder:
#     DATAPATH=/data/mvtec AUGPATH=/data/dtd/images sbatch shell/slurm-array.sh [main.py's options]
# Submit it from the repository. The array has SHARDS tasks, 0 to SHARDS - 1; other numbers of them:
#     SHARDS=4 sbatch --array=0-3 shell/slurm-array.sh
# A task that is pre-empted, or whose node fails, is queued again and goes on; one that ran out of time (it has saved
# two minutes before) goes on when it is submitted again, alone if need be: sbatch --array=3 shell/slurm-array.sh
set -euo pipefail

SHARDS="${SHARDS:-15}"
SCRIPT="${SCRIPT:-run-mvtec.sh}"
ROOT="${SLURM_SUBMIT_DIR:-$PWD}" # SLURM runs a copy of this file from elsewhere

if [[ -z "${SLURM_ARRAY_TASK_ID:-}" || ! -f "$ROOT/shell/$SCRIPT" ]]; then
    echo "Submit this from the repository's folder, as an array: sbatch shell/slurm-array.sh" >&2
    exit 2
fi
exec srun bash "$ROOT/shell/$SCRIPT" --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" "$@"
