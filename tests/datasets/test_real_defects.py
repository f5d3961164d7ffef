"""Confirmed defects: what is cut out, where it is laid, and that without them nothing changes."""

import logging

import numpy as np
import pytest

from datasets.defects.real import Cutout, Reader, RealDefects
from datasets.sampler import Draw
from images.checks import look_at_picture
from images.drawing import denormalise
from images.geometry import Geometry
from tests.helpers.data_sets import nut
from tests.helpers.pictures import noise, write

SIDE = 64
AS_IT_IS = Geometry(SIDE, (SIDE, SIDE))
RED = (255, 0, 0)


def plain(key: int = 0) -> np.ndarray:
    """Draw a gray picture with a little noise."""
    return noise(key, (SIDE, SIDE)) // 32 + 100


def spoilt(key: int = 0, box: tuple[int, int, int, int] = (10, 8, 6, 9)) -> tuple[np.ndarray, np.ndarray]:
    """Draw the same with a red defect of (y, x, height, width), and its mask."""
    pixels, mask = plain(key), np.zeros((SIDE, SIDE), np.uint8)
    y, x, height, width = box
    pixels[y : y + height, x : x + width] = RED
    mask[y : y + height, x : x + width] = 255
    return pixels, mask


@pytest.fixture
def normals(tmp_path):
    return [write(tmp_path / f"good/{i}.png", plain(i)) for i in range(4)]


def red(image: np.ndarray) -> np.ndarray:
    pixels = denormalise(image).astype(int)
    return pixels[..., 0] - pixels[..., 1] > 75


@pytest.mark.parametrize("masked", [True, False])
def test_a_defect_is_cut_out_by_its_mask_or_by_comparison(tmp_path, normals, masked):
    pixels, mask = spoilt(9)
    image = write(tmp_path / "bad/a.png", pixels)
    files = [image]
    if masked:
        files.append(write(tmp_path / "bad/a_GT.png", mask // 255))  # labels count, too
    found = Reader(AS_IT_IS, None, normals).read(tmp_path / "bad", {})
    ((cutout,),) = found.cutouts
    assert sorted(found.files) == sorted(files)
    height, width = cutout.mask.shape
    most = 0 if masked else 2  # blurred
    assert 6 <= cutout.mask.any(1).sum() <= 6 + 2 * most and 9 <= cutout.mask.any(0).sum() <= 9 + 2 * most
    assert height <= 10 + 2 * most and width <= 13 + 2 * most
    assert (cutout.pixels[height // 2, width // 2] == RED).all()


def test_spots_that_lie_apart_are_defects_of_their_own(tmp_path, normals):
    pixels, mask = spoilt(9)
    other = spoilt(9, (40, 40, 3, 4))[1]
    write(tmp_path / "bad/a.png", pixels)
    write(tmp_path / "bad/a_mask.png", mask | other)
    (cutouts,) = Reader(AS_IT_IS, None, normals).read(tmp_path / "bad", {}).cutouts
    assert [int(each.mask.sum()) for each in cutouts] == [54, 12]


def test_a_defect_that_shrinks_away_keeps_its_core(tmp_path, normals):
    pixels, mask = spoilt(9, (10, 8, 2, 2))
    write(tmp_path / "bad/a.png", pixels)
    write(tmp_path / "bad/a_mask.png", mask)
    ((cutout,),) = Reader(Geometry(16, (16, 16)), None, normals).read(tmp_path / "bad", {}).cutouts
    assert 1 <= cutout.mask.sum() <= 2


def test_what_differs_no_more_than_good_pictures_do_is_left_out(tmp_path, normals, caplog):
    write(tmp_path / "bad/a.png", plain(9))
    write(tmp_path / "bad/b.png", spoilt(10)[0])
    with caplog.at_level(logging.INFO):
        found = Reader(AS_IT_IS, None, normals).read(tmp_path / "bad", {})
    assert len(found.cutouts) == 1
    assert "a.png is left out" in caplog.text and "a_mask.png" in caplog.text
    assert "1 cut-outs of 1 pictures" in caplog.text and "where 1 of them have no mask" in caplog.text


@pytest.mark.parametrize(("name", "text"), [("known", "is the same picture as"), ("empty", "no defects"),
                                            ("gone", "--real_defects"), ("size", "make the sizes equal")])  # fmt: skip
def test_wrong_folders_are_refused(tmp_path, normals, name, text):
    folder, known = tmp_path / "bad", {}
    if name != "gone":
        folder.mkdir()
    if name == "known":  # another file, another format, the same picture
        image = write(folder / "a.bmp", spoilt(9)[0])
        known = {look_at_picture(image).digest: tmp_path / "test/x.png"}
    if name == "size":
        write(folder / "a.png", spoilt(9)[0])
        write(folder / "a_mask.png", np.full((8, 8), 255))
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        Reader(AS_IT_IS, None, normals).read(folder, known)


@pytest.fixture
def real() -> RealDefects:
    pixels = np.full((8, 10, 3), RED, np.uint8)
    mask = np.zeros((8, 10), np.float32)
    mask[2:-2, 2:-2] = 1
    return RealDefects([[Cutout(pixels, mask)]], [])


def test_cutouts_lie_on_the_foreground_and_are_opaque(real):
    image, foreground = np.zeros((3, SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.uint8)
    foreground[40:, 16:48] = 1
    places = np.zeros((SIDE, SIDE), int)
    for seed in range(200):
        aug, mask_s = real.add(image, foreground, (8, 8), 0, np.random.default_rng(seed))
        changed = (aug != image).any(0)
        assert changed.any() and not changed[foreground == 0].any()
        cells = changed.reshape(8, 8, 8, 8).any((1, 3))
        assert mask_s.any() and not (mask_s.astype(bool) & ~cells).any()
        assert 1 <= red(aug).sum() <= 24 * 1.25**2 + 12
        places += changed
    assert (places[44:, 20:44] > 0).mean() > 0.95  # anywhere
    faint = real.add(image, 1, (8, 8), 0.75, np.random.default_rng(0))[0]
    whole = real.add(image, 1, (8, 8), 0, np.random.default_rng(0))[0]
    assert np.allclose(faint, 0.25 * whole, atol=1e-5)


def test_they_take_a_share_of_the_local_anomalies(mvtec, real, monkeypatch):
    betas, add = [], RealDefects.add
    monkeypatch.setattr(RealDefects, "add", lambda *given: betas.append(given[4]) or add(*given))
    data, draws = nut(mvtec), [Draw(0, seed) for seed in range(80)]
    for part, fewest, most in ((data.with_real_defects(real, 0.25), 10, 30), (data, 0, 0),
                               (data.with_real_defects(real, 1).part([0]), 80, 80)):  # fmt: skip
        betas.clear()
        for draw in draws:
            assert part[draw]["mask_s"].any()
        assert fewest <= len(betas) <= most and set(betas) <= {0}
    assert data.real is None
    faint = nut(mvtec, opacity=(0.2, 0.4)).with_real_defects(real, 1)
    betas.clear()
    assert all(faint[draw]["mask_s"].any() for draw in draws[:50])
    assert 0.6 <= min(betas) < 0.65 and 0.75 < max(betas) <= 0.8


def test_an_empty_foreground_is_refused(real):
    with pytest.raises(ValueError, match="empty"):
        real.add(np.zeros((3, 8, 8), np.float32), np.zeros((8, 8)), (1, 1), 0, np.random.default_rng(0))
