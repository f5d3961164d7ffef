"""DAGM 2007, optical inspection: Class1 to Class10; a picture with a mask Label/<stem>_label.PNG shows a defect."""

from pathlib import Path

from datasets.listing import DEFECT_ROWS, GOOD, TEST, TRAIN, Entry, class_folders
from datasets.readers.benchmark import Benchmark, Listed, pictures

PARTS, MASKS = {TRAIN: "Train", TEST: "Test"}, "Label"  # folders of a class, and the masks' folder in each


def _classes(root: Path) -> list[str]:
    wanted = [f"{part}/{MASKS}" for part in PARTS.values()]
    return [name for name, folder in class_folders(root).items() if all((folder / each).is_dir() for each in wanted)]


def _listed(root: Path, classname: str) -> Listed:
    entries, left_out = [], []
    for split, part in PARTS.items():
        folder = root / classname / part
        masks = {path.stem.removesuffix("_label"): path for path in pictures(folder / MASKS)}
        for image in pictures(folder):
            mask = masks.pop(image.stem, None)
            if mask is None:
                entries.append(Entry(image, 0, None, GOOD, split))
            elif split == TEST:
                entries.append(Entry(image, 1, mask, DEFECT_ROWS, split, mask))
            else:
                left_out += [image, mask]
    return Listed(entries, {"defects of the training, and their masks, are not used": left_out})


DAGM = Benchmark("DAGM 2007", _classes, _listed)
