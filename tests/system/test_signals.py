"""SIGINT and SIGTERM: the first one lets work finish, the second one does not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from system.signals import SIGNALS, Interrupts, stop_event

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, signal, sys
from system.signals import Interrupts
with Interrupts(hold=True) as interrupts:
    for _ in range(int(sys.argv[1])):
        os.kill(os.getpid(), signal.SIGTERM)
    print("finished", flush=True)
    interrupts.leave()
print("never")
"""


STOP_EVENT = """
import os, signal, sys, threading, time
from system.signals import stop_event
stop = stop_event()
def send():
    for _ in range(int(sys.argv[1])):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
threading.Thread(target=send, daemon=True).start()
while not stop.wait(0.0001):
    pass
time.sleep(1)
print("finished", flush=True)
"""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_program_where_nothing_is_held(signum, status):
    with pytest.raises(SystemExit) as ended, Interrupts():
        os.kill(os.getpid(), signum)
    assert ended.value.code == status


def test_a_held_signal_waits_until_it_is_asked_for(caplog):
    with pytest.raises(SystemExit) as ended, Interrupts(hold=True) as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        done = True
        interrupts.leave()
    assert done and ended.value.code == 130
    assert "SIGINT: finishing the iteration" in caplog.text


def test_a_signal_cuts_off_what_is_released():
    with pytest.raises(SystemExit) as ended, Interrupts(hold=True) as interrupts, interrupts.released():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")
    assert ended.value.code == 143


def test_a_signal_is_not_forgotten_by_a_block_that_fails():
    with pytest.raises(SystemExit) as ended, Interrupts(), Interrupts(hold=True):
        os.kill(os.getpid(), signal.SIGTERM)
        raise FloatingPointError
    assert ended.value.code == 143


def test_the_handlers_of_before_come_back():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("times", "outcome"), [(1, (0, "finished\n")), (2, (143, ""))])
def test_a_first_signal_sets_the_event_and_a_second_one_stops_at_once(times, outcome):
    done = subprocess.run([sys.executable, "-c", STOP_EVENT, str(times)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == outcome
    assert "SIGTERM: finishing the work at hand" in done.stderr


def test_a_signal_that_comes_while_the_event_is_waited_for_cannot_lock_up():
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        stop = stop_event()
        with stop._cond:  # as inside of stop.wait
            signal.raise_signal(signal.SIGINT)
        assert stop.wait(10)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@pytest.mark.parametrize(("times", "output"), [(1, "finished\n"), (2, "")])
def test_the_second_signal_stops_at_once(times, output):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(times)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (143, output)
