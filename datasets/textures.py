"""Where the textures of synthetic defects come from: a folder of pictures, or formulas."""

from pathlib import Path
from typing import Protocol

import numpy as np

from datasets.drawn_textures import draw_texture
from images.geometry import CROP, Geometry
from images.reading import check_pixels, is_deep, list_images, open_rgb, read_size

DRAWN = 1000  # textures by formula


class Textures(Protocol):
    """A numbered set of textures, each as large as the network's pictures or larger.

    Attributes:
        paths: the files they come from, if they do.
    """

    paths: list[Path]

    def __len__(self) -> int:
        """Return how many there are."""

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return the shape of the pixels that read gives."""

    def read(self, index: int) -> np.ndarray:
        """Return the pixels of a texture, uint8 [H', W', 3], not cropped yet."""

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """Return the part of them, or of what random operations made of them, that fits the network's picture."""


class TextureFolder:
    """The pictures of a folder of any depth.

    Args:
        folder: AUG_PATH.
        geometry: of the images. Textures are cropped where images are; else they cover the network's picture, aspect
            kept, so that neither distortion nor padding shows in a defect.

    Raises:
        FileNotFoundError, ValueError: no such folder, or no images in it.
    """

    def __init__(self, folder: Path, geometry: Geometry) -> None:
        side, size = min(geometry.imagesize), geometry.imagesize
        self.geometry = geometry if geometry.mode == CROP else Geometry(side, size)
        self.paths = list_images(Path(folder), recursive=True)
        if not self.paths:
            raise ValueError(f"{folder} holds no images: give a folder with textures at any depth, as dtd/images.")

    def __len__(self) -> int:
        return len(self.paths)

    def shape(self, index: int) -> tuple[int, int, int]:
        return *self.geometry.resized_size(*read_size(self.paths[index])), 3

    def check(self, path: Path) -> None:
        """Make sure that a picture begins like one, is not too large, and has values that can be read.

        Raises:
            FileNotFoundError, UnreadableImage: it does not, or is.
        """
        check_pixels(path, *self.geometry.resized_size(*read_size(path)), " after the resize")
        if is_deep(path):
            open_rgb(path)

    def read(self, index: int) -> np.ndarray:
        return np.asarray(self.geometry.resized(open_rgb(self.paths[index])))

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        return self.geometry.fit(pixels)


class DrawnTextures:
    """Textures drawn by formula, always the same ones.

    Args:
        size: (height, width) of the network's pictures.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.paths: list[Path] = []

    def __len__(self) -> int:
        return DRAWN

    def shape(self, index: int) -> tuple[int, int, int]:
        return *self.size, 3

    def read(self, index: int) -> np.ndarray:
        return draw_texture(self.size, index)

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        return pixels
