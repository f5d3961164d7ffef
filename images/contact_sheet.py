"""Contact sheets: many small pictures, each with what was made of it, on one picture that is quickly looked through."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

CAPTION, GAP = 18, 6  # pixels
PAPER, INK = 255, 0
RED, PINK = (255, 40, 40), (255, 60, 200)  # of outlines; neither parts nor heat maps have this pink


def contact_sheet(cells: Sequence[tuple[str, Sequence[np.ndarray]]], columns: int, side: int = 192) -> np.ndarray:
    """Lay out cells, each a caption over panels side by side; uint8 RGB [H, W, 3].

    Args:
        cells: captions and panels, uint8 RGB [h, w, 3] or gray [h, w].
        columns: cells in a row.
        side: pixels that the longer side of a panel gets.
    """
    drawn = [_cell(caption, panels, side) for caption, panels in cells]
    width = max(cell.shape[1] for cell in drawn)
    height = max(cell.shape[0] for cell in drawn)
    sheet = np.full((-(len(drawn) // -columns) * height, columns * width, 3), PAPER, np.uint8)
    for position, cell in enumerate(drawn):
        top, left = position // columns * height, position % columns * width
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def outlined(pixels: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = RED, apart: int = 0) -> np.ndarray:
    """Draw the outline of a mask on a picture, uint8 RGB [H, W, 3].

    Args:
        pixels: the picture, which stays as it is.
        mask: [h, w] in [0, 1], of any size.
        colour: of the line, RGB.
        apart: pixels between mask and line, so that the line hides nothing of a small defect.
    """
    mask = cv2.resize(mask.astype(np.float32), pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    wide = cv2.dilate((mask > 0.5).astype(np.uint8), np.ones((2 * apart + 1,) * 2, np.uint8))
    lines = cv2.findContours(wide, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    return cv2.drawContours(pixels.copy(), lines, -1, colour, max(1, round(min(mask.shape) / 200)), cv2.LINE_AA)


def _cell(caption: str, panels: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Draw one cell: the caption, cut to its width, over panels of equal size."""
    height, width = panels[0].shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cell = np.full((CAPTION + size[1] + GAP, len(panels) * (size[0] + GAP), 3), PAPER, np.uint8)
    for position, panel in enumerate(panels):
        resized = cv2.resize(panel, size, interpolation=cv2.INTER_AREA)
        left = position * (size[0] + GAP)
        cell[CAPTION : CAPTION + size[1], left : left + size[0]] = resized.reshape(*resized.shape[:2], -1)
    image = Image.fromarray(cell)
    ImageDraw.Draw(image).text((2, 2), caption, fill=(INK,) * 3, font=ImageFont.load_default(12))
    return np.asarray(image)
