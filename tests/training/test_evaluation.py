"""The metrics of maps that stay on a device have the bits of the host's, and its errors."""

from functools import partial

import numpy as np
import pytest
import torch

import metrics
from glass import GLASS
from tests.helpers.pretended_gpu import CUDA, PretendedGPU
from tests.helpers.pretended_step import small
from tests.helpers.small_glass import SIZE
from training import evaluation

KINDS = ["plain", "ties", "letterbox", "unknown", "normal alone", "defects alone", "none"]


def scored_batches(kind: str) -> list[evaluation.Scored]:
    """Return batches of 3, 3 and 1 images of 16 x 16, with their scores and maps."""
    generator, batches = torch.Generator().manual_seed(0), []
    for count in (3, 3, 1) if kind != "none" else ():
        maps = torch.rand(count, 16, 16, generator=generator)
        masks = (torch.rand(count, 1, 16, 16, generator=generator) < 0.2).float()
        if kind == "ties":
            maps, masks[:, :, 0] = maps.mul(8).round().div(8), 0.5
        if "alone" in kind:
            masks.fill_(kind == "defects alone")
        batch = {"mask_gt": masks, "is_anomaly": torch.arange(count) % 2}
        if kind == "letterbox":
            batch["valid"] = torch.zeros(count, 16, 16, dtype=torch.bool)
            batch["valid"][:, 2:13] = True
            maps = maps.masked_fill(~batch["valid"], float("nan"))
        if kind in ("letterbox", "unknown"):
            batch["mask_known"] = torch.arange(count) != 1
        batches.append((batch, maps.amax((1, 2)).nan_to_num(), maps))
    return batches


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact_pixels", [metrics.EXACT_PIXELS, 1000, 10])
def test_maps_on_a_device_have_the_same_figures(kind, exact_pixels, monkeypatch):
    host, device = metrics.PixelMetrics, evaluation.DevicePixels
    monkeypatch.setattr(metrics, "PixelMetrics", partial(host, exact_pixels=exact_pixels))
    monkeypatch.setattr(evaluation, "DevicePixels", partial(device, exact_pixels=exact_pixels))
    want = evaluation.evaluate(scored_batches(kind))
    with PretendedGPU() as gpu:
        on_device = [(batch, scores.to(CUDA), maps.to(CUDA)) for batch, scores, maps in scored_batches(kind)]
        got = evaluation.evaluate(on_device, on_device=True)
    assert not gpu.faults, gpu.report()
    np.testing.assert_equal(got, want)  # to the last bit; NaN is NaN
    assert np.isnan(want["pixel_auroc"]) == (kind in KINDS[-3:])


def test_they_are_sorted_there_and_not_fetched():
    batches = scored_batches("plain")
    with PretendedGPU() as gpu:
        on_device = [(batch, scores.to(CUDA), maps.to(CUDA)) for batch, scores, maps in batches]
        gpu.reset()
        evaluation.evaluate(on_device, on_device=True)
    assert gpu.kernels["aten.sort.default"] == 2  # normal and defective pixels
    assert not gpu.faults, gpu.report()


@pytest.mark.parametrize(("on_gpu", "sorts"), [(True, 2), (False, 0)])
def test_a_model_evaluates_where_it_runs(on_gpu, sorts, monkeypatch):
    with PretendedGPU() as gpu:
        model: GLASS = small()
        image, masks = torch.randn(4, 3, SIZE, SIZE), torch.zeros(4, 1, SIZE, SIZE)
        masks[::2, :, :9] = 1
        batches = [{"image": image, "mask_gt": masks, "is_anomaly": torch.arange(4) % 2}]
        want = evaluation.evaluate(model.scored(batches))
        gpu.reset()
        if not on_gpu:
            monkeypatch.setattr(model, "device", torch.device("cpu"))
            monkeypatch.setattr(model, "scored", lambda *_: iter([(batches[0], torch.rand(4), torch.rand(4, 32, 32))]))
        got = model.evaluate(batches)
    assert gpu.kernels["aten.sort.default"] == sorts
    assert (got == want) == on_gpu and not gpu.faults, gpu.report()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch, maps: maps[0].fill_(float("nan")), "not finite"),
        (lambda batch, maps: maps[0, 0, 0].fill_(float("inf")), "not finite"),
        (lambda batch, maps: batch["mask_gt"].mul_(255), "in .0, 1."),
        (lambda batch, maps: batch["mask_gt"].sub_(0.5), "in .0, 1."),
        (lambda batch, maps: batch["mask_gt"][0, 0, 0].fill_(float("nan")), "in .0, 1."),
        (lambda batch, maps: batch.update(mask_gt=batch["mask_gt"][..., 1:]), "images x height x width"),
    ],
)
@pytest.mark.parametrize("on_device", [False, True])
def test_wrong_maps_and_masks_are_refused(spoil, message, on_device):
    batches = scored_batches("plain")
    spoil(batches[0][0], batches[0][2])
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate(batches, on_device=on_device)


def test_large_panels_shrink_and_the_least_of_a_defect_stays():
    truth, peak = np.zeros((20, 40), np.float32), np.full((20, 40), 0.25, np.float32)
    truth[7, 13] = 1
    panels = evaluation.Panels(np.full((20, 40, 3), 90, np.uint8), truth, peak)
    shown = evaluation._shrunk(panels, 10)
    assert shown.image.shape == (5, 10, 3) and (shown.image == 90).all()
    assert np.argwhere(shown.truth == 1).tolist() == [[1, 3]] and shown.truth.sum() == 1
    np.testing.assert_allclose(shown.segmentation, 0.25)
    unknown = panels._replace(truth=np.full((20, 40), 0.5, np.float32))
    assert (evaluation._shrunk(unknown, 10).truth == 0.5).all()
    assert evaluation._shrunk(panels, 40) is panels


@pytest.mark.parametrize("exact_pixels", [metrics.EXACT_PIXELS, 500])
def test_each_kind_of_defect_has_the_pixel_auroc_of_its_images_and_the_normal_ones(exact_pixels):
    generator = torch.Generator().manual_seed(0)
    kinds = ["good", "cut", "good", "oil", "cut", "oil", "lost"]
    maps = torch.rand(7, 16, 16, generator=generator).numpy()
    masks = (torch.rand(7, 1, 16, 16, generator=generator) < 0.2).float().numpy()
    masks[[0, 2]] = 0
    pixels = evaluation.KindPixels(exact_pixels)
    for part in (slice(0, 3), slice(3, 7)):
        batch = {"kind": kinds[part], "mask_known": np.array([1] * 6 + [0])[part]}
        pixels.update(batch | {"is_anomaly": [int(kind != "good") for kind in kinds[part]]}, maps[part], masks[part])
    found = pixels.compute()
    assert found.keys() == {"cut", "oil"}  # nothing is known of where the others' defects are
    for kind in found:
        own = [k for k, each in enumerate(kinds) if each in ("good", kind)]
        wanted = metrics.compute_pixelwise_retrieval_metrics(list(maps[own]), list(masks[own, 0]))["auroc"]
        assert found[kind] == pytest.approx(wanted, abs=1e-9 if exact_pixels > 500 else 1e-3)
