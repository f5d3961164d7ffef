"""Large tensors ask for pages of 2 MB, by what utils.py sets; the system grants as many as it has."""

import subprocess
import sys
from pathlib import Path

import pytest

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROGRAM = """
import re, sys
import utils, torch
values = torch.ones(2**24)
mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read(), flags=re.M)
for mapping in filter(None, mappings):
    start, end = (int(part, 16) for part in mapping.split()[0].split("-"))
    if start <= values.data_ptr() + 2**25 < end:
        print(mapping.partition("VmFlags:")[2])
"""


@pytest.mark.skipif(
    not SWITCH.is_file() or "[never]" in SWITCH.read_text(), reason="the system has no large pages on request"
)
@pytest.mark.parametrize(("wanted", "expected"), [(None, True), ("0", False)])
def test_large_tensors_ask_for_large_pages(monkeypatch, wanted, expected):
    if wanted is not None:
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", wanted)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    assert ("hg" in done.stdout.split()) == expected  # the kernel's mark of a mapping that asked
