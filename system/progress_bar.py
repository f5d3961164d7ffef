"""How far is it? A progress bar or, where no terminal shows one, a line in the log now and then; tqdm writes both."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LOGGER = logging.getLogger(__name__)

LINE_SECONDS = 10  # between two lines
NO_BARS = "TQDM_DISABLE"  # variable, tqdm's own; bars of several processes on one screen would spoil each other


@contextmanager
def progress_bar(
    total: int | None, name: str, unit: str = "file", initial: int = 0
) -> Iterator[Callable[[int], object]]:
    """Show progress while the block lasts.

    The block calls what it gets after each piece; after many at once, with their number.

    Args:
        total: pieces in all; None if unknown.
        name: of what is done.
        unit: of a piece; bytes, "B", are written as kB, MB and GB.
        initial: pieces that were done before.
    """
    is_hidden, done, started = hidden(), initial, time.monotonic()
    told, style = started, {"prefix": name, "unit": unit, "unit_scale": unit == "B"}
    bar = tqdm(total=total, initial=initial, desc=name, unit=unit, unit_scale=unit == "B", disable=is_hidden)

    def step(pieces: int = 1) -> None:
        nonlocal told, done
        done, now = done + pieces, time.monotonic()
        bar.update(pieces)
        if is_hidden and now - told > LINE_SECONDS:
            told = now
            LOGGER.info("%s", tqdm.format_meter(done, total, now - started, ncols=0, initial=initial, **style))

    with bar:
        yield step


def hidden() -> bool:
    """Say whether bars are not shown: where there is no terminal, or as NO_BARS says."""
    return not sys.stderr.isatty() or NO_BARS in os.environ
