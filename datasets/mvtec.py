"""Reader of the MVTec layout: <class>/{train,test}/<kind>/ and <class>/ground_truth/<kind>/ (MVTec AD, MPDD, WFDD)."""

from collections.abc import Sequence
from pathlib import Path

from datasets.base import JUDGE_ONLY, AnomalyDataset, DatasetSplit, Entry
from images import list_images

__all__ = ["DatasetSplit", "MVTecDataset"]

GOOD = "good"  # the folder of normal images
ENLARGED = ("wood", "toothbrush")  # classes resized beyond the crop, as released
ENLARGEMENT = 329 / 288


class MVTecDataset(AnomalyDataset):
    """A class in the MVTec layout; masks are found by name, `<stem>_mask` or `<stem>` of any image type."""

    def _list_entries(self) -> list[Entry]:
        folder = _class_folder(self.source, self.classname) / self.split.value
        kinds = sorted(each.name for each in folder.glob("[!.]*") if each.is_dir())
        entries = []
        for kind in [GOOD] if self.training else kinds:
            for image in list_images(folder / kind):
                mask = None if kind == GOOD else _find_mask(folder.parent / "ground_truth" / kind, image)
                entries.append(Entry(image, int(kind != GOOD), mask, kind))
        if not entries:
            raise ValueError(f"{folder} holds no images: put them into {folder / GOOD} and folders of defects.")
        return entries

    def _effective_resize(self, resize: int | Sequence[int]) -> int | tuple[int, int]:
        if self.classname in ENLARGED and self.distribution != JUDGE_ONLY:
            return round(min(self.imagesize[1:]) * ENLARGEMENT)
        return super()._effective_resize(resize)


def _class_folder(source: Path, classname: str) -> Path:
    """Return the folder of a class, by its exact name."""
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder: check DATA_PATH.")
    classes = sorted(path.name for path in source.iterdir() if (path / "train").is_dir() or (path / "test").is_dir())
    if classname not in classes:
        raise ValueError(f"{source} has no class {classname!r}: it has {', '.join(classes) or 'none'}.")
    return source / classname


def _find_mask(folder: Path, image: Path) -> Path:
    """Return the ground truth mask of an image."""
    masks = {path.stem: path for path in (list_images(folder) if folder.is_dir() else [])}
    found = masks.get(f"{image.stem}_mask") or masks.get(image.stem)
    if found is None:
        raise FileNotFoundError(f"{folder / image.stem}_mask.png is missing: add the mask of {image}.")
    return found
