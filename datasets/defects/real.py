"""Confirmed defects as local anomalies: cut out of their pictures and laid on normal ones, in the place of textures.

A picture's defect is what its mask marks, x_mask, x_GT or x_label beside x; what is above 0 counts. Without a mask it
is found by comparison: where the picture differs from the nearest of the normal training pictures by more than any of
these differs from its own nearest one. Parts in one pose and one light have such defects found; where poses vary,
normal pictures differ so much that nothing is found, and the picture is left out and named.

With tiles, what each tile shows of a defect is cut out of it, at its scale; such pictures need masks. Nothing is cut
out outside the region of interest.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy import ndimage

from datasets.listing import sidecars
from datasets.synthesis import MAX_ANGLE, blend
from images.checks import look_at_picture
from images.drawing import normalise
from images.framing import Framing, cropped, size_of
from images.geometry import LETTERBOX, Geometry
from images.reading import list_images, open_mask, open_rgb
from images.tiles import Box
from perlin import max_pool

LOGGER = logging.getLogger(__name__)

SCALES = (0.8, 1.25)  # that a cut-out is resized by
MARGIN = 2  # pixels around a cut-out, so that its edge is mixed with its own surroundings
NEAR = 2  # pixels by which marked regions are widened to see which hang together
COMPARED = 64  # normal pictures, at most, that one without a mask is compared with
BLUR = 1.5  # pixels, of the pictures that are compared
THUMBNAIL = 32  # side of what the nearest one is found by
PARTLY = 0.5  # opacity of a pixel that counts as defect, unless none has it

Defect = tuple[np.ndarray, np.ndarray]  # aug float32 [3, H, W]; mask_s float32 [h, w] in {0, 1}


class Cutout(NamedTuple):
    """A defect at the network's scale: pixels uint8 RGB [h, w, 3], and which of them show it, float32 [h, w]."""

    pixels: np.ndarray
    mask: np.ndarray


class RealDefects:
    """The confirmed defects of a class; may be drawn from by several processes.

    Args:
        cutouts: of each picture.
        files: pictures and masks that they come from.
    """

    def __init__(self, cutouts: Sequence[Sequence[Cutout]], files: Sequence[Path]) -> None:
        self.cutouts, self.files = cutouts, files

    def add(self, image: np.ndarray, mask_fg: np.ndarray, grid: tuple[int, int], beta: float, rng: Generator) -> Defect:
        """Lay a cut-out on an image: mirrored, turned, scaled, at any place of the foreground (Eq. 4).

        Args:
            image: float32 [3, H, W], normalised.
            mask_fg: 1, or the foreground [H, W] in {0, 1}.
            grid: (h, w) of the features.
            beta: share of the image under the defect.
            rng: random generator.

        Returns:
            aug float32 [3, H, W]; mask_s float32 [h, w] in {0, 1}.

        Raises:
            ValueError: the foreground is empty.
        """
        foreground = np.broadcast_to(np.asarray(mask_fg, dtype=np.float32), image.shape[1:])
        places = np.flatnonzero(foreground)
        if not len(places):
            raise ValueError("The foreground mask is empty: redraw it, or train without with --fg 0.")
        picture = self.cutouts[rng.integers(len(self.cutouts))]
        cutout = picture[rng.integers(len(picture))]
        place = divmod(int(places[rng.integers(len(places))]), foreground.shape[1])
        pixels, mask_l = _placed(cutout, place, foreground.shape, rng)
        mask_l *= foreground
        mask_s = max_pool((mask_l >= min(PARTLY, mask_l.max())).astype(np.float32), grid)
        return blend(image, normalise(pixels), mask_l, beta), mask_s


class Reader:
    """Reads the confirmed defects of a class.

    Args:
        geometry: how pictures are brought to the network's size.
        bits: of the values in 16-bit files.
        normals: pictures that training learns from.
        framing: what is looked at of a picture.
    """

    def __init__(
        self, geometry: Geometry, bits: int | None, normals: Sequence[Path], framing: Framing | None = None
    ) -> None:
        self.geometry, self.bits, self.framing = geometry, bits, framing or Framing()
        chosen = np.linspace(0, len(normals) - 1, min(COMPARED, len(normals))).astype(int)
        self.normals = [normals[k] for k in chosen]

    def read(self, folder: Path, known: Mapping[str, Path]) -> RealDefects:
        """Read a folder, of any depth.

        Args:
            folder: of pictures and masks.
            known: the pictures that are trained on, held out or tested, by what they show (Picture.digest).

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: it has no pictures, or one of them is among the known ones, is damaged, or has a wrong mask.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder: check --real_defects.")
        images = list_images(folder, recursive=True)
        masks = {of: mask for mask, of in sidecars(images).items()}
        pictures = [image for image in images if image not in masks.values()]
        found, unmarked = [], []
        for image in pictures:
            same = known.get(look_at_picture(image, self.bits).digest)
            if same is not None:
                raise ValueError(
                    f"{image} is the same picture as {same}, which is tested or counts as good: leave it out of "
                    "--real_defects, or take that one away."
                )
            cutouts = self._cutouts(image, masks.get(image))
            (found if cutouts else unmarked).append(cutouts or image)
        self._tell(folder, pictures, masks, found, unmarked)
        return RealDefects(found, images)

    def _tell(
        self, folder: Path, pictures: list[Path], masks: Mapping[Path, Path], found: list, unmarked: list[Path]
    ) -> None:
        for image in unmarked:
            why = "its mask marks nothing that the network sees"
            if image not in masks:
                why = "it has no mask, and nowhere differs from good pictures more than these do from each other"
                why = why if self.framing.tiling is None else "it has no mask, which tiles take"
            LOGGER.warning("%s is left out: %s. Draw %s_mask.png beside it.", image, why, image.stem)
        if not found:
            advice = "put pictures of confirmed defects there, each with its mask beside it, x_mask.png of x.png"
            raise ValueError(f"{folder} has no defects to cut out: {advice}.")
        compared = len(pictures) - len(masks) - sum(image not in masks for image in unmarked)
        seen = f"; where {compared} of them have no mask, comparison tells the defect: prepare.py preview shows it"
        LOGGER.info("%s: %d cut-outs of %d pictures take part in the synthesis%s.", folder, sum(map(len, found)),
                    len(found), seen if compared else "")  # fmt: skip

    def _cutouts(self, path: Path, mask_path: Path | None) -> list[Cutout]:
        """Cut a picture's defects out; none where none is seen."""
        image = open_rgb(path, self.bits)
        mask = None if mask_path is None else self._open_mask(path, image, mask_path)
        if mask is None and self.framing.tiling is not None:
            return []
        try:
            boxes = self.framing.boxes((image.height, image.width))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return [cutout for box in boxes for cutout in self._cutouts_of(image, mask, box)]

    def _cutouts_of(self, image: Image.Image, mask: Image.Image | None, box: Box) -> list[Cutout]:
        """Cut out what a box of a picture shows of its defects."""
        pixels = self.geometry.apply(self.framing.cut(image, box))
        marked = self._compared(pixels) if mask is None else self._marked(cropped(mask, box))
        if self.geometry.mode == LETTERBOX:
            marked &= self.geometry.valid(size_of(box))
        if self.framing.mask is not None:
            marked &= self.framing.inside_at(box, self.geometry)
        regions, _ = ndimage.label(ndimage.binary_dilation(marked, np.ones((3, 3)), NEAR), np.ones((3, 3)))
        found = []
        for k, box in enumerate(ndimage.find_objects(np.where(marked, regions, 0)), 1):
            if box is not None:
                rows, columns = (slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in box)
                mask = (marked & (regions == k))[rows, columns]
                found.append(Cutout(pixels[rows, columns].copy(), mask.astype(np.float32)))
        return found

    @staticmethod
    def _open_mask(path: Path, image: Image.Image, mask_path: Path) -> Image.Image:
        """Open the mask of a picture, 255 where it marks."""
        mask = open_mask(mask_path)
        if mask.size != image.size:
            raise ValueError(f"{mask_path} is {mask.size}, {path} {image.size} (width, height): make the sizes equal.")
        return mask.point(lambda value: 255 * (value > 0))

    def _marked(self, mask: Image.Image) -> np.ndarray:
        """Return what a mask marks at the network's size, bool [H, W]; a defect that shrinks away keeps its core."""
        soft = self.geometry.apply(mask) / 255
        return (soft >= min(PARTLY, soft.max())) & (soft > 0)

    def _compared(self, pixels: np.ndarray) -> np.ndarray:
        """Return where a picture differs from the nearest normal one more than normal ones do, bool [H, W]."""
        difference = _difference(_smooth(pixels), self._nearest(pixels))
        regions, count = ndimage.label(difference > self._usual)
        peaks = np.array([np.inf, *ndimage.maximum(difference, regions, range(1, count + 1))])
        return difference > peaks[regions] / 2  # the blur widens a spot: half its height is where it ends

    def _nearest(self, pixels: np.ndarray, but: int | None = None) -> np.ndarray:
        """Return the normal picture, smoothed, but not number `but`, whose thumbnail is nearest to a picture's."""
        distances = [np.abs(_thumbnail(pixels) - small).mean() for _, small in self._seen]
        if but is not None:
            distances[but] = np.inf
        return self._seen[int(np.argmin(distances))][0]

    @cached_property
    def _seen(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The normal pictures, smoothed float32 [H, W, 3], and their thumbnails."""
        if len(self.normals) < 2:
            raise ValueError("A confirmed defect without a mask needs two normal pictures to compare with: draw masks.")
        opened = (open_rgb(path, self.bits) for path in self.normals)
        parts = ((image, self.framing.part((image.height, image.width))) for image in opened)
        read = (self.geometry.apply(self.framing.cut(*each)) for each in parts)
        return [(_smooth(pixels), _thumbnail(pixels)) for pixels in read]

    @cached_property
    def _usual(self) -> float:
        """The largest difference between a normal picture and its nearest one."""
        return max(float(_difference(each, self._nearest(each, k)).max()) for k, (each, _) in enumerate(self._seen))


def _placed(
    cutout: Cutout, place: tuple[int, int], size: tuple[int, int], rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Change a cut-out at random and move one of its pixels to (row, column); pixels [H, W, 3], opacity [H, W]."""
    flips = tuple(slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(2))
    pixels, mask = (np.ascontiguousarray(each[flips]) for each in cutout)
    marked = np.argwhere(mask)
    y, x = map(float, marked[rng.integers(len(marked))])
    matrix = cv2.getRotationMatrix2D((x, y), rng.uniform(-MAX_ANGLE, MAX_ANGLE), rng.uniform(*SCALES))
    matrix[:, 2] += place[1] - x, place[0] - y
    pixels = cv2.warpAffine(pixels, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return pixels, cv2.warpAffine(mask, matrix, size[::-1], flags=cv2.INTER_LINEAR)


def _smooth(pixels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), BLUR)


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the largest difference of a colour channel, [H, W]."""
    return np.abs(one - other).max(axis=2)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels.astype(np.float32), (THUMBNAIL,) * 2, interpolation=cv2.INTER_AREA)
