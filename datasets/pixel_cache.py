"""Decoded pixels, kept from their first use on, so that no later epoch decodes them again; no sample changes by it.

They lie in memory that all processes share. It is made before loader workers start and goes to them with the data set,
forked or pickled. Whoever needs an array first writes it into its slot; two who do so at once write the same bytes.
Where shared memory is too small, as it often is in containers, each process keeps what it can on its own.
"""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
import torch
from torch.utils.data import get_worker_info

from system.processes import processes_here

LOGGER = logging.getLogger(__name__)

CACHE_BYTES = 2 * 10**9  # that all processes together keep, at most
SHARE = 0.25  # of the free memory, at most
SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps it; other systems set no limit of its own
SHARED_SHARE = 0.5  # of its free space, at most: batches pass through it as well


class Pixels(Protocol):
    """Where decoded pixels are kept."""

    def get(self, index: int, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return array `index`, not to be written to; `read` makes it where it is not kept."""


class OwnPixels:
    """Arrays that a process keeps for itself; workers divide the room between them, and start empty.

    Args:
        room: bytes, of all processes together.
    """

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.kept: dict[int, np.ndarray] = {}
        self.size = 0  # bytes

    def get(self, index: int, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array; keep it if there is room."""
        if index in self.kept:
            return self.kept[index]
        pixels = read()
        worker = get_worker_info()
        if self.size + pixels.nbytes <= self.room // (worker.num_workers if worker else 1):
            self.kept[index] = pixels
            self.size += pixels.nbytes
        return pixels


class SharedPixels:
    """uint8 arrays of known shapes in shared memory.

    Args:
        shapes: of the arrays; those at the end that do not fit into `room` are made anew at every use.
        room: bytes.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], room: int) -> None:
        ends = np.cumsum([0, *map(math.prod, shapes)])
        kept = int(np.searchsorted(ends, room, side="right")) - 1
        self.shapes, self.starts = shapes[:kept], ends[: kept + 1]
        self.memory = torch.empty(int(ends[kept]), dtype=torch.uint8).share_memory_()
        self.written = torch.zeros(kept, dtype=torch.bool).share_memory_()

    def get(self, index: int, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array; write it into its slot if nobody has."""
        if index >= len(self.shapes):
            return read()
        slot = self.memory.numpy()[self.starts[index] : self.starts[index + 1]].reshape(self.shapes[index])
        written = self.written.numpy()
        if not written[index]:
            pixels = read()
            if pixels.shape != slot.shape:  # the file has changed, or its header does not tell how it is turned
                return pixels
            slot[:] = pixels
            written[index] = True  # after the pixels: who sees it may read them
        slot.setflags(write=False)
        return slot


def keep_pixels(name: str, shapes: Sequence[tuple[int, ...]], sharing: int = 1) -> Pixels:
    """Choose where arrays of these shapes are kept, the first ones first, and say so.

    Args:
        name: of the data set.
        shapes: of its arrays.
        sharing: data sets that do so at once, and divide the room.
    """
    size = sum(map(math.prod, shapes))  # bytes
    others = processes_here() * sharing  # that may do the same just now
    room = min(CACHE_BYTES // sharing, int(SHARE * psutil.virtual_memory().available / others))
    free = shutil.disk_usage(SHARED_MEMORY).free / others if SHARED_MEMORY.is_dir() else math.inf
    shared = min(size, room) <= SHARED_SHARE * free
    where = "shared memory" if shared else f"each process apart, as {SHARED_MEMORY} has only {free / 1e9:.2f} GB free"
    kept = f"{size / 1e9:.2f} GB" if size <= room else f"the first {room / 1e9:.2f} of {size / 1e9:.2f} GB"
    LOGGER.info("%s: decoded pixels are kept in %s: %s.", name, where, kept)
    return SharedPixels(shapes, room) if shared else OwnPixels(room)
