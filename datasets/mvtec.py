"""Reader of the MVTec layout: <class>/{train,test}/<kind>/ and <class>/ground_truth/<kind>/ (MVTec AD, MPDD, WFDD)."""

from collections.abc import Sequence
from pathlib import Path

from datasets.base import JUDGE_ONLY, AnomalyDataset, DatasetSplit, Entry, find_mask
from images.reading import list_images

__all__ = ["DatasetSplit", "MVTecDataset"]

ENLARGED = ("wood", "toothbrush")  # classes resized beyond the crop, as released
ENLARGEMENT = 329 / 288


class MVTecDataset(AnomalyDataset):
    """A class in the MVTec layout; masks are found by name, `<stem>_mask` or `<stem>` of any image type."""

    def _list_entries(self) -> list[Entry]:
        folder = _class_folder(self.source, self.classname) / self.split.value
        kinds = sorted(each.name for each in folder.glob("[!.]*") if each.is_dir())
        entries = []
        for kind in self.normal_dir if self.training else kinds:
            normal = kind in self.normal_dir
            for image in list_images(folder / kind):
                mask = None if normal else _mask_of(image, folder.parent / "ground_truth" / kind)
                entries.append(Entry(image, int(not normal), mask, kind))
        if not entries:
            place = folder / self.normal_dir[0]
            raise ValueError(f"{folder} holds no images: put them into {place} and folders of defects.")
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


def _mask_of(image: Path, folder: Path) -> Path:
    """Return the ground truth mask of an image."""
    found = find_mask(folder, image)
    if found is None:
        raise FileNotFoundError(f"{folder / image.stem}_mask.png is missing: add the mask of {image}.")
    return found
