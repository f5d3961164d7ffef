"""Textures by formula follow from their seed alone and differ from each other in form, scale and colour."""

import numpy as np
import pytest

from datasets import drawn_textures
from datasets.drawn_textures import FAMILIES, draw_texture

SIZE = (40, 56)


def test_a_seed_gives_the_same_texture_whatever_was_drawn_before():
    first = draw_texture(SIZE, 3)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    draw_texture((30, 30), 8)
    assert (draw_texture(SIZE, 3) == first).all()
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("size", [(1, 1), (9, 300), (64, 64)])
def test_any_size_is_filled(size):
    for seed in range(30):
        texture = draw_texture(size, seed)
        assert texture.shape == (*size, 3) and texture.dtype == np.uint8


def test_no_texture_is_flat_or_like_another():
    drawn = np.stack([draw_texture(SIZE, seed) for seed in range(60)]).astype(float)
    assert (drawn.std((1, 2)).max(1) > 8).all()  # of 255, in the liveliest channel
    flat = drawn.reshape(60, -1) - drawn.reshape(60, -1).mean(1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    alike = flat @ flat.T - np.eye(60)
    assert alike.max() < 0.9
    assert drawn.mean((1, 2)).std(0).min() > 25  # colours are spread


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_family_varies_over_the_picture_and_over_seeds(family):
    fields = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        fields.append(family(*drawn_textures._coordinates(SIZE, rng), rng))
    assert all(np.isfinite(field).all() and field.std() > 0.01 for field in fields)
    assert len({field.tobytes() for field in fields}) == 4


def test_all_families_are_drawn():
    drawn = {int(np.random.default_rng(seed).integers(len(FAMILIES))) for seed in range(1000)}
    assert drawn == set(range(len(FAMILIES)))
