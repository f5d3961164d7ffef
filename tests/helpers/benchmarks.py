"""Small made trees in the official layouts of the further benchmarks."""

import json
from pathlib import Path

import numpy as np

from tests.helpers.pictures import noise, write

SIZE = (40, 48)  # of the pictures
TRAINING = 10  # good pictures to train on
LOCO_RULES = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 60, "relative_saturation": False},
    {"defect_name": "scratch", "pixel_value": 254, "saturation_threshold": 1, "relative_saturation": True},
]


def good(key: int) -> np.ndarray:
    """Return a picture of a good part: faint noise."""
    return noise(key, SIZE) // 4 + 60


def bad(key: int) -> np.ndarray:
    """Return one with a bright square, see square."""
    pixels = good(key)
    pixels[10:22, 12:24] = 255
    return pixels


def square(value: int = 255, rows: slice = slice(10, 22), columns: slice = slice(12, 24)) -> np.ndarray:
    """Return a mask, by default that of `bad`."""
    mask = np.zeros(SIZE, np.uint8)
    mask[rows, columns] = value
    return mask


def mvtec2(root: Path, name: str = "can") -> Path:
    """Make a class of MVTec AD 2, its private tests included."""
    for i in range(TRAINING):
        write(root / name / f"train/good/{i:03d}_regular.png", good(i))
    for i in range(3):
        write(root / name / f"validation/good/{i:03d}_regular.png", good(50 + i))
    for i, light in enumerate(("regular", "overexposed", "underexposed", "shift_1")):
        write(root / name / f"test_public/good/000_{light}.png", good(100 + i))
        write(root / name / f"test_public/bad/001_{light}.png", bad(200 + i))
        write(root / name / f"test_public/ground_truth/bad/001_{light}_mask.png", square())
    for i, (folder, light) in enumerate((("test_private", "regular"), ("test_private_mixed", "mixed"))):
        for k in range(2):
            write(root / name / folder / f"{k:03d}_{light}.png", good(300 + 10 * i + k))
    return root


def realiad(root: Path, nested: bool = False) -> Path:
    """Make the class bolt of Real-IAD: two good parts and a defective one in the test, in five views each."""
    rows = {"train": [], "test": []}
    for part in range(5):
        defective, split = part == 4, "train" if part < 2 else "test"
        folder = f"NG/BX/S{part:04d}" if defective else f"OK/S{part:04d}"
        kind = "NG_BX" if defective else "OK"
        for view in range(1, 6):
            shows = defective and view < 3  # in the other views the defect is hidden
            stem = f"{folder}/bolt_{part:04d}_{kind}_C{view}_2023102018455{view}"
            write(root / f"realiad_1024/bolt/{stem}.jpg", (bad if shows else good)(10 * part + view))
            if shows:
                write(root / f"realiad_1024/bolt/{stem}.png", square())
            row = {"category": "bolt", "anomaly_class": "BX" if shows else "OK", "image_path": f"{stem}.jpg"}
            rows[split].append(row | {"mask_path": f"{stem}.png" if shows else None})
    folder = root / "realiad_jsons" / ("realiad_jsons" if nested else "")
    folder.mkdir(parents=True)
    content = {"meta": {"prefix": "bolt/", "normal_class": "OK"}} | rows
    (folder / "bolt.json").write_text(json.dumps(content))
    return root


def loco(root: Path, name: str = "pushpins", validation: bool = True) -> Path:
    """Make a class of MVTec LOCO; without validation images, of AutoVI."""
    for i in range(TRAINING):
        write(root / name / f"train/good/{i:03d}.png", good(i))
    for i in range(3):
        write(root / name / f"test/good/{i:03d}.png", good(100 + i))
        if validation:
            write(root / name / f"validation/good/{i:03d}.png", good(50 + i))
    for kind, value in (("logical_anomalies", 255), ("structural_anomalies", 254)):
        for i in range(2):
            write(root / name / f"test/{kind}/{i:03d}.png", bad(200 + i + value))
            write(root / name / f"ground_truth/{kind}/{i:03d}/000.png", square(value))
    other = square(255, slice(30, 38), slice(2, 12))
    write(root / name / "ground_truth/logical_anomalies/000/001.png", other)
    (root / name / "defects_config.json").write_text(json.dumps(LOCO_RULES))
    return root


def autovi(root: Path) -> Path:
    """Make a class of AutoVI."""
    return loco(root, "engine_wiring", validation=False)


def btad(root: Path) -> Path:
    """Make a class of BTAD."""
    for i in range(TRAINING):
        write(root / f"01/train/ok/{i:04d}.bmp", good(i))
    for i in range(2):
        write(root / f"01/test/ok/{i:04d}.bmp", good(100 + i))
        write(root / f"01/test/ko/{i:04d}.bmp", bad(200 + i))
        write(root / f"01/ground_truth/ko/{i:04d}.png", square())
    return root


def ksdd2(root: Path) -> Path:
    """Make KolektorSDD2: the last training picture and every second test picture are defective."""
    for split, count in (("train", TRAINING + 1), ("test", 4)):
        for i in range(count):
            shows = i == TRAINING if split == "train" else i % 2 == 1
            stem = f"{split}/{10000 + i + 50 * (split == 'test')}"
            write(root / f"{stem}.png", (bad if shows else good)(i + 100 * (split == "test")))
            write(root / f"{stem}_GT.png", square(255 * shows))
    return root


def dagm(root: Path) -> Path:
    """Make a class of DAGM: the last training picture and every second test picture are defective."""
    for part, count in (("Train", TRAINING + 1), ("Test", 4)):
        for i in range(1, count + 1):
            shows = i == count if part == "Train" else i % 2 == 0
            write(root / f"Class1/{part}/{i:04d}.PNG", (bad if shows else good)(i + 100 * (part == "Test")))
            if shows:
                write(root / f"Class1/{part}/Label/{i:04d}_label.PNG", square())
        (root / f"Class1/{part}/Label/Labels.txt").write_text("1\n")
    return root


MAKERS = {  # NAME -> what makes a tree of it
    "mvtec2": mvtec2,
    "realiad": realiad,
    "loco": loco,
    "autovi": autovi,
    "btad": btad,
    "ksdd2": ksdd2,
    "dagm": dagm,
}
CLASSES = {
    "mvtec2": "can",
    "realiad": "bolt",
    "loco": "pushpins",
    "autovi": "engine_wiring",
    "btad": "01",
    "ksdd2": "ksdd2",
    "dagm": "Class1",
}
