"""Foreground masks from the pictures alone: which pixels show the part, and how far that can be trusted."""

import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label

from datasets.foreground import find_mask
from datasets.listing import TRAIN
from images.contact_sheet import contact_sheet, outlined
from images.drawing import encode_png
from images.reading import open_mask, open_rgb
from preparation.layouts import Tree
from system.files import atomic_write
from system.progress_bar import progress_bar

LOGGER = logging.getLogger(__name__)

METHOD = """The method is for parts on a background that reaches the picture's border. The background is a quadratic
surface in CIELAB, fitted to the border without outliers. Otsu's threshold on the colour distance from it separates
what may be the part; a second threshold above it separates what certainly is. GrabCut decides between them and leaves
soft shadows out. Morphology removes specks and closes small holes. Holes of any size that the part encloses, such as a
dark inlay, belong to the part, unless --keep_holes says that the background is seen through them. A mask is unstable if
a small change of the threshold (x 0.8, x 1.25) or of the brightness (x 0.9) leaves an IoU below 0.8."""

WORK_SIDE = 384  # pixels that the longer side has at most while a mask is made
BORDER = 0.04  # share of the shorter side that is taken for background
TRIM = 3  # deviations from which a border pixel is an outlier, such as a part that reaches the edge
FIT_ROUNDS = 10
LEAST_NOISE = 0.5  # CIELAB units; real backgrounds have more, drawn ones none
NOISE_DISTANCE = 4  # in noise deviations: nearer to the background is certainly background
CERTAIN = 0.25  # of the threshold, likewise
GRABCUT_ROUNDS = 6
SPECK, HOLE = 5e-4, 0.01  # largest shares of the picture that go and that are closed
SHAKES = (0.8, 1.25)  # of the threshold
DIMMED = 0.9  # of the brightness

LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}  # masks of other images become .png
COLUMNS = 4  # of a contact sheet
SHEET_CELLS = 48  # images on a contact sheet; those to look at come first

EMPTY, FULL = 0.01, 0.95  # shares of the picture
STABLE = 0.8  # least IoU of a mask with those after a small change
HOLLOW = 0.5  # of a mask: more of it than this should not be holes
USUAL = 2  # a mask this many times as large as most of its class, or as small, is odd


class Foreground(NamedTuple):
    """A foreground mask.

    Attributes:
        mask: bool [H, W].
        share: of the picture that it covers.
        stability: least IoU with the masks after small changes; NaN where that was not tried.
        holes: share of the picture that enclosed holes have, filled or not.
        filled: whether these belong to the mask.
    """

    mask: np.ndarray
    share: float
    stability: float = np.nan
    holes: float = 0.0
    filled: bool = True

    @property
    def doubts(self) -> list[str]:
        """Return why the mask needs a look, in words."""
        found = [f"nearly empty ({self.share:.1%})"] if self.share < EMPTY else []
        found += [f"nearly full ({self.share:.1%})"] if self.share > FULL else []
        found += [f"unstable (IoU {self.stability:.2f})"] if self.stability < STABLE else []
        if self.filled:
            return found + ([f"mostly a filled hole ({self.holes:.1%})"] if self.holes > HOLLOW * self.share else [])
        return found + ([f"holes ({self.holes:.1%})"] if self.holes else [])

    def unlike(self, usual: float) -> list[str]:
        """Return, in words, that the mask covers far more or far less than the usual share of its class, if so."""
        odd = self.share > USUAL * usual or self.share * USUAL < usual
        return [f"unlike the others ({self.share:.1%}, most cover {usual:.1%})"] if odd else []


class Job(NamedTuple):
    """An image, where its mask lies or goes, whether it is to be made, an older file that it replaces; and options."""

    image: Path
    mask: Path
    make: bool
    replaces: Path | None = None
    bits: int | None = None
    keep_holes: bool = False


def make_masks(
    tree: Tree, folder: Path, overwrite: bool, bits: int | None = None, keep_holes: bool = False
) -> None:  # fmt: skip
    """Make the masks of a class, write its contact sheet, and tell which need a look."""
    jobs = plan([entry.image for entry in tree.of(TRAIN)], folder / tree.name, tree.foreground, overwrite)
    jobs = [job._replace(bits=bits, keep_holes=keep_holes) for job in jobs]
    with progress_bar(len(jobs), tree.name) as step:
        found = make(jobs, step)
    usual = float(np.median([each.share for each in found]))
    doubts = [each.doubts + each.unlike(usual) for each in found]
    doubtful = [k for k, each in enumerate(doubts) if each]
    shown = _choose(len(jobs), doubtful)
    sheet_path = folder / f"{tree.name}_sheet.png"
    cells = ([each[k] for k in shown] for each in (jobs, found, doubts))
    atomic_write(sheet_path, encode_png(sheet(*cells)))
    made, place = sum(job.make for job in jobs), folder / tree.name
    LOGGER.info("%s: %d masks written to %s; %d exist and stay as they are.", tree.name, made, place, len(jobs) - made)
    low, middle, high = np.percentile([100 * each.share for each in found], (0, 50, 100))
    LOGGER.info("The foreground covers %.1f %% of a picture (%.1f to %.1f %%).", middle, low, high)
    holes = [each.holes for each in found if each.filled and each.holes]
    if holes:
        LOGGER.info("Enclosed holes were filled in %d masks (up to %.1f %% of a picture): if the background is seen "
                    "through them, give --keep_holes --overwrite.", len(holes), 100 * max(holes))  # fmt: skip
    for k in doubtful:
        LOGGER.warning("Look at %s: %s.", jobs[k].mask, ", ".join(doubts[k]))
    if len(doubtful) > len(jobs) / 2:
        LOGGER.warning("%s: most masks are doubtful; where no background is seen, train with --fg 0.", tree.name)
    LOGGER.info("Contact sheet of %d of %d (those to look at first): %s", len(shown), len(jobs), sheet_path)


def plan(images: Sequence[Path], folder: Path, present: Mapping[str, Path], overwrite: bool) -> list[Job]:
    """Decide which masks are made.

    Args:
        images: the training images.
        folder: of the masks.
        present: the masks that are there already, by name and by stem.
        overwrite: make those anew, too.

    Raises:
        ValueError: no images, or two of them would share a mask.
    """
    if not images:
        raise ValueError(f"There are no training images to make {folder} of: check DATA_PATH and -d.")
    jobs, owners = [], {}
    for image in images:
        other = owners.setdefault(image.stem, image)
        if other != image:
            raise ValueError(f"{other} and {image} would share a mask, which goes by the file name: rename one.")
        old = find_mask(present, image)
        new = folder / (image.name if image.suffix.lower() in LOSSLESS else f"{image.stem}.png")
        make = old is None or overwrite
        jobs.append(Job(image, new if make else old, make, old if make and old != new else None))
    return jobs


def make(jobs: Sequence[Job], step: Callable[[], object] = lambda: None) -> list[Foreground]:
    """Make and write masks, in threads; read those that stay.

    Raises:
        ValueError, FileNotFoundError: an image or a mask cannot be read.
    """
    found = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for each in pool.map(_make, jobs):
            found.append(each)
            step()
    return found


def sheet(jobs: Sequence[Job], found: Sequence[Foreground], doubts: Sequence[Sequence[str]]) -> np.ndarray:
    """Lay out pictures, with the outline of their masks, beside these and the doubts; uint8 RGB [H, W, 3]."""
    cells = []
    for job, each, why in zip(jobs, found, doubts, strict=True):
        pixels = np.asarray(open_rgb(job.image, job.bits))
        caption = f"{job.image.name}  {each.share:.1%}  {', '.join(why)}"
        cells.append((caption, [outlined(pixels, each.mask), np.uint8(255) * each.mask]))
    return contact_sheet(cells, min(COLUMNS, len(cells)))


def find_foreground(pixels: np.ndarray, keep_holes: bool = False) -> Foreground:
    """Find the part in a picture, uint8 RGB [H, W, 3]; the same picture always gives the same mask."""
    height, width = pixels.shape[:2]
    scale = min(1, WORK_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    found = [_segment(small), *(_segment(small, shake) for shake in SHAKES)]
    found.append(_segment(np.rint(small * DIMMED).astype(np.uint8)))
    solid = [ndimage.binary_fill_holes(each) for each in found]
    holes = float((solid[0] & ~found[0]).mean())
    mask, *others = found if keep_holes else solid
    stability = min(iou(mask, other) for other in others)
    whole = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return Foreground(whole, float(whole.mean()), stability, holes, not keep_holes)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Return intersection over union of two masks, bool [H, W]; 1 if both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def _choose(count: int, first: Sequence[int]) -> list[int]:
    """Choose which of `count` images a sheet shows: these first, then others, evenly spread."""
    rest = [k for k in range(count) if k not in set(first)]
    room = min(len(rest), max(0, SHEET_CELLS - len(first)))
    return [*first[:SHEET_CELLS], *(rest[round(k)] for k in np.linspace(0, len(rest) - 1, room))]


def _make(job: Job) -> Foreground:
    if not job.make:
        mask = np.asarray(open_mask(job.mask, first_channel=True)) > 0
        return Foreground(mask, float(mask.mean()))
    found = find_foreground(np.asarray(open_rgb(job.image, job.bits)), job.keep_holes)
    file = io.BytesIO()
    Image.fromarray(np.uint8(255) * found.mask).save(file, LOSSLESS[job.mask.suffix.lower()])
    atomic_write(job.mask, file.getvalue())
    if job.replaces is not None:
        job.replaces.unlink()
    return found


def _segment(pixels: np.ndarray, factor: float = 1) -> np.ndarray:
    """Make the mask of a small picture, bool [H, W]; factor changes the threshold."""
    distance, noise = _background_distance(pixels)
    threshold = _otsu(distance) * factor
    certain = _otsu(distance[distance > threshold])
    labels = np.full(distance.shape, cv2.GC_PR_BGD, np.uint8)
    labels[distance > certain] = cv2.GC_FGD
    labels[distance < max(CERTAIN * threshold, NOISE_DISTANCE * noise)] = cv2.GC_BGD
    if threshold <= NOISE_DISTANCE * noise or not {cv2.GC_FGD, cv2.GC_BGD} <= set(np.unique(labels)):
        return np.zeros(distance.shape, bool)  # nothing but background
    cv2.setRNGSeed(0)  # GrabCut starts with random clusters
    models = np.zeros((2, 1, 65))
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    cv2.grabCut(bgr, labels, None, models[0], models[1], GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    return _tidy((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _background_distance(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return each pixel's distance from the background, float [H, W], and the background's noise; CIELAB units."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    height, width = lab.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)  # [H, W, 6]
    margin = max(1, round(BORDER * min(height, width)))
    border = np.ones((height, width), bool)
    border[margin:-margin, margin:-margin] = False
    points, colours = basis[border], lab[border]
    kept = np.ones(len(points), bool)
    for _ in range(FIT_ROUNDS):
        surface = np.linalg.lstsq(points[kept], colours[kept], rcond=None)[0]  # [6, 3]
        residuals = np.linalg.norm(colours - points @ surface, axis=1)
        noise = max(LEAST_NOISE, float(np.median(residuals[kept])))
        kept = residuals <= TRIM * noise
    distance = np.linalg.norm(lab - basis @ surface, axis=2)
    return cv2.GaussianBlur(distance, (0, 0), 1), noise


def _otsu(values: np.ndarray) -> float:
    """Return Otsu's threshold; the value itself where there is but one, infinity where there is none."""
    return float(threshold_otsu(np.minimum(values, np.percentile(values, 99.5)))) if values.size else np.inf


def _tidy(mask: np.ndarray) -> np.ndarray:
    """Remove specks and close small holes."""
    mask = ~_without_small(~mask, HOLE * mask.size)
    return _without_small(ndimage.binary_opening(mask), SPECK * mask.size)


def _without_small(mask: np.ndarray, least: float) -> np.ndarray:
    """Remove the connected regions of fewer pixels than `least`."""
    regions = label(mask, connectivity=1)
    return mask & (np.bincount(regions.ravel()) >= least)[regions]
