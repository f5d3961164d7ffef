"""tests/system/test_cores.py: to be written."""

import os

import pytest

from system import processes


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away from a process here")
def test_only_the_cores_that_the_process_may_use_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processes.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert processes.usable_cores() == len(before)
