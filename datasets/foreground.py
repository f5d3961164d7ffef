"""Foreground masks: where those of a class lie, and which pixels of its images may carry synthetic defects (Eq. 3)."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from images.geometry import Geometry
from images.reading import list_images, open_mask, read_size


class ForegroundMasks:
    """The masks of a class's training images, by file name, or by stem where they are of another image type.

    Args:
        folder: <data_path>/fg_mask/<class>.
        geometry: how images, and masks like them, are brought to the network's size.
    """

    def __init__(self, folder: Path, geometry: Geometry) -> None:
        self.folder, self.geometry = folder, geometry

    def read(self, image: Path) -> np.ndarray:
        """Read the mask of an image, uint8 [H, W], 1 on the foreground, which is whatever is above 0.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged, or empty.
        """
        path = self._find(image)
        mask = self.geometry.apply(open_mask(path, first_channel=True)) > 0
        if not mask.any():
            raise ValueError(f"{path} has no foreground inside the crop: redraw it, or train without by --fg 0.")
        return mask.astype(np.uint8)

    def check(self, image: Path, size: tuple[int, int]) -> None:
        """Check the mask of an image of size (width, height); it may be smaller or larger, but not distorted.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged, empty, or of another aspect ratio than its image.
        """
        self.read(image)
        path = self._find(image)
        height, width = read_size(path)
        if is_distorted((height, width), size[::-1]):
            raise ValueError(f"{path} is {(width, height)}, its image {size} (width, height): make the aspects equal.")

    def _find(self, image: Path) -> Path:
        path = find_mask(self._paths, image)
        if path is None:
            advice = "make foreground masks by `prepare.py fgmask`, or train without by --fg 0"
            raise FileNotFoundError(f"{self.folder / image.name} is missing: {advice}.")
        return path

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return list_masks(self.folder)


def list_masks(folder: Path) -> dict[str, Path]:
    """Return the foreground masks of a folder, if it is there, by name and by stem."""
    masks = list_images(folder) if folder.is_dir() else []
    return {path.stem: path for path in masks} | {path.name: path for path in masks}


def find_mask(masks: Mapping[str, Path], image: Path) -> Path | None:
    """Return the foreground mask of an image, if it is there: of its name, else of its stem."""
    return masks.get(image.name) or masks.get(image.stem)


def is_distorted(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Say whether (height, width) differs in aspect from another by more than rounding to whole pixels can do."""
    return abs(size[1] * other[0] - size[0] * other[1]) > max(other)
