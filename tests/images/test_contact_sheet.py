"""Contact sheets hold every panel, and outlines lie around what they mark."""

import numpy as np

from images.contact_sheet import CAPTION, GAP, RED, contact_sheet, outlined


def test_cells_lie_in_rows_with_their_panels_side_by_side():
    red, gray = np.full((20, 40, 3), RED, np.uint8), np.full((20, 40), 90, np.uint8)
    sheet = contact_sheet([("a", [red, gray])] * 3, columns=2, side=80)
    assert sheet.shape == (2 * (CAPTION + 40 + GAP), 2 * 2 * (80 + GAP), 3)
    assert (sheet[CAPTION : CAPTION + 40, :80] == RED).all()
    assert (sheet[CAPTION : CAPTION + 40, 80 + GAP : 160 + GAP] == 90).all()
    assert (sheet[-40:, sheet.shape[1] // 2 :] == 255).all()  # the fourth place is empty


def test_an_outline_keeps_away_from_a_mask_of_any_size():
    picture, mask = np.zeros((80, 80, 3), np.uint8), np.zeros((8, 8))
    mask[3:5, 3:5] = 1  # pixels 30 to 49
    drawn = outlined(picture, mask, (9, 9, 9), apart=3).any(2)
    assert not drawn[30:50, 30:50].any() and drawn[27, 30:50].all() and not drawn[:26].any()
    assert outlined(picture, mask).any(2)[30, 30:50].all()  # else it lies on the rim
    assert not picture.any() and not outlined(picture, np.zeros((8, 8))).any()
