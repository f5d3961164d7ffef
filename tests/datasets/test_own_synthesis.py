"""A function in place of the local anomaly synthesis: what it gets, what it may return, and how it is found."""

import sys

import numpy as np
import pytest
import torch

from datasets.defects.own import BLACK, WHITE, OwnSynthesis
from datasets.sampler import Draw
from images.drawing import normalise
from tests.helpers.data_sets import all_same, epochs, nut, same

SHAPE = (3, 16, 24)
IMAGE, TEXTURE = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
FOREGROUND = np.ones(SHAPE[1:], np.uint8)


def patch(image, texture, foreground, rng):
    """Lay a square of the texture anywhere; it paints on the image that it gets."""
    mask = np.zeros(foreground.shape)
    y, x = rng.integers(mask.shape[0] - 4), rng.integers(mask.shape[1] - 4)
    mask[y : y + 4, x : x + 4] = 1
    image[:, mask == 1] = texture[:, mask == 1]
    return image, mask


def test_a_function_makes_the_defects_of_a_data_set(mvtec):
    plain, own = nut(mvtec), nut(mvtec).with_synthesis(patch)
    before, sample = plain[Draw(0, 7)], own[Draw(0, 7)]
    assert torch.equal(sample["image"], before["image"]) and not torch.equal(sample["aug"], before["aug"])
    changed = (sample["aug"] != sample["image"]).any(0)
    assert 12 <= changed.sum() <= 16  # of the square's 16 pixels, some may have the texture's value already
    pooled = torch.nn.functional.adaptive_max_pool2d(changed[None].float(), (4, 4))[0]
    assert torch.equal(sample["mask_s"], pooled) and sample["mask_s"].dtype == sample["aug"].dtype == torch.float32
    assert same(sample, own[Draw(0, 7)]) and plain.synthesis is None
    assert same(nut(mvtec)[Draw(0, 7)], before)


def test_defects_are_the_same_with_any_workers(mvtec):
    assert all_same(epochs(nut(mvtec).with_synthesis(patch)), epochs(nut(mvtec).with_synthesis(patch), workers=2))


def test_a_function_gets_a_foreground_of_the_pictures_size():
    seen = []

    def see(image, texture, foreground, rng):
        seen.append(foreground)
        return image, foreground

    mask = OwnSynthesis(see).add(IMAGE, TEXTURE, np.uint8(1), (4, 4), np.random.default_rng(0))[1]
    OwnSynthesis(see).add(IMAGE, TEXTURE, np.eye(16, 24, dtype=np.uint8), (4, 4), np.random.default_rng(0))
    assert mask.shape == (4, 4) and mask.all() and seen[0].all()
    assert all(each.shape == (16, 24) and each.dtype == bool for each in seen) and seen[1].sum() == 16


def test_an_empty_mask_is_drawn_again_but_not_for_ever():
    def seldom(image, texture, foreground, rng):
        return image, foreground * (rng.random() < 0.2)

    assert OwnSynthesis(seldom).add(IMAGE, TEXTURE, FOREGROUND, (2, 2), np.random.default_rng(0))[1].all()
    with pytest.raises(ValueError, match="--synthesis none: its mask marked nothing 100 times"):
        OwnSynthesis(lambda image, texture, foreground, rng: (image, 0 * foreground), "none").check(IMAGE, TEXTURE)


def test_black_and_white_are_the_range_of_pixels():
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    assert np.array_equal(normalise(pixels), np.concatenate([BLACK, WHITE], 2))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda image, mask: image, "must return (picture, mask), not ndarray"),
        (lambda image, mask: (image, None), "its mask must have the shape (16, 24), not ()"),
        (lambda image, mask: (image, "spot"), "must return arrays: could not convert string"),
        (lambda image, mask: (image.transpose(1, 2, 0), mask), "its picture must have the shape (3, 16, 24), not (16,"),
        (lambda image, mask: (image, mask[::2, ::2]), "its mask must have the shape (16, 24), not (8, 12)"),
        (lambda image, mask: (image + 9, mask), "its picture has values 9.00 to 9.00, beyond black (-2.12) to white"),
        (lambda image, mask: (image * np.nan, mask), "its picture has values nan to nan"),
        (lambda image, mask: (image, mask / 2), "its mask must hold 0 and 1 alone, not values 0.5 to 0.5"),
        (lambda image, mask: (image, mask / 0), "its mask must hold 0 and 1 alone, not values inf to inf"),
        (lambda image, mask: image[5], "IndexError: index 5 is out of bounds"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_a_function_returns_is_checked(returned, words):
    def wrong(image, texture, foreground, rng):
        return returned(image, foreground.astype(float))

    with pytest.raises(ValueError) as error:
        OwnSynthesis(wrong, "a:b").check(IMAGE, TEXTURE)
    text = str(error.value)
    assert text.startswith("--synthesis a:b: ") and words in text and "\n" not in text


def test_draws_from_elsewhere_are_found():
    with pytest.raises(ValueError, match="take every random draw from rng"):
        OwnSynthesis(lambda *given: patch(*given[:3], np.random.default_rng())).check(IMAGE, TEXTURE)
    OwnSynthesis(patch).check(IMAGE, TEXTURE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to run in, with a module that has a function and one that cannot be imported."""
    (tmp_path / "ours_to_try.py").write_text("size = 4\n\ndef make(image, texture, foreground, rng):\n    return 1\n")
    (tmp_path / "broken_to_try.py").write_text("import ours_to_try\n1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("ours_to_try", "broken_to_try"):
        sys.modules.pop(name, None)


def test_a_function_of_the_folder_is_found_by_name(folder):
    found = OwnSynthesis.load("ours_to_try:make")
    assert found.function(0, 0, 0, 0) == 1 and found.source == folder / "ours_to_try.py"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ours_to_try", "give MODULE:FUNCTION"),
        ("nobodys.module:make", "there is no module nobodys: put its file into"),
        ("ours_to_try:bake", "ours_to_try has no bake"),
        ("ours_to_try:size", "ours_to_try is no function: size"),
        ("broken_to_try:make", "cannot be imported: ZeroDivisionError: division by zero (broken_to_try.py, line 2)"),
    ],
)
def test_what_cannot_be_found_is_one_line(folder, name, words):
    with pytest.raises(ValueError) as error:
        OwnSynthesis.load(name)
    assert str(error.value).startswith(f"--synthesis {name}: ") and words in str(error.value)
