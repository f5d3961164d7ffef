"""Where a process stands: ranks, shards, devices and cores."""

import os

import pytest

from system import processes
from system.processes import Place, choose_devices, read_place

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "6", "SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "1(x2),4"}


@pytest.mark.parametrize(
    ("environment", "shard", "place"),
    [
        ({}, None, Place()),
        ({"RANK": "3"}, None, Place()),  # somebody else's variable
        (TORCHRUN, None, Place(0, 1, 3, 4, 1, 2)),
        (SLURM, None, Place(0, 1, 2, 6, 0, 4)),
        (SLURM | TORCHRUN, None, Place(0, 1, 3, 4, 1, 2)),  # torchrun under srun
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "2/15", Place(2, 15)),
        (TORCHRUN, "1/2", Place(1, 2, 3, 4, 1, 2)),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "1"}, None, Place(0, 1, 3, 4, 1, 2, restarted=True)),
        ({"SLURM_RESTART_COUNT": "2"}, "0/2", Place(0, 2, restarted=True)),
    ],
)
def test_the_place_is_read_from_launchers_and_the_shard(environment, shard, place):
    assert read_place(environment, shard) == place


@pytest.mark.parametrize(
    ("environment", "shard", "words"),
    [
        ({}, "2/2", "--shard 2/2 is not I/N"),
        ({}, "1", "the halves are 0/2 and 1/2"),
        ({}, "-1/2", "not I/N"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, None, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, None, "RANK is 'one' in the environment"),
    ],
)
def test_numbers_that_do_not_fit_are_named(environment, shard, words):
    with pytest.raises(ValueError, match=words):
        read_place(environment, shard)


@pytest.mark.parametrize(
    ("gpu", "place", "cuda_devices", "devices"),
    [
        ([], Place(), 0, [0]),  # utils.set_torch_device says what happens
        ([], Place(), 2, [0]),
        ([], Place(rank=3, world=4, local_rank=3), 4, [3]),
        ([], Place(rank=3, world=4, local_rank=3), 1, [0]),  # srun shows each task its own
        ([5], Place(rank=1, world=2, local_rank=1), 8, [5]),
        ([4, 6], Place(rank=1, world=2, local_rank=1), 8, [6]),
        ([1], Place(), 2, [1]),
        ([0, 1], Place(), 2, [0, 1]),
        ([0, 1], Place(), 0, [0]),  # one run on the CPU
        ([-1, 1], Place(), 0, [1]),
        ([-1, -1], Place(), 0, [-1, -1]),
        ([-1, 0], Place(), 1, [-1, 0]),
    ],
)
def test_devices(gpu, place, cuda_devices, devices):
    assert choose_devices(gpu, place, cuda_devices) == devices


@pytest.mark.parametrize(("shard_count", "world"), [(1, 1), (1, 3), (3, 2), (10, 2)])
def test_every_class_is_some_processs_own_and_nobody_elses(shard_count, world):
    classes = list("abcdefg")
    places = [Place(shard, shard_count, rank, world) for shard in range(shard_count) for rank in range(world)]
    assert sorted(each for place in places for each in place.own(classes)) == classes


def test_processes_of_a_launcher_read_their_own_place(monkeypatch):
    for name, value in processes.rank_variables(1, 3).items():
        monkeypatch.setenv(name, value)
    assert read_place(processes.os.environ) == Place(0, 1, 1, 3, 1, 3)
    assert processes.processes_here() == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away from a process here")
def test_only_the_cores_that_the_process_may_use_count():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processes.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert processes.usable_cores() == len(before)
