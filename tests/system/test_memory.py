"""Freed memory is kept for the next tensors, unless the environment says otherwise."""

import platform
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock, call

import pytest

from system import memory

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import ctypes, resource, sys
from concurrent.futures import ThreadPoolExecutor
from system import memory

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a large page is a single fault

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        b"1" * (40 * 2**20)  # more than what the C library ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def report():
    return faults(), memory.keep_freed(), faults(), faults()

print(*report() if sys.argv[1] == "main" else ThreadPoolExecutor().submit(report).result())
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it takes the GNU C library")


@pytest.mark.parametrize("thread", ["main", "another"])
@needs_glibc
def test_freed_memory_is_kept(monkeypatch, thread):
    for name in (*memory.OWN, "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", PROGRAM, thread], cwd=ROOT, capture_output=True, text=True, check=True)
    before, kept, _, after = done.stdout.split()
    assert kept == "True"
    assert int(before) > 4 * 40 * 2**20 / 2**16  # pages of at most 64 KB
    assert int(after) < 100


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        *((name, "65536", False) for name in memory.OWN),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=65536", False),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=4", True),
    ],
)
@needs_glibc
def test_the_environment_has_its_way(monkeypatch, name, value, kept):
    for each in (*memory.OWN, "GLIBC_TUNABLES"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, value)
    library = Mock(**{"mallopt.return_value": 1})
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: library)
    assert memory.keep_freed() is kept
    never_trim, never_map = call(-1, -1), call(-4, 0)  # a great number would trim what is greater
    assert library.mallopt.call_args_list == ([never_trim, never_map] if kept else [])


def test_another_system_goes_without(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed() is False
