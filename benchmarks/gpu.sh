#!/usr/bin/env bash
# Measures what only a GPU can show, in one call of under ten minutes; the same call goes on where the last one ended.
# From any folder: bash benchmarks/gpu.sh --data DATA/mvtec --textures DATA/dtd/images --weights resnet18.pth
# Packages that the machine lacks are taken from WHEELS, a folder of wheels, without any download.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
WHEELS="${WHEELS:-$ROOT/wheels}"
SITE="${SITE:-$ROOT/results/gpu-site}" # where they are installed
if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    [[ ! -x "$ROOT/.venv/bin/python" ]] || PYTHON="$ROOT/.venv/bin/python"
fi

if [[ -d "$WHEELS" ]]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --upgrade --target "$SITE" "$WHEELS"/*.whl
    export PYTHONPATH="$SITE${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "$PYTHON" -m benchmarks.gpu "$@"
