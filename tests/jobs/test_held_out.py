"""Held-out images: which ones, and that nothing of them is trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from datasets.sampler import Draw
from jobs.held_out import SyntheticDefects, hold_out, ranks_epochs, share_out, split_test
from training.selection import BEST, LAST, SYNTHETIC, VAL, Selection

SIDE = 32
TRAIN, TEST = DatasetSplit.TRAIN, DatasetSplit.TEST


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class `nut`: 20 images to train on, 6 good, 4 bent and 3 cut ones to test; two textures."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    counts = {"train/good": 20, "test/good": 6, "test/bent": 4, "test/cut": 3}
    counts |= {"ground_truth/bent": 4, "ground_truth/cut": 3}
    folders = {f"nut/{name}": count for name, count in counts.items()} | {"dtd/a": 2}
    for name, count in folders.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(root / name / f"{i:03d}.png")
    return root


def nut(folder: Path, split: DatasetSplit = TRAIN, **options: object) -> MVTecDataset:
    options = {"resize": SIDE, "imagesize": SIDE, "fg": 0, "distribution": 2} | options
    return MVTecDataset(folder, folder / "dtd", classname="nut", split=split, **options)


def names(images: MVTecDataset) -> list[str]:
    return [f"{entry.kind}/{entry.image.name}" for entry in images.entries]


def test_every_image_is_either_trained_on_or_held_out(folder: Path) -> None:
    whole = nut(folder)
    train, held = hold_out(whole, 0.1, seed=0, purpose="calibration")
    assert len(held) == 2 and names(train) == [name for name in names(whole) if name not in names(held)]
    assert names(hold_out(nut(folder), 0.1, 0, "calibration")[1]) == names(held)
    assert len({tuple(names(hold_out(whole, 0.1, seed, "calibration")[1])) for seed in range(8)}) > 4


def test_at_least_one_is_held_out_and_one_is_left(folder: Path) -> None:
    few = nut(folder).part([3, 5])
    train, held = hold_out(few, 0.01, 0, "calibration")
    assert (len(train), len(held)) == (1, 1)
    with pytest.raises(ValueError, match="of 1 training images none can be held out"):
        hold_out(train, 0.01, 0, "calibration")


def test_held_out_images_are_shown_as_they_are(folder: Path) -> None:
    whole = nut(folder, h_flip_p=1.0)
    plain = nut(folder)
    _, held = hold_out(whole, 0.2, 0, "calibration")
    position = [entry.image for entry in plain.entries].index(held.entries[0].image)
    assert torch.equal(held[Draw(0, 1, False)]["image"], plain[Draw(position, 1, False)]["image"])
    assert held.fixed_images and not whole.fixed_images


def test_the_test_set_is_split_kind_by_kind(folder: Path) -> None:
    whole = nut(folder, TEST)
    tested, choosing = split_test(whole, 0.5, seed=0)
    assert sorted(names(tested) + names(choosing)) == sorted(names(whole))
    kinds = [name.partition("/")[0] for name in names(choosing)]
    assert [kinds.count(kind) for kind in ("good", "bent", "cut")] == [3, 2, 2]
    assert names(split_test(nut(folder, TEST), 0.5, seed=0)[1]) == names(choosing)


@pytest.mark.parametrize("positions", [[], [0, 1, 2], [7, 8, 9], [0, 7, 8]])
def test_a_test_set_that_cannot_be_split_is_refused(folder: Path, positions: list[int]) -> None:
    with pytest.raises(ValueError, match="normal and defective images in both parts.*--select synthetic"):
        split_test(nut(folder, TEST).part(positions), 0.5, 0)


def test_synthetic_defects_are_the_same_for_any_worker_and_each_has_its_normal_image(folder: Path) -> None:
    normals = hold_out(nut(folder), 0.2, 0, "synthetic")[1]
    defects = SyntheticDefects(normals, seed=0)
    one, two = (list(DataLoader(defects, 4, num_workers=workers)) for workers in (0, 2))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(one, two, strict=True) for key in ("image", "mask_gt"))
    batch = {key: torch.cat([each[key] for each in one]) for key in ("image", "mask_gt", "is_anomaly", "index")}
    assert batch["is_anomaly"].tolist() == [0, 1] * 4 and batch["index"].tolist() == list(range(8))
    changed = (batch["image"][1::2] != batch["image"][::2]).any(1, keepdim=True)
    assert torch.equal(changed.float(), batch["mask_gt"][1::2]) and changed.flatten(1).any(1).all()
    assert not batch["mask_gt"][::2].any()
    other = SyntheticDefects(normals, seed=1)[1]["image"]
    assert not torch.equal(other, batch["image"][1])


def test_synthetic_defects_show_on_the_grid_that_is_set(folder: Path) -> None:
    defects = SyntheticDefects(nut(folder), seed=0).on_grid((2, 2))
    assert defects.normals[Draw(0, 0)]["mask_s"].shape == (2, 2)


@pytest.mark.parametrize(("rule", "calibration", "train", "choosing"), [(BEST, 0, 20, 13), (BEST, 0.1, 18, 13),
                         (VAL, 0.1, 18, 7), (SYNTHETIC, 0.1, 16, 4), (LAST, 0, 20, 13)])  # fmt: skip
def test_no_image_serves_twice(folder: Path, rule: str, calibration: float, train: int, choosing: int) -> None:
    sets = share_out(nut(folder), nut(folder, TEST), Selection(rule), calibration, seed=0)
    assert (len(sets.train), len(sets.choosing), sets.rule) == (train, choosing, rule)
    used = names(sets.train) + (names(sets.calibration) if sets.calibration else [])
    used += names(sets.choosing.normals) if rule == SYNTHETIC else []
    assert sorted(used) == names(nut(folder)) and sets.normals == len(used)
    if rule == VAL:
        assert not set(names(sets.test)) & set(names(sets.choosing))


def test_without_training_no_normals_are_counted(folder: Path) -> None:
    assert share_out(None, nut(folder, TEST), Selection(), 0, seed=0).normals is None


def test_calibration_images_get_no_defects(folder: Path) -> None:
    held = share_out(nut(folder), nut(folder, TEST), Selection(), 0.2, seed=0).calibration
    assert held[0]["aug"].shape == (1,)


@pytest.mark.parametrize("positions", [[], [7, 8, 9]])
def test_without_a_ranking_the_last_epoch_is_kept(folder: Path, positions: list[int]) -> None:
    test = nut(folder, TEST).part(positions)
    assert share_out(nut(folder), test, Selection(), 0, 0).rule == LAST
    with pytest.raises(ValueError, match="(no|its 3) test images.*leave --patience"):
        share_out(nut(folder), test, Selection(patience=2), 0, 0)


def test_masks_rank_epochs_without_normal_images(folder: Path) -> None:
    defects = nut(folder, TEST).part([0, 1])
    assert ranks_epochs(defects)
    defects.entries = [entry._replace(mask=None) for entry in defects.entries]
    assert not ranks_epochs(defects)
