"""Where are the marked parts of a picture?"""

from typing import NamedTuple

import numpy as np


class Region(NamedTuple):
    """Marked pixels that hang together, at corners too: how many, and the box around them in pixels."""

    area: int
    x: int
    y: int
    width: int
    height: int


def regions(marked: np.ndarray) -> list[Region]:
    """Find the regions of marked pixels, bool [H, W], the largest first."""
    stride = marked.shape[1] + 2  # pixels are counted row by row, with an unmarked one on both sides of each row
    steps = np.diff(np.pad(marked, ((0, 0), (1, 1))).ravel().astype(np.int8), prepend=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)  # of runs of marked pixels; ends are behind
    first = np.searchsorted(ends, starts + stride, "left")  # of the runs in the next row that a run touches
    behind = np.searchsorted(starts, ends + stride, "right")
    roots = _joined(len(starts), first, behind)
    found = []
    for root in np.unique(roots):
        chosen = roots == root
        rows, left, right = starts[chosen] // stride, starts[chosen] % stride - 1, ends[chosen] % stride - 1
        box = left.min(), rows.min(), right.max() - left.min(), rows.max() + 1 - rows.min()
        found.append(Region(int((right - left).sum()), *map(int, box)))
    return sorted(found, reverse=True)


def _joined(count: int, first: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Give each run the number of the earliest run that it hangs together with, [count]."""
    parents = list(range(count))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    for run in range(count):
        for other in range(first[run], behind[run]):
            above, below = sorted((root(run), root(other)))
            parents[below] = above
    return np.array([root(run) for run in range(count)], dtype=int)
