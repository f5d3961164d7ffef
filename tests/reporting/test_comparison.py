"""Results against the paper: facts that agree with one another, verdicts, settings and data that differ."""

import math
from statistics import mean

import pytest

from artifacts import class_results
from artifacts.class_results import Result
from datasets import published
from datasets.published import METHODS
from reporting import comparison
from reporting.comparison import PAPER, compare

CLASSES = {"mvtec": 15, "visa": 12, "mpdd": 6, "wfdd": 4}
VISA_M = 98.8  # GLASS-m's mean image AUROC on VisA, wideresnet50
SCREW = {"train": 320, "normal": 41, "defect": 119}


def result(name: str = "mvtec_screw", image: float = 1.0, pixel: float = 0.995, **changes: object) -> Result:
    content = {"backbone": "wideresnet50", "best": {"image_auroc": image, "pixel_auroc": pixel}}
    return Result(name, **(content | changes))


def whole(dataset: str, image: float = 1.0, pixel: float = 1.0, **changes: object) -> list[Result]:
    return [result(f"{dataset}_{name}", image, pixel, **changes) for name in published.known_classes(dataset)]


@pytest.mark.parametrize("dataset", CLASSES)
def test_published_means_are_the_means_of_the_published_classes(dataset: str) -> None:
    table, names = published.published_figures(), published.known_classes(dataset)
    assert len(names) == CLASSES[dataset]
    for method in METHODS:
        of = (method, "wideresnet50")
        for metric in ("image_auroc", "pixel_auroc"):
            found = mean(table[dataset, name, of][metric] for name in names)
            assert found == pytest.approx(table[dataset, "mean", of][metric], abs=0.11)


def test_published_sizes_add_up() -> None:
    sizes = published.sizes()
    for dataset in ("mvtec", "visa", "mpdd"):
        classes = [sizes[dataset, name] for name in published.known_classes(dataset)]
        assert {use: sum(each[use] for each in classes) for use in published.USES} == sizes[dataset, "all"]


@pytest.mark.parametrize(
    ("image", "pixel", "verdict"),
    [(1.0, 0.995, "reached"), (0.995, 0.99, "reached"), (0.9949, 0.995, "below"), (1.0, 0.98, "below")],
)
def test_reached_is_within_the_band(image: float, pixel: float, verdict: str) -> None:
    (row,) = compare([result(image=image, pixel=pixel)], {})  # published: 100 and 99.5
    assert row.verdict == verdict


def test_the_band_can_be_chosen() -> None:
    (row,) = compare([result(image=0.98)], {}, band=2)
    assert row.verdict == "reached"
    assert row.difference("image_auroc") == pytest.approx(-2)


def test_above_needs_every_metric_above() -> None:
    (row,) = compare([result("mvtec_transistor", 1.0, 0.99)], {})  # published: 99.9 and 97.6
    assert (row.judged("image_auroc"), row.judged("pixel_auroc"), row.verdict) == ("reached", "above", "reached")
    (row,) = compare([result("visa_capsules", 1.0, 1.0)], {})
    assert row.verdict == "above"


@pytest.mark.parametrize(("distribution", "method"), [(0, "glass-j"), (2, "glass-m"), (3, "glass-h"), (4, "glass-j")])
def test_a_run_is_held_against_its_hypothesis(distribution: int, method: str) -> None:
    (row,) = compare([result(settings={"distribution": distribution})], {})
    assert row.method == method
    assert row.target("image_auroc") == row.published[method]["image_auroc"]
    assert bool(row.settings) == (distribution == 4)


def test_unknown_classes_and_absent_metrics_have_no_verdict() -> None:
    bolt, screw = compare([result("mvtec_bolt"), result(pixel=math.nan, image=math.nan)], {})
    assert (bolt.published, bolt.verdict, screw.verdict) == ({}, "-", "-")
    assert screw.published and math.isnan(screw.difference("image_auroc"))


def test_the_mean_is_held_against_the_mean_of_the_same_classes() -> None:
    *_, row = compare([result("mvtec_cable"), result("mvtec_screw"), result("mvtec_bolt", 0.0, 0.0)], {})
    assert row.name == "mvtec, mean of 2"
    assert row.best["image_auroc"] == 100
    assert row.target("image_auroc") == pytest.approx((99.8 + 100) / 2)
    assert math.isnan(row.target("pixel_pro"))


def test_the_mean_of_all_classes_has_a_pro() -> None:
    best = {"image_auroc": 1.0, "pixel_auroc": 1.0, "pixel_pro": 0.968}
    *_, row = compare(whole("mvtec", best=best), {})
    assert row.name == "mvtec, mean of 15"
    assert (row.target("pixel_pro"), row.judged("pixel_pro")) == (96.8, "reached")


def test_other_backbones_have_means_of_their_own() -> None:
    settings = {"distribution": 2}
    *_, row = compare(whole("mvtec", backbone="resnet18", settings=settings), {})
    assert row.target("image_auroc") == 99.1
    *_, row = compare(whole("visa", backbone="resnet18", settings=settings), {})
    assert row.target("image_auroc") == VISA_M  # the paper has no resnet18 on VisA


def test_each_backbone_is_compared_alone() -> None:
    pairs = [(result(name, backbone_index=index)) for index in (0, 1) for name in ("mvtec_screw", "mvtec_pill")]
    assert [row.name for row in compare(pairs, {})] == 2 * ["mvtec_screw", "mvtec_pill", "mvtec, mean of 2"]


def test_differing_settings_are_listed() -> None:
    assert comparison.differing({}) is None
    assert comparison.differing(PAPER) == []
    assert list(map(str, comparison.differing(PAPER | {"lr": 0.1, "other": 1}))) == ["lr 0.1 (paper: 0.0001)"]


def test_each_data_set_has_its_foreground_option() -> None:
    assert [each.option for each in comparison.differing(PAPER, "mpdd")] == ["fg"]
    assert comparison.differing(PAPER | {"fg": 0}, "mpdd") == []


@pytest.mark.parametrize(
    ("counts", "same", "words"),
    [
        (SCREW, True, "320 train / 41 normal / 119 defect"),
        (SCREW | {"train": None}, True, "41 normal / 119 defect"),
        (SCREW | {"normal": 2, "defect": 6}, False, "published 320 train / 41 normal / 119 defect: not the same data"),
        (None, None, ""),
    ],
)
def test_the_number_of_images_tells_the_data(counts: dict | None, same: bool | None, words: str) -> None:
    (row,) = compare([result()], {} if counts is None else {(0, "mvtec_screw"): counts})
    assert row.same_data is same
    assert row.data.endswith(words)


def test_a_data_set_is_known_by_its_sum() -> None:
    total = {"train": 3657, "normal": 203, "defect": 241}
    results = whole("wfdd")
    counts = {(0, each.name): dict.fromkeys(published.USES, 0) for each in results}
    assert compare(results, counts)[-1].same_data is False
    assert compare(results, counts | {(0, results[0].name): total})[-1].same_data is True


def test_figures_are_percent_of_all_results() -> None:
    (row,) = compare([result(last={"image_auroc": 0.9})], {})
    assert row.difference("image_auroc", last=True) == pytest.approx(-10)
    assert set(row.best) == set(published.METRICS) <= set(class_results.METRICS)
