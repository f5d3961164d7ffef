"""AUPRO to a limit, saturated overlap and F1, against plain definitions and scikit-learn."""

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from metrics import compute_aupro, compute_imagewise_retrieval_metrics
from region_metrics import Moments, Region, RegionMetrics, components

LIMITS = (0.05, 0.3, 1.0)


def plain(maps, regions, limit):
    """Integrate mean saturated overlap over the false positive rate, threshold by threshold, without any ranking.

    Args:
        maps: arrays [H, W], of any sizes.
        regions: of each map, pairs of a mask, bool [H, W], and how many of its pixels have to be found.
        limit: of the false positive rate.
    """
    unions = [
        np.any([np.zeros(m.shape, bool), *(mask for mask, _ in some)], 0) for m, some in zip(maps, regions, strict=True)
    ]
    negatives = sum((~union).sum() for union in unions)
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        called = [m >= threshold for m in maps]
        alarms = sum((each & ~union).sum() for each, union in zip(called, unions, strict=True))
        overlaps = [
            min((each & mask).sum() / needed, 1)
            for each, some in zip(called, regions, strict=True)
            for mask, needed in some
        ]
        points.append((alarms / negatives, float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def made(seed, levels=None):
    """Make maps of several sizes with masks of several regions; few levels make ties."""
    rng, maps, masks = np.random.default_rng(seed), [], []
    for size in ((20, 26), (25, 14), (12, 12)):
        mask = cv2.GaussianBlur(rng.random(size), (0, 0), 2) > 0.52
        values = rng.random(size) + 0.6 * mask * rng.random()
        values = values if levels is None else np.floor(values * levels) / levels
        maps.append(values.astype(np.float32))
        masks.append(mask)
    masks[2][:] = False  # a good picture
    return maps, masks


def apart(mask):
    """Return the 8-connected regions of a mask, each as a mask, by flooding."""
    left, found = mask.copy(), []
    while left.any():
        region = np.zeros_like(mask)
        region[tuple(np.argwhere(left)[0])] = True
        while True:
            grown = (cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & mask
            if (grown == region).all():
                break
            region = grown
        found.append(region)
        left &= ~region
    return found


def filled(maps, regions, **options):
    metrics = RegionMetrics(**options)
    for each, some in zip(maps, regions, strict=True):
        metrics.update(each, some)
    return metrics


@pytest.mark.parametrize("levels", [None, 12, 2])
@pytest.mark.parametrize("seed", range(2))
def test_aupro_is_the_area_of_its_definition(seed, levels):
    maps, masks = made(seed, levels)
    metrics = filled(maps, [components(mask) for mask in masks])
    pairs = [[(region, region.sum()) for region in apart(mask)] for mask in masks]
    assert len(pairs[0]) > 1
    for limit in LIMITS:
        assert metrics.overlap(limit) == pytest.approx(plain(maps, pairs, limit), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 12])
@pytest.mark.parametrize("seed", range(2))
def test_saturated_overlap_is_the_area_of_its_definition(seed, levels):
    maps, masks = made(seed, levels)
    rng = np.random.default_rng(seed)
    pairs = [[(mask, needed) for needed in (mask.sum() * rng.random(), 3.0)] if mask.any() else [] for mask in masks]
    overlapping = np.zeros_like(masks[0])
    overlapping[:9, :9] = True
    pairs[0].append((overlapping, 10.5))
    metrics = filled(maps, [[Region(np.flatnonzero(mask), needed) for mask, needed in some] for some in pairs])
    for limit in LIMITS:
        assert metrics.overlap(limit) == pytest.approx(plain(maps, pairs, limit), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 12, 2])  # with 2 the first point lies beyond the limits
@pytest.mark.parametrize("good", [0, 1, 2])  # pictures without a defect
def test_both_aupros_of_pictures_of_one_size_are_the_area_of_their_definition(levels, good):
    rng = np.random.default_rng(3)
    maps = rng.random((4, 20, 24))
    maps = (maps if levels is None else np.floor(maps * levels) / levels).astype(np.float32)
    masks = np.stack([cv2.GaussianBlur(rng.random((20, 24)), (0, 0), 2) > 0.52 for _ in maps])
    masks[:good] = False
    pairs = [[(region, region.sum()) for region in apart(mask)] for mask in masks]
    assert compute_aupro(masks, maps) == pytest.approx(plain(list(maps), pairs, 0.3), abs=1e-9)
    metrics = filled(maps, [components(mask) for mask in masks])
    assert metrics.overlap(0.3) == pytest.approx(compute_aupro(masks, maps), abs=1e-9)
    assert metrics.overlap(0.05) == pytest.approx(plain(list(maps), pairs, 0.05), abs=1e-9)


def test_folded_values_stay_within_the_tolerance():
    maps, masks = made(5)
    regions = [components(mask) for mask in masks]
    exact, folded = filled(maps, regions), filled(maps, regions, exact_pixels=0)
    for limit in LIMITS:
        assert folded.overlap(limit) == pytest.approx(exact.overlap(limit), abs=1e-5)


@pytest.mark.parametrize("threshold", [0.3, 0.9, 1.2, 9.0])
def test_f1_is_that_of_scikit_learn(threshold):
    maps, masks = made(1)
    values, labels = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    wanted = f1_score(labels, values > threshold, zero_division=0.0)
    assert filled(maps, [components(mask) for mask in masks]).f1(threshold) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 12])
def test_pixels_as_regions_give_scikit_learns_auroc(levels):
    maps, masks = made(2, levels)
    metrics = filled(maps, [[Region(np.flatnonzero(mask))] if mask.any() else [] for mask in masks])
    values, labels = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    weights = np.concatenate([np.full(m.size, 1 / max(m.sum(), 1)) for m in masks])
    weights[~labels] = 1
    assert metrics.overlap(1.0) == pytest.approx(roc_auc_score(labels, values, sample_weight=weights), abs=1e-9)
    found = compute_imagewise_retrieval_metrics(values, labels)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-9)
    assert found["ap"] == pytest.approx(average_precision_score(labels, values), abs=1e-9)


def test_what_is_not_defined_is_nan_and_what_is_wrong_refused():
    metrics = filled([np.ones((3, 3), np.float32)], [[]])
    assert math.isnan(metrics.overlap(0.05)) and math.isnan(metrics.f1(0.5))
    with pytest.raises(ValueError, match="not finite"):
        metrics.update(np.full((3, 3), np.nan), [])
    with pytest.raises(ValueError, match="2 pixels cannot saturate at 3"):
        metrics.update(np.ones((3, 3)), [Region(np.array([0, 1]), 3)])


def test_moments_of_batches_are_those_of_all():
    rng = np.random.default_rng(0)
    parts, moments = [rng.random((5, 7)) + k for k in range(3)], Moments()
    assert math.isnan(moments.threshold)
    parts[1][0] = np.nan
    for part in parts:
        moments.update(part)
    values = np.concatenate([part.ravel() for part in parts])
    assert moments.threshold == pytest.approx(np.nanmean(values) + 3 * np.nanstd(values), abs=1e-12)
