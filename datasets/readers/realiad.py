"""Real-IAD (Wang et al., CVPR 2024): lists say what pictures show; five views, C1 to C5, show the same part."""

import json
import re
from pathlib import Path

from datasets.listing import GOOD, TEST, TRAIN, Entry
from datasets.readers.benchmark import SAMPLES, Benchmark, Listed

PICTURES, LISTS = "realiad_1024", "realiad_jsons"  # folders of the data set
VIEW = re.compile(r"(.+)_C\d+(_\d+)?")  # stem of a picture: part, view, time


def _lists(root: Path) -> list[Path]:
    """Find the lists of the classes: <class>.json in realiad_jsons, or in a folder of that name in it.

    Raises:
        ValueError: several folders of lists are there, none of them the plain one.
    """
    found = [folder for folder in sorted(root.glob(f"{LISTS}*")) if folder.is_dir()]
    plain = [folder for folder in found if folder.name == LISTS] or found
    if len(plain) > 1:
        names = ", ".join(folder.name for folder in plain)
        raise ValueError(f"{root} has the lists {names}: name the folder of those to use {LISTS}.")
    lists = [sorted(folder.glob("*.json")) or sorted(folder.glob(f"{LISTS}*/*.json")) for folder in plain]
    return lists[0] if lists else []


def _classes(root: Path) -> list[str]:
    return [path.stem for path in _lists(root)]


def _listed(root: Path, classname: str) -> Listed:
    """List a class; image_path and mask_path of its list are below realiad_1024/<class>."""
    path = next(each for each in _lists(root) if each.stem == classname)
    folder, entries, defects = root / PICTURES / classname, [], []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        good = content["meta"]["normal_class"]
        for split in (TRAIN, TEST):
            for row in content[split]:
                image = folder / row["image_path"]
                if row["anomaly_class"] == good:
                    entries.append(Entry(image, 0, None, GOOD, split))
                elif split == TRAIN:
                    defects.append(image)
                else:
                    wanted = folder / row["mask_path"] if row.get("mask_path") else None
                    mask = wanted if wanted is not None and wanted.is_file() else None
                    entries.append(Entry(image, 1, mask, str(row["anomaly_class"]), split, wanted))
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): restore the file.") from error
    return Listed(entries, {"defects of the training list are not used": defects})


def _sample(image: Path) -> str:
    """Name the part that a picture shows.

    Raises:
        ValueError: the file name says no view.
    """
    found = VIEW.fullmatch(image.stem)
    if found is None:
        raise ValueError(f"{image} does not say in its name which view it is, as x_C1_20231020184555: restore it.")
    return str(image.with_name(found[1]))


REALIAD = Benchmark(
    "Real-IAD", _classes, _listed, lambda root, name: root / PICTURES / name, figures=(SAMPLES,), sample=_sample
)
