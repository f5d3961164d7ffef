"""How do pixels become what a network takes, and scores what a person sees?

Pixels are uint8 RGB [H, W, 3]; a normalised image is float32 [3, H, W]; an anomaly map is [H, W] in [0, 1].
OpenCV is imported by the functions that use it: machines that only predict with an exported model do without.
"""

import numpy as np

IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32).reshape(3, 1, 1)
IMAGENET_STD = np.array((0.229, 0.224, 0.225), dtype=np.float32).reshape(3, 1, 1)

NORMALISED = np.arange(256, dtype=np.float32) / 255  # [3, 256], what each value of a channel becomes
NORMALISED = ((NORMALISED - IMAGENET_MEAN) / IMAGENET_STD).reshape(3, 256)

LEVELS = np.arange(256)
JET = [383 - abs(4 * LEVELS - 765), 382 - abs(4 * LEVELS - 510), 383 - abs(4 * LEVELS - 255)]
JET = np.stack(JET, axis=1).clip(0, 255).astype(np.uint8)  # [256, 3], RGB; the colours of OpenCV's COLORMAP_JET
JET[159, 2] = 1  # as there


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


def overlay(image: np.ndarray, segmentation: np.ndarray) -> np.ndarray:
    """Mix an image, uint8 [H, W, 3], with the heat map of [H, W]; the image alone where the map is NaN."""
    mixed = (image.astype(np.uint16) + heatmap(segmentation)) >> 1
    return np.where(np.isnan(segmentation)[..., None], image, mixed.astype(np.uint8))


def side_by_side(image: np.ndarray, mask: np.ndarray, segmentation: np.ndarray, height: int = 256) -> np.ndarray:
    """Lay image (uint8 RGB) | ground truth | heat map (both [H, W] in [0, 1]) side by side, 256 high as released."""
    import cv2

    gray = (np.asarray(mask).clip(0, 1) * 255).astype(np.uint8)
    strip = np.hstack([image, np.repeat(gray[..., None], 3, axis=2), heatmap(segmentation)])
    width = round(image.shape[1] * height / image.shape[0])
    return cv2.resize(strip, (3 * width, height))


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode a picture, uint8 RGB [H, W, 3], as a PNG file."""
    import cv2

    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
