"""Can all files be read? Each is opened once before any training; one that cannot be is named, or left out."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from images.reading import UnreadableImage

LOGGER = logging.getLogger(__name__)

Item, Result = TypeVar("Item"), TypeVar("Result")


def readable(
    items: Sequence[Item], check: Callable[[Item], Result], workers: int, skip_broken: bool, what: str
) -> list[tuple[Item, Result]]:
    """Check items in threads; return them with their results.

    Args:
        items: what is checked.
        check: raises UnreadableImage where an image cannot be read.
        workers: threads.
        skip_broken: leave such items out, with a warning that counts them.
        what: the items' name in it.

    Raises:
        ValueError: an image cannot be read, or with skip_broken none can.
    """

    def careful(item: Item) -> Result | UnreadableImage:
        try:
            return check(item)
        except UnreadableImage as error:
            if skip_broken:
                return error
            raise UnreadableImage(f"{str(error).rstrip('.')}, or leave such images out by --skip_broken.") from error

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(careful, items))
    broken = [result for result in results if isinstance(result, UnreadableImage)]
    if broken and len(broken) == len(items):
        raise ValueError(f"None of {len(items)} {what} can be read: {broken[0]}")
    if broken:
        LOGGER.warning("%d of %d %s cannot be read and are left out: %s", len(broken), len(items), what, broken[0])
    return [pair for pair in zip(items, results, strict=True) if not isinstance(pair[1], UnreadableImage)]
