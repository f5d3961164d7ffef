"""tests/system/test_signals.py: to be written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from system.signals import Interrupts

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


@pytest.mark.parametrize(("times", "output"), [(1, "finished\n"), (2, "")])
def test_the_second_signal_stops_at_once(times, output):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(times)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (143, output)
