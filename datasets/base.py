"""Samples: what a batch of images, synthetic defects and masks is made of.

A sample is a dict:
    image       float32 [3, H, W], normalised by ImageNet's mean and deviation
    aug         float32 [3, H, W], the image with a synthetic defect; a placeholder [1] where none is made
    mask_s      float32 [h, w] in {0, 1}, the defect on the feature grid; a placeholder [1] where none is made
    mask_gt     float32 [1, H, W] in [0, 1], ground truth
    mask_known  int, 0 for a defect without a mask, whose mask_gt means nothing; else 1
    is_anomaly  int, 0 or 1
    kind        str, of defect, as the reader knows it, see datasets.listing.Entry
    image_path  str
    index       int, position in the data set; with tiles each is a sample, that counts
    valid       bool [H, W], where the image shows the picture and not padding; only with the letterbox
Where features are kept, training samples have neither image nor mask_gt, mask_known, is_anomaly and kind.
Every draw of a sample comes from a seed that the sampler hands over, so the number of workers changes nothing.
"""

import copy
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from artifacts.hypothesis_table import table_flag
from datasets.defects.own import OwnSynthesis, Synthesis
from datasets.defects.real import Defect, RealDefects
from datasets.foreground import ForegroundMasks
from datasets.listing import ASK, GOOD, Entry, Question, Rules
from datasets.pixel_cache import OwnPixels, Pixels, keep_pixels
from datasets.sampler import Draw
from datasets.synthesis import ImageJitter, add_defect, augment_texture, draw_beta, exponents_of
from datasets.textures import DrawnTextures, TextureFolder, Textures
from datasets.tiling.framed import FramedPictures
from images.checks import Mask, MaskRule, Picture, look_at_mask, look_at_picture, readable
from images.drawing import normalise
from images.framing import Framing, cropped, size_of
from images.geometry import CROP, LETTERBOX, Geometry, pair
from images.reading import check_pixels, open_mask, read_size
from images.tiles import Box

LOGGER = logging.getLogger(__name__)

JUDGE_ONLY = 1  # --distribution


class DatasetSplit(Enum):
    """Which images of a class."""

    TRAIN = "train"
    TEST = "test"
    VALIDATION = "validation"  # normal images that calibrate, where a benchmark has such


class AnomalyDataset(FramedPictures, Dataset):
    """The images of one class; a reader lists them in `_list_entries`.

    `dataset[draw]` makes the sample of a Draw; `dataset[i]` draws anew at each call, from NumPy's global state.

    Args:
        source: folder of the data set.
        anomaly_source_path: folder of textures, in folders of any depth; None draws textures by formula. Read for
            training only.
        dataset_name, classname: together "<dataset>_<class>", the name in the distribution tables.
        resize: shorter side, or (height, width), images are resized to before the crop; without it, not used.
        imagesize: side or (height, width) of the images that the network gets.
        split: training or test images.
        seed: kept for scripts; the sampler hands over the draws.
        rotate_degrees .. v_flip_p: random transforms of training images, see ImageJitter.
        distribution: hypothesis; 1 (judge only) stretches training images to a square and needs neither textures nor
            foreground masks.
        mean, std: of the defects' transparency beta.
        fg: keep defects on the foreground: 0 never, 1 always, 2 if the table (or judge_path's) does not say 0.
        rand_aug: change each texture by three random operations; else by the random transforms of images.
        downsampling: pixels a cell of the default feature grid.
        batch_size, augment: kept for scripts and old command lines, without effect here.
        judge_path: folder of the judgements of earlier runs.
        resize_mode: "crop", "stretch" or "letterbox", see images.geometry.
        normal_dir, defect_dir, sidecars: what names of folders and files mean, see datasets.listing.Rules.
        skip_broken: let `check` leave out images that cannot be read.
        bits: of the values in 16-bit files, where a camera fills fewer.
        mask_mode: how the masks of synthetic defects are joined, one of perlin.MODES.
        mask_threshold: share of 255 from which on a pixel of a resized mask counts as defect; None: 255 alone does.
        opacity: range that the opacity of defects is drawn from, instead of 1 - beta.
        defect_size: smallest and largest cells of the noise, as shares of the picture's sides; None for the release's.
        roi, tile, overlap: what is looked at of a picture, and in which tiles, see images.framing.Framing.given. Each
            tile is a sample.

    Attributes:
        framing: made of these three.
        grid: (h, w) of mask_s, see on_grid.
        cut: mean share of the images' area that the crop cuts away, known after `check`.
        real: confirmed defects, and the share of local anomalies that they make; see with_real_defects.
        synthesis: what makes the other local anomalies; None for the release's way; see with_synthesis.
        pictures, masks: what `check` has seen in them, by path.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: an unknown class, no images, or an option out of range.
    """

    splits: tuple[DatasetSplit, ...] = (DatasetSplit.TRAIN, DatasetSplit.TEST)
    labels_masks = False  # whether mask pixels are labels 1, 2, ... of defects rather than 0 and 255

    def __init__(
        self, source: Path, anomaly_source_path: Path | None = None, dataset_name: str = "mvtec",
        classname: str = "leather", resize: int | tuple[int, int] = 288, imagesize: int | tuple[int, int] = 288,
        split: DatasetSplit = DatasetSplit.TRAIN, seed: int = 0, rotate_degrees: float = 0, translate: float = 0,
        scale: float = 0, brightness_factor: float = 0, contrast_factor: float = 0, saturation_factor: float = 0,
        gray_p: float = 0, h_flip_p: float = 0, v_flip_p: float = 0, distribution: int = 0, mean: float = 0.5,
        std: float = 0.1, fg: int = 1, rand_aug: int = 1, downsampling: int = 8, batch_size: int = 8,
        augment: bool = False, judge_path: Path | None = None, resize_mode: str = CROP,
        normal_dir: Sequence[str] = (GOOD,), skip_broken: bool = False, defect_dir: Sequence[str] = (),
        sidecars: str = ASK, bits: int | None = None, mask_threshold: float | None = None,
        opacity: tuple[float, float] | None = None, defect_size: tuple[float, float] | None = None,
        roi: str | None = None, tile: int | tuple[int, int] | None = None, overlap: int | None = None,
        mask_mode: str = "mixed",
    ) -> None:  # fmt: skip
        self.source, self.dataset_name, self.classname, self.split = Path(source), dataset_name, classname, split
        self.distribution, self.mean, self.std, self.fg, self.rand_aug = distribution, mean, std, fg, rand_aug
        self.seed, self.batch_size, self.judge_path, self.mask_mode = seed, batch_size, judge_path, mask_mode
        self.opacity, self.exponents = opacity, exponents_of(defect_size)
        self.real: RealDefects | None = None
        self.real_share = 0.0
        self.synthesis: OwnSynthesis | None = None
        self.rules = Rules(tuple(normal_dir), tuple(defect_dir), sidecars)
        self.skip_broken, self.bits, self.cut = skip_broken, bits, 0.0
        if split not in self.splits:
            raise ValueError(f"{dataset_name} has no {split.value} images.")
        if distribution not in range(5) or fg not in range(3):
            raise ValueError(f"--distribution {distribution} must be 0 to 4, and --fg {fg} 0 to 2.")
        self.training = split is DatasetSplit.TRAIN
        self.imgsize, (height, width) = imagesize, pair(imagesize)
        self.imagesize = (3, height, width)
        self.resize = self._effective_resize(resize) if resize_mode == CROP else None
        self.geometry = Geometry(self.resize, (height, width), resize_mode)
        self.framing = Framing.given(roi, tile, overlap)
        self.framing.check(self.geometry)
        self.roi_file = None if roi is None or self.framing.of is None else Path(roi)
        self.truth = MaskRule(self.geometry, self.labels_masks, mask_threshold)
        self.pictures: dict[Path, Picture] = {}
        self.masks: dict[Path, Mask] = {}
        self.foreground_masks = ForegroundMasks(self.source / "fg_mask" / classname, self.geometry)
        self.grid = (height // downsampling, width // downsampling)
        if min(self.grid) < 1:
            raise ValueError(f"--imagesize {imagesize} is below --downsampling {downsampling}: raise it.")
        self.jitter = ImageJitter(
            brightness_factor, contrast_factor, saturation_factor, h_flip_p, v_flip_p, gray_p, rotate_degrees,
            translate, scale,
        )  # fmt: skip
        self.entries = self._list_entries()
        self.pixels: Pixels = OwnPixels()  # without room
        self.textures: Textures | None = None
        if self.training and distribution != JUDGE_ONLY:
            folder, size = anomaly_source_path, (height, width)
            self.textures = DrawnTextures(size) if folder is None else TextureFolder(folder, self.geometry)

    @property
    def name(self) -> str:
        """Return "<dataset>_<class>"."""
        return f"{self.dataset_name}_{self.classname}"

    @property
    def fixed_images(self) -> bool:
        """Whether an image is the same at every call, so that its features may be kept."""
        return not (self.training and self.jitter.active)

    def __getitem__(self, item: Draw | int) -> dict[str, torch.Tensor | int | str]:
        draw = item if isinstance(item, Draw) else Draw(int(item), int(np.random.randint(2**31)))
        position, box = self.windows[draw.index]
        entry = self.entries[position]
        rng = np.random.default_rng(draw.seed)
        pixels = self.pixels.get(draw.index, lambda: self._read_pixels(entry.image, box))
        image = normalise(self.geometry.fit(self.jitter(pixels, rng) if self.training else pixels))
        aug = mask_s = np.ones(1, dtype=np.int64)
        if self.textures is not None and draw.synthesise:
            foreground = self._foreground(draw.index, pixels.shape[:2])
            if np.any(foreground) or not self.framing.active:
                aug, mask_s = self._defect(image, foreground, rng)
            else:  # a tile without any
                aug, mask_s = image.copy(), np.zeros(self.grid, dtype=np.float32)
        sample = {
            "aug": torch.from_numpy(aug),
            "mask_s": torch.from_numpy(mask_s),
            "image_path": str(entry.image),
            "index": draw.index,
        }
        if draw.whole:
            sample |= {
                "image": torch.from_numpy(image),
                "mask_gt": torch.from_numpy(self._mask(entry, box))[None],
                "mask_known": int(not entry.is_anomaly or entry.mask is not None),
                "is_anomaly": entry.is_anomaly,
                "kind": entry.kind,
            }
        if self.geometry.mode == LETTERBOX:
            sample["valid"] = torch.from_numpy(self._valid(pixels.shape[:2]))
        return sample

    def has_room(self, index: int) -> bool:
        """Say whether a defect may lie anywhere in a sample: a tile may show no foreground."""
        masked = self.framing.active and (self.foreground or self.framing.mask is not None)
        return not masked or bool(np.any(self._foreground(index, ())))

    def check(self, workers: int) -> None:
        """Decode every image and mask of the class once, in threads, before any training.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, a mask is not of its image's size, or a foreground mask is empty or of
                another aspect ratio.
        """
        foreground = self.textures is not None and self.wants_foreground()
        what = f"{self.split.value} images of {self.name}"
        found = readable(self.entries, partial(self._check_entry, foreground), workers, self.skip_broken, what)
        self.entries, self._windows = [entry for entry, _ in found], None
        self.pictures = {entry.image: picture for entry, (picture, _) in found}
        self.masks = {path: mask for _, (_, masks) in found for path, mask in masks.items()}
        shown = [size_of(self.framing.boxes(seen.size)[0]) for seen in self.pictures.values()]
        self.cut = float(np.mean([self.geometry.lost(size) for size in shown])) if found else 0.0
        if isinstance(self.textures, TextureFolder):
            read = readable(self.textures.paths, self.textures.check, workers, self.skip_broken, "textures")
            self.textures.paths = [path for path, _ in read]

    def part(self, positions: Sequence[int], held_out: bool = False) -> "AnomalyDataset":
        """Return a data set of some of the pictures; held-out ones are taken as they are, without random transforms."""
        part = copy.copy(self)
        part.entries, part.pixels = [self.entries[position] for position in positions], OwnPixels()
        part._windows = None
        part.jitter = ImageJitter() if held_out else self.jitter
        return part

    def without_defects(self) -> "AnomalyDataset":
        """Return the same images, without synthetic defects."""
        same = copy.copy(self)
        same.textures = None
        return same

    def with_real_defects(self, found: RealDefects, share: float) -> "AnomalyDataset":
        """Return the same images, of whose local anomalies a share are confirmed defects."""
        same = copy.copy(self)
        same.real, same.real_share = found, share
        return same

    def with_synthesis(self, function: Synthesis | OwnSynthesis) -> "AnomalyDataset":
        """Return the same images, whose local anomalies a function makes, see datasets.defects.own."""
        same = copy.copy(self)
        same.synthesis = function if isinstance(function, OwnSynthesis) else OwnSynthesis(function)
        return same

    def judged_in(self, judge_path: Path | None) -> "AnomalyDataset":
        """Return the same images with another folder of judgements."""
        same = copy.copy(self)
        same.judge_path = judge_path
        return same

    def on_grid(self, grid: tuple[int, int]) -> "AnomalyDataset":
        """Return the same images for a feature grid (h, w), that of the backbone."""
        same = copy.copy(self)
        same.grid = grid
        return same

    @contextmanager
    def kept_pixels(self, threads: int = 8, sharing: int = 1) -> Iterator[None]:
        """Keep decoded and resized training images, foreground masks and textures while the block lasts.

        All workers of a loader that starts inside the block share them.

        Args:
            threads: that read sizes and cut tiles.
            sharing: data sets that do so at once, and divide the room.
        """
        with ThreadPoolExecutor(threads) as pool:
            sizes = list(pool.map(read_size, [entry.image for entry in self.entries]))
            shown = [sizes[position] if box is None else size_of(box) for position, box in self.windows]
            shapes = [(*self.geometry.resized_size(*size), 3) for size in shown]
            textures = list(pool.map(self.textures.shape, range(len(self.textures)))) if self.textures else []
            masked = self.fg or self.framing.mask is not None
            masks = [self.imagesize[1:] if masked else (0,)] * len(self)
            self.pixels = keep_pixels(self.name, shapes + masks + textures, sharing)
            if self.framing.tiling is not None:  # else each tile would decode its whole picture
                list(pool.map(self._keep_tiles, range(len(self.entries))))
        try:
            yield
        finally:
            self.pixels = OwnPixels()

    @cached_property
    def foreground(self) -> bool:
        """Whether defects are kept on the foreground; asked at the first defect, when an unlisted class is judged."""
        return self.wants_foreground()

    # --- what readers give ----------------------------------------------------------------------------------

    def _list_entries(self) -> list[Entry]:
        raise NotImplementedError

    @staticmethod
    def _refuse(questions: Sequence[Question]) -> None:
        """Stop at the first question about what names mean.

        Raises:
            ValueError: there is one.
        """
        if questions:
            raise ValueError(str(questions[0]))

    def _effective_resize(self, resize: int | Sequence[int]) -> int | tuple[int, int]:
        """Return the resize of this class and split."""
        square = self.training and self.distribution == JUDGE_ONLY
        return int(resize) if isinstance(resize, int | np.integer) and not square else pair(resize)

    # --- parts of a sample ----------------------------------------------------------------------------------

    def _valid(self, resized: tuple[int, int]) -> np.ndarray:
        """Return where an image of this size after the resize shows the picture, bool [H, W]."""
        valid = np.zeros(self.imagesize[1:], dtype=bool)
        valid[self.geometry.filled(resized)] = True
        return valid

    def _foreground(self, index: int, resized: tuple[int, int]) -> np.ndarray:
        """Return where a defect may lie in an image of this size after the resize, [H, W] in {0, 1}, or 1: anywhere."""
        if self.foreground or self.framing.mask is not None:
            return self.pixels.get(len(self) + index, lambda: self._read_foreground(*self.windows[index]))
        return self._valid(resized).astype(np.uint8) if self.geometry.mode == LETTERBOX else np.uint8(1)

    def _defect(self, image: np.ndarray, foreground: np.ndarray, rng: np.random.Generator) -> Defect:
        """Make a local anomaly: of a texture, of a confirmed defect (opaque without --opacity), or by a function."""
        beta = draw_beta(rng, self.mean, self.std) if self.opacity is None else 1 - rng.uniform(*self.opacity)
        if self.real is not None and rng.random() < self.real_share:
            return self.real.add(image, foreground, self.grid, 0 if self.opacity is None else beta, rng)
        texture = self._texture(rng)
        if self.synthesis is not None:
            return self.synthesis.add(image, texture, foreground, self.grid, rng)
        return add_defect(image, texture, foreground, self.grid, beta, rng, self.exponents, self.mask_mode)

    def _texture(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a texture and change it, float32 [3, H, W], normalised."""
        drawn = int(rng.integers(len(self.textures)))
        pixels = self.pixels.get(2 * len(self) + drawn, lambda: self.textures.read(drawn))
        changed = augment_texture(pixels, rng) if self.rand_aug else self.jitter(pixels, rng)
        return normalise(self.textures.crop(changed))

    def _read_foreground(self, position: int, box: Box | None) -> np.ndarray:
        """Read which pixels of a sample may carry a defect: of the foreground mask, and inside the region of interest.

        uint8 [H, W]; of tiles it may be empty.
        """
        path = self.entries[position].image
        if box is None:
            return self.foreground_masks.read(path)
        found = np.ones(self.imagesize[1:], dtype=np.uint8)
        if self.foreground:
            found &= self.foreground_masks.read_part(path, self.picture_size(position), box)
        if self.framing.mask is not None:
            found &= self.framing.inside_at(box, self.geometry)
        return found

    def _mask(self, entry: Entry, box: Box | None) -> np.ndarray:
        """Read an image's ground truth masks, united, float32 [H, W] in [0, 1]; zeros where there is none."""
        mask = np.zeros(self.imagesize[1:], dtype=np.float32)
        for path in entry.masks:
            found = self.truth.open(path) if box is None else self.truth.apply(cropped(open_mask(path), box))
            mask = np.maximum(mask, found)
        return mask

    def wants_foreground(self) -> bool:
        """Say whether defects are kept on the foreground, as far as is known now; see foreground."""
        if self.fg == 2:
            return table_flag(self.name, "Foreground", self.judge_path) != 0
        return self.fg == 1

    def _check_entry(self, foreground: bool, entry: Entry) -> tuple[Picture, dict[Path, Mask]]:
        """Check an image and its masks; return what was seen of it and of them."""
        picture = look_at_picture(entry.image, self.bits)
        try:
            shown = size_of(self.framing.boxes(picture.size)[0])
        except ValueError as error:
            raise ValueError(f"{entry.image}: {error}") from error
        check_pixels(entry.image, *self.geometry.resized_size(*shown), " after the resize")
        masks = self.foreground_masks.check(entry.image, picture.size) if foreground else {}
        for path in entry.masks:
            masks[path] = mask = look_at_mask(path, self.truth)
            if self.framing.active:  # it is compared in its own size
                masks[path] = mask._replace(left=round(mask.counted * mask.size[0] * mask.size[1]))
            if mask.size != picture.size:
                sizes = f"{mask.size[::-1]}, its image {picture.size[::-1]} (width, height)"
                raise ValueError(f"{path} is {sizes}: make the sizes equal.")
        return picture, masks
