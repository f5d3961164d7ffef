"""Processes that share classes; here a class is done by writing a file."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import pytest

from artifacts import class_results, class_status
from jobs import sharing
from jobs.sharing import Team
from system import claims
from system.processes import Place


class Task(NamedTuple):
    """A class in one folder."""

    folder: Path

    @property
    def results(self) -> Path:
        """The same folder."""
        return self.folder


FIRST, SECOND = Place(rank=0, world=2), Place(rank=1, world=2)


@pytest.fixture
def tasks(tmp_path) -> list[Task]:
    return [Task(tmp_path / "models" / f"mvtec_{letter}") for letter in "abcde"]


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(sharing, "WAIT_SECONDS", 0.01)


def finish(task: Task, name: str = class_results.RESULT_FILE) -> None:
    """Leave an outcome."""
    task.folder.mkdir(parents=True, exist_ok=True)
    (task.folder / name).write_text("{}")


class Doing:
    """Does classes, and remembers which."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def __call__(self, task: Task) -> None:
        self.done.append(task.folder.name[-1])
        finish(task)


def test_own_classes_come_first_then_the_others_from_the_far_end(tasks):
    doing = Doing()
    assert Team(SECOND, tasks).work(doing) == []
    assert doing.done == list("bdeca")


def test_what_others_have_done_meanwhile_is_not_done_again(tasks):
    team, doing = Team(FIRST, tasks), Doing()
    finish(tasks[0])
    finish(tasks[1], class_status.FAILURE)
    team.work(doing)
    assert doing.done == list("ced")


def test_of_what_was_done_before_each_does_its_own_again(tasks):
    for task in tasks:
        finish(task)
    doings = [Doing(), Doing()]
    for place, doing in zip((FIRST, SECOND), doings, strict=True):
        Team(place, tasks).work(doing)
    assert [doing.done for doing in doings] == [list("ace"), list("bd")]


def test_everything_is_done_again_on_request_and_once(tasks):
    for task in tasks:
        finish(task)
    teams = [Team(place, tasks, redo=True) for place in (FIRST, SECOND)]
    for task in tasks[:3]:
        (task.folder / class_results.RESULT_FILE).unlink()  # moved aside
    doings = [Doing(), Doing()]
    for team, doing in zip(teams, doings, strict=True):
        team.work(doing)
    assert [doing.done for doing in doings] == [list("acedb"), []]


@pytest.mark.parametrize("place", [Place(), FIRST])
def test_who_does_the_last_class_knows_it(tasks, place):
    team = Team(place, tasks)
    team.work(Doing())
    other = Team(SECOND, tasks)
    other.work(lambda task: None)  # tests its own again
    assert team.last
    nothing = Team(SECOND, tasks[:1])
    nothing.work(Doing())
    assert not nothing.last


def test_a_single_process_leaves_what_another_run_holds(tasks):
    doing = Doing()
    with claims.claim(tasks[1].folder):
        assert Team(Place(), tasks).work(doing) == [tasks[1]]
    assert doing.done == list("acde")


def test_what_a_colleague_holds_is_waited_for(tasks, monkeypatch):
    team, doing, sleep = Team(FIRST, tasks), Doing(), time.sleep
    with claims.claim(tasks[1].folder):

        def pass_time(seconds: float) -> None:
            finish(tasks[1])
            sleep(seconds)

        monkeypatch.setattr(sharing.time, "sleep", pass_time)
        assert team.work(doing) == []
    assert doing.done == list("aced")


def test_what_a_dead_colleague_held_is_taken_over(tasks):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    claim_as(tasks[1], pid=dead.pid)
    doing = Doing()
    Team(FIRST, tasks).work(doing)
    assert doing.done == list("acedb")


@pytest.mark.parametrize(("alive", "left"), [(True, 1), (False, 0)])
def test_whether_a_holder_on_another_machine_lives_is_waited_for(tasks, monkeypatch, alive, left):
    path, doing, sleep = claim_as(tasks[0], host="elsewhere"), Doing(), time.sleep

    def pass_time(seconds: float) -> None:
        touched = time.time() + 1 if alive else time.time() - claims.STALE - 1
        os.utime(path, (touched, touched))  # a sign of life, or as much time as it takes
        sleep(seconds)

    monkeypatch.setattr(sharing.time, "sleep", pass_time)
    assert len(Team(Place(), tasks).work(doing)) == left
    assert doing.done == list("bcde") + ["a"] * (1 - left)


def claim_as(task: Task, **changes: object) -> Path:
    """Write a claim of another process."""
    path = task.folder.parent / claims.CLAIMS / f"{task.folder.name}-1"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(claims._owner() | changes))
    return path


def take_part(tasks: list[Task], rank: int, done: "multiprocessing.SimpleQueue[str]", begin: Barrier) -> None:
    """Be one of four processes."""
    team = Team(Place(rank=rank, world=4), tasks)
    begin.wait()

    def do(task: Task) -> None:
        time.sleep(0.002 * rank)
        done.put(task.folder.name)
        finish(task)

    team.work(do)
    done.put("")


def test_of_several_processes_one_does_each_class(tmp_path):
    tasks = [Task(tmp_path / "models" / f"mvtec_{i:02d}") for i in range(24)]
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    done, begin = context.SimpleQueue(), context.Barrier(4)
    processes = [context.Process(target=take_part, args=(tasks, rank, done, begin)) for rank in range(4)]
    for process in processes:
        process.start()
    names, ended = [], 0
    while ended < 4:
        name = done.get()
        names, ended = names + [name] * bool(name), ended + (not name)
    for process in processes:
        process.join()
    assert sorted(names) == [task.folder.name for task in tasks]
