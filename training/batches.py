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


class TrainingBatches:
    """The training batches of one epoch after the other.

    Where nothing but training reads the loader, its workers go on to the next epoch while one is evaluated, and an
    epoch does not begin with a wait for its first samples.

    Args:
        loader: of training batches; it streams where its `batch_sampler` is an EpochSampler.
        steps: batches of an epoch.
        kept: whether the images' features are, so that the loader is read by training alone, and without the images.
    """

    def __init__(self, loader: Iterable[dict], steps: int, kept: bool) -> None:
        self.loader, self.steps = loader, steps
        self.sampler = getattr(loader, "batch_sampler", None)
        self.streams = kept and hasattr(self.sampler, "stream")
        self.stream: Iterator[dict] | None = None

    def of(self, epoch: int, start: int, stop: int) -> Iterator[dict]:
        """Yield the batches of an epoch from `start` on, before `stop`; earlier ones are not even made.

        Epochs come in order, each to its last step but the last.
        """
        if start == stop:
            return iter(())
        if not self.streams:
            skipped = start if set_epoch(self.loader, epoch, "train", start) else 0
            return islice(self.loader, start - skipped, stop - skipped)
        if self.stream is None:
            self.sampler.stream(epoch, start, self.steps)
            self.stream = iter(self.loader)
        return islice(self.stream, stop - start)


def steps_of_an_epoch(loader: Iterable[dict], limit: int) -> int:
    """Return the iterations of an epoch, which ends after the batch that brings the images seen above the limit."""
    batch_size = getattr(loader, "batch_size", None) or getattr(loader.batch_sampler, "batch_size", 1)
    return min(len(loader), limit // batch_size + 1)
