"""Framing: the region of interest and its tiles, and the way back to the picture's map."""

import numpy as np
import pytest
from PIL import Image

from images.framing import OUTSIDE, Framing, size_of
from images.geometry import PADDING, Geometry
from tests.helpers.pictures import noise, write

SIZE = (60, 80)


@pytest.fixture
def ring(tmp_path):
    """A mask whose white ring lies in rows 10 to 49 and columns 20 to 69."""
    mask = np.zeros(SIZE)
    mask[10:50, 20:70] = 255
    mask[20:40, 30:60] = 0
    return write(tmp_path / "ring.png", mask)


def test_a_rectangle_is_cut_out_and_its_map_put_back():
    framing, pixels = Framing.given("20,10,50,40", None, None), noise(0, SIZE)
    (box,) = framing.boxes(SIZE)
    np.testing.assert_array_equal(np.asarray(framing.cut(Image.fromarray(pixels), box)), pixels[10:50, 20:70])
    joined = framing.join(SIZE, [(box, np.full((40, 50), 0.5, np.float32))])
    assert (joined[10:50, 20:70] == 0.5).all() and joined.dtype == np.float32
    assert joined.sum() == 0.5 * 40 * 50 and joined[0, 0] == OUTSIDE == 0


def test_nothing_outside_a_mask_reaches_a_tile(ring):
    framing, first, second = Framing.given(str(ring), 16, 4), noise(0, SIZE), noise(1, SIZE)
    white = np.asarray(Image.open(ring)) > 0
    second[white] = first[white]
    boxes = framing.boxes(SIZE)
    for box in boxes:
        one, other = (np.asarray(framing.cut(Image.fromarray(each), box)) for each in (first, second))
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one[white[box]], first[box][white[box]])
        assert (one[~white[box]] == PADDING).all()
    covered = np.zeros(SIZE, bool)
    for box in boxes:
        assert white[box].any()
        covered[box] = True
    assert covered[white].all()
    joined = framing.join(SIZE, [(box, np.full(size_of(box), 0.5, np.float32)) for box in boxes])
    np.testing.assert_allclose(joined, np.where(white, 0.5, OUTSIDE), rtol=1e-6)


def test_tiles_of_which_nothing_counts_are_left_out(tmp_path):
    mask = np.zeros(SIZE)
    mask[:8, :8] = mask[-8:, -8:] = 255
    framing = Framing.given(str(write(tmp_path / "corners.png", mask)), 20, 0)
    assert len(framing.boxes(SIZE)) == 2


def test_a_framing_is_the_same_after_json(ring):
    for given in (("1,2,30,40", None, None), (None, (16, 20), 3), (str(ring), 16, None), (str(ring), None, None)):
        framing = Framing.given(*given)
        again = Framing.from_dict(framing.to_dict())
        assert again.equals(framing) and again == framing
        assert (again.mask is None) == (framing.mask is None) or (again.mask == framing.mask).all()
    assert Framing.given(None, None, None).to_dict() is None and Framing.from_dict(None) == Framing()
    assert not Framing.given(str(ring), None, None).equals(Framing.given("20,10,50,40", None, None))


def test_what_a_crop_cuts_off_stays_unknown():
    framing = Framing.given("20,10,50,40", None, None)
    seen = np.full((40, 50), 0.5, np.float32)
    seen[:3] = np.nan
    joined = framing.join(SIZE, [(framing.part(SIZE), seen)])
    assert np.isnan(joined[10:13, 20:70]).all() and np.isnan(joined).sum() == 3 * 50


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("1,2,3", None, None), "is no rectangle"),
        (("1,2,0,4", None, None), "is no rectangle"),
        (("nowhere.png", None, None), "neither X,Y,WIDTH,HEIGHT nor the file"),
        ((None, None, 4), "give --tile HxW"),
        ((None, 16, 16), "--overlap 16 does not fit"),
    ],
)
def test_what_makes_no_sense_is_refused(given, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        Framing.given(*given)


def test_pictures_that_do_not_fit_are_refused(ring, tmp_path):
    with pytest.raises(ValueError, match="80 x 60 pixels, --roi 70,0,20,20 reaches beyond"):
        Framing.given("70,0,20,20", None, None).boxes(SIZE)
    with pytest.raises(ValueError, match="81 x 60 pixels, the mask of --roi 80 x 60"):
        Framing.given(str(ring), None, None).boxes((60, 81))
    with pytest.raises(ValueError, match="is all black"):
        Framing.given(str(write(tmp_path / "black.png", np.zeros(SIZE))), None, None)
    with pytest.raises(ValueError, match="Give --overlap 4 or more"):
        Framing.given(None, 36, 3).check(Geometry(36, (32, 32)))
