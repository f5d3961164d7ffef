"""Downloads against a server in this process: whole, checked, resumed, and refused with a line that helps."""

import threading
import time
from pathlib import Path

import pytest

from system import download
from tests.helpers.file_server import CONTENT, SHA256, Handler


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"weights.bin.lock"}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "checkpoints" / "weights.bin"


@pytest.mark.parametrize("wanted", [SHA256, SHA256[:8]])
def test_a_file_comes_whole_and_only_once(server, path, wanted):
    for _ in range(2):
        assert download.fetch(f"{server.url}/file", path, wanted).read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert names(path.parent) == {"weights.bin"}


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"", b"x" + CONTENT[1:]])
def test_a_damaged_file_is_told_and_fetched_again(server, path, caplog, damage):
    path.parent.mkdir()
    path.write_bytes(damage)
    download.fetch(f"{server.url}/file", path, SHA256[:8])
    assert path.read_bytes() == CONTENT
    assert f"{path} is damaged" in caplog.text


def test_the_hash_that_the_hub_promises_is_checked_and_kept(server, path, caplog):
    download.fetch(f"{server.url}/hub/model", path)
    assert (path.parent / "weights.bin.sha256").read_text() == f"{SHA256}  weights.bin\n"
    path.write_bytes(CONTENT[:1000])
    download.fetch(f"{server.url}/hub/model", path)
    assert path.read_bytes() == CONTENT
    assert "damaged" in caplog.text
    server.promise = "0" * 64
    path.unlink()
    (path.parent / "weights.bin.sha256").unlink()
    with pytest.raises(ValueError, match="wanted is 000000000000"):
        download.fetch(f"{server.url}/hub/model", path)
    assert not names(path.parent)


def test_without_any_hash_the_first_file_is_remembered(server, path):
    download.fetch(f"{server.url}/file", path)
    path.write_bytes(b"x" + CONTENT[1:])
    download.fetch(f"{server.url}/file", path)
    assert path.read_bytes() == CONTENT


def test_another_file_is_refused_and_the_old_one_stays(server, path):
    path.parent.mkdir()
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="what came has SHA-256"):
        download.fetch(f"{server.url}/file", path, "0" * 8)
    assert names(path.parent) == {"weights.bin"}
    assert path.read_bytes() == b"old"


def test_a_broken_download_goes_on_where_it_stopped(server, path):
    server.cut = 1 << 20
    with pytest.raises(ValueError, match=f"connection lost after {1 << 20} of {len(CONTENT)} bytes"):
        download.fetch(f"{server.url}/file", path, SHA256)
    assert names(path.parent) == {"weights.bin.part"}
    server.cut = None
    download.fetch(f"{server.url}/file", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={1 << 20}-"]
    assert names(path.parent) == {"weights.bin"}


@pytest.mark.parametrize("partial", [CONTENT[:1000], b"x" * 1000, CONTENT + b"x"])
@pytest.mark.parametrize("ranges", [True, False])
def test_any_leftover_ends_in_the_right_file(server, path, partial, ranges):
    server.ranges = ranges
    path.parent.mkdir()
    (path.parent / "weights.bin.part").write_bytes(partial)
    download.fetch(f"{server.url}/file", path, SHA256)
    assert path.read_bytes() == CONTENT


def test_several_processes_at_once_download_it_once(server, path):
    calls = [threading.Thread(target=download.fetch, args=(f"{server.url}/file", path, SHA256)) for _ in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_missing_file_says_so(server, path):
    with pytest.raises(ValueError, match="404"):
        download.fetch(f"{server.url}/lost", path)


def test_without_a_network_the_message_comes_at_once(path):
    started = time.monotonic()
    with pytest.raises(ValueError) as caught:
        download.fetch("http://127.0.0.1:1/weights", path, advice=", or give --backbone_weights FILE")
    assert time.monotonic() - started < 2
    message = str(caught.value)
    assert "weights.bin from http://127.0.0.1:1/weights" in message
    assert f"put it at {path}, or give --backbone_weights FILE." in message
    assert "\n" not in message


def test_a_silent_host_is_not_waited_for(server, path, monkeypatch):
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(Handler, "send_file", lambda _: time.sleep(1))
    with pytest.raises(ValueError, match=r"no answer within 0.2 s"):
        download.fetch(f"{server.url}/file", path, SHA256)
