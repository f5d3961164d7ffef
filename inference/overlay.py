"""The picture that shows a verdict: heat map and contour over the picture, and under it a scale with the threshold.

Colours mean the same on every picture: the scale is fixed, never stretched to a picture's own values.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from images.drawing import heatmap, overlay

SAVERS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
JPEG_QUALITY = 92
LEAST_WIDTH = 240  # of the legend; a narrower picture stands at its left
CONTOUR = (255, 255, 255)
PAPER, INK = (255, 255, 255), (0, 0, 0)


def draw(picture: np.ndarray, segmentation: np.ndarray, pixel_threshold: float | None, caption: str) -> np.ndarray:
    """Draw a picture, uint8 RGB [H, W, 3], with its map [H, W] over it and a legend under it.

    The picture keeps its size and place, so that a pixel of the result is that pixel of the picture. What is above the
    pixel threshold has a white contour, outside which it is not. Where the map is NaN, the picture shows alone.
    """
    height, width = segmentation.shape
    drawn = overlay(picture, segmentation)
    if pixel_threshold is not None:
        marked = segmentation > pixel_threshold  # NaN is not
        drawn[_border(marked, thickness=max(1, max(height, width) // 400))] = CONTOUR
    legend = _legend(max(width, LEAST_WIDTH), pixel_threshold, caption)
    canvas = np.full((height + len(legend), legend.shape[1], 3), PAPER, dtype=np.uint8)
    canvas[:height, :width] = drawn
    canvas[height:] = legend
    return canvas


def file_name(name: str) -> str:
    """Return the name of a picture's overlay: the picture's, and .png where overlays are not written in its format."""
    return name if Path(name).suffix.lower() in SAVERS else f"{name}.png"


def encode(pixels: np.ndarray, name: str) -> bytes:
    """Encode a picture, uint8 RGB [H, W, 3], in the format that a file name's suffix stands for."""
    file = io.BytesIO()
    kind = SAVERS[Path(name).suffix.lower()]
    options = {"quality": JPEG_QUALITY} if kind in ("JPEG", "WEBP") else {}
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def encode_map(segmentation: np.ndarray, kind: str) -> bytes:
    """Encode a map, float32 [H, W] in [0, 1], as "npy", as "tiff" with 32-bit floats, or as "png" with 16-bit gray.

    In PNG 65535 stands for 1, and 0 also for NaN.
    """
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, segmentation)
    elif kind == "png":
        Image.fromarray(np.rint(np.nan_to_num(segmentation) * 65535).astype(np.uint16)).save(file, "PNG")
    else:
        Image.fromarray(segmentation).save(file, "TIFF")
    return file.getvalue()


def _border(marked: np.ndarray, thickness: int) -> np.ndarray:
    """Return the pixels, bool [H, W], that lie around the marked ones."""
    grown = marked
    if marked.any():
        for axis in (0, 1):
            grown = _grown(grown, axis, thickness)
    return grown & ~marked


def _grown(marked: np.ndarray, axis: int, thickness: int) -> np.ndarray:
    """Widen marked pixels along an axis."""
    grown, lines = marked.copy(), np.moveaxis(marked, axis, 0)
    wider = np.moveaxis(grown, axis, 0)
    for shift in range(1, min(thickness, len(lines) - 1) + 1):
        wider[shift:] |= lines[:-shift]
        wider[:-shift] |= lines[shift:]
    return grown


def _legend(width: int, pixel_threshold: float | None, caption: str) -> np.ndarray:
    """Draw the caption and, under it, the colours from 0 to 1 with a mark at the threshold; uint8 [h, width, 3]."""
    size = max(11, min(40, width // 40))
    font = ImageFont.load_default(size)
    margin, line = size // 2, round(1.4 * size)
    page = Image.new("RGB", (width, 2 * margin + 3 * line), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((margin, margin), caption, INK, font)
    left, right, top = margin, width - 1 - margin, margin + line
    ramp = heatmap(np.linspace(0, 1, right - left, dtype=np.float32)[None])
    page.paste(Image.fromarray(ramp).resize((right - left, line)), (left, top))
    pen.rectangle((left, top, right, top + line), outline=INK)
    ends = [(0.0, "0", "la"), (1.0, "1", "ra")]
    marks = ends if pixel_threshold is None else [*ends, (pixel_threshold, f"marked above {pixel_threshold:.3f}", "ma")]
    for value, text, anchor in marks:
        place = left + round(min(max(value, 0), 1) * (right - left))
        pen.line((place, top, place, top + round(1.2 * line)), INK, max(1, size // 4))
        half = pen.textlength(text, font) / 2
        inside = min(max(place, left + half + size), right - half - size) if anchor == "ma" else place
        pen.text((inside, top + round(1.15 * line)), text, INK, font, anchor=anchor)
    return np.asarray(page)
