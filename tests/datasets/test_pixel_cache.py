"""Decoded pixels are kept where there is room, and no sample changes by it."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from datasets import pixel_cache
from datasets.pixel_cache import OwnPixels, SharedPixels
from tests.helpers.data_sets import all_same, epochs, nut


class Counted(Dataset):
    """Tells how many arrays are kept after each of three reads, in each of two workers."""

    def __init__(self, kept):
        self.kept = kept

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.kept.get(i, lambda: np.zeros(25, np.uint8))
        return len(self.kept.kept)


def test_workers_change_nothing(mvtec):
    data = nut(mvtec, fg=1, brightness_factor=0.3)
    assert all_same(epochs(data), epochs(data, workers=2))


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_kept_pixels_change_nothing_and_are_shared_by_all_processes(mvtec, workers, context):
    data = nut(mvtec, fg=1, brightness_factor=0.3)
    fresh = epochs(data)
    with data.kept_pixels():
        assert isinstance(data.pixels, SharedPixels) and not data.pixels.written.any()
        assert all_same(fresh, epochs(data, workers, context))
        assert data.pixels.written.all()  # seen from this process: images, foreground masks and textures
        for folder in ("dtd", "nut/train"):
            shutil.rmtree(mvtec / folder)
        assert all_same(fresh, epochs(data))  # nothing is decoded any more
    with pytest.raises(FileNotFoundError):
        data[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_without_room_in_shared_memory_each_process_keeps_its_own(mvtec, monkeypatch, caplog, workers):
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(pixel_cache, "SHARED_MEMORY", mvtec)
    data = nut(mvtec, fg=1)
    fresh = epochs(data)
    with caplog.at_level("INFO"), data.kept_pixels():
        assert isinstance(data.pixels, OwnPixels) and all_same(fresh, epochs(data, workers))
        assert len(data.pixels.kept) == (0 if workers else 12)
    (line,) = caplog.messages
    assert line.startswith("mvtec_nut: decoded pixels are kept in each process apart") and "0.00 GB free" in line


def test_only_what_fits_into_the_budget_is_kept(mvtec, monkeypatch):
    data = nut(mvtec)
    fresh = epochs(data)
    one = 32 * 38 * 3  # bytes of an image
    monkeypatch.setattr(pixel_cache, "CACHE_BYTES", 3 * one + 1)
    with data.kept_pixels():
        assert len(data.pixels.written) == 3 and all_same(fresh, epochs(data))
    own = OwnPixels(3 * one + 1)
    data.pixels = own
    assert all_same(fresh, epochs(data)) and len(own.kept) == 3


def test_room_for_nothing_is_no_error(mvtec, monkeypatch):
    monkeypatch.setattr(pixel_cache, "CACHE_BYTES", 0)
    data = nut(mvtec)
    with data.kept_pixels():
        assert all_same(epochs(data), epochs(data))


def test_pixels_of_another_shape_than_their_slot_are_not_kept():
    shared = SharedPixels([(2, 3)], 100)
    for value in (1, 2):
        assert (shared.get(0, lambda: np.full((3, 2), value, np.uint8)) == value).all()  # noqa: B023
    with pytest.raises(ValueError, match="read-only"):
        shared.get(0, lambda: np.zeros((2, 3), np.uint8))[:] = 1


def test_workers_divide_the_room_of_each_process_apart():
    loader = DataLoader(Counted(OwnPixels(100)), batch_size=None, num_workers=2)
    assert list(loader) == [1, 1, 2, 2, 2, 2]  # arrays of 25 bytes: two fit into half of the room
