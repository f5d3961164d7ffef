"""Foreground masks: the part is found, doubts are told, and masks that are there stay."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preparation import foreground_masks
from system import files
from tests.helpers.pictures import write
from tests.helpers.prepare_line import call, one_line, square


def part(key: int, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Draw a textured disc with a soft shadow on an unevenly lit, noisy background; and the disc's mask."""
    rng = np.random.default_rng(key)
    y, x = np.mgrid[:side, :side] / side
    cy, cx = rng.uniform(0.4, 0.6, 2)
    disc = np.hypot(y - cy, x - cx) < 0.22
    shadow = 30 * np.exp(-((np.hypot(y - cy - 0.06, x - cx - 0.06) / 0.25) ** 4))
    gray = 190 + 25 * x - 15 * y * y - shadow + rng.normal(0, 2, (side, side))
    gray = np.where(disc, 70 + 25 * np.sin(40 * x) + rng.normal(0, 6, (side, side)), gray)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), disc


@pytest.fixture
def parts(tmp_path) -> Path:
    """A class of discs: lossless and JPEG pictures."""
    for i in range(3):
        write(tmp_path / f"own/disc/{i}.{'jpg' if i == 2 else 'png'}", part(i)[0])
    return tmp_path / "own"


@pytest.mark.parametrize("key", range(3))
def test_the_part_is_found_without_its_shadow(key):
    pixels, disc = part(key)
    found = foreground_masks.find_foreground(pixels)
    assert foreground_masks.iou(found.mask, disc) > 0.95
    assert not found.doubts
    assert np.array_equal(found.mask, foreground_masks.find_foreground(pixels).mask)


def test_a_large_picture_gets_a_mask_of_its_size():
    pixels, disc = part(0, 900)
    found = foreground_masks.find_foreground(pixels)
    assert found.mask.shape == disc.shape
    assert foreground_masks.iou(found.mask, disc) > 0.95


def test_doubtful_masks_are_told():
    flat = foreground_masks.find_foreground(np.full((64, 64, 3), 120, np.uint8))
    assert not flat.mask.any()
    assert flat.doubts == ["nearly empty (0.0%)"]
    rng = np.random.default_rng(0)
    texture = np.repeat(rng.normal(120, 30, (64, 64, 1)).clip(0, 255).astype(np.uint8), 3, axis=2)
    assert foreground_masks.find_foreground(texture).doubts
    assert foreground_masks.Foreground(np.ones((4, 4), bool), 1.0).doubts == ["nearly full (100.0%)"]


def test_masks_are_written_for_training(parts):
    result = call("fgmask", parts, "-d", "disc")
    assert result.exit_code == 0
    folder = parts / "fg_mask/disc"
    assert {path.name for path in folder.iterdir()} == {"0.png", "1.png", "2.png"}  # JPEG would blur them
    values = np.asarray(Image.open(folder / "2.png"))
    assert set(np.unique(values)) == {0, 255}
    assert foreground_masks.iou(values > 0, part(2)[1]) > 0.95
    assert "disc: 3 masks written" in result.output
    assert "GrabCut" in result.output
    check = call("check", parts)
    assert "foreground" not in check.output
    sheet = Image.open(parts / "fg_mask/disc_sheet.png")
    assert sheet.width > sheet.height  # three cells of picture and mask in a row


def test_masks_that_are_there_stay_unless_told_otherwise(parts):
    old = write(parts / "fg_mask/disc/2.jpg", square(side=96))
    before = old.read_bytes()
    result = call("fgmask", parts, "-d", "disc")
    assert "2 masks written" in result.output
    assert "1 exist and stay as they are" in result.output
    assert old.read_bytes() == before
    assert not (parts / "fg_mask/disc/2.png").exists()
    call("fgmask", parts, "-d", "disc", "--overwrite")
    assert not old.exists()
    assert foreground_masks.iou(np.asarray(Image.open(parts / "fg_mask/disc/2.png")) > 0, part(2)[1]) > 0.95


def test_doubtful_masks_of_a_class_are_named(parts):
    write(parts / "disc/flat.png", np.full((96, 96, 3), 120, np.uint8))
    output = call("fgmask", parts, "-d", "disc").output
    assert "fg_mask/disc/flat.png: nearly empty (0.0%)" in output
    assert "most masks" not in output


def inlaid(key: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the part with an inlay of the background's own colour, up to noise; and the disc's mask."""
    pixels, disc = part(key)
    y, x = np.nonzero(disc)
    yy, xx = np.mgrid[:96, :96]
    hole = np.hypot(yy - y.mean(), xx - x.mean()) < 13
    noise = np.random.default_rng(key).normal(0, 2, (96, 96, 1))
    return np.where(hole[..., None], (195 + noise).astype(np.uint8), pixels), disc


def test_what_the_part_encloses_belongs_to_it_unless_told_otherwise():
    pixels, disc = inlaid(0)
    found = foreground_masks.find_foreground(pixels)
    assert foreground_masks.iou(found.mask, disc) > 0.95 and not found.doubts
    open_ = foreground_masks.find_foreground(pixels, keep_holes=True)
    assert not open_.mask[48, 48] or open_.mask.sum() < 0.75 * found.mask.sum()
    assert open_.share + open_.holes == pytest.approx(found.share, abs=0.005)
    assert open_.doubts == [f"holes ({open_.holes:.1%})"]


def test_odd_masks_are_doubtful():
    solid = foreground_masks.Foreground(np.ones((4, 4), bool), 0.3, holes=0.16)
    assert solid.doubts == ["mostly a filled hole (16.0%)"]
    assert solid.unlike(0.2) == [] and solid.unlike(0.7) == ["unlike the others (30.0%, most cover 70.0%)"]
    assert solid.unlike(0.1) == ["unlike the others (30.0%, most cover 10.0%)"]


def test_holes_are_told_and_the_command_to_train_with_ends_it(parts):
    for i in range(2):
        write(parts / f"disc/{i}.png", inlaid(i)[0])
    output = call("fgmask", parts, "-d", "disc").output
    assert "Enclosed holes were filled in 2 masks" in output and "--keep_holes --overwrite" in output
    last = output.strip().splitlines()[-1]
    assert f"Now train with --fg 1: python main.py net dataset -d disc --fg 1 folder {parts}" in last
    kept = call("fgmask", parts, "-d", "disc", "--keep_holes", "--overwrite").output
    assert "were filled" not in kept and "fg_mask/disc/0.png: holes (" in kept
    assert (np.asarray(Image.open(parts / "fg_mask/disc/0.png"))[35:60, 35:60] == 0).any()


def test_two_images_of_one_name_cannot_share_a_mask(parts):
    write(parts / "disc/more/0.png", part(9)[0])
    assert "would share a mask" in one_line(call("fgmask", parts, "-d", "disc"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_one_line(parts, monkeypatch, number):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    line = one_line(call("fgmask", parts, "-d", "disc"))
    assert f"cannot be written ({os.strerror(number)}): make room or give another folder" in line


@pytest.mark.parametrize("place", ["", "disc", "disc_sheet.png"])
def test_a_file_or_folder_in_the_way_is_one_line(parts, place):
    path = parts / "fg_mask" / place
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if place.endswith(".png") else path.write_text("")
    assert "fg_mask" in one_line(call("fgmask", parts, "-d", "disc"))
