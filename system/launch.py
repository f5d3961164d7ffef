"""Several processes of one command line on this machine, a device each: started, signalled and ended together.

One that fails or is killed leaves the others at work, and the worst exit status is handed back. torch.distributed's
launcher ends all of them with the first, and with status 1 whatever happened.
"""

import _thread
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from system import processes
from system.signals import SIGNALS

LOGGER = logging.getLogger(__name__)

HELD = "GLASS_HELD_BY_STDIN"  # variable: the process ends with the one that holds the other end of its standard input
LOOK_SECONDS = 0.2  # between two looks at the processes
DONE, FAILED, WRONG = 0, 1, 2  # exit statuses that a process chooses itself


class Launcher:
    """Runs this command line once per device, and waits.

    The processes see each other as torchrun's would. They get no signals but those that are handed on, as SIGTERM, and
    end when this process does, however it ends.
    """

    def __init__(self, devices: Sequence[int]) -> None:
        self.devices = devices
        self.processes: list[subprocess.Popen] = []

    def run(self) -> int:
        """Run all processes to their end and return the status of the worst of them."""
        signals: list[int] = []
        before = {signum: signal.signal(signum, lambda came, _: signals.append(came)) for signum in SIGNALS}
        try:
            for rank in range(len(self.devices)):
                if not signals:
                    self.processes.append(self._start(rank))
            self._wait(signals)
        finally:
            for process in self.processes:
                process.stdin.close()
            for signum, handler in before.items():
                signal.signal(signum, handler)
        return combined([process.returncode for process in self.processes], next(iter(signals), 0))

    def _start(self, rank: int) -> subprocess.Popen:
        device, world = self.devices[rank], len(self.devices)
        environment = os.environ | processes.rank_variables(rank, world) | {HELD: "1"}
        if device < 0:  # else each would start a thread on every core
            environment.setdefault("OMP_NUM_THREADS", str(max(1, processes.usable_cores() // world)))
        own_group = os.name == "posix"  # so that the terminal's Ctrl-C comes once, through us
        process = subprocess.Popen(
            [sys.executable, *sys.argv], stdin=subprocess.PIPE, env=environment, start_new_session=own_group
        )
        LOGGER.info("Process %d of %d runs on %s: %d.", rank, world, _place(device), process.pid)
        return process

    def _wait(self, signals: Sequence[int]) -> None:
        """Wait for all processes; hand on the signals that came, and those that still come."""
        running, handed_on = dict(enumerate(self.processes)), 0
        while running:
            time.sleep(LOOK_SECONDS)
            while handed_on < len(signals):
                handed_on += 1
                self._terminate()
            for rank, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[rank]
                if process.returncode not in (DONE, FAILED):
                    how = f"with status {process.returncode}"
                    if process.returncode < 0:
                        how = f"by {signal.Signals(-process.returncode).name}"
                    LOGGER.warning("Process %d (%s) ended %s.", rank, _place(self.devices[rank]), how)

    def _terminate(self) -> None:
        if os.name == "posix":  # elsewhere the console tells all processes itself
            for process in self.processes:
                process.send_signal(signal.SIGTERM)


def combined(statuses: Sequence[int], signum: int = 0) -> int:
    """Return the exit status of several processes, each an exit status or minus a signal's number.

    Args:
        statuses: of those that were started.
        signum: the signal that was handed on to them; 0 for none.
    """
    if signum and not (statuses and set(statuses) <= {DONE, FAILED}):  # else they had done all before it came
        return 128 + signum
    if WRONG in statuses:
        return WRONG
    return max((128 - status if status < 0 else status for status in statuses), default=DONE)


def end_with_launcher() -> None:
    """In a process that a Launcher started: be stopped as by SIGTERM when the launcher is gone."""
    if os.environ.pop(HELD, None):
        threading.Thread(target=_outlive, daemon=True).start()


def _outlive() -> None:
    with contextlib.suppress(OSError):
        os.read(0, 1)  # nothing is ever written: this returns when the other end is closed
    _thread.interrupt_main(signal.SIGTERM)


def _place(device: int) -> str:
    return "the CPU" if device < 0 else f"CUDA device {device}"
