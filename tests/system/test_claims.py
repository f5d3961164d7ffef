"""Claims: of several processes one holds a folder, until it gives it back or dies, whatever the clock says."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest

from system import claims
from system.claims import Claimed, claim

ROOT = Path(claims.__file__).parents[1]
moving_starts = pytest.mark.skipif(not psutil.LINUX, reason="elsewhere the clock does not move starts of processes")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "models" / "mvtec_nut"


def write_claim(folder: Path, number: int = 1, age: float = 0, **changes: object) -> Path:
    """Write a claim of this process, changed and as old as told."""
    path = folder.parent / ".claims" / f"{folder.name}-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(claims._owner() | changes))
    os.utime(path, (time.time() - age,) * 2)
    return path


def ended_process() -> int:
    """Return the number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def moved_clock(proc: Path, seconds: int) -> Path:
    """Make what /proc shows of this process once the clock is set ahead by so many seconds."""
    proc.mkdir()
    text = Path("/proc/stat").read_text()
    moved = re.sub(r"(?m)^btime (\d+)$", lambda found: f"btime {int(found[1]) + seconds}", text)
    assert moved != text
    (proc / "stat").write_text(moved)
    (proc / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    return proc


def test_a_claim_keeps_others_out_until_it_is_given_back(folder):
    with claim(folder) as path:
        assert path.is_file()
        with pytest.raises(Claimed, match=f"process {os.getpid()} on "), claim(folder):
            pass
        with claim(folder.with_name("mvtec_nut-1")):  # another folder of a like name
            pass
    assert claims.holder(folder) is None
    with claim(folder) as later:
        assert (path.exists(), later.exists()) == (False, True)


def test_a_claim_ends_with_its_block_however_that_ends(folder):
    with pytest.raises(SystemExit), claim(folder):
        raise SystemExit(143)
    assert claims.holder(folder) is None


@pytest.mark.parametrize("number_reused", [False, True])
def test_a_process_that_is_gone_holds_nothing(folder, number_reused):
    write_claim(folder, 4, **({"started": 0.0} if number_reused else {"pid": ended_process()}))
    with claim(folder) as path:
        assert [each.name for each in path.parent.iterdir()] == ["mvtec_nut-5"]


def test_a_zombie_holds_nothing(folder):
    process = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    write_claim(folder, pid=process.pid, started=psutil.Process(process.pid).create_time())
    assert claims.holder(folder) is None
    process.wait()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_process_of_this_machine_that_is_suspended_keeps_its_claim(folder):
    lines = f"from pathlib import Path; from system.claims import claim\nwith claim(Path({str(folder)!r})) as path:\n"
    lines += "    print(path, flush=True)\n    input()\n"
    process = subprocess.Popen([sys.executable, "-c", lines], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True)
    path = Path(process.stdout.readline().strip())
    process.send_signal(signal.SIGSTOP)
    os.utime(path, (time.time() - 10 * claims.STALE,) * 2)
    with pytest.raises(Claimed, match=f"process {process.pid} on "), claim(folder):
        pass
    process.send_signal(signal.SIGCONT)
    process.communicate("\n")
    assert claims.holder(folder) is None


@moving_starts
@pytest.mark.parametrize("seconds", [-86400, -5, 5, 86400])
def test_a_clock_that_is_set_frees_no_claim(folder, tmp_path, monkeypatch, seconds):
    with claim(folder):
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(moved_clock(tmp_path / "proc", seconds)))
        assert claims.holder(folder) is not None
        with pytest.raises(Claimed), claim(folder):
            pass
        monkeypatch.undo()
    assert claims.holder(folder) is None


@moving_starts
def test_a_clock_that_is_set_lets_no_other_process_pass_for_the_owner(folder, tmp_path, monkeypatch):
    write_claim(folder, started=psutil.Process().create_time() - 60)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(moved_clock(tmp_path / "proc", -60)))
    assert claims.holder(folder) is None


@pytest.mark.parametrize("started", [psutil.Process().create_time(), 0.0], ids=["own", "none"])
def test_a_claim_that_does_not_say_what_starts_are_told_from_is_judged_too(folder, started):
    path = write_claim(folder, started=started)
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "booted"}))
    assert (claims.holder(folder) is not None) is (started > 0)


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"boot": "another container"}])
@pytest.mark.parametrize(("age", "held"), [(claims.STALE - 60, True), (claims.STALE + 60, False)])
def test_on_another_machine_the_heartbeat_decides(folder, changes, age, held):
    path = write_claim(folder, age=age, pid=ended_process(), **changes)
    assert (claims.holder(folder) is not None) is held
    if held:
        with pytest.raises(Claimed) as caught, claim(folder):
            pass
        assert caught.value.sign == path.stat().st_mtime


def test_on_this_machine_no_sign_of_life_is_needed(folder):
    with claim(folder), pytest.raises(Claimed) as caught, claim(folder):
        pass
    assert caught.value.sign is None


def test_who_may_only_read_sees_who_holds(folder, monkeypatch):
    assert claims.holder(folder) is None and not folder.parent.exists()
    write_claim(folder)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    monkeypatch.setattr(claims.tempfile, "NamedTemporaryFile", refuse)
    assert f"process {os.getpid()}" in claims.holder(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": "x"}', b"\xff"])
def test_a_claim_that_cannot_be_read_counts_until_it_is_old(folder, content):
    path = write_claim(folder)
    path.write_bytes(content)
    with pytest.raises(Claimed, match="if you know it to be dead, remove"), claim(folder):
        pass
    os.utime(path, (time.time() - claims.STALE - 60,) * 2)
    with claim(folder):
        pass


def test_the_owner_keeps_its_claim_young(folder, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT", 0.01)
    with claim(folder) as path:
        before = time.time() - 60
        os.utime(path, (before, before))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime < before + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > before + 1


def test_a_file_system_without_links_will_do(folder, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with claim(folder), pytest.raises(Claimed), claim(folder):
        pass
    assert claims.holder(folder) is None


def take(folder: Path, go: float, won: "multiprocessing.SimpleQueue[bool]", ended: Event) -> None:
    """Try once to claim a folder, at a moment that is the same for all."""
    time.sleep(max(0, go - time.time()))
    try:
        with claim(folder):
            won.put(True)
            ended.wait()
    except Claimed:
        won.put(False)


def test_of_many_who_take_over_at_once_one_succeeds(folder):
    write_claim(folder, started=0.0)
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    won, ended, go = context.SimpleQueue(), context.Event(), time.time() + 0.5
    processes = [context.Process(target=take, args=(folder, go, won, ended)) for _ in range(8)]
    for process in processes:
        process.start()
    wins = sum(won.get() for _ in processes)
    ended.set()
    for process in processes:
        process.join()
    assert wins == 1


def compete(folder: Path, inside: "multiprocessing.Value", wrong: "multiprocessing.Value", times: int) -> None:
    """Claim a folder as often as possible; count the times that it is not for one process alone."""
    for _ in range(times):
        with contextlib.suppress(Claimed), claim(folder):
            with inside.get_lock():
                inside.value += 1
                wrong.value += inside.value != 1
            time.sleep(0.001)
            with inside.get_lock():
                inside.value -= 1


def test_two_never_hold_a_folder_at_once(folder):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    inside, wrong = context.Value("i", 0), context.Value("i", 0)
    processes = [context.Process(target=compete, args=(folder, inside, wrong, 150)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert wrong.value == 0
