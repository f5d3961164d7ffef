"""Pictures for tests, written to files."""

from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (50, 60)) -> np.ndarray:
    """Return noise, uint8 RGB [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    """Write a picture, and its folders; float32 stays, all else becomes uint8."""
    pixels = np.asarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if pixels.dtype == np.float32 else pixels.astype(np.uint8)).save(path)
    return path
