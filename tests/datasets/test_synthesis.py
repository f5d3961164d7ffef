"""Texture operations equal torchvision's, chances come out as given, and the blend is Eq. 4."""

import math

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from datasets import synthesis
from datasets.synthesis import OPERATIONS, ImageJitter

TEXTURE = np.random.default_rng(0).integers(0, 200, (37, 52, 3), dtype=np.uint8)
DRAWS = 10_000


def apply(name, seed=4):
    return np.asarray(OPERATIONS[name](Image.fromarray(TEXTURE), np.random.default_rng(seed)))


def factor(seed=4):
    return np.random.default_rng(seed).uniform(0.8, 1.2)


REFERENCES = {
    "contrast": lambda image: F.adjust_contrast(image, factor()),
    "brightness": lambda image: F.adjust_brightness(image, factor()),
    "horizontal flip": F.hflip,
    "vertical flip": F.vflip,
    "grayscale": lambda image: F.to_grayscale(image, 3),
    "autocontrast": F.autocontrast,
    "equalize": F.equalize,
    "rotation": lambda image: F.affine(image, np.random.default_rng(4).uniform(-45, 45), [0, 0], 1, [0, 0]),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_operation_equals_torchvision(name):
    result = apply(name)
    assert (result == np.asarray(REFERENCES[name](Image.fromarray(TEXTURE)))).all()
    assert (result != TEXTURE).any()


@pytest.mark.parametrize("seed", range(6))
def test_saturation_and_hue_equal_torchvision_in_one_order(seed):
    rng = np.random.default_rng(seed)
    saturation, hue = rng.uniform(0.8, 1.2), rng.uniform(-0.2, 0.2)
    image = Image.fromarray(TEXTURE)
    orders = [F.adjust_hue(F.adjust_saturation(image, saturation), hue),
              F.adjust_saturation(F.adjust_hue(image, hue), saturation)]  # fmt: skip
    assert any((apply("saturation and hue", seed) == np.asarray(order)).all() for order in orders)


def test_saturation_and_hue_come_in_both_orders():
    image = Image.fromarray(TEXTURE)
    first = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        saturation, hue = rng.uniform(0.8, 1.2), rng.uniform(-0.2, 0.2)
        reference = np.asarray(F.adjust_hue(F.adjust_saturation(image, saturation), hue))
        first.append((apply("saturation and hue", seed) == reference).all())
    assert 8 < sum(first) < 32


def test_augmentation_draws_each_of_nine_in_a_third_of_the_samples(monkeypatch):
    drawn = []
    fakes = {name: lambda image, rng, name=name: drawn.append(name) or image for name in OPERATIONS}
    monkeypatch.setattr(synthesis, "OPERATIONS", fakes)
    rng, pixel = np.random.default_rng(0), np.zeros((1, 1, 3), np.uint8)
    for _ in range(DRAWS):
        synthesis.augment_texture(pixel, rng)
    triples = np.array(drawn).reshape(DRAWS, 3)
    assert len(OPERATIONS) == 9
    assert all(len(set(triple)) == 3 for triple in triples)
    for name in OPERATIONS:
        share = (triples == name).any(axis=1).mean()
        assert share == pytest.approx(1 / 3, abs=0.019)  # 4 standard errors
        assert (triples[:, 0] == name).mean() == pytest.approx(1 / 9, abs=0.013)  # any order


def test_augmentation_keeps_size_and_type():
    rng = np.random.default_rng(0)
    for _ in range(30):
        result = synthesis.augment_texture(TEXTURE, rng)
        assert result.shape == TEXTURE.shape and result.dtype == np.uint8


def test_beta_is_a_clipped_normal():
    rng = np.random.default_rng(0)
    mean, std = 0.45, 0.2
    betas = np.array([synthesis.draw_beta(rng, mean, std) for _ in range(DRAWS)])
    assert betas.min() == 0.2 and betas.max() == 0.8

    def cdf(x):
        return (1 + math.erf((x - mean) / std / math.sqrt(2))) / 2

    assert (betas == 0.2).mean() == pytest.approx(cdf(0.2), abs=0.013)
    assert (betas == 0.8).mean() == pytest.approx(1 - cdf(0.8), abs=0.008)
    assert (betas < mean).mean() == pytest.approx(0.5, abs=0.02)
    narrow = np.array([synthesis.draw_beta(rng, 0.5, 0.05) for _ in range(DRAWS)])
    assert narrow.mean() == pytest.approx(0.5, abs=0.002) and narrow.std() == pytest.approx(0.05, abs=0.0015)


def test_blend_is_equation_4():
    image, texture = np.full((3, 1, 2), 2.0, np.float32), np.full((3, 1, 2), -1.0, np.float32)
    mask = np.array([[0, 1]], np.float32)
    aug = synthesis.blend(image, texture, mask, 0.25)
    assert aug.dtype == np.float32
    assert aug[:, 0].tolist() == [[2.0, 0.25 * 2 - 0.75]] * 3


def test_defect_lies_where_the_mask_says():
    rng = np.random.default_rng(0)
    image, texture = np.zeros((3, 48, 64), np.float32), np.ones((3, 48, 64), np.float32)
    aug, mask_s = synthesis.add_defect(image, texture, 1, (6, 8), 0.3, rng)
    assert set(np.unique(aug)) == {0, np.float32(0.7)}
    assert ((aug[0].reshape(6, 8, 8, 8).max((1, 3)) > 0) == (mask_s == 1)).all()


def test_image_transforms_that_are_off_change_nothing():
    assert ImageJitter()(TEXTURE, np.random.default_rng(0)) is TEXTURE
    assert not ImageJitter().active


def test_image_flips_and_gray_follow_their_probability():
    flipped = ImageJitter(h_flip=1)(TEXTURE, np.random.default_rng(0))
    assert (flipped == TEXTURE[:, ::-1]).all()
    assert (ImageJitter(v_flip=1)(TEXTURE, np.random.default_rng(0)) == TEXTURE[::-1]).all()
    gray = ImageJitter(gray=1)(TEXTURE, np.random.default_rng(0))
    assert (gray == np.asarray(Image.fromarray(TEXTURE).convert("L"))[..., None]).all()
    rng = np.random.default_rng(1)
    shares = [(ImageJitter(h_flip=0.3)(TEXTURE[:2, :3], rng) != TEXTURE[:2, :3]).any() for _ in range(DRAWS)]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.019)


@pytest.mark.parametrize(("option", "adjust"), [("brightness", F.adjust_brightness), ("contrast", F.adjust_contrast),
                                                ("saturation", F.adjust_saturation)])  # fmt: skip
def test_image_colours_are_drawn_around_one(option, adjust):
    """With a reach above 1 the factor begins at 0, as torchvision clips it."""
    jitter = ImageJitter(**{option: 1.5})
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rng.permutation(3)
        reference = np.asarray(adjust(Image.fromarray(TEXTURE), rng.uniform(0, 2.5)))
        assert (jitter(TEXTURE, np.random.default_rng(seed)) == reference).all()


def test_image_affine_equals_torchvision():
    jitter = ImageJitter(rotate=30, translate=0.2, scale=0.3)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rng.permutation(3)
        rng.random(3)
        angle = rng.uniform(-30, 30)
        shift = [round(rng.uniform(-1, 1) * 0.2 * side) for side in (52, 37)]
        scale = rng.uniform(0.7, 1.3)
        reference = F.affine(Image.fromarray(TEXTURE), angle, shift, scale, [0, 0], InterpolationMode.BILINEAR)
        assert (jitter(TEXTURE, np.random.default_rng(seed)) == np.asarray(reference)).all()


@pytest.mark.parametrize("wrong", [{"brightness": -1}, {"gray": 1.5}, {"scale": 1}, {"translate": 2}])
def test_image_transforms_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="give 0|at most 1"):
        ImageJitter(**wrong)


@pytest.mark.parametrize(("size", "exponents"), [(None, (0, 6)), ((1 / 32, 1), (0, 6)), ((0.03, 1), (0, 6)),
                                                 ((0.1, 0.1), (3, 4)), ((1 / 128, 1 / 64), (6, 8))])  # fmt: skip
def test_the_size_of_defects_is_that_of_the_noise_s_cells(size, exponents):
    assert synthesis.exponents_of(size) == exponents
