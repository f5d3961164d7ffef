"""model.json comes back as it was written, bad ones are explained, and thresholds keep their promise."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binom

from artifacts import model_card
from artifacts.model_card import Calibration, Card, F1Max, Statistics, Summary

SCORES = [0.1, 0.2, 0.3, 0.4, 0.5]


def example(**changes: object) -> Card:
    """Make a complete card, but for what is changed."""
    calibration = Calibration.of(model_card.HELD_OUT, SCORES, [0.05, 0.15, 0.25, 0.35, 0.45])
    content = {
        "name": "folder_bolt",
        "checkpoint": model_card.Checkpoint("ckpt_best_3.pth", "ab" * 32, 3, "synthetic"),
        "backbone": model_card.Backbone(
            "resnet18", ["layer2", "layer3"], "random", "cd" * 32, "../b.safetensors", False
        ),
        "network": model_card.Network([3, 200, 320], 64, 32, 3, 1, 2, 16, "fp32"),
        "geometry": {"resize": None, "imagesize": [200, 320], "mode": "letterbox"},
        "normalisation": model_card.Normalisation([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        "hypothesis": "manifold",
        "threshold": calibration.threshold(0.2),
        "f1_max": F1Max(0.45, 0.9, 3, 4),
        "statistics": Statistics(Summary.of(SCORES), None, Summary.of([0.9])),
        "images": model_card.Images(18, 5, 0, 7),
        "provenance": model_card.Provenance(
            "training", "2026-01-01T00:00:00+0000", "main.py", 0, "cpu", {"torch": "2"}, None
        ),
        "calibration": calibration,
    }
    return Card(**(content | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale": model_card.Scale(0.3, 0.1)},
        {"threshold": None, "calibration": None, "f1_max": None, "hypothesis": None},
    ],
)
def test_a_card_comes_back_as_it_was_written(tmp_path: Path, changes: dict) -> None:
    before = example(**changes)
    (tmp_path / model_card.FILE).write_text(before.to_json(), encoding="utf-8")
    assert model_card.read(tmp_path) == before


def test_scores_come_back_to_the_last_bit() -> None:
    scores = np.random.default_rng(0).random(50, dtype=np.float32)
    before = example(calibration=Calibration.of(model_card.HELD_OUT, scores, scores))
    found = Card.from_json(before.to_json(), Path("x")).calibration.scores
    assert np.array_equal(np.asarray(found, np.float32), np.sort(scores))


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="model.json does not exist: run main.py"):
        model_card.read(tmp_path)


def test_a_newer_card_asks_for_an_update() -> None:
    content = {"format": model_card.FORMAT + 1, "all": "different"}
    with pytest.raises(ValueError, match=f"x has format {model_card.FORMAT + 1}.*update"):
        Card.from_json(json.dumps(content), Path("x"))


def test_a_card_of_before_knows_nothing_of_pixels() -> None:
    content = json.loads(example(pixels=model_card.Pixels(12, [100, 140])).to_json())
    assert Card.from_json(json.dumps(content), Path("x")).pixels == model_card.Pixels(12, [100, 140])
    del content["pixels"]
    assert Card.from_json(json.dumps(content), Path("x")).pixels is None
    content["pixels"] = {"bits": 12}
    with pytest.raises(ValueError, match="pixels lacks brightness"):
        Card.from_json(json.dumps(content), Path("x"))


@pytest.mark.parametrize(("brightness", "like"), [(49, False), (50, True), (120, True), (280, True), (281, False)])
def test_a_picture_is_unlike_the_training_from_a_factor_of_two_on(brightness: int, like: bool) -> None:
    assert model_card.Pixels(None, [100, 140]).are_like(brightness) == like


def test_keys_of_later_additions_are_passed_over() -> None:
    content = json.loads(example().to_json())
    content["more"] = content["network"]["more"] = 1
    assert Card.from_json(json.dumps(content), Path("x")) == example()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("", None, "lacks name"),
        ("backbone.sha256", None, "backbone lacks sha256"),
        ("network.patchsize", "3", "network.patchsize is str, not int"),
        ("network.patchsize", True, "network.patchsize is bool, not int"),
        ("threshold.score", [], "threshold.score is list, not float"),
        ("backbone.layers", [2], "backbone.layers is int, not str"),
        ("calibration.scores", [0.2, 0.1], "ascending"),
        ("calibration.scores", [], "at least 1"),
        ("threshold.score", math.nan, "NaN is no number"),
        ("statistics", 3, "statistics is int, not dict"),
    ],
)
def test_a_damaged_card_says_where(place: str, value: object, words: str) -> None:
    content = json.loads(example().to_json())
    *parents, last = place.split(".") if place else ["name"]
    table = content
    for parent in parents:
        table = table[parent]
    if value is None:
        del table[last]
    else:
        table[last] = value
    with pytest.raises(ValueError, match=f"some.json is damaged .*{words}.*restore it"):
        Card.from_json(json.dumps(content), Path("some.json"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "1"}', "\ufffd"])
def test_what_is_no_card_is_damaged(text: str) -> None:
    with pytest.raises(ValueError, match="some.json is damaged"):
        Card.from_json(text, Path("some.json"))


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(99, 0.01, 99), (99, 0.07, 93), (100, 0.01, 100), (98, 0.01, 99), (9, 0.1, 9), (19, 0.1, 18), (1, 0.5, 1)],
)
def test_ranks_are_those_of_exact_arithmetic(count: int, rate: float, rank: int) -> None:
    assert model_card.conformal_rank(count, rate) == rank


@pytest.mark.parametrize(("rate", "score", "promised"), [(0.5, 0.3, 0.5), (1 / 6, 0.5, 1 / 6), (0.01, 0.5, 1 / 6)])
def test_a_threshold_is_a_score_and_says_what_it_promises(rate: float, score: float, promised: float) -> None:
    found = Calibration.of(model_card.HELD_OUT, SCORES[::-1], SCORES).threshold(rate)
    assert (found.score, found.pixel, found.promised_rate) == (score, score, pytest.approx(promised))
    assert ("the lowest rate that" in str(found)) == (rate == 0.01)


@pytest.mark.parametrize(("count", "rate"), [(29, 0.1), (59, 0.05), (149, 0.02), (299, 0.01)])
def test_confidence_takes_so_many_good_images_and_no_fewer(count: int, rate: float) -> None:
    assert model_card.least_count(rate) == count
    assert model_card.confident_rate(count, count) <= rate < model_card.confident_rate(count - 1, count - 1)


@pytest.mark.parametrize("count", [5, 29, 46, 100, 500])
def test_ranks_and_rates_of_confidence_are_those_of_the_binomial_distribution(count: int) -> None:
    for rate in (0.01, 0.05, 0.1, 0.3):
        kept = [rank for rank in range(1, count + 1) if binom.cdf(rank - 1, count, 1 - rate) >= 0.95]
        rank = model_card.confident_rank(count, rate)
        assert rank == min(kept, default=count)
        assert model_card.confident_rate(count, rank) == pytest.approx(beta.isf(0.05, count - rank + 1, rank))


def test_both_promises_hold_as_often_as_they_say() -> None:
    rng, rate, shares, kept = np.random.default_rng(0), 0.1, [], []
    for _ in range(600):
        scores = rng.random(60)  # of which a share of 1 - t exceeds t
        found = Calibration.of(model_card.GOOD_PICTURES, scores, scores)
        shares.append(1 - found.recalibrated(rate, confident=False).score)
        kept.append(1 - found.recalibrated(rate, confident=True).score <= rate)
    assert np.mean(shares) == pytest.approx(6 / 61, abs=0.005)  # of rank 55 of 60
    assert 0.95 <= np.mean(kept) < 0.99


def test_a_recalibrated_threshold_says_both_promises() -> None:
    scores = np.linspace(0.1, 0.3, 29)
    found = Calibration.of(model_card.GOOD_PICTURES, scores, scores)
    words = "threshold 0.30000 from 29 good pictures: at most 3.33 % false alarms on average; "
    assert str(found.recalibrated(0.1, confident=True)) == f"{words}at most 9.81 % with 95 % confidence"
    assert "(asked: 1 %, which takes 299)" in str(found.recalibrated(0.01, confident=True))
    on_average = found.recalibrated(0.1, confident=False)
    assert on_average.score == found.threshold(0.1).score < 0.3 and on_average.confident_rate > 0.1


def test_what_shares_a_batch_with_an_image_changes_no_verdict() -> None:
    assert not model_card.above(0.7111328, 0.7111325)
    halves = (np.arange(1, 10**5, 7) + 0.5) / 10**5  # where rounding to the nearest would decide either way
    drawn = np.random.default_rng(0).random(10_000, dtype=np.float32)
    for threshold in [*halves.tolist(), *drawn.tolist()]:
        around = threshold + np.array([-1e-6, -3e-7, 0, 3e-7, 1e-6, 1.6e-5])
        assert model_card.above(around, threshold).tolist() == [False] * 5 + [True], threshold


def test_rounding_once_more_changes_nothing() -> None:
    steps = np.arange(10**5 + 1) / 10**5
    np.testing.assert_array_equal(model_card.rounded(steps), steps)
    assert all(model_card.rounded_up(step) == step for step in steps[::7].tolist())
    assert model_card.rounded_up(0.711131) == 0.71114 and model_card.rounded_up(-0.000001) == 0


def test_maps_of_single_precision_compare_as_scores_do() -> None:
    steps = np.arange(1, 10**5) / 10**5
    single = model_card.rounded(steps.astype(np.float32))
    np.testing.assert_array_equal(single, steps.astype(np.float32))
    for step in steps[::97].tolist():
        assert model_card.above(np.float32([step - 1e-5, step, step + 1e-5, np.nan]), step).tolist() == [0, 0, 1, 0]


def test_an_unrounded_threshold_of_an_earlier_version_is_said_as_it_is_compared() -> None:
    old = model_card.Threshold(0.7026500105857849, 0.671, 0.1, 0.1, model_card.HELD_OUT, 20)
    assert str(old).startswith("threshold 0.70266 from ")


def test_a_threshold_that_no_score_exceeds_says_so() -> None:
    saturated = Calibration.of(model_card.HELD_OUT, [0.5, 0.999998], [0.5, 0.6]).threshold(0.01)
    assert saturated.score == 1 and "nothing can be NG" in str(saturated)
    assert "nothing can be NG" not in str(
        Calibration.of(model_card.HELD_OUT, [0.5, 0.99998], [0.5, 0.6]).threshold(0.01)
    )


def test_calibrated_scores_are_above_a_half_where_the_verdict_is_ng() -> None:
    steps = np.array([0, 1, 2, 500, 49_999, 50_000, 71_113, 99_998, 99_999, 100_000])
    scores = np.unique(np.clip(steps[:, None] + [-1, 0, 1], 0, 10**5)) / 10**5
    for threshold in [*scores.tolist(), 0.711131]:
        for typical in (None, 0.0, 1e-5, 0.3, threshold, 1.0):
            found = model_card.calibrated(scores, threshold, typical)
            np.testing.assert_array_equal(found > 0.5, model_card.above(scores, threshold))
            assert (np.diff(found) >= 0).all() and (found > 0).all() and (found <= 1).all()


def test_what_is_typical_is_a_tenth_and_as_far_above_the_threshold_nine_tenths() -> None:
    odds = 0.25  # 0.2 of typical, 0.5 of the threshold, 0.8 as far above it
    assert model_card.calibrated([0.2, 0.5, 0.8], 0.5, 0.2) == pytest.approx([0.1, 0.5, 0.9])
    assert model_card.calibrated(0.3, 0.5, 0.2) == pytest.approx(1 / (1 + (7 / 3) ** (math.log(9) / -math.log(odds))))
    single = model_card.calibrated(np.float32([0.2, np.nan]), 0.5, 0.2)
    assert single.dtype == np.float32 and np.isnan(single[1])


def test_without_a_threshold_a_score_is_its_own() -> None:
    np.testing.assert_array_equal(model_card.calibrated([0.0, 0.3, 1.0], None, 0.2), [0.0, 0.3, 1.0])
    assert model_card.calibrated([0.1, 0.5, 0.9], 0.5, None) == pytest.approx([0.1, 0.5, 0.9])


def test_a_card_of_an_earlier_version_has_an_estimated_scale(tmp_path: Path) -> None:
    content = json.loads(example(scale=model_card.Scale(0.3, 0.01)).to_json())
    assert model_card.scale_of(Card.from_json(json.dumps(content), Path("x"))) == model_card.Scale(0.3, 0.01)
    del content["scale"]
    old = Card.from_json(json.dumps(content), Path("x"))
    assert old.scale is None and model_card.scale_of(old) == model_card.Scale(0.3, 0.05)
    assert model_card.scale_of(example(calibration=None, threshold=None)) is None


def test_a_scale_is_of_medians() -> None:
    assert model_card.Scale.of([0.1, 0.5, 0.3], [0.2, 0.9, 0.3]) == model_card.Scale(0.3, 0.3)
    assert model_card.Scale.of([], []) is None


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        Calibration.of(model_card.HELD_OUT, SCORES, SCORES).threshold(rate)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_the_promise_holds_on_average(rate: float) -> None:
    rng, alarms, draws = np.random.default_rng(0), 0, 4000
    for _ in range(draws):
        scores = rng.normal(size=31)
        alarms += scores[-1] > Calibration.of(model_card.HELD_OUT, scores[:-1], scores[:-1]).threshold(rate).score
    exact = 1 - model_card.conformal_rank(30, rate) / 31  # of continuous scores, and at most the rate
    assert exact <= rate
    assert abs(alarms / draws - exact) < 4 * math.sqrt(exact * (1 - exact) / draws)


def test_without_images_there_is_nothing_to_calibrate() -> None:
    assert Calibration.of(model_card.HELD_OUT, [], []) is None and Summary.of([]) is None


def test_a_summary_is_of_plain_numbers() -> None:
    found = Summary.of(np.array([1, 2, 6], np.float32))
    assert dataclasses.astuple(found) == (3, 3.0, pytest.approx(math.sqrt(14 / 3)), 1.0, 2.0, 6.0)
    assert {type(each) for each in dataclasses.astuple(found)} == {int, float}


@pytest.mark.parametrize(
    ("count", "rate", "missing"), [(4, 0.01, 95), (99, 0.01, 0), (98, 0.01, 1), (4, 0.2, 0), (3, 0.07, 11)]
)
def test_a_threshold_tells_how_many_more_images_its_rate_takes(count, rate, missing):
    found = Calibration.of(model_card.HELD_OUT, np.linspace(0.1, 0.2, count), np.linspace(0.1, 0.2, count)).threshold(
        rate
    )
    assert found.missing == missing
    assert model_card.conformal_rank(count + missing, rate) <= count + missing


def test_what_is_typical_of_a_map_is_told_by_what_counts() -> None:
    whole = np.linspace(0.1, 0.9, 81).reshape(9, 9)
    around = np.zeros((30, 30))
    around[:9, :9], around[20:, 20:] = whole, np.nan
    assert model_card.typical(whole) == model_card.typical(around) == pytest.approx(0.82)
    assert model_card.typical(np.zeros((2, 2))) == 0
