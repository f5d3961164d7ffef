"""KolektorSDD2 (Božič et al., 2021), unsupervised: the mask of <id>.png is <id>_GT.png; an empty one means good."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets.listing import DEFECT_ROWS, GOOD, TEST, TRAIN, Entry
from datasets.readers.benchmark import Benchmark, Listed, pictures
from images.reading import open_mask

CLASS, SUFFIX = "ksdd2", "_GT"  # the only class: the data set has no folder for it


def _classes(root: Path) -> list[str]:
    """Find the one class: all training pictures, and there are some, have a mask beside them."""
    stems = {path.stem for path in pictures(root / TRAIN)}
    images = {stem for stem in stems if not stem.endswith(SUFFIX)}
    whole = images and stems == images | {stem + SUFFIX for stem in images} and (root / TEST).is_dir()
    return [CLASS] if whole else []


def _listed(root: Path, _: str) -> Listed:
    entries, left_out, empty = [], [], []
    for split in (TRAIN, TEST):
        found = pictures(root / split)
        masks = {path.stem.removesuffix(SUFFIX): path for path in found if path.stem.endswith(SUFFIX)}
        images = [path for path in found if not path.stem.endswith(SUFFIX)]
        with ThreadPoolExecutor() as pool:
            marked = list(pool.map(_marks, [masks.get(image.stem) for image in images]))
        for image, marks in zip(images, marked, strict=True):
            wanted = image.with_name(f"{image.stem}{SUFFIX}.png")
            if marks and split == TRAIN:
                left_out += [image, masks.get(image.stem, image)]
            elif marks:
                entries.append(Entry(image, 1, masks.get(image.stem), DEFECT_ROWS, split, wanted))
            else:
                entries.append(Entry(image, 0, None, GOOD, split))
                empty.append(masks[image.stem])
    return Listed(entries, {"defects of the training, and their masks, are not used": left_out}, empty)


def _marks(mask: Path | None) -> bool:
    """Say whether a mask marks anything; one that is missing does not say that the picture is good."""
    return mask is None or open_mask(mask).getextrema()[1] > 0


KSDD2 = Benchmark("KolektorSDD2", _classes, _listed, lambda root, _: root)
