"""Prediction: scores as training's, verdicts, files, wrong input, watching."""

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import click.testing
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

import backbones
import export
import predict
from artifacts import model_card
from images import drawing, reading
from images.geometry import Geometry
from images.tiles import Tiling
from inference import arrivals, batch_run, torch_engine
from inference.batch_run import Output, Run
from inference.predictor import Predictor
from inference.score_file import Row, ScoreFile
from tests.helpers.small_model import LETTERBOX, NETWORK, build, change_card, learn_drift, pictures, small_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(folder, tmp_path) -> Path:
    """A model that a test may change."""
    shutil.copytree(folder.parent.parent, tmp_path / "models")
    return tmp_path / "models" / "backbone_0" / folder.name


def call(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(predict.main, [str(argument) for argument in arguments])


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_scores_and_maps_are_those_of_training(folder, tmp_path):
    paths = pictures(tmp_path)
    glass = build(backbones.load("resnet18", str(folder.parent / "backbone.safetensors")))
    glass.load_weights(folder / "ckpt_best_3.pth")
    geometry = Geometry(36, (32, 32))
    batch = [drawing.normalise(geometry.apply(reading.open_rgb(path))) for path in paths]
    _, scores, maps = next(glass.scored([{"image": torch.from_numpy(np.stack(batch))}]))
    found = Predictor(folder, batch_size=2).predict(paths)
    np.testing.assert_allclose([each.score for each in found], scores, atol=1e-6)
    inside = found[0].map[20, 20]  # crop of 32 from 36 x 54
    y, x = (20.5 * 0.9 - 0.5 - 2, 20.5 * 0.9 - 0.5 - 11)
    corners = maps[0, int(y) : int(y) + 2, int(x) : int(x) + 2]
    assert corners.min() <= inside <= corners.max()
    assert np.isnan(found[0].map[20, 5])
    assert len({round(each.score, 4) for each in found}) > 1


def test_a_path_a_pil_image_and_an_array_score_the_same(folder, tmp_path):
    path = pictures(tmp_path, 1)[0]
    predictor = Predictor(folder)
    opened = Image.open(path)
    assert predictor(str(path)).score == predictor(opened).score == predictor(np.asarray(opened)).score


def test_bits_of_the_training_hold_for_prediction(model, tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(np.rint(gray / 255 * 1023).astype(np.uint16)).save(tmp_path / "10.png")
    change_card(model, pixels=model_card.Pixels(10, [200, 255]))
    found = Predictor(model)
    assert found(tmp_path / "8.png").score == found(tmp_path / "10.png").score
    change_card(model, pixels=None)
    assert Predictor(model)(tmp_path / "8.png").score != Predictor(model)(tmp_path / "10.png").score


def test_pictures_far_darker_than_the_training_are_named_and_counted(model, tmp_path):
    paths = pictures(tmp_path / "in", 3)
    for path in paths[1:]:
        Image.fromarray(np.asarray(Image.open(path)) // 16).save(path)
    change_card(model, pixels=model_card.Pixels(None, [240, 255]))
    result = call("--model", model, "--out", tmp_path / "out", tmp_path / "in")
    assert result.exit_code == 0
    assert result.output.count("is far darker or brighter than the pictures of the training") == 1
    assert f"\n{paths[1].name} is far darker" in result.output
    assert "; 2 far darker or brighter than those of the training" in result.output
    assert len(rows(tmp_path / "out")) == 3


def test_threads_share_a_predictor(folder, tmp_path):
    paths, predictor, found = pictures(tmp_path, 6), Predictor(folder), {}
    alone = [predictor(path).score for path in paths]

    def score(path: Path) -> None:
        found[path] = [predictor(path).score for _ in range(3)]

    threads = [threading.Thread(target=score, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[path] for path in paths] == [[score] * 3 for score in alone]


def test_padding_of_a_letterbox_takes_no_part(tmp_path, monkeypatch):
    model = small_model(tmp_path, LETTERBOX)
    seen = {}

    predictor = Predictor(model)
    scored = predictor.engine.glass.scored
    monkeypatch.setattr(predictor.engine.glass, "scored", lambda batches: seen.update(batches[0]) or scored(batches))
    anomaly_map = predictor(pictures(tmp_path, 1)[0]).map
    assert not np.isnan(anomaly_map).any() and anomaly_map.shape == (40, 60)
    assert seen["valid"].sum() == 21 * 32  # 60 pixels become 32, 40 become 21


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, (0.5, 0.3)),
        ({"false_alarm_rate": 0.5}, (0.4, 0.2)),
        ({"threshold": 0.9}, (0.9, 0.3)),  # what marks a pixel stays calibrated
    ],
)
def test_limits(folder, options, limits):
    assert Predictor(folder, **options).limits == limits


def test_a_score_above_the_threshold_is_ng_and_one_at_it_is_ok(folder, tmp_path):
    path = pictures(tmp_path, 1)[0]
    score = Predictor(folder)(path).score
    assert Predictor(folder, threshold=score)(path).verdict == "OK"
    assert Predictor(folder, threshold=score - 2e-5)(path).verdict == "NG"


def test_a_verdict_does_not_depend_on_company(folder, tmp_path):
    """With others a picture scores 3e-7 higher, as it may with any processor's batches."""

    class Larger:
        def __init__(self, engine: object) -> None:
            self.engine, self.card = engine, engine.card

        def start(self, pixels: np.ndarray, valid: np.ndarray) -> Callable[[], tuple[np.ndarray, ...]]:
            more = np.float32(3e-7 * (len(pixels) > 1))
            return lambda: tuple(each + more for each in self.engine.start(pixels, valid)())

    paths = pictures(tmp_path / "in", 5)
    for path in paths:
        limit = Predictor(folder)(path).score
        predictor = Predictor(folder, threshold=limit)
        predictor.engine = Larger(predictor.engine)
        alone, together = predictor(path), predictor.predict(paths)[paths.index(path)]
        assert together.score > limit and (alone.verdict, together.verdict) == ("OK", "OK")


def test_a_score_is_written_as_it_was_compared(folder, tmp_path, caplog):
    path = pictures(tmp_path / "in", 1)[0]
    score = Predictor(folder)(path).score
    for threshold, verdict in ((score, "OK"), (score - 2e-5, "NG")):
        assert call("--model", folder, "--out", tmp_path / "out", "--threshold", threshold, path.parent).exit_code == 0
        row = rows(tmp_path / "out")[0]
        assert row["verdict"] == verdict == ("NG" if float(row["score"]) > float(row["threshold"]) else "OK")
        assert row["score"] == f"{score:.5f}".rstrip("0")


def test_a_calibrated_score_says_what_the_verdict_says(model, tmp_path):
    paths = pictures(tmp_path / "in", 5)
    change_card(model, scale=model_card.Scale(0.6, 0.1))
    scores = sorted(each.score for each in Predictor(model).predict(paths))
    assert call("--model", model, "--out", tmp_path / "out", "--threshold", scores[2], tmp_path / "in").exit_code == 0
    found = rows(tmp_path / "out")
    assert [row["verdict"] == "NG" for row in found] == [float(row["calibrated"]) > 0.5 for row in found]
    assert sum(row["verdict"] == "NG" for row in found) == 2
    score, anomaly_map, verdict = found = Predictor(model, threshold=scores[0])(paths[0])  # three, as ever
    assert (score, verdict) == (found.score, found.verdict) and anomaly_map is found.map
    assert found.calibrated == pytest.approx(float(model_card.calibrated(score, scores[0], 0.6)), abs=1e-4)


def test_a_model_of_an_earlier_version_estimates_its_colours_and_says_so(model, tmp_path, caplog):
    caplog.set_level("INFO")
    content = json.loads((model / "model.json").read_text(encoding="utf-8"))
    del content["scale"]
    (model / "model.json").write_text(json.dumps(content), encoding="utf-8")
    predictor = Predictor(model)
    assert "was made by an earlier version: the colours of its heat maps are estimated" in caplog.text
    assert predictor.scale == model_card.Scale(0.4, 0.1)
    assert 0 < predictor(pictures(tmp_path, 1)[0]).calibrated < 1


def test_the_threshold_is_not_used_for_other_weights(model, tmp_path, caplog):
    glass = build(backbones.load("resnet18", "random"))
    torch.save(glass.weights(), tmp_path / "other.pth")
    predictor = Predictor(model, checkpoint=tmp_path / "other.pth")
    assert predictor.limits is None and "threshold is not used" in caplog.text
    assert predictor(pictures(tmp_path, 1)[0]).verdict == "-"
    with pytest.raises(ValueError, match="--threshold"):
        Predictor(model, checkpoint=tmp_path / "other.pth", false_alarm_rate=0.1)


def test_marked_region(folder):
    predictor = Predictor(folder)
    anomaly_map = np.full((50, 60), np.nan, np.float32)
    anomaly_map[10:40, 10:40] = 0.1
    anomaly_map[12:15, 20:30] = anomaly_map[30, 11] = 0.31
    assert predictor.marked(anomaly_map) == (31, (11, 12, 19, 19))
    assert predictor.marked(np.full((5, 5), 0.3, np.float32)) == (0, None)


def test_checkpoints_of_the_authors_take_the_papers_settings(tmp_path, monkeypatch, caplog):
    asked = {}

    def load(name: str, weights: str, imagesize: tuple[int, int], _: str) -> torch.nn.Module:
        asked.update(name=name, weights=weights, imagesize=imagesize)
        return backbones_load("wideresnet50", "random", imagesize)

    backbones_load = backbones.load
    monkeypatch.setattr(backbones, "load", load)
    torch.save({"discriminator": {"tail.0.weight": torch.zeros(1, 8)}}, tmp_path / "ckpt_best_9.pth")
    with pytest.raises(ValueError, match=r"ckpt_best_9.pth \(discriminator\) was made with other options.*1024"):
        Predictor(tmp_path)
    assert asked == {"name": "wideresnet50", "weights": "imagenet", "imagesize": (288, 288)}
    assert "paper's settings" in caplog.text


def test_tiles_score_the_highest_and_cover_the_picture(folder):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    found = Predictor(folder, tiling=Tiling((36, 36), 12), batch_size=4, threshold=0.5)(picture)
    tiles = [picture[box] for box in Tiling((36, 36), 12).boxes((90, 120))]
    single = [each.score for each in Predictor(folder).predict(tiles)]
    assert found.score == pytest.approx(max(single), abs=1e-6)
    border = 2  # that the crop cuts off
    assert not np.isnan(found.map[border:-border, border:-border]).any()
    assert found.map.shape == (90, 120)


def test_tiles_that_the_crop_would_leave_gaps_between_are_refused(folder):
    with pytest.raises(ValueError, match="Give --overlap 4 or more"):
        Predictor(folder, tiling=Tiling((36, 36), 3), threshold=0.5)


def test_tiles_are_refused_where_the_threshold_is_of_whole_pictures(folder, tmp_path):
    result = call("--model", folder, "--tile", "36x36", "--out", tmp_path / "out", *pictures(tmp_path, 1))
    assert result.exit_code == 2 and "was trained on whole pictures" in result.output
    assert "--calibrate FOLDER" in result.output and not (tmp_path / "out").exists()


def test_files_of_a_folder(folder, tmp_path):
    pictures(tmp_path / "in", 3)
    pictures(tmp_path / "in" / "deeper", 1)
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    options = ("--out", out, "--save_maps", "npy", "--recursive", "--threshold", 0)
    result = call("--model", folder, *options, tmp_path / "in")
    assert result.exit_code == 1  # one could not be read
    found = rows(out)
    assert [row["image"] for row in found] == ["000.png", "001.png", "002.png", "broken.png", "deeper/000.png"]
    assert [row["verdict"] for row in found] == ["NG", "NG", "NG", "", "NG"]
    assert "cannot be read" in found[3]["error"] and not found[3]["score"]
    assert float(found[0]["score"]) == pytest.approx(Predictor(folder)(tmp_path / "in" / "000.png").score, abs=5e-6)
    assert np.load(out / "maps" / "deeper" / "000.png.npy").shape == (40, 60)
    drawn = Image.open(out / "overlays" / "deeper" / "000.png")
    assert drawn.width >= 60 and drawn.height > 40
    assert not list(out.glob(".partial*"))


def test_what_it_wrote_itself_is_not_scored(folder, tmp_path):
    pictures(tmp_path, 2)
    for _ in range(2):
        assert call("--model", folder, "--out", tmp_path / "out", "--recursive", tmp_path).exit_code == 0
    assert len(rows(tmp_path / "out")) == 2


def test_patterns_and_files_name_pictures_once(folder, tmp_path):
    paths = pictures(tmp_path, 3)
    assert call("--model", folder, "--out", tmp_path / "out", paths[2], tmp_path / "00[12].png").exit_code == 0
    assert [row["image"] for row in rows(tmp_path / "out")] == ["002.png", "001.png"]


@pytest.mark.parametrize(("threshold", "status"), [(0, 3), (1, 0)])
def test_fail_on_ng(folder, tmp_path, threshold, status):
    pictures(tmp_path, 1)
    options = ("--threshold", threshold, "--fail_on_ng", "--overlays", "none")
    assert call("--model", folder, "--out", tmp_path / "out", *options, tmp_path).exit_code == status
    assert not (tmp_path / "out" / "overlays").exists()


def no_checkpoint(model: Path) -> None:
    (model / "ckpt_best_3.pth").unlink()


def no_backbone(model: Path) -> None:
    (model.parent / "backbone.safetensors").unlink()


def other_backbone(model: Path) -> None:
    change_card(model, backbone=replace(model_card.read(model).backbone, sha256="0" * 64))


def wrong_geometry(model: Path) -> None:
    change_card(model, geometry={"resize": 16, "imagesize": [32, 32], "mode": "crop"})


def other_network(model: Path) -> None:
    change_card(model, network=replace(model_card.read(model).network, dsc_hidden=17))


def damaged_card(model: Path) -> None:
    (model / "model.json").write_text(json.dumps({"format": 1}), encoding="utf-8")


@pytest.mark.parametrize(
    "spoil", [no_checkpoint, no_backbone, other_backbone, wrong_geometry, other_network, damaged_card]
)
def test_a_model_that_is_not_whole_ends_with_one_line(model, tmp_path, spoil):
    spoil(model)
    pictures(tmp_path / "in", 1)
    check_one_line(call("--model", model, "--out", tmp_path / "out", tmp_path / "in"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere",), (".", "--overlap", "3"), (".", "--tile", "3"), (".", "--device", "tpu"),
        (".", "--device", "cuda:99"), (".", "--threshold", "1", "--false_alarm_rate", "0.1"), (".", ".", "--watch"),
    ],
)  # fmt: skip
def test_wrong_options_end_with_one_line(folder, tmp_path, monkeypatch, arguments):
    pictures(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    check_one_line(call("--model", folder, "--out", tmp_path / "out", *arguments))


def check_one_line(result: click.testing.Result) -> None:
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    said = [line for line in result.output.splitlines() if not line.startswith("mvtec_part: threshold")]
    assert len(said) == 1 and said[0].endswith("."), result.output


def test_without_pytorch_a_class_folder_says_what_to_install(folder, tmp_path):
    pictures(tmp_path, 1)
    code = (
        "import sys; blocked = ['torch', 'torchvision', 'cv2', 'scipy', 'pandas', 'safetensors', 'timm', 'onnx']; "
        "sys.modules.update(dict.fromkeys(blocked)); import predict; predict.main()"
    )
    line = [sys.executable, "-c", code, "--model", str(folder), "--out", str(tmp_path / "out"), str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "requirements.txt" in done.stdout and not done.stderr


def count(out: Path) -> int:
    return (out / "scores.csv").read_bytes().count(b"\n") - 1 if (out / "scores.csv").is_file() else 0


def sorted_names(out: Path) -> dict[str, set[str]]:
    return {kind: {path.name for path in (out / kind).glob("*")} for kind in ("OK", "NG")}


@pytest.mark.parametrize("how", ["link", "copy"])
def test_pictures_are_sorted_by_their_verdicts(folder, tmp_path, how):
    paths, out = pictures(tmp_path / "in"), tmp_path / "out"
    scores = sorted(each.score for each in Predictor(folder).predict(paths))
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    wanted = ["--out", out, "--overlays", "none", "--sort", how, tmp_path / "in"]
    for low, high in ((1, 2), (3, 4)):  # a second threshold moves pictures
        result = call("--model", folder, "--threshold", (scores[low] + scores[high]) / 2, *wanted)
        assert result.exit_code == 1, result.output
        judged = {kind: {row["image"] for row in rows(out) if row["verdict"] == kind} for kind in ("OK", "NG")}
        assert sorted_names(out) == judged and len(judged["OK"]) == low + 1
    for path in paths:
        put = next(out / kind / path.name for kind in judged if path.name in judged[kind])
        assert put.read_bytes() == path.read_bytes() and put.is_symlink() == (how == "link")
    again = call("--model", folder, *wanted[:-1], "--recursive", tmp_path)  # its own are not judged
    assert "6 pictures" in again.output


def test_sorting_takes_nobody_elses_picture_away(folder, tmp_path):
    path, out = pictures(tmp_path / "in", 1)[0], tmp_path / "out"
    for kind in ("OK", "NG"):
        (out / kind).mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(out / "OK" / path.name)
    assert call("--model", folder, "--threshold", 0, "--out", out, "--sort", "link", path).exit_code == 0
    assert sorted_names(out) == {"OK": {path.name}, "NG": {path.name}}


def test_sorting_needs_a_threshold(model, tmp_path):
    change_card(model, threshold=None, calibration=None)
    result = call("--model", model, "--out", tmp_path / "out", "--sort", "copy", pictures(tmp_path / "in", 1)[0])
    assert result.exit_code == 2 and "give --threshold" in result.output


def test_a_file_of_pages_is_sorted_as_ng_if_one_page_is(folder, tmp_path):
    pages = [Image.open(path) for path in pictures(tmp_path / "in", 3)]
    scores = sorted(each.score for each in Predictor(folder).predict(pages))
    (tmp_path / "pages").mkdir()
    pages[0].save(tmp_path / "pages" / "lot.tif", save_all=True, append_images=pages[1:])
    wanted = ["--model", folder, "--out", tmp_path / "out", "--sort", "link", tmp_path / "pages"]
    assert call("--threshold", (scores[1] + scores[2]) / 2, *wanted).exit_code == 0
    assert [row["verdict"] for row in rows(tmp_path / "out")].count("NG") == 1
    assert sorted_names(tmp_path / "out") == {"OK": set(), "NG": {"lot.tif"}}
    assert call("--threshold", 1, *wanted).exit_code == 0
    assert sorted_names(tmp_path / "out") == {"OK": {"lot.tif"}, "NG": set()}


def watch_until(model: Predictor, folder: Path, out: Path, lines: int, meanwhile: Callable[[], object]) -> None:
    """Watch a folder until scores.csv has so many lines; do something when it has one more than at the start."""
    stop, before = threading.Event(), count(out)
    with ThreadPoolExecutor(2) as pool:
        run = Run(model, Output(out, folder, model, "none", None), pool)
        thread = threading.Thread(target=run.watch, args=(folder, False, ScoreFile(out / "scores.csv"), stop))
        thread.start()
        for wanted in (before + 1, lines):
            end = time.monotonic() + 30
            while count(out) < wanted and time.monotonic() < end:
                time.sleep(0.05)
            meanwhile()
        stop.set()
        thread.join()
    assert count(out) == lines


def test_watch_scores_once_over_restarts_and_half_written_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "POLL_SECONDS", 0.05)
    source, arriving, out = pictures(tmp_path / "source", 4), tmp_path / "in", tmp_path / "out"
    arriving.mkdir()
    content, model = source[3].read_bytes(), Predictor(folder)
    shutil.copy(source[0], arriving)
    (arriving / "003.png").write_bytes(content[: len(content) // 2])
    watch_until(model, arriving, out, 1, lambda: None)
    with (out / "scores.csv").open("ab") as file:
        file.write(b"001.png,0.1")  # cut off while it was written
    shutil.copy(source[1], arriving)
    watch_until(model, arriving, out, 3, lambda: (arriving / "003.png").write_bytes(content))
    assert [row["image"] for row in rows(out)] == ["000.png", "001.png", "003.png"]
    assert all(row["score"] for row in rows(out))


def test_watch_gives_a_picture_up_that_stays_unreadable(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(arrivals, "PATIENCE", 0.3)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "000.png").write_bytes(b"no picture")
    watch_until(Predictor(folder), tmp_path / "in", tmp_path / "out", 1, lambda: None)
    assert "cannot be read" in rows(tmp_path / "out")[0]["error"]


def test_two_runs_do_not_write_the_same_folder(folder, tmp_path):
    pictures(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        check_one_line(call("--model", folder, "--out", tmp_path / "out", tmp_path / "in"))


def test_every_way_in_scores_the_same(folder, tmp_path):
    predictor = Predictor(folder)
    deep = np.arange(0, 40 * 60 * 20, 20, dtype=np.uint16).reshape(40, 60)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.open(pictures(tmp_path, 1)[0]).save(tmp_path / "turned.jpg", exif=turned)
    for path, *more in ((tmp_path / "deep.png", deep), (tmp_path / "turned.jpg",)):
        with Image.open(path) as opened, path.open("rb") as file:
            scores = {predictor(way).score for way in (path, str(path), path.read_bytes(), file, opened, *more)}
        assert len(scores) == 1
    for way in (Image.new("F", (40, 40)), np.zeros((40, 40), np.float32)):
        with pytest.raises(ValueError, match="32-bit values, whose range is not known"):
            predictor(way)


def mixed(folder: Path) -> list[Image.Image]:
    """Write pictures of several types and what else lies in folders; return the pages of lot.tif."""
    pages = [Image.open(path) for path in pictures(folder, 3)]
    pages[0].save(folder / "lot.tif", save_all=True, append_images=pages[1:])
    pages[0].save(folder / "a.jfif", "JPEG")
    pages[0].save(folder / "b.ppm")
    pages[0].save(folder / "c.gif")
    (folder / "d.psd").write_bytes(b"8BPS")
    (folder / "notes.txt").touch()
    (folder / "sub.png").mkdir()
    return pages


def test_every_page_and_picture_has_a_row_and_what_is_left_out_is_named(folder, tmp_path):
    pages = mixed(tmp_path / "in")
    result = call("--model", folder, "--out", tmp_path / "out", "--save_maps", "npy", tmp_path / "in")
    assert result.exit_code == 1
    found = {row["image"]: row for row in rows(tmp_path / "out")}
    assert [name for name in found if name[0] not in "0"] == [
        "a.jfif", "b.ppm", "c.gif", "d.psd", "lot.tif#1", "lot.tif#2", "lot.tif#3",
    ]  # fmt: skip
    assert "is of a type that is not read" in found["d.psd"]["error"]
    predictor = Predictor(folder)
    for number, page in enumerate(pages, 1):
        assert float(found[f"lot.tif#{number}"]["score"]) == pytest.approx(predictor(page).score, abs=1e-5)
    for name in ("lot.tif#2.png", "c.gif.png", "b.ppm.png"):
        with Image.open(tmp_path / "out" / "overlays" / name) as drawn:
            assert drawn.format == "PNG"
    assert (tmp_path / "out" / "maps" / "lot.tif#2.npy").is_file()
    assert f"{tmp_path / 'in' / 'notes.txt'} is no picture and not judged." in result.output
    assert f"{tmp_path / 'in' / 'sub.png'} is a folder without other pictures." in result.output
    assert "10 pictures: " in result.output and "1 unreadable" in result.output


def test_a_pattern_names_what_it_leaves_out(folder, tmp_path):
    mixed(tmp_path / "in")
    result = call("--model", folder, "--out", tmp_path / "out", "--overlays", "none", f"{tmp_path / 'in'}/[bdlns]*")
    assert result.exit_code == 1
    assert [row["image"] for row in rows(tmp_path / "out")][:2] == ["b.ppm", "d.psd"]
    assert "notes.txt is no picture" in result.output


def nested(folder: Path) -> None:
    """Write a picture, and folders with one, with one of a type that is not read, without any, and with hidden ones."""
    pictures(folder, 1)
    pictures(folder / "day" / "shift", 1)
    for name in ("raw/a.NEF", "empty/notes.txt", "hidden/.a.png"):
        (folder / name).parent.mkdir()
        (folder / name).touch()


def test_folders_of_pictures_that_are_not_looked_into_are_named_and_no_success(folder, tmp_path):
    nested(tmp_path / "in")
    line = ["--model", folder, "--out", tmp_path / "out", "--overlays", "none", "--threshold", 1]
    for given in (tmp_path / "in", f"{tmp_path / 'in'}/*"):
        result = call(*line, given)
        assert result.exit_code == 1, result.output
        day, raw = tmp_path / "in" / "day", tmp_path / "in" / "raw"
        advice = "folders of pictures that are not judged: give --recursive to look into them"
        assert f"2 are {advice}: {day}, {raw}." in result.output
        assert f"2 are folders without other pictures: {tmp_path / 'in' / 'empty'}, " in result.output
        assert f"1 picture: 1 OK; not judged: {day} and 1 more; " in result.output
    shutil.rmtree(tmp_path / "in" / "raw")
    for given in ([tmp_path / "in", tmp_path / "in" / "day" / "shift"], ["--recursive", f"{tmp_path / 'in'}/*"]):
        result = call(*line, *given)
        assert result.exit_code == 0 and "2 pictures: 2 OK; " in result.output, result.output
        assert "not judged:" not in result.output


def test_what_an_earlier_run_wrote_into_a_folder_is_not_left_out(folder, tmp_path):
    pictures(tmp_path / "in", 1)
    for _ in range(2):
        assert call("--model", folder, "--out", tmp_path / "in" / "runs" / "1", tmp_path / "in").exit_code == 0


def test_a_page_that_is_damaged_has_an_error_row(folder, tmp_path):
    pages = mixed(tmp_path / "all")
    path = tmp_path / "in" / "lot.tif"
    path.parent.mkdir()
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")
    with Image.open(path) as image:
        image.seek(1)
        (start,), (length,) = (image.tag_v2[tag] for tag in (273, 279))
    content = bytearray(path.read_bytes())
    content[start : start + length] = b"\xff" * length
    path.write_bytes(content)
    assert call("--model", folder, "--out", tmp_path / "out", path.parent).exit_code == 1
    found = rows(tmp_path / "out")
    assert [bool(row["score"]) for row in found] == [True, False, True]
    assert "page 2, cannot be read" in found[1]["error"] and found[1]["image"] == "lot.tif#2"


def test_what_is_no_regular_file_has_an_error_row_and_nothing_waits_for_it(folder, tmp_path):
    paths = pictures(tmp_path / "in", 1)
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")
    for inputs in ([tmp_path / "in"], [paths[0], *(tmp_path / "in" / f"{name}.png" for name in ("pipe", "zero"))]):
        assert call("--model", folder, "--out", tmp_path / "out", *inputs).exit_code == 1
        errors = {row["image"]: row["error"] for row in rows(tmp_path / "out")}
        assert not errors.pop("000.png") and "does not exist" in errors.pop("gone.png", "does not exist")
        assert errors.keys() == {"pipe.png", "zero.png"}
        assert all("is a pipe, a socket or a device" in error for error in errors.values())


def test_names_that_are_no_text_are_written_so_that_a_table_holds_them(folder, tmp_path):
    content = pictures(tmp_path / "source", 1)[0].read_bytes()
    (tmp_path / "in").mkdir()
    for name in (b"a\nb.png", b"\xff.png", b"\\xff.png", "é.png".encode()):
        with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as file:
            file.write(content)
    assert call("--model", folder, "--out", tmp_path / "out", tmp_path / "in").exit_code == 0
    wanted = {r"a\x0ab.png", r"\xff.png", r"\\xff.png", "é.png"}
    assert {row["image"] for row in rows(tmp_path / "out")} == wanted
    assert {path.name for path in (tmp_path / "out" / "overlays").iterdir()} == wanted


def test_a_picture_that_upsets_the_model_leaves_the_others(folder, tmp_path, monkeypatch):
    paths = pictures(tmp_path / "in", 3)
    Image.new("L", (20_000, 2)).save(tmp_path / "in" / "0long.png")  # 36 x 360000 after the resize
    monkeypatch.setenv(reading.PIXELS_VARIABLE, "1000000")
    alone = [Predictor(folder)(path).score for path in paths]
    predict_all = Predictor.predict

    def predict_or_fail(self, some):
        if any(np.array_equal(np.asarray(image), np.asarray(Image.open(paths[1]))) for image in some):
            raise MemoryError
        return predict_all(self, some)

    monkeypatch.setattr(Predictor, "predict", predict_or_fail)
    assert call("--model", folder, "--out", tmp_path / "out", tmp_path / "in").exit_code == 1
    found = rows(tmp_path / "out")
    assert [row["image"] for row in found] == ["000.png", "001.png", "002.png", "0long.png"]
    assert "001.png cannot be scored: MemoryError" in found[1]["error"]
    assert "0long.png cannot be scored: The picture has 36 x 360000 pixels after the resize" in found[3]["error"]
    scores = [float(found[number]["score"]) for number in (0, 2)]
    assert scores == pytest.approx([alone[0], alone[2]], abs=1e-5)


@pytest.mark.parametrize(("error", "traced"), [(KeyError("layer9"), True), (RuntimeError("out of memory"), False)])
def test_a_mistake_in_the_program_is_traced_once(folder, tmp_path, monkeypatch, error, traced):
    pictures(tmp_path / "in", 3)

    def fail(self, images):
        raise error

    monkeypatch.setattr(Predictor, "predict", fail)
    result = call("--model", folder, "--out", tmp_path / "out", tmp_path / "in")
    assert result.exit_code == 1 and len(rows(tmp_path / "out")) == 3
    assert all("cannot be scored: " in row["error"] for row in rows(tmp_path / "out"))
    assert result.output.count("000.png: a fault of this program") == traced
    assert ("Traceback (most recent call last)" in result.output) == traced


def test_watch_waits_for_a_disk_that_is_full(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(batch_run, "POLL_SECONDS", 0.05)
    pictures(tmp_path / "in", 3)
    append, failures = ScoreFile._append, iter(range(4))

    def append_or_fail(self, text):
        if text.startswith("00") and next(failures, None) is not None:
            raise OSError(28, "No space left on device")
        append(self, text)

    monkeypatch.setattr(ScoreFile, "_append", append_or_fail)
    watch_until(Predictor(folder), tmp_path / "in", tmp_path / "out", 3, lambda: None)
    assert sorted(row["image"] for row in rows(tmp_path / "out")) == ["000.png", "001.png", "002.png"]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1 and "out cannot be written (No space left on device): waiting" in said[0]


def watch_a_while(monkeypatch, *line: object) -> click.testing.Result:
    """Run predict.py --watch, and tell it at the fourth look to stop, as SIGTERM does."""
    stop, looks, ready = threading.Event(), iter(range(3)), arrivals.Watch.ready

    def look(watch: arrivals.Watch) -> list[Path]:
        if next(looks, None) is None:
            stop.set()
        return ready(watch)

    with monkeypatch.context() as patch:
        patch.setattr(batch_run, "POLL_SECONDS", 0.05)
        patch.setattr(predict, "stop_event", lambda: stop)
        patch.setattr(arrivals.Watch, "ready", look)
        return call("--watch", "--overlays", "none", "--threshold", 1, *line)


def test_a_watch_that_leaves_folders_of_pictures_is_no_success(folder, tmp_path, monkeypatch):
    nested(tmp_path / "in")
    line = ["--model", folder, "--out", tmp_path / "in" / "runs" / "1", tmp_path / "in"]
    result = watch_a_while(monkeypatch, *line)
    assert result.exit_code == 1, result.output
    assert f"1 picture: 1 OK; not judged: {tmp_path / 'in' / 'day'} and 1 more. Scores" in result.output
    for name in ("day", "raw"):
        shutil.rmtree(tmp_path / "in" / name)
    assert watch_a_while(monkeypatch, *line).exit_code == 0


def test_a_watch_that_ends_while_the_disk_is_full_is_no_success(folder, tmp_path, monkeypatch):
    paths = pictures(tmp_path / "in", 2)
    append = ScoreFile._append

    def append_or_fail(self, text):
        if text.startswith("00"):
            raise OSError(28, "No space left on device")
        append(self, text)

    monkeypatch.setattr(ScoreFile, "_append", append_or_fail)
    result = watch_a_while(monkeypatch, "--model", folder, "--out", tmp_path / "out", tmp_path / "in")
    assert result.exit_code == 1
    assert f"No pictures; not judged: {paths[0]} and 1 more. Scores" in result.output


def test_watch_keeps_a_score_whose_overlay_cannot_be_written(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "POLL_SECONDS", 0.05)
    long = tmp_path / "in" / f"{'x' * 248}.gif"  # 252 letters; with .png they are too many
    long.parent.mkdir()
    Image.open(pictures(tmp_path / "source", 1)[0]).save(long)
    model = Predictor(folder)
    with ThreadPoolExecutor(2) as pool:
        run = Run(model, Output(tmp_path / "out", long.parent, model, "all", None), pool)
        stop = threading.Event()
        scores = ScoreFile(tmp_path / "out" / "scores.csv")
        thread = threading.Thread(target=run.watch, args=(long.parent, False, scores, stop))
        thread.start()
        end = time.monotonic() + 60
        while not count(tmp_path / "out") and time.monotonic() < end:
            time.sleep(0.05)
        stop.set()
        thread.join()
    (row,) = rows(tmp_path / "out")
    assert row["score"] and "cannot be written (File name too long)" in row["error"]


def test_watch_scores_all_pages_of_a_file_and_knows_them_after_a_restart(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "POLL_SECONDS", 0.05)
    pages = [Image.open(path) for path in pictures(tmp_path / "source", 3)]
    (tmp_path / "in").mkdir()
    pages[0].save(tmp_path / "in" / "lot.tif", save_all=True, append_images=pages[1:])
    model = Predictor(folder)
    watch_until(model, tmp_path / "in", tmp_path / "out", 3, lambda: None)
    shutil.copy(pages[0].filename, tmp_path / "in" / "z.png")
    watch_until(model, tmp_path / "in", tmp_path / "out", 4, lambda: None)
    assert [row["image"] for row in rows(tmp_path / "out")] == ["lot.tif#1", "lot.tif#2", "lot.tif#3", "z.png"]


@pytest.mark.parametrize("option", ["--threshold", "--false_alarm_rate"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(folder, tmp_path, option, value):
    pictures(tmp_path / "in", 1)
    result = call("--model", folder, "--out", tmp_path / "out", option, value, tmp_path / "in")
    assert result.exit_code == 2 and option in result.output and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="give a number"):
        Predictor(folder, threshold=float(value))


NAMES = ["=1+1.png", "+x.png", "-x.png", "@x.png", "'=x.png", "''.png"]


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_a_formula_and_names_are_read_back(tmp_path, name):
    scores = ScoreFile(tmp_path / "scores.csv")
    scores.add(Row(name, -0.5, "-", error="=cmd"))
    (row,) = rows(tmp_path)
    assert row["image"][0] not in "=+-@" and row["image"].endswith(name)
    assert (row["score"], row["verdict"], row["error"]) == ("-0.5", "-", "'=cmd")
    assert ScoreFile(tmp_path / "scores.csv").done == {name}


def test_watch_does_not_score_names_like_formulas_twice(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_run, "POLL_SECONDS", 0.05)
    source, arriving, out, model = pictures(tmp_path / "a", 2), tmp_path / "in", tmp_path / "out", Predictor(folder)
    arriving.mkdir()
    shutil.copy(source[0], arriving / "=1.png")
    watch_until(model, arriving, out, 1, lambda: None)
    shutil.copy(source[1], arriving / "@2.png")
    watch_until(model, arriving, out, 2, lambda: None)
    assert [row["image"] for row in rows(out)] == ["'=1.png", "'@2.png"]


def test_a_class_folder_that_was_copied_alone_says_what_it_needs(model, tmp_path):
    shutil.copytree(model, tmp_path / "alone" / model.name)
    pictures(tmp_path / "in", 1)
    for program, more in ((predict.main, [str(tmp_path / "in")]), (export.main, ["--format", "pt2"])):
        line = ["--model", str(tmp_path / "alone" / model.name), "--out", str(tmp_path / "out.pt2"), *more]
        result = click.testing.CliRunner().invoke(program, line)
        assert result.exit_code == 2
        assert f"{tmp_path / 'alone' / 'backbone.safetensors'} is missing" in result.output
        assert "copy backbone.safetensors along, or export the model" in result.output


def test_backbone_weights_that_were_not_kept_are_asked_for(model, tmp_path):
    path = pictures(tmp_path / "in", 1)[0]
    expected = Predictor(model)(path).score
    change_card(model, backbone=replace(model_card.read(model).backbone, weights="file", file=None))
    with pytest.raises(FileNotFoundError, match="were not kept: give the file of its training by --backbone_weights"):
        Predictor(model)
    assert Predictor(model, backbone_weights=model.parent / "backbone.safetensors")(path).score == expected


@pytest.mark.parametrize("network", [{"pre_proj": 0}, {"dsc_hidden": 8}])
def test_other_settings_without_a_card_are_told_from_damage(tmp_path, monkeypatch, network):
    folder = small_model(tmp_path, network=replace(NETWORK, **network))
    (folder / model_card.FILE).unlink()
    paper = replace(torch_engine.paper_card(folder, folder / "ckpt_best_3.pth"), network=NETWORK)
    paper = replace(paper, backbone=replace(paper.backbone, name="resnet18"), geometry=Geometry(36, (32, 32)).to_dict())
    monkeypatch.setattr(torch_engine, "paper_card", lambda *_: paper)
    with pytest.raises(ValueError, match="run main.py with --test test and the options of its training first"):
        Predictor(folder)
    (folder / "ckpt_best_3.pth").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is damaged"):
        Predictor(folder)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_way_of_the_output_is_one_line(folder, tmp_path, place):
    (tmp_path / "file").write_text("kept")
    pictures(tmp_path / "in", 1)
    result = call("--model", folder, "--out", tmp_path / place, tmp_path / "in")
    assert result.exit_code == 2 and f"{tmp_path / place} cannot be written" in result.output.splitlines()[-1]
    assert (tmp_path / "file").read_text() == "kept"


def test_pictures_that_look_unlike_the_training_s_are_told(model, tmp_path):
    known = pictures(tmp_path / "in", 6)
    before = [(each.score, each.map, each.drift) for each in Predictor(model).predict(known)]
    learn_drift(model, known)
    for (score, segmentation, drift), found in zip(before, Predictor(model).predict(known), strict=True):
        assert found.score == score and np.array_equal(found.map, segmentation, equal_nan=True)
        assert drift is None and 0 < found.drift <= 1
    for k, path in enumerate(known[:3]):  # noise of half the contrast
        Image.fromarray(np.asarray(Image.open(path)) // 2 + 64).save(tmp_path / f"in/x{k}.png")
    said = call("--model", model, "--out", tmp_path / "out", "--overlays", "none", tmp_path / "in").output
    found = rows(tmp_path / "out")
    assert list(found[0])[-2:] == ["calibrated", "drift"]
    assert [float(row["drift"]) > 1 for row in found] == [False] * 6 + [True] * 3
    assert said.count("no longer look like those of the training: of the last 8, 2 drift above 1, up to ") == 1
    assert "; 3 drift above 1" in said
    assert Predictor(model, tiling=Tiling((40, 40), 8), threshold=0.5)(known[0]).drift is None
    before = Predictor(model, roi="2,3,50,34")(known[0])
    Image.open(known[0]).crop((2, 3, 52, 37)).save(tmp_path / "part.png")
    assert before.drift == Predictor(model)(tmp_path / "part.png").drift and before.drift is not None
