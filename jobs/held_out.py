"""Images that training never sees: to set a threshold by, and to choose an epoch on.

Which ones are held out is a function of (seed, class) alone. Where training goes on with further images, those that it
knows keep their use, so that none is held out that was trained on, and a share of the new ones is held out.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from datasets.base import AnomalyDataset, DatasetSplit, Entry
from datasets.sampler import Draw
from datasets.tiling.whole import Scored, Tile, paste_defect, tiles, whole_picture
from training.selection import BEST, LAST, SYNTHETIC, VAL, Selection
from utils import derive_seed

LOGGER = logging.getLogger(__name__)

TRAIN, CALIBRATION = "train", "calibration"
USES = (TRAIN, CALIBRATION, SYNTHETIC)  # of normal training images: the last two are held out
AS_IS, SPOILT = "held out", "synthetic defect"  # kinds of held-out images


class SyntheticDefects(Dataset):
    """Normal images, each as it is (AS_IS) and then with a synthetic defect (SPOILT); a sample as of datasets.base.

    The defects are those of training, but their draws depend on (seed, class, image) alone. The ground truth is where
    the defect changes the image. Of a picture in tiles, all tiles come as they are, then one of them, drawn among those
    that show foreground, with a defect.

    Args:
        normals: held-out training images.
        seed: of the draws.
    """

    fixed_images = True

    def __init__(self, normals: AnomalyDataset, seed: int) -> None:
        self.normals, self.seed = normals, seed
        self.spoilt: dict[int, int] = {}  # tiles, by picture

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def samples(self) -> list[tuple[int, int | None]]:
        """The picture and the tile (index of the normals) of each sample; no tile where one with a defect is drawn."""
        found: list[tuple[int, int | None]] = []
        for position, own in groupby(enumerate(self.normals.windows), lambda each: each[1][0]):
            found += [*((position, tile) for tile, _ in own), (position, None)]
        return found

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | int | str]:
        position, tile = self.samples[index]
        with_defect, tile = tile is None, self._spoilt(position) if tile is None else tile
        seed = derive_seed(self.seed, self.normals.name, tile, "synthetic defect")
        sample = self.normals[Draw(tile, seed, with_defect)] | {"index": int(index), "kind": AS_IS}
        nothing = torch.ones(1, dtype=torch.int64)  # a placeholder, as in test samples
        if not with_defect:
            return sample
        changed = (sample["aug"] != sample["image"]).any(0, keepdim=True).float()  # [1, H, W]
        defective = {"image": sample["aug"], "mask_gt": changed, "is_anomaly": 1, "kind": SPOILT}
        return sample | defective | {"aug": nothing, "mask_s": nothing}

    def _spoilt(self, position: int) -> int:
        """Return which tile of a picture gets a defect.

        Raises:
            ValueError: none can.
        """
        if position not in self.spoilt:
            own = [tile for owner, tile in self.samples if owner == position and tile is not None]
            rng = np.random.default_rng(derive_seed(self.seed, self.normals.name, position, "tile"))
            found = next((own[k] for k in rng.permutation(len(own)) if self.normals.has_room(own[k])), None)
            if found is None:
                image = self.normals.entries[position].image
                raise ValueError(f"{image} has no foreground in the region of interest: correct --roi, or give --fg 0.")
            self.spoilt[position] = found
        return self.spoilt[position]

    def whole_pictures(self, scored: Iterable[Scored]) -> Iterator[Scored]:
        """Join what is said of samples, in their order, to what is said of pictures, as AnomalyDataset does.

        A picture's defect is that of its one tile with a defect, which takes the place of that tile as it is.
        """
        normals = self.normals
        if not normals.framing.active:
            yield from scored
            return
        shown = [self._spoilt(position) if tile is None else tile for position, tile in self.samples]
        found: dict[int, Tile] = {}
        for index, tile, batch, k in tiles(scored, [normals.windows[each][1] for each in shown], normals.geometry):
            position, plain = self.samples[index]
            found[shown[index]] = tile
            if plain is not None and self.samples[index + 1][1] is not None:
                continue
            whole, *said = whole_picture(normals, position, found.values(), "image" in batch)
            whole["kind"] = [AS_IS if plain is not None else SPOILT]
            if plain is None:
                paste_defect(whole, tile.box, batch, k, normals.geometry)
                found = {}
            yield whole, *said

    def on_grid(self, grid: tuple[int, int]) -> "SyntheticDefects":
        """Return the same images for a feature grid (h, w), on which a defect must show."""
        return SyntheticDefects(self.normals.on_grid(grid), self.seed)


@dataclass(frozen=True)
class ClassSets:
    """The images of a class by their use; no image has two, but that the released rule chooses on the test set.

    Attributes:
        rule: how the epoch is chosen; selection.LAST where the wanted rule finds nothing to go by.
        train: to train on; None where only tests are wanted.
        test: to test.
        choosing: epochs are evaluated on these.
        calibration: normal ones for the threshold; None where the test set's serve.
        spoilt: the calibration images, each as it is and with a synthetic defect; None likewise.
    """

    rule: str
    train: AnomalyDataset | None
    test: AnomalyDataset
    choosing: AnomalyDataset | SyntheticDefects
    calibration: AnomalyDataset | None = None
    spoilt: SyntheticDefects | None = None

    def on_grid(self, grid: tuple[int, int]) -> "ClassSets":
        """Return the same images for a feature grid (h, w), on which defects are synthesised."""
        train, spoilt = (None if each is None else each.on_grid(grid) for each in (self.train, self.spoilt))
        return replace(self, train=train, choosing=self.choosing.on_grid(grid), spoilt=spoilt)

    @property
    def entries(self) -> list[Entry]:
        """Return what the readers listed, whatever its use."""
        choosing = self.choosing.normals if isinstance(self.choosing, SyntheticDefects) else self.choosing
        parts = (self.train, self.test, choosing, self.calibration)
        return list(dict.fromkeys(entry for part in parts if part is not None for entry in part.entries))

    @property
    def files(self) -> list[Path]:
        """Return the images and masks, whatever their use, and the mask of the region of interest, sorted."""
        region = set() if self.test.roi_file is None else {self.test.roi_file}
        return sorted({path for entry in self.entries for path in (entry.image, *entry.masks)} | region)

    @property
    def uses(self) -> dict[Path, str]:
        """Return the normal training images and what each serves for, one of USES."""
        chosen = self.choosing.normals if isinstance(self.choosing, SyntheticDefects) else None
        parts = zip(USES, (self.train, self.calibration, chosen), strict=True)
        return {entry.image: use for use, part in parts if part is not None for entry in part.entries}

    @property
    def normals(self) -> int | None:
        """How many normal training pictures there are, held-out ones included; None where only tests are wanted."""
        if self.train is None:
            return None
        held = len(self.choosing.normals.entries) if isinstance(self.choosing, SyntheticDefects) else 0
        calibration = self.calibration
        own = calibration is not None and calibration.split is DatasetSplit.TRAIN  # else validation images
        return len(self.train.entries) + held + (len(calibration.entries) if own else 0)


def share_out(
    train: AnomalyDataset | None,
    test: AnomalyDataset,
    selection: Selection,
    calibration: float,
    seed: int,
    known: Mapping[Path, str] | None = None,
) -> ClassSets:
    """Decide which images serve what, and say so where some are held out.

    Args:
        train, test: all images of a class.
        selection: the wanted rule.
        calibration: share of the training images that the threshold is calibrated on; 0 for none.
        seed: of the choice.
        known: images that an earlier training of the class knew, and their use in it, which they keep.

    Raises:
        ValueError: there are too few images.
    """
    rule, choosing, held, spoilt = selection.rule, test, None, None
    if rule == VAL:
        test, choosing = split_test(test, selection.share, seed)
        LOGGER.info("%s: test images that choose the epoch: %d; that are tested: %d.",
                    test.name, len(choosing.entries), len(test.entries))  # fmt: skip
    if train is None:
        return ClassSets(rule, None, test, choosing)
    if rule == BEST and not ranks_epochs(test):
        rule = LAST
        _say_last(test, selection.patience)
    if calibration > 0:
        train, held = hold_out(train, calibration, seed, CALIBRATION, known)
        held, spoilt = held.without_defects(), SyntheticDefects(held, seed)
        LOGGER.info("%s: normal images held out for the threshold: %d.", train.name, len(held.entries))
    if rule == SYNTHETIC:
        train, normals = hold_out(train, selection.share, seed, SYNTHETIC, known)
        choosing = SyntheticDefects(normals, seed)
        LOGGER.info("%s: normal images held out to choose the epoch, with and without synthetic defects: %d.",
                    train.name, len(normals.entries))  # fmt: skip
    return ClassSets(rule, train, test, choosing, held, spoilt)


def hold_out(
    images: AnomalyDataset, share: float, seed: int, purpose: str, known: Mapping[Path, str] | None = None
) -> tuple[AnomalyDataset, AnomalyDataset]:
    """Split training images into those to train on and those held out, at least one each.

    Of images that are known, those stay held out that were; a share of the others is.

    Raises:
        ValueError: there are too few.
    """
    count = len(images.entries)
    uses = [(known or {}).get(entry.image) for entry in images.entries]
    new = [k for k, use in enumerate(uses) if use is None]
    least = min(1, len(new) - 1) if known else 1  # a single new picture is trained on
    held = [k for k, use in enumerate(uses) if use == purpose]
    held = sorted(held + _choose(new, share, (seed, images.name, purpose), least))
    rest = sorted(set(range(count)) - set(held))
    if not rest or not held:
        raise ValueError(f"{images.name}: of {count} training images none can be held out: add normal images.")
    return images.part(rest), images.part(held, held_out=True)


def split_test(images: AnomalyDataset, share: float, seed: int) -> tuple[AnomalyDataset, AnomalyDataset]:
    """Split test images, kind by kind, into those to test and those to choose an epoch on.

    Raises:
        ValueError: either part would lack normal or defective images.
    """
    kinds: dict[str, list[int]] = {}
    for position, entry in enumerate(images.entries):
        kinds.setdefault(entry.kind, []).append(position)
    chosen = {i for kind, group in kinds.items() for i in _choose(group, share, (seed, images.name, "val", kind))}
    parts = images.part([i for i in range(len(images.entries)) if i not in chosen]), images.part(sorted(chosen))
    if any({entry.is_anomaly for entry in part.entries} != {0, 1} for part in parts):
        advice = "add test images, change --val_share, or choose on synthetic defects (--select synthetic)"
        raise ValueError(f"{images.name}: --select val needs normal and defective images in both parts: {advice}.")
    return parts


def ranks_epochs(images: AnomalyDataset) -> bool:
    """Say whether labels or masks allow an AUROC: there are defects, and normal images or masks beside them."""
    defects = [entry for entry in images.entries if entry.is_anomaly]
    return bool(defects) and (len(defects) < len(images.entries) or any(entry.mask for entry in defects))


def _say_last(test: AnomalyDataset, patience: int) -> None:
    """Say that the last epoch is kept for want of labelled test images.

    Raises:
        ValueError: there is a patience, which then has nothing to go by.
    """
    reason = f"{test.name}: no test images"
    if len(test.entries):
        count = f"its {len(test.entries)} test images"
        reason = f"{test.name}: {count} cannot rank epochs, which takes defects, and normals or masks"
    if patience:
        raise ValueError(f"{reason}: leave --patience, or give --select synthetic.")
    LOGGER.info("%s: training runs to the last epoch and keeps it.", reason)


def _choose(positions: Sequence[int], share: float, key: tuple[int | str, ...], least: int = 0) -> list[int]:
    """Choose a share of positions, rounded, half up; sorted."""
    count = max(least, math.floor(share * len(positions) + 0.5))
    order = np.random.default_rng(derive_seed(*key)).permutation(len(positions))
    return sorted(positions[i] for i in order[:count])
