"""How do pixels become what a network takes, and scores what a person sees?

Pixels are uint8 RGB [H, W, 3]; a normalised image is float32 [3, H, W]; an anomaly map is [H, W] in [0, 1].
OpenCV is imported by the functions that use it: machines that only predict with an exported model do without.
"""

import numpy as np
from PIL import Image, ImageDraw

IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32).reshape(3, 1, 1)
IMAGENET_STD = np.array((0.229, 0.224, 0.225), dtype=np.float32).reshape(3, 1, 1)

NORMALISED = np.arange(256, dtype=np.float32) / 255  # [3, 256], what each value of a channel becomes
NORMALISED = ((NORMALISED - IMAGENET_MEAN) / IMAGENET_STD).reshape(3, 256)

LEVELS = np.arange(256)
JET = [383 - abs(4 * LEVELS - 765), 382 - abs(4 * LEVELS - 510), 383 - abs(4 * LEVELS - 255)]
JET = np.stack(JET, axis=1).clip(0, 255).astype(np.uint8)  # [256, 3], RGB; the colours of OpenCV's COLORMAP_JET
JET[159, 2] = 1  # as there

# Colours and opacities of calibrated values: transparent, a hint of yellow, at the threshold a strong orange, red.
TINT_AT = (0, 0.1, 0.3, 0.5, 0.9, 1)
TINT = (*((255, 230, 0, 0),) * 2, (255, 215, 0, 0.15), (255, 130, 0, 0.55), *((235, 0, 0, 0.75),) * 2)
TINT = np.stack([np.interp(LEVELS / 255, TINT_AT, each) for each in np.transpose(TINT)], axis=1).astype(np.float32)


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 [H, W, 3] into float32 [3, H, W], scaled by ImageNet's mean and deviation."""
    import cv2

    image = np.empty((3, *pixels.shape[:2]), dtype=np.float32)
    for channel, table, plane in zip(cv2.split(pixels), NORMALISED, image, strict=True):
        cv2.LUT(channel, table, plane)
    return image


def denormalise(image: np.ndarray) -> np.ndarray:
    """Turn a normalised float image [3, H, W] back into uint8 [H, W, 3]."""
    pixels = (np.asarray(image) * IMAGENET_STD + IMAGENET_MEAN) * 255
    return np.rint(pixels.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)


def heatmap(segmentation: np.ndarray) -> np.ndarray:
    """Colour a map [H, W] in [0, 1] with jet, uint8 RGB [H, W, 3]; never stretched, so that pictures compare."""
    levels = (np.nan_to_num(segmentation).clip(0, 1) * 255).astype(np.uint8)  # rounded down, as released
    return JET[levels]


def tinted(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Colour an image, uint8 [H, W, 3], where a calibrated map [H, W] in [0, 1] is high.

    At 0.1, what is typical of normal images, and below the image keeps its own colours, as where the map is NaN. Up to
    0.5, the threshold, a yellow appears; there colour becomes strong, and from 0.9 on it is full red.
    """
    steps = (np.nan_to_num(levels).clip(0, 1) * 255).astype(np.uint8)
    opacity = TINT[steps, 3:]
    return np.rint(image * (1 - opacity) + TINT[steps, :3] * opacity).astype(np.uint8)


def mark_peak(pixels: np.ndarray, segmentation: np.ndarray) -> np.ndarray:
    """Draw a ring around the highest value of a map [h, w] on a picture of any size, uint8 [H, W, 3]."""
    if np.isnan(segmentation).all():
        return pixels
    place = np.unravel_index(np.nanargmax(segmentation), segmentation.shape)
    row, column = ((np.add(place, 0.5)) * pixels.shape[:2] / segmentation.shape).tolist()
    radius = max(4, round((pixels.shape[0] * pixels.shape[1]) ** 0.5 / 30))
    picture = Image.fromarray(pixels)
    pen, thick = ImageDraw.Draw(picture), max(1, radius // 6)
    for reach, width, colour in ((radius + thick, 3 * thick, (0, 0, 0)), (radius, thick, (255, 255, 255))):
        pen.ellipse((column - reach, row - reach, column + reach, row + reach), outline=colour, width=width)
    return np.asarray(picture)


def side_by_side(image: np.ndarray, mask: np.ndarray, segmentation: np.ndarray) -> np.ndarray:
    """Lay image (uint8 RGB) | ground truth | heat map (both [H, W] in [0, 1]) side by side, as released."""
    return strip(image, mask, heatmap(segmentation))


def strip(image: np.ndarray, mask: np.ndarray, shown: np.ndarray, height: int = 256) -> np.ndarray:
    """Lay image (uint8 RGB) | ground truth, [H, W] in [0, 1] | another image side by side, 256 high as released."""
    import cv2

    gray = (np.asarray(mask).clip(0, 1) * 255).astype(np.uint8)
    panels = np.hstack([image, np.repeat(gray[..., None], 3, axis=2), shown])
    width = round(image.shape[1] * height / image.shape[0])
    return cv2.resize(panels, (3 * width, height))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode a picture, uint8 RGB [H, W, 3], as a PNG file."""
    import cv2

    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
