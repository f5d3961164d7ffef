"""Foreground masks: where those of a class lie, and which pixels of its images may carry synthetic defects (Eq. 3)."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from images.checks import Mask, MaskRule, look_at_mask
from images.framing import cropped
from images.geometry import Geometry
from images.reading import list_images, open_mask
from images.tiles import Box


class ForegroundMasks:
    """The masks of a class's training images, by file name, or by stem where they are of another image type.

    Args:
        folder: <data_path>/fg_mask/<class>.
        geometry: how images, and masks like them, are brought to the network's size.
    """

    def __init__(self, folder: Path, geometry: Geometry) -> None:
        self.folder, self.rule = folder, MaskRule(geometry, foreground=True)

    def read(self, image: Path) -> np.ndarray:
        """Read the mask of an image, uint8 [H, W], 1 on the foreground, which is whatever is above 0.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged, or empty.
        """
        path = self._find(image)
        mask = self.rule.open(path)
        if not mask.any():
            raise _empty(path)
        return mask.astype(np.uint8)

    def read_part(self, image: Path, size: tuple[int, int], box: Box) -> np.ndarray:
        """Read what of the mask belongs to a box of an image of this size (height, width); it may be empty.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged.
        """
        mask, (height, width) = open_mask(self._find(image), first_channel=True), size
        mask = mask if mask.size == (width, height) else mask.resize((width, height), Image.Resampling.NEAREST)
        return self.rule.apply(cropped(mask, box)).astype(np.uint8)

    def check(self, image: Path, size: tuple[int, int]) -> dict[Path, Mask]:
        """Check the mask of an image of this size (height, width); it may be smaller or larger, but not distorted.

        Returns:
            what was seen of it, by its path.

        Raises:
            FileNotFoundError: it is missing.
            ValueError: it is damaged, empty, or of another aspect ratio than its image.
        """
        path = self._find(image)
        mask = look_at_mask(path, self.rule)
        if not mask.left:
            raise _empty(path)
        if is_distorted(mask.size, size):
            sizes = f"{mask.size[::-1]}, its image {size[::-1]} (width, height)"
            raise ValueError(f"{path} is {sizes}: make the aspects equal.")
        return {path: mask}

    def _find(self, image: Path) -> Path:
        path = find_mask(self._paths, image)
        if path is None:
            advice = "make foreground masks by `prepare.py fgmask`, or train without by --fg 0"
            raise FileNotFoundError(f"{self.folder / image.name} is missing: {advice}.")
        return path

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return list_masks(self.folder)


def _empty(path: Path) -> ValueError:
    return ValueError(f"{path} has no foreground inside the crop: redraw it, or train without by --fg 0.")


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
