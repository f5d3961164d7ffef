import os

import pytest

import shards


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away from a process here")
def test_only_the_cores_that_the_process_may_use_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert shards.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert shards.usable_cores() == len(before)
