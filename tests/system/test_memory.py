"""Freed memory is kept for the next tensors, unless the environment says otherwise, and can be handed back."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from system import memory

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import resource
import torch
from system import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def size():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

print(faults(), memory.keep_freed(), [faults(), faults()][1], size(), memory.hand_back_freed(), size(), faults())
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it takes the GNU C library")


def run(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")  # a large page is a single fault
    for name in memory.OWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


@needs_glibc
def test_freed_memory_is_kept_until_it_is_handed_back(monkeypatch):
    before, kept, fewer, large, handed_back, small, after = run(monkeypatch)
    assert kept == handed_back == "True"
    assert int(before) > 8 * 2**26 / 2**16 and int(after) > 8 * 2**26 / 2**16  # pages of at most 64 KB
    assert int(fewer) < 100
    assert int(large) - int(small) > 2**25


@needs_glibc
def test_the_environment_has_its_way(monkeypatch):
    assert run(monkeypatch, MALLOC_MMAP_MAX_="65536")[1] == "False"


def test_another_system_goes_without(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed() is memory.hand_back_freed() is False
