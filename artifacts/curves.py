"""curves.jsonl in a class folder: the values that a training showed, every iteration and every evaluated epoch.

A line is {"iteration": 0, "loss": ..., ...} or {"epoch": 0, "i-auroc": ..., ...}; a value that is not finite is left
out. A continued run drops the lines of what it does again.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from system.files import append, atomic_write

CURVES_FILE = "curves.jsonl"
ITERATION, EPOCH = "iteration", "epoch"
POINTS = 200  # of a thinned curve
NOISE_LOSS = "noise_loss"  # tag of the part of the loss that tells normal rows from noisy ones

Curves = dict[str, list[list[float]]]  # tag -> steps and values


class CurveWriter:
    """Appends lines to a class folder's curves.jsonl.

    Args:
        folder: of the class.
        iteration, epoch: those that come first, counted from 0; lines of these and later ones go.
    """

    def __init__(self, folder: Path, iteration: int, epoch: int) -> None:
        kept = [each for each in _lines(folder) if each.get(ITERATION, -1) < iteration and each.get(EPOCH, -1) < epoch]
        self.path, self.waiting = folder / CURVES_FILE, []
        atomic_write(self.path, "".join(f"{json.dumps(each)}\n" for each in kept).encode())

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Take the values of an iteration (kind ITERATION) or of an evaluated epoch (EPOCH)."""
        finite = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        self.waiting.append(json.dumps({kind: step} | finite))

    def flush(self) -> None:
        """Write what was taken."""
        append(self.path, "".join(f"{line}\n" for line in self.waiting).encode())
        self.waiting.clear()


def read(folder: Path, exact: Sequence[str] = ()) -> Curves | None:
    """Read the curves of a class folder, thinned; None where the file is not there, or lacks a run's beginning.

    Args:
        folder: of the class.
        exact: tags of which no means are taken, see thinned.
    """
    points: dict[str, dict[int, float]] = {}
    lines = list(_lines(folder))
    if not any(line.get(ITERATION) == 0 for line in lines):
        return None
    for line in lines:
        step = line.pop(ITERATION) if ITERATION in line else line.pop(EPOCH)
        for tag, value in line.items():
            points.setdefault(tag, {})[step] = value
    return {tag: thinned(points[tag], tag in exact) for tag in sorted(points)}


def thinned(points: Mapping[int, float], exact: bool) -> list[list[float]]:
    """Cut a curve into at most POINTS runs of equal length; return the mean of each, or with exact its last value."""
    steps, values = np.array(sorted(points.items()), float).T
    runs = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
    take: Callable[[np.ndarray], float] = (lambda part: part[-1]) if exact else np.mean
    return [[float(f"{take(each[run]):.6g}") for run in runs] for each in (steps, values)]


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a class folder's file; one that a kill cut off ends it."""
    path = folder / CURVES_FILE
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            return
        if not isinstance(line, dict) or not {ITERATION, EPOCH} & set(line):
            return
        yield line
