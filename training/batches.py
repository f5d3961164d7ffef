"""Which batches an epoch draws: the order, the start of a continued epoch, and the limit that ends it."""

from collections.abc import Iterable, Iterator
from itertools import islice


def set_epoch(loader: Iterable[dict], epoch: int, purpose: str, start: int = 0) -> bool:
    """Tell a loader's batch sampler what to draw.

    Args:
        loader: whose `batch_sampler` is an EpochSampler, or anything else.
        epoch: counted from 0.
        purpose: "train" or "center", which draw different orders.
        start: batches of the epoch that are left out.

    Returns:
        False where the sampler is none of ours, and chooses for itself.
    """
    sampler = getattr(loader, "batch_sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch, purpose, start)
        return True
    return False


def training_batches(loader: Iterable[dict], epoch: int, start: int, stop: int) -> Iterator[dict]:
    """Yield the training batches of an epoch from `start` on, before `stop`; earlier ones are not even made."""
    if start == stop:
        return iter(())
    skipped = start if set_epoch(loader, epoch, "train", start) else 0
    return islice(loader, start - skipped, stop - skipped)


def steps_of_an_epoch(loader: Iterable[dict], limit: int) -> int:
    """Return the iterations of an epoch, which ends after the batch that brings the images seen above the limit."""
    batch_size = getattr(loader, "batch_size", None) or getattr(loader.batch_sampler, "batch_size", 1)
    return min(len(loader), limit // batch_size + 1)
