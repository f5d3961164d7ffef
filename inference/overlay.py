"""The picture that shows a verdict: heat map and contour over the picture, and under it the verdict and a scale.

Colours mean the same on every picture of a model, and follow its calibration: what is typical of normal pictures stays
as it is, the threshold is where colour begins to be strong (images.drawing.tinted).
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from artifacts.model_card import DECIMALS, NG, OK, above
from images.drawing import mark_peak, tinted
from inference.predictor import Prediction, Predictor

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
BANNERS = {OK: (23, 102, 58), NG: (178, 24, 24)}  # white words are read on both
NO_BANNER = (90, 99, 110)
GRAY = 150  # of the part under the scale's colours


def draw(picture: np.ndarray, found: Prediction, predictor: Predictor) -> np.ndarray:
    """Draw a picture, uint8 RGB [H, W, 3], with its map [H, W] over it and a legend under it.

    The picture keeps its size and place, so that a pixel of the result is that pixel of the picture. What is above the
    pixel threshold has a white contour, outside which it is not. Where the verdict is NG, a ring is around the highest
    value, marked or not. Where the map is NaN, the picture shows alone.
    """
    height, width = found.map.shape
    drawn = tinted(picture, predictor.levels(found.map))
    if predictor.limits is not None:
        marked = above(found.map, predictor.limits.pixel)  # NaN is not
        drawn[_border(marked, thickness=max(1, max(height, width) // 400))] = CONTOUR
    if found.verdict == NG:
        drawn = mark_peak(drawn, found.map)
    legend = _legend(max(width, LEAST_WIDTH), found, predictor)
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


def _legend(width: int, found: Prediction, predictor: Predictor) -> np.ndarray:
    """Draw the verdict's banner and, under it, the scale of colours with both thresholds; uint8 [h, width, 3]."""
    size = max(11, min(40, width // 40))
    font, line, margin = ImageFont.load_default(size), round(1.4 * size), size // 2
    page = Image.new("RGB", (width, 6 * line), PAPER)
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, width, round(1.8 * line)), fill=BANNERS.get(found.verdict, NO_BANNER))
    middle = round(0.9 * line)
    word = found.verdict if found.verdict in BANNERS else "no threshold"
    pen.text((margin, middle), word, PAPER, ImageFont.load_default(round(1.5 * size)), anchor="lm")
    said = f"score {found.score:.{DECIMALS}f}"
    said += "" if found.calibrated is None else f", calibrated {found.calibrated:.2f}"
    pen.text((width - margin, middle), said, PAPER, font, anchor="rm")
    left, right, top = margin, width - 1 - margin, 3 * line + margin // 2
    ramp = np.full((1, right - left, 3), GRAY, np.uint8)
    ramp = Image.fromarray(tinted(ramp, np.linspace(0, 1, right - left)[None])).resize((right - left, line))
    page.paste(ramp, (left, top))
    pen.rectangle((left, top, right, top + line), outline=INK)
    for value, text, anchor in _marks(predictor):
        place, upwards = left + round(value * (right - left)), anchor.endswith("d")
        tick = (top - line // 4, top + line) if upwards else (top, top + line + line // 4)
        pen.line((place, tick[0], place, tick[1]), INK, max(1, size // 8))
        half = pen.textlength(text, font) / 2
        inside = min(max(place, left + half + size), right - half - size) if anchor[0] == "m" else place
        pen.text((inside, tick[0] if upwards else tick[1]), text, INK, font, anchor=anchor)
    return np.asarray(page)


def _marks(predictor: Predictor) -> list[tuple[float, str, str]]:
    """Return what the scale of pixels says where: in [0, 1], the words, and how they lie.

    Without thresholds the scale is of raw scores. With them it is calibrated: its ends have words, so that nobody reads
    the thresholds, which are raw, as lying between 0 and 1.
    """
    limits = predictor.limits
    if limits is None:
        return [(0.0, "0", "la"), (1.0, "1", "ra")]
    image, pixel = (float(predictor.levels(limit)) for limit in limits)
    return [
        (0.0, "typical", "la"), (1.0, "far above", "ra"), (pixel, f"marked above {limits.pixel:.{DECIMALS}f}", "ma"),
        (image, f"NG above {limits.score:.{DECIMALS}f}", "md"),
    ]  # fmt: skip
