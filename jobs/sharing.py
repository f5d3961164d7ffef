"""Sharing classes among processes that do not talk to each other: by claims, and by the files that a class leaves.

Each process does its own classes first, then those that nobody has begun, from the far end, so that whoever has less
to do takes over from whoever has more. A class counts as done once it has a result or a failure of this run. At the
end the processes that a launcher started wait for each other, as a dead one's classes become free, and as launchers
end all processes when the first one ends with a failure.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from artifacts import class_results, class_status
from system import claims
from system.processes import Place

LOGGER = logging.getLogger(__name__)

WAIT_SECONDS = 5.0  # between two looks at what others hold


class Task(Protocol):
    """A class to be done, which can be a key."""

    folder: Path  # claimed while it is done
    results: Path  # where its result or failure will be


T = TypeVar("T", bound=Task)


class Mark(NamedTuple):
    """What tells one file from another that later takes its name; None where there is no file."""

    result: tuple[int, int] | None
    failure: tuple[int, int] | None


class Team(Generic[T]):
    """The processes that share classes, as one of them sees it.

    Attributes:
        own: the tasks that this process does first.
        last: after `work`, whether it did the one after which none was left.

    Args:
        place: of this process.
        tasks: all of its shard, in the order of the command line.
        redo: what is done already is to be done again, by whoever comes first; else its own process tests it again.
    """

    def __init__(self, place: Place, tasks: Sequence[T], redo: bool = False) -> None:
        own = tasks[place.rank :: place.world]
        self.queue = [*own, *(task for task in reversed(tasks) if task not in own)]
        self.own, self.redo, self.waits = set(own), redo, place.world > 1
        self.seen = {task: _mark(task) for task in tasks}
        self.holders: dict[T, claims.Claimed] = {}  # of classes that could not be had
        self.signs: dict[T, float | None] = {}  # the first sign of life of each
        self.last = False  # whether this process did the class after which none was left

    def work(self, do: Callable[[T], None]) -> list[T]:
        """Have every class done, here or elsewhere; return those that another run holds, which were not waited for."""
        left, pending = [], self.queue
        while pending:
            pending = [task for task in pending if not self._turn(task, do)]
            if not self.waits:
                left += [task for task in pending if not self._may_be_dead(task)]
                pending = [task for task in pending if self._may_be_dead(task)]
            if pending:
                time.sleep(WAIT_SECONDS)
        return left

    def _turn(self, task: T, do: Callable[[T], None]) -> bool:
        """Do a class unless another process did, or does; return whether nothing remains to be done."""
        if self._is_settled(task):
            return True
        with ExitStack() as stack:
            try:
                stack.enter_context(claims.claim(task.folder))
            except claims.Claimed as error:
                self._note(task, error)
                return False
            if not self._is_settled(task):  # between the look and the claim
                do(task)
                self.last = all(any(_mark(each)) for each in self.seen)
        return True

    def _is_settled(self, task: T) -> bool:
        """Say whether a class has an outcome that another process left since this one began, or that is not ours."""
        mark = _mark(task)
        if not any(mark):
            return False
        return mark != self.seen[task] or (task not in self.own and not self.redo)

    def _note(self, task: T, error: claims.Claimed) -> None:
        """Note who holds a class; say so once."""
        if task not in self.holders:
            self.signs[task] = error.sign
            if self.waits:
                LOGGER.info("%s belongs to another process; waiting in case it dies.", task.folder.name)
            else:
                LOGGER.error("%s", error)
        self.holders[task] = error

    def _may_be_dead(self, task: T) -> bool:
        """Say whether the holder of a class is on another machine, without a sign of life since we first asked."""
        return self.signs[task] is not None and self.holders[task].sign == self.signs[task]


def _mark(task: Task) -> Mark:
    return Mark(*(_file_mark(task.results / name) for name in (class_results.RESULT_FILE, class_status.FAILURE)))


def _file_mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
