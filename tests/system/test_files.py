"""Files are whole or as before, whatever comes between."""

import os
import time

import pytest

from system import files


def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.csv"
    files.atomic_write(path, b"first")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="file.csv cannot be written .No space left on device.: make room"):
        files.atomic_write(path, b"second")
    assert path.read_bytes() == b"first"
    assert [each.name for each in path.parent.iterdir()] == ["file.csv"]


@pytest.mark.parametrize("links", [True, False])
def test_of_two_who_write_a_new_file_the_first_succeeds(tmp_path, monkeypatch, links):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr(files.os, "link", refuse)
    path = tmp_path / "deep" / "file"
    assert files.write_new(path, b"first")
    assert not files.write_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["file"]


def test_where_a_file_is_in_the_way_of_a_folder_a_line_tells(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="below.csv cannot be written"):
        files.atomic_write(tmp_path / "file" / "below.csv", b"")


@pytest.mark.parametrize(("age", "left"), [(0, {"whole"}), (3600, {"whole", ".partial-young"})])
def test_what_was_left_unfinished_is_removed(tmp_path, age, left):
    for name in ("whole", ".partial-young", ".partial-old"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".partial-old", (time.time() - 7200,) * 2)
    files.remove_partial(tmp_path, age)
    assert {path.name for path in tmp_path.iterdir()} == left


def test_free_space_of_a_folder_to_come(tmp_path):
    assert files.free_bytes(tmp_path / "a" / "b") == files.free_bytes(tmp_path) > 0


def test_what_is_appended_comes_last_and_a_failure_names_the_file(tmp_path):
    files.atomic_write(tmp_path / "a.txt", b"one\n")
    files.append(tmp_path / "a.txt", b"two\n")
    assert (tmp_path / "a.txt").read_bytes() == b"one\ntwo\n"
    with pytest.raises(OSError, match="b.txt cannot be written .*: make room"):
        files.append(tmp_path / "missing" / "b.txt", b"")


def test_folders_that_were_left_unfinished_are_removed_too(tmp_path):
    (tmp_path / ".partial-x" / "y").mkdir(parents=True)
    files.remove_partial(tmp_path, age=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="no file"):
        files.read(tmp_path / "pipe")
    assert files.read(tmp_path / "file") == b"x"


def test_a_change_of_a_file_shows_in_its_state(tmp_path):
    (tmp_path / "file").write_bytes(b"one")
    before = files.state(tmp_path / "file")
    os.utime(tmp_path / "file", (1, 1))
    assert files.state(tmp_path / "file") != before and before[0] == 3
    assert files.state(tmp_path / "none") is None


def test_a_link_leads_to_the_last_target(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        files.link(tmp_path / "new" / "link", tmp_path / name)
    assert (tmp_path / "new" / "link").read_text() == "two"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["link"]
    with pytest.raises(OSError, match="one.*link cannot be written"):
        files.link(tmp_path / "one" / "link", tmp_path / "two")
