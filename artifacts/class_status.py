"""Small files that say how far each class is; status.py shows them, and processes that share classes read them.

    models/plan.json                           the classes of the latest command line, in its order
    models/backbone_<i>/<name>/progress.json   while a class trains: where it is, and for how long still
    models/backbone_<i>/<name>/failure.json    why a class failed; it goes when the class succeeds

Each is written as a whole by one process, never added to; one that cannot be read counts as absent, with a warning.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from artifacts import layout
from artifacts.model_card import WRONG_JSON, no_number, typed
from system.files import atomic_write, read

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

PLAN, PROGRESS, FAILURE = "plan.json", "progress.json", "failure.json"
LONGEST = 1e12  # seconds that are still written as a time


@dataclass(frozen=True)
class Planned:
    """A class of a command line: "<dataset>_<class>", its backbone's name and position, its own position in -d."""

    name: str
    backbone: str = ""
    backbone_index: int = 0
    order: int = 0


@dataclass(frozen=True)
class Plan:
    """The classes of a command line."""

    classes: list[Planned]


@dataclass(frozen=True)
class Failure:
    """A class that failed, and why."""

    planned: Planned
    error: str


@dataclass(frozen=True)
class Standing:
    """Where a class in training is.

    Attributes:
        epoch: the one under way, counted from 0.
        epochs: of the whole training.
        seconds_left: of training, as expected; None before anything is known.
        best: best figures so far, as shown to people.
    """

    epoch: int
    epochs: int
    seconds_left: float | None
    best: str = ""

    def __post_init__(self) -> None:
        if self.seconds_left is not None and abs(self.seconds_left) > LONGEST:
            raise ValueError(f"{self.seconds_left:g} seconds left are more than a training takes")


def write_plan(results_path: Path, classes: Sequence[Planned]) -> None:
    """Write down what a command line wants; every process of it writes the same."""
    _write(results_path / layout.MODELS / PLAN, asdict(Plan(list(classes))))


def read_plan(results_path: Path) -> list[Planned]:
    """Return the classes of the latest command line."""
    plan = _read(Plan, results_path / layout.MODELS / PLAN)
    return [] if plan is None else plan.classes


def write_failure(folder: Path, failure: Failure) -> None:
    """Write down in a class's folder of results that it failed."""
    _write(folder / FAILURE, asdict(failure))


def read_failure(folder: Path) -> Failure | None:
    """Return how a class failed; None if it did not."""
    return _read(Failure, folder / FAILURE)


def clear(folder: Path) -> None:
    """Remove from a class's folder what only an unfinished or a failed class has."""
    for name in (PROGRESS, FAILURE):
        (folder / name).unlink(missing_ok=True)


def failures(results_path: Path) -> list[Failure]:
    """Return the failures in a results folder."""
    found = map(read_failure, layout.class_folders(results_path))
    return [failure for failure in found if failure is not None]


def write_standing(folder: Path, standing: Standing) -> None:
    """Write down where the training of a class folder is; losing it is no loss, so the disk is not waited for."""
    _write(folder / PROGRESS, asdict(standing), durable=False)


def read_standing(folder: Path) -> Standing | None:
    """Return where the training of a class folder is; None where none is under way."""
    return _read(Standing, folder / PROGRESS)


def _write(path: Path, content: dict[str, Any], durable: bool = True) -> None:
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode(), durable)


def _read(kind: type[T], path: Path) -> T | None:
    """Read a file of a kind; None where there is none, or it cannot be read, which is said."""
    try:
        return typed(kind, json.loads(read(path), parse_constant=no_number), "")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, *WRONG_JSON) as error:
        LOGGER.warning("%s cannot be read (%s) and counts as absent: delete it.", path, error)
        return None
