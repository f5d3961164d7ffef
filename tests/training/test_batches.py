"""Batches that stream across epochs are those of one epoch after the other."""

import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.sampler import EpochSampler
from tests.datasets.conftest import mvtec  # noqa: F401
from tests.helpers.data_sets import nut, same
from training.batches import TrainingBatches

EPOCHS = 3


def batches(root, kept, workers, start=(0, 0)):
    """Return the batches from (epoch, position) on, two an epoch, of five images."""
    data = nut(root)
    sampler = EpochSampler(len(data), 2, seed=0, name="mvtec_nut")
    loader = DataLoader(data, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    training = TrainingBatches(loader, 2, kept)
    first, position = start
    return [list(training.of(epoch, position if epoch == first else 0, 2)) for epoch in range(first, EPOCHS)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_the_batches_of_one_epoch_after_the_other(mvtec, workers):  # noqa: F811
    apart, stream = batches(mvtec, False, 0), batches(mvtec, True, workers)
    assert [len(epoch) for epoch in stream] == [2, 2, 2]
    for whole, part in zip(sum(apart, []), sum(stream, []), strict=True):
        assert same(part, {key: whole[key] for key in part}) and "image" not in part
    continued = batches(mvtec, True, workers, start=(1, 1))
    assert [len(epoch) for epoch in continued] == [1, 2]
    assert all(map(same, sum(continued, []), sum(stream, [])[3:]))


def test_a_run_that_stopped_at_the_end_of_an_epoch_goes_on_with_the_next(mvtec):  # noqa: F811
    assert [len(epoch) for epoch in batches(mvtec, True, 0, start=(1, 2))] == [0, 2]


class Counted(Dataset):
    """Numbers, and how many of them workers have made."""

    def __init__(self) -> None:
        self.made = torch.zeros(1, dtype=torch.long).share_memory_()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, draw) -> int:
        self.made += 1
        return draw.index


def test_workers_begin_the_next_epoch_while_one_is_evaluated_and_keep_few():
    data, sampler = Counted(), EpochSampler(4, 2, seed=0, name="mvtec_nut")
    training = TrainingBatches(DataLoader(data, batch_sampler=sampler, num_workers=1), 2, kept=True)
    assert len(list(training.of(0, 0, 2))) == 2
    end = time.monotonic() + 60
    while data.made < 8 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert data.made == 8  # of two batches, and of the two that a worker keeps ready
