"""Features kept are those computed: the same training, evaluations and centers, and nothing kept that changes."""

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from artifacts.run_state import RunState
from datasets.sampler import EpochSampler
from tests.helpers.pretended_gpu import PretendedGPU
from tests.helpers.small_glass import CPU, SIZE, Samples, small_glass
from training import feature_cache, loop
from training.feature_cache import FeatureCache
from training.selection import Selection


class Drawn(Samples):
    """Samples that take the sampler's draws and count how often they are asked for."""

    fixed_images = True
    asked = 0

    def __getitem__(self, draw) -> dict:
        self.asked += 1
        sample = super().__getitem__(getattr(draw, "index", draw))
        return sample if getattr(draw, "synthesise", True) else sample | {"aug": torch.tensor([1])}


class Padded(Drawn):
    """Samples with padding, as much as the position says, and one of unknown truth."""

    def __getitem__(self, draw) -> dict:
        sample = super().__getitem__(draw)
        sample["valid"] = torch.arange(SIZE).expand(SIZE, SIZE) < SIZE - 4 * (sample["index"] % 4)
        return sample | {"mask_known": int(sample["index"] != 1)}


def loaders(train: int = 10, test: int = 6) -> tuple[DataLoader, DataLoader]:
    training = DataLoader(Drawn(train, True), batch_sampler=EpochSampler(train, 4, 0, "mvtec_small"))
    return training, DataLoader(Drawn(test, False), batch_size=4)


@pytest.mark.parametrize("svd", [0, 1])
def test_cached_and_computed_features_train_alike(tmp_path, svd):
    weights = {}
    for cache in ("off", "host"):
        model = small_glass(tmp_path / cache, cache=cache, meta_epochs=3)
        training, test = loaders()
        training.dataset.distribution = 2 + svd
        model.trainer(training, test, "mvtec_small")
        state = model.state_dict().items()
        weights[cache] = {key: value for key, value in state if not key.endswith(("bias", "running_mean"))}
    for key, value in weights["off"].items():
        torch.testing.assert_close(weights["host"][key], value, atol=1e-4, rtol=1e-3, msg=key)


def test_images_are_read_once_for_features_and_once_an_epoch_for_defects(tmp_path):
    model = small_glass(tmp_path, cache="host", meta_epochs=3)
    training, test = loaders()
    model.trainer(training, test, "mvtec_small")
    assert training.dataset.asked == 10 + 3 * 10
    assert test.dataset.asked == 6


def test_evaluations_from_the_cache_are_the_same(tmp_path):
    model = small_glass(tmp_path, cache="host")
    _, test = loaders()
    cache = feature_cache.opened(test, "test images", CPU, "host")
    first, second = (model.evaluate(test, cache=cache) for _ in range(2))
    assert cache.full
    assert first == second == model.evaluate(test)


def test_padding_and_unknown_truth_come_back_from_the_cache(tmp_path):
    model = small_glass(tmp_path, cache="host")
    training = DataLoader(Padded(10, True), batch_sampler=EpochSampler(10, 4, 0, "mvtec_small"))
    cache = feature_cache.filled(training, "training images", model, "host")
    center = model.center(training, 3, cache)
    torch.testing.assert_close(center, model.center(training, 3), atol=1e-5, rtol=1e-5)
    training.batch_sampler.set_epoch(3, "center")
    spoilt = model.center([batch | {"image": batch["image"] * batch["valid"][:, None]} for batch in training], 3)
    assert not torch.allclose(center, spoilt, atol=1e-3)  # the pictures matter at all

    test = DataLoader(Padded(6, False), batch_size=4)
    cache = feature_cache.opened(test, "test images", CPU, "host")
    first, second = (model.evaluate(test, cache=cache) for _ in range(2))
    assert cache.full and first == second
    assert len(cache.frames) == 4


def test_the_mean_over_batches_weighs_a_partial_batch_more():
    cache, planes = FeatureCache("", 5, CPU, "host"), torch.randn(5, 2, 3, 3)
    batch = {"index": torch.arange(5), "is_anomaly": torch.zeros(5), "mask_gt": torch.zeros(5, 1, 4, 4)}
    assert cache.put(batch, [planes])
    expected = (planes[[0, 4, 1, 3]].mean(0) + planes[2]) / 2
    torch.testing.assert_close(cache.mean_over_batches(4, [2])[0][0], expected)


def test_masks_come_back_as_what_counts_as_defect():
    cache = FeatureCache("", 2, CPU, "host")
    masks = torch.zeros(2, 1, 3, 5)
    masks[1, 0, 1, 2:4] = torch.tensor([1.0, 0.99])
    cache.put(
        {"index": torch.arange(2), "is_anomaly": torch.tensor([0, 1]), "mask_gt": masks}, [torch.zeros(2, 1, 1, 1)]
    )
    (batch,) = cache.batches()
    np.testing.assert_array_equal(batch["mask_gt"], masks == 1)
    assert batch["is_anomaly"].tolist() == [0, 1]


def test_without_room_features_are_computed_in_every_epoch(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    model = small_glass(tmp_path, meta_epochs=2)
    training, test = loaders()
    model.trainer(training, test, "mvtec_small")
    assert "no room to keep features" in caplog.text
    assert test.dataset.asked == 2 * 6


@pytest.mark.parametrize("reason", ["moving images", "trained backbone", "cache off"])
def test_features_that_change_are_not_kept(tmp_path, reason):
    options = {"trained backbone": {"train_backbone": True}, "cache off": {"cache": "off"}}.get(reason, {})
    model = small_glass(tmp_path, **options)
    training, test = loaders()
    training.dataset.fixed_images = reason != "moving images"
    trainer = loop.Trainer(model, training, test, "mvtec_small", {}, Selection(), RunState(), model.cache)
    assert trainer.cache is None and (trainer.test_cache is None) == (reason != "moving images")


@pytest.mark.parametrize(("processes", "place"), [(1, "device"), (2, "device"), (3, "host")])
def test_the_processes_of_a_device_share_its_free_memory(processes, place, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    size = 36 * 4  # bytes of the features
    with PretendedGPU(devices=2) as gpu:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (3 * size, 4 * size))
        cache = FeatureCache("", 4, torch.device("cuda", 1))
        batch = {"index": torch.arange(4), "is_anomaly": torch.zeros(4), "mask_gt": torch.zeros(4, 1, 4, 4)}
        assert cache.put(batch, [torch.zeros(4, 1, 3, 3, device="cuda:1")])
        assert cache.planes[0].device == (torch.device("cuda", 1) if place == "device" else CPU)
        assert cache.place == place
    assert not gpu.faults
