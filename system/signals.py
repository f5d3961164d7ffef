"""SIGINT and SIGTERM: a first one lets what must not be cut off finish, a second one ends the process at once.

The exit status is 128 and the signal's number, as shells have it: 130 and 143.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LOGGER = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Takes over the signals while its block lasts, if it is entered in the main thread.

    Where nothing is held, a signal raises SystemExit where the program stands, so that blocks are left as they should.

    Args:
        hold: note a signal instead; the block asks for it by `leave`, wherever it may end.

    Attributes:
        signum: the signal that came; 0 for none.
    """

    def __init__(self, hold: bool = False) -> None:
        self.hold, self.signum, self.pid = hold, 0, os.getpid()

    def __enter__(self) -> "Interrupts":
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            self.before = {signum: signal.signal(signum, self._take) for signum in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        if self.signum and kind is not SystemExit:  # the block ended otherwise: who is outside takes the signal
            signal.raise_signal(self.signum)

    def leave(self) -> None:
        """End the program if a signal came.

        Raises:
            SystemExit: one did.
        """
        if self.signum:
            raise SystemExit(128 + self.signum)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Hold nothing back while the block lasts, which may take long and loses nothing when it is cut off."""
        self.leave()
        self.hold = False
        try:
            yield
        finally:
            self.hold = True
        self.leave()  # where the exception was lost, as in a destructor

    def _take(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid:  # a forked loader process, which ends with its parent
            return
        if self.signum:
            os._exit(128 + signum)
        self.signum = signum
        name = signal.Signals(signum).name
        if not self.hold:
            LOGGER.warning("%s: stopping.", name)
            raise SystemExit(128 + signum)
        LOGGER.warning("%s: finishing the iteration, then saving. A second one stops at once.", name)


def stop_event() -> threading.Event:
    """Take over the signals for good, and return what the first one sets, so that the work at hand is finished."""
    stop, came = threading.Event(), []

    def take(signum: int, frame: FrameType | None) -> None:
        if came:
            os._exit(128 + signum)
        came.append(signum)
        LOGGER.warning("%s: finishing the work at hand. A second one stops at once.", signal.Signals(signum).name)
        threading.Thread(target=stop.set).start()  # not here: this thread may hold the event's lock, in stop.wait

    for signum in SIGNALS:
        signal.signal(signum, take)
    return stop


def leave_signals_to_parent(_: int = 0) -> None:
    """Let a loader process outlive signals that go to the whole process group; it ends when its parent does."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
