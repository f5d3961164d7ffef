"""A watched folder: each picture is handed out when it is whole, and only until it is finished."""

import logging
import os
import shutil
import time
from pathlib import Path

import pytest

from inference import arrivals, notices
from inference.arrivals import Watch


def make(folder: Path, done: tuple[str, ...] = (), patience: float = 60, **options) -> Watch:
    return Watch(folder, set(done), patience=patience, **options)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_picture_is_handed_out_when_it_has_stopped_growing(tmp_path):
    watch, path = make(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"1")
    assert watch.ready() == []
    path.write_bytes(b"12")
    assert watch.ready() == []
    assert watch.ready() == [path]


def test_it_is_handed_out_again_until_it_is_finished(tmp_path):
    watch, path = make(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"1")
    watch.ready()
    assert watch.ready() == watch.ready() == [path]
    watch.finish(path)
    assert watch.ready() == []


def test_what_was_done_before_is_not_handed_out(tmp_path):
    for name in ("a.png", "sub/b.png", "sub/c\n.png", "sub/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    watch = make(tmp_path, ("a.png", "sub/b.png", r"sub/c\x0a.png"), recursive=True)
    assert [watch.ready(), watch.ready()] == [[], [tmp_path / "sub" / "d.png"]]


def test_patience_begins_when_a_picture_cannot_be_read_and_anew_when_it_grows(tmp_path):
    watch, path = make(tmp_path, patience=0.2), tmp_path / "a.png"
    path.write_bytes(b"1")
    watch.ready()
    time.sleep(0.25)
    assert watch.ready() == [path] and not watch.gives_up(path)  # however long it lay there before
    path.write_bytes(b"12")
    time.sleep(0.25)
    assert not watch.gives_up(path)
    watch.ready()
    assert watch.ready() == [path] and not watch.gives_up(path)
    time.sleep(0.25)
    assert watch.ready() == [path] and watch.gives_up(path)


def test_a_picture_that_goes_is_forgotten_and_may_come_again(tmp_path):
    watch, path = make(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"1")
    watch.ready()
    path.unlink()
    assert watch.ready() == []
    path.write_bytes(b"1")
    watch.ready()
    assert watch.ready() == [path]


def test_the_oldest_comes_first(tmp_path):
    watch = make(tmp_path)
    for name in ("b", "a"):
        (tmp_path / f"{name}.png").write_bytes(b"1")
        time.sleep(0.02)
    watch.ready()
    assert [path.stem for path in watch.ready()] == ["b", "a"]


def test_a_folder_that_is_away_is_said_once_each_time_and_waited_for(tmp_path, caplog):
    folder, other = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"1")
    watch = make(folder)
    watch.ready()
    for count in (1, 2):
        folder.rename(other)
        assert [watch.ready() for _ in range(3)] == [[], [], []]
        assert len(warnings(caplog)) == count and "in cannot be looked into (No such file" in warnings(caplog)[-1]
        other.rename(folder)
        watch.ready()
        assert watch.ready() == [folder / "a.png"]
    assert len(warnings(caplog)) == 2


def test_a_picture_whose_folder_goes_while_it_is_read_is_not_given_up(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "a.png"
    path.write_bytes(b"1")
    watch = make(folder, patience=0)
    watch.ready(), watch.ready()
    folder.rename(tmp_path / "away")
    assert not watch.gives_up(path)


def test_errors_of_a_share_are_waited_for(tmp_path, caplog, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"1")
    watch, listing = make(tmp_path), os.listdir
    errors = [OSError(5, "Input/output error"), OSError(116, "Stale file handle"), PermissionError(13, "denied")]

    def fail(path: Path) -> list[str]:
        raise errors[0]

    for _ in errors.copy():
        monkeypatch.setattr(os, "listdir", fail)
        watch.ready(), watch.ready()
        monkeypatch.setattr(os, "listdir", listing)
        watch.folders[tmp_path].date = None
        watch.ready()
        errors.pop(0)
    assert [text.partition("(")[2] for text in warnings(caplog)] == [
        "Input/output error): waiting until it can.", "Stale file handle): waiting until it can.",
        "denied): waiting until it can.",
    ]  # fmt: skip
    assert watch.ready() == [tmp_path / "a.png"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(116, "Stale file handle")])
@pytest.mark.parametrize("name", ["a.png", "sub"])
def test_what_a_share_does_not_tell_for_a_while_is_neither_the_end_nor_lost(tmp_path, caplog, monkeypatch, name, error):
    """The folder is listed, but the system answers nothing about what is in it."""
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "sub" / "c.png"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1")
    ask, fails = os.stat, [True]

    def stat(path: Path, **options) -> os.stat_result:
        if fails[0] and path == tmp_path / name:
            raise error
        return ask(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    watch, wanted = make(tmp_path, recursive=True), [path for path in paths if name not in path.parts]
    for _ in range(3):
        found = watch.ready()
    assert set(found) == set(wanted)
    assert warnings(caplog) == [
        f"{tmp_path / name} cannot be looked at ({error.strerror}): waiting until it can, and for others like it."
    ]
    assert tmp_path / name in watch.left()
    fails.clear()
    fails.append(False)
    for _ in range(3):
        found = watch.ready()
    assert set(found) == set(paths)


def test_a_picture_that_cannot_be_asked_for_its_date_at_first_is_not_lost(tmp_path, monkeypatch):
    path, state = tmp_path / "a.png", arrivals._state
    path.write_bytes(b"1")
    watch, errors = make(tmp_path), iter([PermissionError(13, "Permission denied")])

    def ask(path: Path) -> tuple[int, int]:
        for error in errors:
            raise error
        return state(path)

    monkeypatch.setattr(arrivals, "_state", ask)
    assert [watch.ready() for _ in range(3)] == [[], [], [path]]


def test_what_is_left_is_what_is_not_finished(tmp_path):
    for name in ("a.png", "b.png", "sub/c.png", "empty/notes.txt", "out/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    watch = make(tmp_path, own=frozenset([tmp_path / "out"]))
    watch.ready()
    assert set(watch.left()) == {tmp_path / "a.png", tmp_path / "b.png", tmp_path / "sub"}
    for name in ("a.png", "b.png"):
        watch.finish(tmp_path / name)
    shutil.rmtree(tmp_path / "sub")
    assert watch.left() == []
    tmp_path.rename(tmp_path.with_name("away"))
    watch.ready()
    assert watch.left() == [tmp_path]
    tmp_path.with_name("away").rename(tmp_path)


def test_folders_are_followed_or_named(tmp_path, caplog):
    for name in ("sub", "odd.png", ".hidden", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"1")
    (tmp_path / "sub" / "round").symlink_to(tmp_path)
    own = frozenset([tmp_path / "out"])
    watch = make(tmp_path, recursive=True, own=own)
    for _ in range(2):
        watch.ready()
    assert set(watch.ready()) == {tmp_path / "sub" / "a.png", tmp_path / "odd.png" / "a.png"}
    shutil.rmtree(tmp_path / "sub")
    assert watch.ready() == [tmp_path / "odd.png" / "a.png"] and not warnings(caplog)
    alone = make(tmp_path, own=own)
    assert [alone.ready() for _ in range(3)] == [[], [], []]
    assert warnings(caplog) == [f"{tmp_path / 'odd.png'} is a folder: give --recursive to look into it."]


def test_files_that_are_no_pictures_are_said_once_for_all_of_a_kind(tmp_path, caplog):
    watch = make(tmp_path)
    for name in ("a.txt", "b.TXT", "c.xml"):
        (tmp_path / name).touch()
        watch.ready()
    (tmp_path / "d.psd").touch()  # a picture, so it is handed out
    end = time.monotonic() + 30
    while not ((found := watch.ready()) and len(warnings(caplog)) > 1) and time.monotonic() < end:
        time.sleep(0.01)  # notices of the system come when they come, and in turn
    assert found == [tmp_path / "d.psd"]
    assert [text.partition(" ")[0] for text in warnings(caplog)] == [f"{tmp_path}/a.txt", f"{tmp_path}/c.xml"]


def test_a_look_lists_nothing_while_nothing_changes_and_asks_nothing_of_what_is_done(tmp_path, monkeypatch):
    names = [f"{number:04d}.png" for number in range(500)]
    for name in names:
        (tmp_path / name).touch()
    listed, asked = [], []
    listing, state = os.listdir, arrivals._state
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listing(path))
    monkeypatch.setattr(arrivals, "_state", lambda path: asked.append(path) or state(path))
    monkeypatch.setattr(arrivals, "COARSEST_DATE", 0)
    watch = make(tmp_path, tuple(names))
    for _ in range(5):
        watch.ready()
    assert len(listed) == 2 and asked == []
    (tmp_path / "new.png").touch()
    watch.ready()
    assert watch.ready() == [tmp_path / "new.png"] and set(asked) == {tmp_path / "new.png"}
    assert len(listed) <= 4


def test_a_folder_whose_date_stays_is_listed_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "COARSEST_DATE", 0)
    monkeypatch.setattr(arrivals, "RELIST", 0.1)
    watch = make(tmp_path)
    watch.ready(), watch.ready()
    date = os.stat(tmp_path)
    (tmp_path / "a.png").touch()
    os.utime(tmp_path, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert watch.ready() == []
    time.sleep(0.15)
    watch.ready()
    assert watch.ready() == [tmp_path / "a.png"]


def test_with_watchdog_what_arrives_is_told_and_nothing_listed_again(tmp_path, monkeypatch):
    pytest.importorskip("watchdog", reason="needs watchdog, of requirements/dev.txt")
    (tmp_path / "sub").mkdir()
    listed, listing = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listing(path))
    monkeypatch.setattr(arrivals, "COARSEST_DATE", 0)
    watch = make(tmp_path, recursive=True)
    watch.ready(), watch.ready()
    before, wanted = len(listed), []
    for number in range(5):
        path = (tmp_path, tmp_path / "sub")[number % 2] / f"{number}.png"
        path.with_suffix(".tmp").touch()
        path.with_suffix(".tmp").rename(path)
        end = time.monotonic() + 30
        while path.name not in watch.notices.names[path.parent] and time.monotonic() < end:
            time.sleep(0.01)
        watch.ready()
        wanted.append(path)
    assert sorted(watch.ready()) == sorted(wanted) and len(listed) == before
    watch.stop()


def test_what_watchdog_itself_logs_is_not_shown(tmp_path, caplog):
    pytest.importorskip("watchdog", reason="needs watchdog, of requirements/dev.txt")
    make(tmp_path).stop()
    logging.getLogger("watchdog.observers.inotify").error("queue_events() called when the thread is inactive")
    assert not warnings(caplog)


def test_without_watchdog_everything_is_found_by_listing(tmp_path, monkeypatch):
    monkeypatch.setattr(notices, "Observer", None)
    watch = make(tmp_path)
    watch.ready()
    (tmp_path / "a.png").touch()
    watch.ready()
    assert watch.ready() == [tmp_path / "a.png"] and not watch.notices.names
    watch.stop()
