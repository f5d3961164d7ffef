"""Noise, thresholds, unions and pools against hand-computed values, loops and shares of many draws."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_max_pool2d

import perlin


def noise_by_loops(shape, res, angles):
    """Perlin noise as its definition reads."""
    out = np.zeros(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            y, x = i * res[0] / shape[0], j * res[1] / shape[1]
            for r in (int(y), int(y) + 1):
                for c in (int(x), int(x) + 1):
                    dy, dx = y - r, x - c
                    fade = [1 - (6 * t**5 - 15 * t**4 + 10 * t**3) for t in (abs(dy), abs(dx))]
                    out[i, j] += fade[0] * fade[1] * (np.cos(angles[r, c]) * dy + np.sin(angles[r, c]) * dx)
    return out * np.sqrt(2)


@pytest.mark.parametrize(
    ("shape", "res"), [((8, 8), (1, 1)), ((12, 16), (4, 2)), ((10, 7), (3, 2)), ((9, 11), (16, 1))]
)
def test_noise_equals_its_definition_for_any_size(shape, res):
    angles = 2 * np.pi * np.random.default_rng(3).random((res[0] + 1, res[1] + 1))
    noise = perlin.rand_perlin_2d_np(shape, res, np.random.default_rng(3))
    assert np.abs(noise - noise_by_loops(shape, res, angles)).max() < 2e-6


def test_noise_is_zero_at_lattice_points_and_bounded():
    noise = perlin.rand_perlin_2d_np((64, 96), (8, 4), np.random.default_rng(0))
    assert np.abs(noise[::8, ::24]).max() < 2e-6
    assert 0.5 < np.abs(noise).max() <= 1 + 2e-6


def test_noise_half_way_between_equal_gradients_is_zero_and_a_quarter_is_the_slope():
    """One row of cells, all gradients along the rows: the noise is sqrt(2) * ((1 - t) f + t (f - 1))."""

    class Zeros:
        def random(self, shape):
            return np.zeros(shape)

    noise = perlin.rand_perlin_2d_np((4, 4), (1, 1), Zeros())
    t = 6 / 4**5 - 15 / 4**4 + 10 / 4**3
    assert noise[:, 2] == pytest.approx([0, np.sqrt(2) * (0.25 - t), 0, np.sqrt(2) * (t - 0.25)], abs=1e-6)


def test_noise_without_a_generator_uses_numpys_global_state():
    np.random.seed(5)
    first = perlin.rand_perlin_2d_np((8, 8), (2, 2))
    np.random.seed(5)
    angles = 2 * np.pi * np.random.rand(3, 3)
    assert np.abs(first - noise_by_loops((8, 8), (2, 2), angles)).max() < 2e-6


def test_thresholded_mask_is_the_rotated_noise():
    """Redo the draws by hand: two exponents, the angles, one rotation, whose inverse is sampled bilinearly."""
    size = (40, 56)
    mask = perlin.generate_thr((3, *size), 1, 4, np.random.default_rng(8))
    rng = np.random.default_rng(8)
    res = [2 ** int(rng.uniform(1, 4)) for _ in range(2)]
    noise = noise_by_loops(size, res, 2 * np.pi * rng.random((res[0] + 1, res[1] + 1)))
    angle = np.deg2rad(rng.uniform(-90, 90))
    cos, sin = np.cos(angle), np.sin(angle)
    y, x = np.mgrid[: size[0], : size[1]] - np.array([size[0] / 2 - 0.5, size[1] / 2 - 0.5])[:, None, None]
    source_x = (cos * x + sin * y + size[1] / 2 - 0.5).astype(np.float32)
    source_y = (-sin * x + cos * y + size[0] / 2 - 0.5).astype(np.float32)
    rotated = cv2.remap(noise, source_x, source_y, cv2.INTER_LINEAR)
    clear = np.abs(rotated - 0.5) > 0.05  # away from the threshold, where rounding cannot decide
    assert mask.dtype == bool and mask.any()
    assert (mask == (rotated > 0.5))[clear].all()


def test_exponents_are_uniform_over_zero_to_five(monkeypatch):
    seen = []

    def record(shape, res, rng):
        seen.append(res)
        return np.zeros(shape)

    monkeypatch.setattr(perlin, "rand_perlin_2d_np", record)
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        perlin.generate_thr((3, 4, 4), 0, 6, rng)
    shares = np.array([[(np.array(seen)[:, axis] == 2**k).mean() for k in range(6)] for axis in range(2)])
    assert np.abs(shares - 1 / 6).max() < 0.015  # 4 standard errors
    together = np.mean([a == 1 and b == 1 for a, b in seen])
    assert together == pytest.approx(1 / 36, abs=0.007)  # independent


@pytest.mark.parametrize(("u", "expected"), [(0.9, [0, 1, 1, 1]), (0.5, [0, 0, 0, 1]), (0.1, [0, 0, 1, 1])])
def test_masks_combine_by_thirds(u, expected):
    m1, m2 = np.array([False, False, True, True]), np.array([False, True, False, True])
    assert perlin.combine_masks(m1, m2, u).tolist() == [bool(each) for each in expected]


def test_combinations_come_in_a_third_of_the_draws_each():
    m1, m2 = np.array([False, True, True]), np.array([True, False, True])
    kinds = {(True, True, True): 0, (False, False, True): 0, (False, True, True): 0}
    rng = np.random.default_rng(1)
    for _ in range(10_000):
        kinds[tuple(perlin.combine_masks(m1, m2, rng.random()).tolist())] += 1
    assert np.abs(np.array(list(kinds.values())) / 10_000 - 1 / 3).max() < 0.019  # 4 standard errors


def test_a_mode_takes_the_same_draws_as_chance_and_joins_them_its_way():
    def drawn(mode):
        return perlin.perlin_mask((3, 32, 32), 8, 0, 3, np.uint8(1), 1, np.random.default_rng(7), mode)[1]

    one, union, both, mixed = (drawn(mode) for mode in ("one", "union", "intersection", "mixed"))
    assert both.sum() < one.sum() < union.sum() and (both <= one).all() and (one <= union).all()
    assert any(np.array_equal(mixed, each) for each in (one, union, both))


@pytest.mark.parametrize(("shape", "grid"), [((32, 32), (4, 4)), ((30, 41), (7, 5)), ((5, 9), (8, 12))])
def test_max_pool_is_adaptive(shape, grid):
    mask = np.random.default_rng(0).random(shape, dtype=np.float32)
    reference = adaptive_max_pool2d(torch.from_numpy(mask)[None], grid)[0].numpy()
    assert (perlin.max_pool(mask, grid) == reference).all()


@pytest.mark.parametrize(("size", "grid"), [((64, 64), 8), ((70, 45), (9, 6)), ((33, 100), (4, 13))])
def test_mask_s_is_the_pool_of_mask_l_and_never_empty(size, grid):
    rng = np.random.default_rng(2)
    for _ in range(50):
        mask_s, mask_l = perlin.perlin_mask((3, *size), grid, 0, 6, 1, 1, rng)
        pair = (grid, grid) if isinstance(grid, int) else grid
        assert mask_s.shape == pair and mask_l.shape == size
        assert mask_s.dtype == mask_l.dtype == np.float32
        assert set(np.unique(mask_l)) <= {0, 1} and mask_s.any()
        assert (mask_s == perlin.max_pool(mask_l, pair)).all()


def test_without_flag_only_mask_s_comes_back():
    small = perlin.perlin_mask((3, 32, 32), 4, 0, 6, torch.tensor([1]), 0, np.random.default_rng(0))
    both = perlin.perlin_mask((3, 32, 32), 4, 0, 6, torch.tensor([1]), 1, np.random.default_rng(0))
    assert (small == both[0]).all()


def test_masks_stay_inside_the_foreground():
    foreground = np.zeros((32, 32), np.float32)
    foreground[20:, :5] = 1
    rng = np.random.default_rng(0)
    for _ in range(20):
        _, mask_l = perlin.perlin_mask((3, 32, 32), 4, 0, 6, foreground, 1, rng)
        assert mask_l.any() and not mask_l[foreground == 0].any()


def test_an_empty_foreground_is_an_error_not_a_loop():
    with pytest.raises(ValueError, match="empty"):
        perlin.perlin_mask((3, 32, 32), 4, 0, 6, np.zeros((32, 32)), 1)


def test_everything_is_drawn_again_until_the_mask_is_not_empty(monkeypatch):
    masks = iter([np.zeros((8, 8), bool)] * 4 + [np.ones((8, 8), bool)] * 2)
    monkeypatch.setattr(perlin, "generate_thr", lambda *_: next(masks))
    rng = np.random.default_rng(0)
    assert perlin.perlin_mask((3, 8, 8), 2, 0, 6, 1, 0, rng).all()
    assert rng.random() == np.random.default_rng(0).random(4)[3]  # u was drawn three times
