"""The figures of the benchmarks' own evaluation: in the results of a run, and as their rules say."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import main as cli
from artifacts import class_results
from datasets.base import DatasetSplit
from datasets.readers.dataset import BenchmarkDataset
from jobs.official import Official, official
from region_metrics import Region, RegionMetrics
from reporting.tables import to_text
from tests.helpers.benchmarks import CLASSES, MAKERS, SIZE, square
from tests.helpers.pictures import write

NET = ["-b", "resnet18", "--pretrain_embed_dimension", "32", "--target_embed_dimension", "32", "--dsc_hidden", "16"]
NET += ["--meta_epochs", "1", "--backbone_weights", "random"]
SIDE = 32


def opened(root, name, split="test"):
    images = BenchmarkDataset(root, None, name, CLASSES[name], resize_mode="stretch", imagesize=SIDE, fg=0,
                              split=DatasetSplit(split))  # fmt: skip
    images.check(1)
    return images


def batch(images):
    """Return a batch of all images, with scores and maps by formula: noise, and higher where a defect is."""
    rng = np.random.default_rng(0)
    maps = rng.random((len(images), SIDE, SIDE)).astype(np.float32) * 0.5
    for k, entry in enumerate(images.entries):
        maps[k, 8:17, 8:15] += 0.3 * entry.is_anomaly
    return {"index": torch.arange(len(images))}, maps.max((1, 2)), maps


def batch_of(count):
    """Return a batch of so many samples, with scores and maps of noise."""
    maps = np.random.default_rng(0).random((count, SIDE, SIDE)).astype(np.float32) * 0.5 + 0.1
    return {"index": torch.arange(count)}, maps.max((1, 2)), maps


def run(root, results, name, *dataset, group=()):
    line = ["--results_path", results, *group, "net", *NET, "dataset", "-d", CLASSES[name], "--batch_size", 4,
            "--num_workers", 0, "--distribution", 2, "--fg", 0, "--resize_mode", "stretch", "--imagesize", SIDE,
            *dataset, name, root]  # fmt: skip
    return CliRunner().invoke(cli.main, [str(part) for part in line])


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("mvtec2", ["pixel_aupro_05", "pixel_seg_f1"]),
        ("loco", ["pixel_spro_05", "image_auroc_logical", "image_auroc_structural"]),
    ],
)
def test_a_run_has_the_figures_of_its_data_set_alone(tmp_path, name, columns):
    done = run(MAKERS[name](tmp_path / "data"), tmp_path / "results", name)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "results/results.csv").read_text()
    head = next(csv.reader(io.StringIO(text)))
    assert head == [*class_results.HEADER, *columns, *(f"last_{column}" for column in columns)]
    rows = class_results.from_csv(text, tmp_path)
    assert all(0 <= rows[0].best[column] <= 1 and 0 <= rows[0].last[column] <= 1 for column in columns)
    assert class_results.to_csv(class_results.collect(tmp_path / "results")) == text
    page = (tmp_path / "results/report/index.html").read_text()
    for key, heading in class_results.OFFICIAL.items():
        assert (f" {heading} " in done.output) == (f">{heading}<" in page) == (key in columns)
    card = json.loads((tmp_path / f"results/models/backbone_0/{name}_{CLASSES[name]}/model.json").read_text())
    assert (card["images"]["calibration"], card["calibration"]["basis"]) == (3, "held-out normals")
    if name == "loco":
        return
    again = run(tmp_path / "data", tmp_path / "results", name, group=("--test", "test"))
    assert again.exit_code == 0, again.output
    assert (tmp_path / "results/results.csv").read_text() == text


def test_seeds_have_the_figures_of_the_data_set_too(tmp_path):
    done = run(MAKERS["realiad"](tmp_path / "data"), tmp_path / "results", "realiad", group=("--seeds", "0,1"))
    assert done.exit_code == 0, done.output
    row, mean = csv.DictReader((tmp_path / "results/seeds.csv").open())
    own = [class_results.collect(tmp_path / f"results/seed_{seed}")[0] for seed in (0, 1)]
    assert float(row["sample_auroc_mean"]) == pytest.approx(
        sum(each.best["sample_auroc"] for each in own) / 2, abs=1e-6
    )
    assert row["last_sample_auroc_std"] == mean["last_sample_auroc_std"] != "nan"
    assert " S-AUC" in done.output.partition("Mean and standard deviation")[2]


@pytest.mark.parametrize(
    ("name", "kind"), [("realiad", "BX"), ("ksdd2", "anomaly"), ("dagm", "anomaly"), ("btad", "ko")]
)
def test_kinds_of_defect_are_those_of_the_reader_and_not_folders(tmp_path, name, kind):
    done = run(MAKERS[name](tmp_path / "data"), tmp_path / "results", name)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "results/kinds.csv").open()))
    assert [(row["kind"], row["images"]) for row in rows] == [(kind, "2")]
    tested = class_results.collect(tmp_path / "results")[0].best
    assert float(rows[0]["pixel_auroc"]) == pytest.approx(tested["pixel_auroc"], abs=2e-6)
    page = (tmp_path / "results/report/index.html").read_text()
    assert f">{kind}<" in page


def test_ad2s_figures_are_those_of_the_maps_at_the_pictures_own_size(tmp_path):
    root = MAKERS["mvtec2"](tmp_path)
    images, validation = opened(root, "mvtec2"), opened(root, "mvtec2", "validation")
    own = Official(images)
    given, scores, maps = batch(images)
    own.update(given, scores, maps)
    normal = np.random.default_rng(1).random((3, SIDE, SIDE)).astype(np.float32)
    found = own.compute([({"index": torch.arange(3)}, None, torch.from_numpy(normal))], validation)
    wanted, restored = RegionMetrics(), [images.geometry.restore(each, SIZE) for each in (*maps, *normal)]
    for entry, each in zip(images.entries, restored, strict=False):
        wanted.update(each, [Region(np.flatnonzero(square()))] if entry.is_anomaly else [])
    threshold = np.mean(restored[-3:], dtype=float) + 3 * np.std(restored[-3:], dtype=float)
    assert found["pixel_aupro_05"] == pytest.approx(wanted.overlap(0.05), abs=1e-12) and found["pixel_aupro_05"] > 0
    assert found["pixel_seg_f1"] == pytest.approx(wanted.f1(threshold), abs=1e-12)


def test_what_the_crop_cuts_away_counts_as_found_last(tmp_path):
    root = MAKERS["mvtec2"](tmp_path)
    images = BenchmarkDataset(root, None, "mvtec2", "can", resize=32, imagesize=32, fg=0, split=DatasetSplit.TEST)
    images.check(1)
    own = Official(images)
    own.update({"index": torch.arange(1)}, np.zeros(1), np.ones((1, 32, 32), np.float32))
    assert images.entries[0].is_anomaly and own.regions.normal.ranking().above(np.array([0.5])) == 40 * 40 - 144
    assert own.regions.normal.ranking().total == 40 * 48 - 144


def test_with_tiles_the_figures_are_those_of_the_joined_maps_and_of_the_region(tmp_path):
    root = MAKERS["mvtec2"](tmp_path)
    tiles = {"resize_mode": "stretch", "imagesize": SIDE, "fg": 0, "tile": 24, "overlap": 4, "roi": "4,4,40,32"}
    images, validation = (BenchmarkDataset(root, None, "mvtec2", "can", split=DatasetSplit(split), **tiles)
                          for split in ("test", "validation"))  # fmt: skip
    own, wanted, pixels = Official(images), RegionMetrics(), []

    def scored(part):
        part.check(1)
        given, scores, maps = batch_of(len(part))
        return part.whole_pictures([(given, torch.from_numpy(scores), torch.from_numpy(maps))])

    for entry, (given, scores, maps) in zip(images.entries, scored(images), strict=True):
        own.update(given, scores.numpy(), maps.numpy())
        wanted.update(maps[0].numpy(), [Region(np.flatnonzero(square()))] if entry.is_anomaly else [])
        assert maps.shape == (1, *SIZE) and not maps[0, :4].any() and maps[0, 4:36, 4:44].all()
    pixels = np.concatenate([maps[0, 4:36, 4:44].numpy().ravel() for _, _, maps in scored(validation)])
    found = own.compute(scored(validation), validation)
    assert found["pixel_aupro_05"] == pytest.approx(wanted.overlap(0.05), abs=1e-12)
    threshold = np.mean(pixels, dtype=float) + 3 * np.std(pixels, dtype=float)
    assert found["pixel_seg_f1"] == pytest.approx(wanted.f1(threshold), abs=1e-12)


def test_locos_regions_saturate_by_the_rules_of_their_class(tmp_path):
    images = opened(MAKERS["loco"](tmp_path), "loco")
    own = Official(images)
    entry = next(each for each in images.entries if len(each.masks) == 2)
    first, second = own._regions(entry)
    assert (len(first.pixels), first.saturation, len(second.pixels), second.saturation) == (144, 60, 80, 60)
    entry = next(each for each in images.entries if each.kind == "structural_anomalies")
    assert [region.saturation for region in own._regions(entry)] == [144]


def test_locos_kinds_have_an_auroc_each(tmp_path):
    images = opened(MAKERS["loco"](tmp_path), "loco")
    own = Official(images)
    scores = {"good": 0.5, "logical_anomalies": 0.9, "structural_anomalies": 0.1}
    given, _, maps = batch(images)
    own.update(given, np.array([scores[entry.kind] for entry in images.entries]), maps)
    found = own.compute()
    assert (found["image_auroc_logical"], found["image_auroc_structural"]) == (1, 0)


def test_a_part_has_its_highest_view(tmp_path):
    images = opened(MAKERS["realiad"](tmp_path), "realiad")
    for high, wanted in ((0.4, 1.0), (0.9, 0.5)):  # of one view of one of two good parts
        own = Official(images)
        scores = np.array([0.6 if entry.is_anomaly else 0.2 for entry in images.entries])
        scores[0] = high
        own.update({"index": torch.arange(len(images))}, scores, np.zeros((len(images), 4, 4)))
        assert own.compute() == {"sample_auroc": wanted}


@pytest.mark.parametrize(("value", "words"), [(7, "has the value 7, its class's rules know 254, 255"),
                                              (None, r"marks defects of the kinds \[254, 255\]")])  # fmt: skip
def test_masks_that_the_rules_do_not_know_stop_a_run_before_training(tmp_path, value, words):
    root = MAKERS["loco"](tmp_path / "data")
    mask = square(value or 255)
    mask[0, 0] = 0 if value else 254
    write(root / "pushpins/ground_truth/logical_anomalies/001/000.png", mask)
    with pytest.raises(ValueError, match=words):
        Official(opened(root, "loco"))
    done = run(root, tmp_path / "results", "loco")
    assert done.exit_code == 2 and not (tmp_path / "results/models").exists()


def test_data_sets_without_own_figures_have_none(tmp_path):
    assert official(opened(MAKERS["dagm"](tmp_path), "dagm")) is None


def test_tables_of_several_data_sets_keep_each_figure_in_its_rows():
    results = [class_results.Result("mvtec_nut", best={"image_auroc": 0.5}),
               class_results.Result("mvtec2_can", best={"pixel_seg_f1": 0.25}, last={})]  # fmt: skip
    text = class_results.to_csv(results)
    assert class_results.to_csv(class_results.from_csv(text, None)) == text
    assert [class_results.official([row]) for row in class_results.from_csv(text, None)] == [[], ["pixel_seg_f1"]]
    lines = to_text(results).splitlines()
    start = next(k for k, line in enumerate(lines) if "SegF1" in line)
    assert [line.split() for line in lines[start + 2 : start + 3]] == [["mvtec2_can", "|", "25.0", "|", "-"]]
    assert len({line.index("|") for line in lines[start:] if "|" in line}) == 1
