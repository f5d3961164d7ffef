"""Where a process stands among those that share a command line's classes, and on which device it runs.

Classes are independent, so processes need not talk: each is told its number, by a launcher's environment (torchrun,
srun, or main.py itself with several --gpu) or by --shard. Pure functions of the environment and of options.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

LAUNCHERS = (  # variables of rank, processes, rank on this machine, processes on this machine; the first found counts
    ("RANK", "WORLD_SIZE", "LOCAL_RANK", ("LOCAL_WORLD_SIZE",)),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")),
)
RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")  # above 0: a launcher started this command again


def usable_cores() -> int:
    """Return how many cores this process may use: fewer than the machine has under taskset and in many containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Place:
    """Where a process stands.

    Attributes:
        shard, shards: it has to do with every shards-th class only, from class `shard` on.
        rank, world: its number among the processes that a launcher started for those classes.
        local_rank, local_world: the same among those of this machine.
        restarted: the launcher started the command before.
    """

    shard: int = 0
    shards: int = 1
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    restarted: bool = False

    def part(self, classes: Sequence[T]) -> list[T]:
        """Return the classes of the shard."""
        return list(classes[self.shard :: self.shards])

    def own(self, classes: Sequence[T]) -> list[T]:
        """Return those classes of the shard that this process begins with, and nobody else does."""
        return self.part(classes)[self.rank :: self.world]


def read_place(environment: Mapping[str, str], shard: str | None = None) -> Place:
    """Read where a process stands.

    Args:
        environment: variables as launchers set them.
        shard: "I/N" of the command line; None for all classes.

    Raises:
        ValueError: numbers that are none, or do not fit together.
    """
    restarted = any(_number(environment, name, 0) > 0 for name in RESTARTS)
    shares = read_shard(shard) if shard is not None else (0, 1)
    for rank, world, local_rank, local_worlds in LAUNCHERS:
        if rank in environment and world in environment:
            numbers = (_number(environment, rank, 0), _number(environment, world, 1))
            if not 0 <= numbers[0] < numbers[1]:
                raise ValueError(f"{rank} is {numbers[0]} and {world} is {numbers[1]}: ranks count from 0 to one less.")
            here = next((_most(environment[name]) for name in local_worlds if name in environment), 1)
            return Place(*shares, *numbers, _number(environment, local_rank, 0), here, restarted)
    return Place(*shares, restarted=restarted)


def read_shard(text: str) -> tuple[int, int]:
    """Read "I/N".

    Raises:
        ValueError: it is something else, or I is not one of 0 .. N - 1.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"--shard {text} is not I/N with I from 0 to N - 1: the halves are 0/2 and 1/2.")
    return int(match[1]), int(match[2])


def choose_devices(gpu: Sequence[int], place: Place, cuda_devices: int) -> list[int]:
    """Return the devices to run on, -1 for the CPU; with more than one, a process is wanted on each.

    Args:
        gpu: --gpu of the command line; empty where it is not given.
        place: of this process.
        cuda_devices: how many there are.
    """
    if not gpu:
        return [place.local_rank % max(cuda_devices, 1)]
    if place.world > 1:
        return [gpu[place.local_rank % len(gpu)]]
    cuda = [index for index in gpu if index >= 0]
    return cuda[:1] if cuda and cuda_devices == 0 else list(gpu)


def rank_variables(rank: int, world: int) -> dict[str, str]:
    """Return the environment that makes a process of this machine the rank-th of several."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    return {name: str(number) for name, number in numbers.items()}


def processes_here() -> int:
    """Return how many processes of this command share the machine, and its memory."""
    return read_place(os.environ).local_world


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip() or str(default)
    if not text.isdecimal():
        raise ValueError(f"{name} is {text!r} in the environment, not a number: unset it, or correct the launcher.")
    return int(text)


def _most(text: str) -> int:
    """Return the largest number of "4" or, as SLURM has it, "4(x2),3"."""
    counts = [int(number) for number in re.findall(r"\d+", re.sub(r"\(x\d+\)", "", text))]
    return max(counts, default=1)
