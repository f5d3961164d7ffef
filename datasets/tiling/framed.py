"""What each sample shows of which picture: all of it, its region of interest, or a tile of that."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.listing import Entry
from datasets.pixel_cache import Pixels
from datasets.tiling.whole import Scored, Tile, tiles, whole_picture
from images.checks import MaskRule, Picture
from images.framing import Framing, size_of
from images.geometry import Geometry
from images.reading import open_rgb, read_size
from images.tiles import Box


class FramedPictures:
    """Pictures of which samples show a part; the part of a data set that knows of tiles.

    Attributes:
        entries: the pictures.
        pictures: what is known of them, by path; may be empty.
        framing: what is looked at of each.
        geometry, truth, bits: how they and their masks are read.
        pixels: where samples are kept.
    """

    entries: list[Entry]
    pictures: Mapping[Path, Picture]
    framing: Framing
    geometry: Geometry
    truth: MaskRule
    bits: int | None
    pixels: Pixels
    _windows: list[tuple[int, Box | None]] | None = None
    _last: tuple[Path, Image.Image] | None = None  # picture opened, of which the next tile may be

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def windows(self) -> list[tuple[int, Box | None]]:
        """What each sample shows: the position of its entry, and the box of it; None for the whole picture."""
        if self._windows is None and not self.framing.active:
            self._windows = [(position, None) for position in range(len(self.entries))]
        elif self._windows is None:
            boxes = [self.framing.boxes(self.picture_size(position)) for position in range(len(self.entries))]
            self._windows = [(position, box) for position, each in enumerate(boxes) for box in each]
        return self._windows

    def picture_of(self, index: int) -> int:
        """Return the position of the entry that a sample shows, of which tiles share one."""
        return self.windows[index][0]

    def picture_size(self, position: int) -> tuple[int, int]:
        """Return (height, width) of the picture of an entry."""
        path = self.entries[position].image
        return self.pictures[path].size if path in self.pictures else read_size(path)

    def shown_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of what a sample shows, in pixels of the picture's file."""
        position, box = self.windows[index]
        return self.picture_size(position) if box is None else size_of(box)

    def whole_pictures(self, scored: Iterable[Scored]) -> Iterator[Scored]:
        """Join what is said of samples, in their order, to what is said of pictures, see datasets.tiling.whole.

        Each comes as a batch of its own, in the picture's own size, with its position among the entries as index, and
        with the image where the samples have theirs. Without tiles and a region of interest all stays as it is.
        """
        if not self.framing.active:
            yield from scored
            return
        found: list[Tile] = []
        for index, tile, batch, _ in tiles(scored, [box for _, box in self.windows], self.geometry):
            position = self.windows[index][0]
            found.append(tile)
            if index + 1 == len(self) or self.windows[index + 1][0] != position:
                yield whole_picture(self, position, found, "image" in batch)
                found = []

    def _read_pixels(self, path: Path, box: Box | None) -> np.ndarray:
        """Read what is looked at of an image, uint8 [H', W', 3], resized, without the crop or the padding."""
        if box is None:
            return np.asarray(self.geometry.resized(open_rgb(path, self.bits)))
        if self._last is None or self._last[0] != path:
            self._last = path, open_rgb(path, self.bits)
        return np.asarray(self.geometry.resized(self.framing.cut(self._last[1], box)))

    def _keep_tiles(self, position: int) -> None:
        """Read all tiles of a picture to where pixels are kept."""
        image = open_rgb(self.entries[position].image, self.bits)
        for index, (owner, box) in enumerate(self.windows):
            if owner == position:
                self.pixels.get(index, lambda box=box: np.asarray(self.geometry.resized(self.framing.cut(image, box))))
