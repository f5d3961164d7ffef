#!/usr/bin/env bash
# Train and measure a peer in an environment of its own; all arguments go to anomalib_peer.py:
#   bash benchmarks/peers/run.sh --model patchcore --data DATA --class screw --size 192 --weights FILE --out FILE.json
# The packages go to benchmarks/peers/.venv, or to the folder in VENV; PYTHON names the Python to build it with.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
VENV="${VENV:-$here/.venv}"
[[ "$VENV" == /* ]] || VENV="$PWD/$VENV"

stamp="$VENV/peers.cksum"
wanted="$(cat "$here/requirements.txt" "$here/../../requirements.txt" | cksum)"
if [[ ! -f "$stamp" || "$(<"$stamp")" != "$wanted" ]]; then
    echo "Installing the peers into $VENV ..." >&2
    "${PYTHON:-python3}" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    printf '%s\n' "$wanted" >"$stamp"
fi

PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}" exec "$VENV/bin/python" -m benchmarks.peers.anomalib_peer "$@"
