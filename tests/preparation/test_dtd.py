"""The textures are fetched and unpacked whole, or not at all."""

import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest

import prepare
from tests.helpers.pictures import write
from tests.helpers.prepare_line import call, one_line, picture

TEXTURES = {f"dtd/images/dots/{i}.jpg": bytes([i]) * 1000 for i in range(3)}


def archive(**members: tarfile.TarInfo | bytes) -> bytes:
    """Pack files of dtd/, and other members as they are."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def served(server, monkeypatch) -> Callable[[bytes], str]:
    """A function that serves an archive as the real one, and returns its address."""

    def serve(content: bytes) -> str:
        server.content = content
        monkeypatch.setattr(prepare, "DTD_SHA256", hashlib.sha256(content).hexdigest())
        return f"{server.url}/file"

    return serve


def test_textures_are_fetched_and_unpacked_once(served, server, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.audit, "DTD_TEXTURES", 3)
    url, out = served(archive(**TEXTURES)), tmp_path / "new" / "out"
    for _ in range(2):
        result = call("dtd", out, "--url", url)
        assert result.exit_code == 0
        assert f"AUG_PATH is {out}/dtd/images" in result.output
    assert len(server.asked) == 1
    assert (out / "dtd/images/dots/2.jpg").read_bytes() == bytes([2]) * 1000
    assert not list(out.glob(".partial*"))


def test_a_download_that_was_cut_off_goes_on(served, server, tmp_path):
    url = served(archive(**TEXTURES))
    server.cut = 100
    line = one_line(call("dtd", tmp_path, "--url", url))
    assert "connection lost after 100" in line
    server.cut = None
    assert call("dtd", tmp_path, "--url", url).exit_code == 0
    assert server.asked == [None, "bytes=100-"]


def test_another_archive_is_refused(served, tmp_path, monkeypatch):
    url = served(archive(**TEXTURES))
    monkeypatch.setattr(prepare, "DTD_SHA256", "0" * 64)
    assert "what came has SHA-256" in one_line(call("dtd", tmp_path, "--url", url))
    assert not (tmp_path / "dtd").exists()


def test_without_a_network_file_address_and_place_are_named(tmp_path):
    result = call("dtd", tmp_path, "--url", "http://127.0.0.1:1/dtd-r1.0.1.tar.gz")
    line = one_line(result)
    assert len(result.output.splitlines()) == 1
    assert "dtd-r1.0.1.tar.gz from http://127.0.0.1:1/dtd-r1.0.1.tar.gz" in line
    assert f"put it at {tmp_path}/dtd-r1.0.1.tar.gz, or name a mirror by --url." in line


@pytest.mark.parametrize(
    "evil",
    [
        member("../evil"),
        member("dtd/../../evil"),
        member("/etc/evil"),
        member("dtd/link", tarfile.SYMTYPE, "../../evil"),
        member("dtd/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("dtd/link", tarfile.LNKTYPE, "../evil"),
        member("dtd/pipe", tarfile.FIFOTYPE),
    ],
    ids=["parent", "hidden parent", "absolute path", "link outside", "absolute link", "hard link outside", "pipe"],
)
def test_unsafe_archives_leave_nothing(served, tmp_path, evil):
    out = tmp_path / "out"
    url = served(archive(**TEXTURES, evil=evil))
    assert "cannot be unpacked" in one_line(call("dtd", out, "--url", url))
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {path.name for path in out.iterdir()} == {prepare.DTD_ARCHIVE, f"{prepare.DTD_ARCHIVE}.lock"}


def test_an_archive_that_swells_is_refused(served, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "DTD_BYTES", 2500)
    url = served(archive(**TEXTURES))
    assert "holds more than 2500 bytes" in one_line(call("dtd", tmp_path, "--url", url))
    assert not (tmp_path / "dtd").exists()


def test_a_folder_that_is_there_is_not_touched(served, tmp_path):
    mine = write(tmp_path / "dtd/images/dots/mine.png", picture(0))
    assert "is there already" in one_line(call("dtd", tmp_path, "--url", served(archive(**TEXTURES))))
    assert mine.is_file()
