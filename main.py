"""Command line: `python main.py [options] net [options] dataset [options] NAME DATA_PATH [AUG_PATH]`.

The three parts are chained: the group says where results go and on which device, `net` which networks, `dataset`
which images; artifacts/commands/ holds every option. Each class is checked, trained, tested with its best and its last
weights, and written to results.csv.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import torch
from click.core import ParameterSource

from artifacts.options import DataOptions, NetOptions, RunOptions, parameters, with_recipe
from artifacts.run_info import recipe_of
from datasets.base import JUDGE_ONLY
from jobs.job import Job
from jobs.settings import Settings
from system import launch, logs, processes
from system.processes import Place
from system.progress_bar import NO_BARS
from system.signals import Interrupts
from utils import set_deterministic, torch_device

LOGGER = logging.getLogger(__name__)

NAMED = "named"
UNNAMED = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)

T = TypeVar("T")


@click.group(chain=True, context_settings={"show_default": True})
@parameters(RunOptions)
def main(**_: Any) -> None:
    """Train and test GLASS, which learns to find defects from good images only."""


@main.result_callback()
def run(parts: list[NetOptions | DataOptions], **group: Any) -> None:
    """Run what the chained commands describe.

    Exits with 0: done; 1: a class failed, or another run trains it; 2: wrong input, or nowhere to write to;
    130 or 143: SIGINT or SIGTERM stopped it, and the same command continues.
    """
    given = {type(part): part for part in parts}
    for wanted, kind in (("net", NetOptions), ("dataset", DataOptions)):
        if kind not in given:
            raise click.UsageError(
                f"The command '{wanted}' is missing: main.py [options] net [options] dataset [options] ..."
            )
    parts = {"run": made(RunOptions, group), "net": given[NetOptions], "data": given[DataOptions]}
    named = note_named()
    if {"seed", "seeds"} <= named:
        raise click.UsageError("--seed is for one training, --seeds for several: leave one out.")
    begun = None if parts["run"].fresh else recipe_of(parts["run"].results_path, parts["data"].name)
    options, networks = made(with_recipe, parts | {"named": named, "begun": begun})
    try:
        with Interrupts():
            place, devices = take_place(options.results_path, options.shard, options.gpu)
            if options.deterministic:
                set_deterministic()
            job = Job(Settings.of(options, networks, given[DataOptions]), devices, place)
            failed = job.judge() if given[DataOptions].distribution == JUDGE_ONLY else job.run()
    except (ValueError, OSError) as error:
        LOGGER.error("%s", error)
        sys.exit(2)
    sys.exit(1 if failed else 0)


def made(kind: Callable[..., T], values: dict[str, Any]) -> T:
    """Return options made of click's values; what does not fit together is an error in the usage."""
    try:
        return kind(**values)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def note_named() -> set[str]:
    """Note which options of the command at hand stand on the command line; return those noted so far."""
    context = click.get_current_context()
    named: set[str] = context.meta.setdefault(NAMED, set())  # all commands of a line share it
    named.update(name for name in context.params if context.get_parameter_source(name) not in UNNAMED)
    return named


def take_place(results_path: Path, shard: str | None, gpu: tuple[int, ...]) -> tuple[Place, list[int]]:
    """Return the place of this process and its one device; if several are wanted, run a process on each, and exit.

    Raises:
        ValueError: wrong options or variables, or a device that does not exist.
        SystemExit: the processes have ended.
    """
    place = processes.read_place(os.environ, shard)
    devices = processes.choose_devices(gpu, place, torch.cuda.device_count())
    logs.log_to(results_path, place)
    launch.end_with_launcher()
    if len(devices) > 1:
        for device in devices:
            torch_device([device] if device >= 0 else [])  # refuses one that is not there
        sys.exit(launch.Launcher(devices).run())
    if place.world > 1:
        os.environ.setdefault(NO_BARS, "1")
    return place, devices


@main.command("net", context_settings={"show_default": True})
@parameters(NetOptions)
def net(**values: Any) -> NetOptions:
    """Choose the networks and how they are trained."""
    note_named()
    return made(NetOptions, values)


@main.command("dataset", context_settings={"show_default": True})
@parameters(DataOptions)
def dataset(**values: Any) -> DataOptions:
    """Choose the images: data set NAME in DATA_PATH, textures for synthetic defects in AUG_PATH (dtd/images).

    The NAME folder is for your own pictures: DATA_PATH/CLASS holds the good ones. Without AUG_PATH, or with the word
    none, textures are drawn by formula.
    """
    return made(DataOptions.given, values)


if __name__ == "__main__":
    main()
