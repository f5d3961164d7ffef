"""Large tensors lie on pages of 2 MB, which utils.py asks the system for."""

import subprocess
import sys
from pathlib import Path

import pytest

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROGRAM = """
import glass, torch
values = torch.ones(2**24)
lines = [line.split() for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")]
print(sum(int(line[1]) for line in lines))
"""


@pytest.mark.skipif(
    not SWITCH.is_file() or "[never]" in SWITCH.read_text(), reason="the system has no large pages on request"
)
def test_large_tensors_lie_on_large_pages():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 32 * 1024  # kB, of 64 MB
