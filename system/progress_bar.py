"""A progress bar, or a line in the log now and then where there is no terminal."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LOGGER = logging.getLogger(__name__)

LINE_SECONDS = 30


@contextmanager
def progress_bar(total: int, name: str) -> Iterator[Callable[[], object]]:
    """Show progress while the block lasts, by a bar or, without a terminal, by a line now and then.

    The block calls what it gets after each piece.
    """
    hidden, told, done = not sys.stderr.isatty(), time.monotonic(), 0
    with tqdm(total=total, desc=name, unit="file", disable=hidden) as bar:

        def step() -> None:
            nonlocal told, done
            done += 1
            bar.update()
            if hidden and time.monotonic() - told > LINE_SECONDS:
                told = time.monotonic()
                LOGGER.info("%s: %d of %d files", name, done, total)

        yield step
