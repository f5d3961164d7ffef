"""What the C library does with memory that tensors gave back."""

import ctypes
import os
import sys

KEEP = ((-1, -1), (-4, 0))  # mallopt(3): M_TRIM_THRESHOLD, never; M_MMAP_MAX, no tensor in a mapping of its own
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")  # users' variables


def keep_freed() -> bool:
    """Keep freed memory for the next tensors, and do not hand it back to the system.

    A training step on the CPU frees and asks again for gigabytes. Each time the system would map fresh pages and fill
    them with zeros. The process stays as large as it was at its largest. Tensors of more than 64 MB are kept in the
    main thread only.

    Returns:
        whether it was told so: of the GNU C library, where the environment says nothing else. Another allocator, loaded
        in its place, does what it does.
    """
    told = any(name in os.environ for name in OWN) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    if told or not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):  # another C library
        return False
    return all([library.mallopt(name, value) for name, value in KEEP])
