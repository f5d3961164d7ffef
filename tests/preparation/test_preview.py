"""A preview shows what a run with its options sees first."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare
from datasets.mvtec import MVTecDataset
from datasets.sampler import EpochSampler
from jobs.examples import first_examples
from jobs.held_out import hold_out
from tests.helpers.pictures import write
from tests.helpers.prepare_line import call, one_line, square


def show(tree: Path, out: str, *options: object) -> bytes:
    """Return the sheet that preview writes."""
    path = tree.parent / out
    line = ["-n", 3, "--out", path, "-d", "nut", "--resize", 32, "--imagesize", 32, *options, "mvtec", tree]
    result = call("preview", *line, tree.parent / "dtd")
    assert result.exit_code == 0, result.output
    assert "3 samples (normal | mask | synthetic defect)" in result.output
    return path.read_bytes()


def test_a_preview_follows_the_options_of_a_run(tree):
    sheet = show(tree, "a.png")
    assert show(tree, "b.png") == sheet
    for options in (["--seed", 1], ["--mean", 0.2, "--std", 0], ["--fg", 0], ["--rand_aug", 0]):
        assert show(tree, "c.png", *options) != sheet
    assert Image.open(tree.parent / "a.png").size == (2 * 3 * 294, 2 * (288 + 18 + 6))


def test_a_preview_shows_what_training_sees_first(tree):
    train_set = MVTecDataset(tree, tree.parent / "dtd", "mvtec", "nut", 32, 32)
    batch = next(iter(EpochSampler(len(train_set), 8, 0, "mvtec_nut")))
    examples = first_examples(train_set, EpochSampler(len(train_set), 1, 0, "mvtec_nut"), 8)
    for draw, example in zip(batch, examples, strict=True):
        sample, (caption, (image, mask, aug)) = train_set[draw], example.cell("nut")
        assert Path(sample["image_path"]).name in caption
        assert np.array_equal(image, np.asarray(Image.open(sample["image_path"]).resize((32, 32), Image.BILINEAR)))
        assert np.array_equal(mask[::8, ::8] > 0, sample["mask_s"].numpy() > 0)
        assert (np.abs(aug.astype(int) - image).max(2) > 2).any()
        assert not (np.abs(aug.astype(int) - image).max(2) > 2)[mask == 0].any()


def test_a_preview_leaves_out_what_is_held_out(tree, monkeypatch):
    shown, blank = [], np.zeros((1, 1, 3), np.uint8)
    monkeypatch.setattr(prepare, "contact_sheet", lambda cells, *_: shown.extend(cells) or blank)
    line = ["preview", "-n", 11, "--out", tree.parent / "a.png", "-d", "nut", "--resize", 32, "--imagesize", 32]
    call(*line, "--calibration", 0.3, "mvtec", tree, tree.parent / "dtd")
    train_set = MVTecDataset(tree, tree.parent / "dtd", "mvtec", "nut", 32, 32)
    rest, held = hold_out(train_set, 0.3, 0, "calibration")
    assert len(held) == 3
    assert {caption for caption, _ in shown} == {f"nut: {entry.image.name}" for entry in rest.entries}


def test_a_preview_tells_the_smallest_and_the_largest_defect_in_camera_pixels(tree):
    line = ["-n", 6, "--out", tree.parent / "a.png", "-d", "nut", "--resize", 20, "--imagesize", 20, "--fg", 0]
    found = []
    for size in ("0.03,0.07", "1,1"):
        output = call("preview", *line, "--defect_size", size, "mvtec", tree, tree.parent / "dtd").output
        told = re.search(r"smallest is (\d+) wide and (\d+) high, the largest (\d+) and (\d+)\.", output)
        found.append([int(number) for number in told.groups()])
    (small, _, large, _), (_, _, wide, high) = found
    assert small == 2 and large < 20  # the pictures are 40 pixels wide: two a pixel of the network
    assert max(wide, high) >= 20


def test_a_preview_of_tiles_tells_sizes_at_their_scale(tree):
    line = ["-n", 6, "--out", tree.parent / "a.png", "-d", "nut", "--fg", 0, "--resize_mode", "stretch"]
    line += ["--imagesize", 20, "--tile", 20, "--overlap", 0, "--defect_size", "1,1"]
    output = call("preview", *line, "mvtec", tree, tree.parent / "dtd").output
    numbers = re.search(r"smallest is (\d+) wide and (\d+) high, the largest (\d+) and (\d+)\.", output).groups()
    assert max(map(int, numbers)) <= 20  # a tile's pixels are the camera's


def test_a_preview_shows_confirmed_defects(tree):
    write(tree.parent / "bad/x.png", np.full((40, 40, 3), (255, 0, 0)))
    write(tree.parent / "bad/x_mask.png", square())
    show(tree, "a.png", "--real_defects", tree.parent / "bad", "--real_share", 1)
    pixels = np.asarray(Image.open(tree.parent / "a.png").convert("RGB")).astype(int)
    assert ((pixels[..., 0] > 200) & (pixels[..., 1:].max(2) < 60)).sum() > 1000


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--distribution", 1], "makes no synthetic defects"), (["--out", "a.jpg"], "must end in .png")],
)
def test_wrong_previews_are_one_line(tree, options, text):
    line = ["preview", "-d", "nut", *options, "mvtec", tree, tree.parent / "dtd"]
    assert text in one_line(call(*line))


def test_preview_takes_every_option_of_a_run():
    taken = {option.name for option in prepare.preview.params}
    assert {option.name for option in prepare.main.dataset.params} <= taken
