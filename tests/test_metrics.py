"""Metrics against scikit-learn, closed forms, and plain implementations that follow the definitions word by word."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from skimage import measure
from sklearn.metrics import auc, average_precision_score, f1_score, roc_auc_score

import metrics
from metrics import ImageMetrics, PixelMetrics


def pictures(seed: int, images: int = 6, side: int = 96, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw maps that see the defects of the masks through noise, and masks with fractions at their edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    masks = np.zeros((images, side, side), np.float32)
    for index in range(1, images):
        for cy, cx, radius in zip(*rng.integers(0, side, (2, 3)), rng.integers(2, side // 6, 3), strict=True):
            masks[index][(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1
    noise = np.stack([cv2.GaussianBlur(rng.random((side, side), np.float32), (0, 0), 2) for _ in masks])
    maps = noise + 0.2 * np.stack([cv2.GaussianBlur(mask, (0, 0), 4) for mask in masks])
    if ties:
        maps[:, ::5] = maps[:, ::5].round(2)
    edges = np.stack([cv2.resize(cv2.resize(mask, (side // 2,) * 2), (side, side)) for mask in masks])
    return maps.astype(np.float32), edges


def streamed(maps: np.ndarray, masks: np.ndarray, **options: int) -> dict[str, float]:
    """Compute all pixel metrics from uneven batches."""
    accumulator = PixelMetrics(**options)
    for part in (slice(0, 1), slice(1, 4), slice(4, None)):
        accumulator.update(maps[part], masks[part, None])
    return accumulator.compute()


def regions_of(mask: np.ndarray) -> list[np.ndarray]:
    """Return each 8-connected region as a bool mask."""
    labels = measure.label(mask == 1, connectivity=2)
    return [labels == index for index in range(1, labels.max() + 1)]


def plain_pro(masks: np.ndarray, maps: np.ndarray) -> float:
    """Compute the release's PRO as it is described, a threshold at a time."""
    regions = [regions_of(mask) for mask in masks]
    low, high = maps.min(), maps.max()
    points = []
    for threshold in np.arange(low, high, (high - low) / np.float32(200)):
        binary = maps > threshold
        dilated = [cv2.dilate(each.astype(np.uint8), np.ones((5, 5), np.uint8)) for each in binary]
        shares = [each[region].mean() for each, own in zip(dilated, regions, strict=True) for region in own]
        points.append((binary[masks < 1].sum() / (1 - masks.astype(float)).sum(), np.mean(shares)))
    fpr, pro = np.array([point for point in points if point[0] < 0.3]).T
    return auc((fpr - fpr.min()) / (fpr.max() - fpr.min() + 1e-10), pro)


def plain_aupro(masks: np.ndarray, maps: np.ndarray, limit: float = 0.3) -> float:
    """Compute the standard AUPRO from the curve over every value of the maps."""
    regions = [(index, region) for index, mask in enumerate(masks) for region in regions_of(mask)]
    normal = np.sort(maps[masks < 1])
    inside = [np.sort(maps[index][region]) for index, region in regions]
    levels = np.unique(maps)[::-1]
    above = [1 - np.searchsorted(values, levels) / len(values) for values in (normal, *inside)]
    fpr, pro = np.append(0, above[0]), np.append(0, np.mean(above[1:], axis=0))
    last = np.flatnonzero(fpr <= limit)[-1]
    end = pro[last] + (pro[last + 1] - pro[last]) * (limit - fpr[last]) / (fpr[last + 1] - fpr[last])
    return auc(np.append(fpr[: last + 1], limit), np.append(pro[: last + 1], end)) / limit


@pytest.mark.parametrize("decimals", [1, 3, 8])
@pytest.mark.parametrize("count", [2, 7, 1000])
def test_image_metrics_equal_scikit_learn(count: int, decimals: int) -> None:
    rng = np.random.default_rng(count + decimals)
    labels = np.arange(count) % 2
    scores = (rng.random(count) + 0.3 * labels).round(decimals)
    result = metrics.compute_imagewise_retrieval_metrics(scores, labels, "eval")
    assert result["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert result["ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_image_metrics_by_hand() -> None:
    accumulator = ImageMetrics()
    accumulator.update([0.9, 0.5], [1, 0])
    accumulator.update([0.5, 0.1], [1, 0])
    result = accumulator.compute()
    assert result["auroc"] == 3.5 / 4  # of four pairs three are in order and one ties
    assert result["ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_pixel_metrics_equal_scikit_learn(seed: int) -> None:
    maps, masks = pictures(seed)
    labels = masks.astype(int).ravel()
    result = metrics.compute_pixelwise_retrieval_metrics(maps, masks[:, None], "eval")
    assert result["auroc"] == pytest.approx(roc_auc_score(labels, maps.ravel()), abs=1e-12)
    assert result["ap"] == pytest.approx(average_precision_score(labels, maps.ravel()), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_pro_equals_its_description(seed: int) -> None:
    maps, masks = pictures(seed)
    assert metrics.compute_pro(masks, maps) == pytest.approx(plain_pro(masks, maps), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_aupro_equals_a_plain_implementation(seed: int) -> None:
    maps, masks = pictures(seed)
    assert metrics.compute_aupro(masks, maps) == pytest.approx(plain_aupro(masks, maps), abs=1e-12)


def test_aupro_of_a_known_curve() -> None:
    # Normal and defective values are both spread evenly, defects higher by half: PRO = min(0.5 + FPR, 1), so the
    # area up to 0.3 is 0.3 (0.5 + 0.15).
    ramp = np.linspace(0, 1, 10_000, endpoint=False, dtype=np.float32)
    maps = np.stack([ramp, ramp + 0.5]).reshape(2, 100, 100)
    masks = np.stack([np.zeros((100, 100)), np.ones((100, 100))])
    assert metrics.compute_aupro(masks, maps) == pytest.approx(0.65, abs=1e-4)


def test_aupro_weighs_regions_not_pixels() -> None:
    masks, maps = np.zeros((1, 20, 20), np.float32), np.zeros((1, 20, 20), np.float32)
    masks[0, :10, :10] = 1  # missed
    masks[0, 15, 15] = masks[0, 16, 16] = 1  # one region, as it is 8-connected; found
    maps[masks == 1] = [0.0] * 100 + [1.0] * 2
    # A share of 0.5 without false alarms; then one tie takes everything to (1, 1): 0.5 + 0.5 fpr.
    assert metrics.compute_aupro(masks, maps) == pytest.approx(0.5 + 0.5 * 0.15)


def test_chance_level() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((20, 64, 64), np.float32), (rng.random((20, 64, 64)) > 0.5).astype(np.float32)
    result = streamed(maps, masks)
    assert result["auroc"] == pytest.approx(0.5, abs=0.01)
    assert result["ap"] == pytest.approx(0.5, abs=0.01)
    assert result["aupro"] == pytest.approx(0.15, abs=0.01)


def test_perfect_maps() -> None:
    _, masks = pictures(0)
    result = streamed((masks == 1) + np.linspace(0, 0.5, masks.size, dtype=np.float32).reshape(masks.shape), masks)
    assert (result["auroc"], result["ap"], result["aupro"]) == pytest.approx((1, 1, 1), abs=1e-12)


def test_fractions_count_as_normal() -> None:
    maps = np.array([[[0.1, 0.2, 0.3, 0.4]]], np.float32)
    masks = np.array([[[0, 0.99, 0.5, 1]]])
    assert metrics.compute_pixelwise_retrieval_metrics(maps, masks)["auroc"] == 1


def test_streaming_equals_one_call() -> None:
    maps, masks = pictures(4)
    result = streamed(maps, masks)
    assert result["pro"] == metrics.compute_pro(masks, maps)
    assert result["aupro"] == metrics.compute_aupro(masks, maps)


def test_compute_can_be_called_midway() -> None:
    maps, masks = pictures(4)
    accumulator = PixelMetrics()
    accumulator.update(maps[:3], masks[:3])
    first = accumulator.compute()
    assert accumulator.compute() == first
    accumulator.update(maps[3:], masks[3:])
    assert accumulator.compute() == pytest.approx(streamed(maps, masks))


def test_compute_can_be_called_before_the_first_defect() -> None:
    maps, masks = pictures(4)
    accumulator = PixelMetrics(exact_pixels=2 * maps[0].size)
    accumulator.update(maps[:1], masks[:1])  # without defects
    assert np.isnan(accumulator.compute()["pro"])
    accumulator.update(maps[1:], masks[1:])  # folds
    assert accumulator.compute() == streamed(maps, masks, exact_pixels=2 * maps[0].size)


def sigmoid(maps: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-30 * (maps - 0.6)))


CHANGES = [lambda maps: maps, lambda maps: maps - 0.55, lambda maps: -maps, lambda maps: 1000 * maps, sigmoid]


@pytest.mark.parametrize("change", CHANGES, ids=["as drawn", "around zero", "below zero", "thousands", "sigmoid"])
@pytest.mark.parametrize("ties", [False, True])
def test_folded_agrees_with_exact(change: Callable[[np.ndarray], np.ndarray], ties: bool) -> None:
    maps, masks = pictures(5, images=20, side=160, ties=ties)
    maps = change(maps).astype(np.float32)
    exact, folded = streamed(maps, masks), streamed(maps, masks, exact_pixels=100_000)  # folds at the second batch
    assert exact != folded
    for key, tolerance in {"auroc": 4e-8, "ap": 2e-5, "pro": 2e-6, "aupro": 2e-6}.items():
        assert folded[key] == pytest.approx(exact[key], abs=4 * tolerance if ties else tolerance), key


@pytest.mark.parametrize(("middle", "spread"), [(12, 0.4), (14, 1.0), (-14, 1.0)])
def test_folded_maps_that_are_saturated_give_the_exact_figures(middle: float, spread: float) -> None:
    rng, masks = np.random.default_rng(0), np.zeros((12, 64, 64))
    masks[::2, 20:40, 20:40] = 1
    logits = rng.normal(middle, spread, masks.shape) + 2 * spread * masks
    maps = (1 / (1 + np.exp(-logits))).astype(np.float32)
    exact, folded = streamed(maps, masks), streamed(maps, masks, exact_pixels=0)
    assert 0.9 < exact["auroc"] < 0.93
    for key in exact:
        assert folded[key] == pytest.approx(exact[key], abs=1e-9 if middle > 0 else 1e-5, nan_ok=True), key


def test_folded_values_next_to_one_are_kept_as_they_are() -> None:
    values = 1 - np.float32(2**-24) * np.arange(2**16, dtype=np.float32)[::-1]
    bins = metrics._to_bin(values)
    assert (np.diff(bins) > 0).all() and (metrics._to_value(bins) == values).all()


def test_folded_keeps_many_equal_minima_apart() -> None:
    maps, masks = pictures(6)
    maps = np.where(maps < 0.55, np.float32(0), maps)
    assert streamed(maps, masks, exact_pixels=0)["pro"] == pytest.approx(metrics.compute_pro(masks, maps), abs=1e-4)


def test_folded_memory_is_constant() -> None:
    maps, masks = pictures(7)
    accumulator = PixelMetrics(exact_pixels=0)
    for _ in range(3):
        accumulator.update(maps, masks)
    assert all(not pool.values and not pool.weights and len(pool.bins) == metrics.BINS for pool in accumulator.pools)


def test_bins_keep_the_order_of_floats() -> None:
    values = [-3e38, -1, -1e-30, -1e-45, -0.0, 0.0, 1e-45, 1e-30, 0.5 - 2**-25, 0.5, 0.7, 1 - 2**-24, 1, 1.5, 3e38]
    values = np.array(values, np.float32)
    bins = metrics._to_bin(values)
    assert (np.diff(bins) >= 0).all() and bins.min() >= 0 and bins.max() < metrics.BINS
    assert bins[4] == bins[5]
    assert (metrics._to_value(bins) <= values).all() and (metrics._to_value(bins + 1) > values).all()


@pytest.mark.parametrize("mask", [0, 1], ids=["no defect", "no normal pixel"])
@pytest.mark.parametrize("exact_pixels", [0, 10**6])
def test_one_class_only_is_absent(mask: int, exact_pixels: int) -> None:
    maps, masks = pictures(8)
    result = streamed(maps, np.full_like(masks, mask), exact_pixels=exact_pixels)
    assert np.isnan(list(result.values())).all() and len(result) == 4


def test_no_input_is_absent() -> None:
    assert np.isnan(list(PixelMetrics().compute().values())).all()
    assert np.isnan(list(ImageMetrics().compute().values())).all()


def test_constant_maps_have_no_pro() -> None:
    _, masks = pictures(9)
    result = streamed(np.full_like(masks, 0.5), masks)
    assert np.isnan(result["pro"])
    assert (result["auroc"], result["aupro"]) == pytest.approx((0.5, 0.15))


def test_pro_without_false_alarms_is_absent() -> None:
    _, masks = pictures(9)
    assert np.isnan(metrics.compute_pro(masks, (masks == 1).astype(np.float32)))


def test_without_pro_only_auroc_and_ap() -> None:
    maps, masks = pictures(10)
    assert set(streamed(maps, masks, pro=False)) == {"auroc", "ap"}


def test_training_mode_leaves_ap_out() -> None:
    result = metrics.compute_imagewise_retrieval_metrics([0.1, 0.9], [0, 1], "training")
    assert result["auroc"] == 1 and np.isnan(result["ap"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_maps_must_be_finite(value: float) -> None:
    maps, masks = pictures(11)
    maps[2, 3, 4] = value
    with pytest.raises(ValueError, match="not finite"):
        PixelMetrics().update(maps, masks)
    with pytest.raises(ValueError, match="not finite"):
        ImageMetrics().update([0.5, value], [0, 1])


@pytest.mark.parametrize("factor", [255, -1, np.nan])
def test_masks_must_lie_between_0_and_1(factor: float) -> None:
    maps, masks = pictures(11)
    with pytest.raises(ValueError, match="Masks must lie"):
        PixelMetrics().update(maps, masks * factor)


def test_shapes_and_labels_must_fit() -> None:
    maps, masks = pictures(11)
    with pytest.raises(ValueError, match="must both be"):
        PixelMetrics().update(maps, masks[:, :-1])
    with pytest.raises(ValueError, match="one label per score"):
        ImageMetrics().update([0.5, 0.6], [0])
    with pytest.raises(ValueError, match="Labels must"):
        ImageMetrics().update([0.5, 0.6], [0, 2])


@pytest.mark.parametrize("ties", [False, True])
def test_f1_max_is_the_best_of_all_thresholds(ties):
    rng = np.random.default_rng(0)
    for _ in range(20):
        normal, defect = rng.random(7), rng.random(5) + 0.3
        if ties:
            normal, defect = np.round(normal, 1), np.round(defect, 1)
        threshold, f1 = metrics.f1_max(normal, defect)
        labels, scores = [0] * 7 + [1] * 5, np.concatenate([normal, defect])
        at_all = [f1_score(labels, scores > each) for each in [-1, *scores]]
        assert f1 == pytest.approx(max(at_all)) == pytest.approx(f1_score(labels, scores > threshold))


def test_f1_max_needs_both_labels():
    assert np.isnan(metrics.f1_max(np.empty(0), np.ones(2))).all()
    assert np.isnan(metrics.f1_max(np.ones(2), np.empty(0))).all()


def test_image_scores_keep_each_image_with_its_label():
    found = metrics.ImageScores()
    maps = np.zeros((3, 2, 2), np.float32)
    maps[:, 0, 1], maps[2, 1, 1] = (0.5, 0.25, 0.75), np.nan
    found.update(np.float32([0.1, 0.2, 0.3]), maps, [0, 1, 0], ["a", "b", "c"], ["x", "y", "x"])
    assert (found.paths, found.kinds) == (["a", "b", "c"], ["x", "y", "x"])
    scores, maxima = found.of(0)
    np.testing.assert_array_equal(scores, np.float32([0.1, 0.3]))
    np.testing.assert_array_equal(maxima, [0.5, 0.75])
    assert len(metrics.ImageScores().of(1)[0]) == 0


def curves_of(maps: np.ndarray, masks: np.ndarray, **options: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    accumulator = PixelMetrics(**options)
    accumulator.update(maps, masks)
    return accumulator.curves(), accumulator.compute()


@pytest.mark.parametrize("exact_pixels", [0, 10**6])
def test_curves_have_the_areas_of_the_metrics(exact_pixels: int) -> None:
    curves, result = curves_of(*pictures(12), exact_pixels=exact_pixels)
    assert auc(*curves["roc"]) == pytest.approx(result["auroc"], abs=2e-3)  # of 256 points of the curve
    assert auc(*curves["pro"]) / 0.3 == pytest.approx(result["aupro"], abs=2e-3)


def test_short_curves_are_whole() -> None:
    accumulator = ImageMetrics()
    accumulator.update([0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0])
    assert accumulator.curves()["roc"].T.tolist() == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]


def test_curves_climb_and_are_thinned() -> None:
    curves, _ = curves_of(*pictures(13, images=12))
    for curve, end in ((curves["roc"], 1.0), (curves["pro"], 0.3)):
        assert 100 < curve.shape[1] <= metrics.CURVE_POINTS
        assert (np.diff(curve) >= 0).all() and curve[0, 0] == curve[1, 0] == 0 and curve[0, -1] == end


def test_curves_need_both_kinds() -> None:
    maps, masks = pictures(12)
    assert curves_of(maps, np.zeros_like(masks))[0] == {}
    assert set(curves_of(maps, masks, pro=False)[0]) == {"roc"}


def test_values_are_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator, sorts = PixelMetrics(), []
    accumulator.update(*pictures(12))
    original = metrics.Pool._sorted
    monkeypatch.setattr(metrics.Pool, "_sorted", lambda pool: sorts.append(pool) or original(pool))
    accumulator.compute()
    accumulator.curves()
    assert len(sorts) == 4
