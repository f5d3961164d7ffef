"""A watched folder: each picture is handed out when it is whole, and only until it is finished."""

import time
from pathlib import Path

from inference.arrivals import Watch


def make(folder: Path, done: set[Path] = frozenset(), patience: float = 60) -> Watch:
    return Watch(lambda: sorted(folder.glob("*.png")), done, patience)


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
    (tmp_path / "a.png").write_bytes(b"1")
    watch = make(tmp_path, {tmp_path / "a.png"})
    assert [watch.ready(), watch.ready()] == [[], []]


def test_patience_begins_anew_when_the_file_grows(tmp_path):
    watch, path = make(tmp_path, patience=0.2), tmp_path / "a.png"
    path.write_bytes(b"1")
    watch.ready()
    time.sleep(0.25)
    path.write_bytes(b"12")
    watch.ready()
    assert not watch.is_final(path)
    time.sleep(0.25)
    assert watch.ready() == [path] and watch.is_final(path)


def test_a_picture_that_goes_is_forgotten(tmp_path):
    watch, path = make(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"1")
    watch.ready()
    path.unlink()
    assert watch.ready() == []


def test_the_oldest_comes_first(tmp_path):
    watch = make(tmp_path)
    for name in ("b", "a"):
        (tmp_path / f"{name}.png").write_bytes(b"1")
        time.sleep(0.02)
    watch.ready()
    assert [path.stem for path in watch.ready()] == ["b", "a"]
