"""The submission of MVTec AD 2's private tests: maps and thresholded maps, checked by the rules, in one tar.

anomaly_images/<object>/<set>/<stem>.tiff              float16, of the picture's own size
anomaly_images_thresholded/<object>/<set>/<stem>.png   8 bits, 0 and 255
"""

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.readers.benchmark import pictures
from datasets.readers.mvtec2 import PICTURES, PRIVATE
from images.reading import read_size
from system import files

try:
    import tifffile
except ModuleNotFoundError:  # an optional package
    tifffile = None

MAPS, MARKED = "anomaly_images", "anomaly_images_thresholded"
MODES = {".tar": "w", ".tgz": "w:gz", ".gz": "w:gz"}  # suffix of the archive -> tarfile's mode
NAMED = 3  # faults in a message
BYTES = 3  # of a pixel: float16 and 8 bits


def private_pictures(root: Path, counts: Mapping[str, int] = PICTURES) -> dict[tuple[str, str], list[Path]]:
    """List the pictures of each (object, private set).

    Args:
        root: of the data set.
        counts: how many pictures each of an object's sets has.

    Raises:
        ValueError: some are missing, or there are more.
    """
    found = {(name, part): pictures(root / name / part) for name in counts for part in PRIVATE}
    wrong = [f"{root / name / part} has {len(paths)} pictures, not {counts[name]}"
             for (name, part), paths in found.items() if len(paths) != counts[name]]  # fmt: skip
    _refuse(wrong, "restore the data set")
    return found


def check_room(out: Path, given: Mapping[tuple[str, str], Sequence[Path]]) -> None:
    """Make sure that a submission can be made here.

    Raises:
        ValueError: a package or disk space is missing, the archive has another suffix, or is there already.
    """
    if tifffile is None:
        raise ValueError("A submission needs tifffile, which is not installed: pip install -r requirements/data.txt.")
    if out.suffix not in MODES:
        raise ValueError(f"--out {out} must end in .tar, .tar.gz or .tgz.")
    if out.exists():
        raise FileExistsError(f"{out} exists: move it away, or give another --out.")
    needed = 2 * BYTES * sum(np.prod(read_size(path)) for paths in given.values() for path in paths)
    free = files.free_bytes(out.absolute().parent)
    if free < needed:
        raise ValueError(
            f"{out.absolute().parent} has {free / 1e9:.1f} GB free, a submission takes {needed / 1e9:.1f}."
        )


def write_maps(folder: Path, picture: Path, anomaly_map: np.ndarray, threshold: float) -> None:
    """Write what is submitted of a picture of a private test.

    Args:
        folder: of the submission.
        picture: <object>/<set>/<stem>.png.
        anomaly_map: float [H, W] of its size; NaN, where nothing is known, becomes 0.
        threshold: what is above it is marked.
    """
    known = np.nan_to_num(anomaly_map, nan=0.0)
    for root, suffix in ((MAPS, ".tiff"), (MARKED, ".png")):
        path = folder / root / picture.parent.parent.name / picture.parent.name / f"{picture.stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if root == MAPS:
            tifffile.imwrite(path, known.astype(np.float16))
        else:
            Image.fromarray(np.uint8(255) * (known > threshold)).save(path)


def check(folder: Path, given: Mapping[tuple[str, str], Sequence[Path]]) -> None:
    """Read everything that is to be submitted, and hold it against the rules.

    Args:
        folder: of the submission.
        given: the pictures of each (object, private set).

    Raises:
        ValueError: a file is missing, is too much, or is not as the rules want it.
    """
    wrong, wanted = [], set()
    for (name, part), paths in given.items():
        for picture in paths:
            for root, suffix, look in ((MAPS, ".tiff", _map_fault), (MARKED, ".png", _marked_fault)):
                path = folder / root / name / part / f"{picture.stem}{suffix}"
                wanted.add(path)
                fault = look(path, read_size(picture)) if path.is_file() else "is missing"
                wrong += [f"{path} {fault}"] if fault else []
    others = sorted(path for path in folder.rglob("*") if path.is_file() and path not in wanted)
    _refuse([*wrong, *(f"{path} is not part of a submission" for path in others)], "make the submission again")


def pack(folder: Path, out: Path) -> None:
    """Write the archive of a checked folder; its name only ever stands for the whole."""
    partial = out.with_name(f"{files.PARTIAL}{out.name}")
    try:
        with tarfile.open(partial, MODES[out.suffix]) as archive:
            for root in (MAPS, MARKED):
                archive.add(folder / root, root)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _map_fault(path: Path, size: tuple[int, int]) -> str:
    """Say what is wrong with a map, "" if nothing is."""
    with tifffile.TiffFile(path) as file:
        values = file.asarray()
    if values.dtype != np.float16:
        return f"is {values.dtype}, not float16"
    if values.shape != size:
        return f"has the shape {values.shape}, its picture {size}"
    return "" if np.isfinite(values).all() else "has values that are not finite"


def _marked_fault(path: Path, size: tuple[int, int]) -> str:
    """Say what is wrong with a thresholded map, "" if nothing is."""
    with Image.open(path, formats=["PNG"]) as image:
        if image.mode != "L":
            return f"is {image.mode}, not 8-bit gray"
        values = np.asarray(image)
    if values.shape != size:
        return f"has the shape {values.shape}, its picture {size}"
    return "" if np.isin(values, (0, 255)).all() else "has values other than 0 and 255"


def _refuse(wrong: Sequence[str], advice: str) -> None:
    """Stop where something is wrong, and name the first faults.

    Raises:
        ValueError: something is.
    """
    if wrong:
        more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(f"{'; '.join(wrong[:NAMED])}{more}: {advice}.")
