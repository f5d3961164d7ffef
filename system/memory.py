"""What the C library does with memory that tensors gave back."""

import ctypes
import os
import sys

# Parameters of mallopt(3) in malloc.h of the GNU C library.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")  # by which users say it themselves
LARGEST = 2**31 - 1


def keep_freed() -> bool:
    """Keep freed memory for the next tensors, and do not hand it back to the system.

    A training step on the CPU frees and asks again for gigabytes. Each time the system would map fresh pages and fill
    them with zeros. The process stays as large as it was at its largest.

    Returns:
        whether it does: with the GNU C library, where the environment says nothing else.
    """
    return _set({TRIM_THRESHOLD: LARGEST, MMAP_MAX: 0})


def hand_back_freed() -> bool:
    """Hand freed memory back to the system, as the C library does by itself with large tensors; see keep_freed."""
    mega = 2**20
    done = _set({TRIM_THRESHOLD: 64 * mega, MMAP_THRESHOLD: 32 * mega, MMAP_MAX: 65536})
    if done:
        ctypes.CDLL(None).malloc_trim(0)
    return done


def _set(values: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux") or any(name in os.environ for name in OWN):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):  # another C library
        return False
    return all([library.mallopt(name, value) for name, value in values.items()])
