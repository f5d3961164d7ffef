"""Small defects in large pictures: how many are found with tiles and without, and how many good pictures are NG?

    python -m benchmarks.tiles FOLDER --backbone_weights resnet18.pth

The pictures, of 3000 x 2000 pixels, are drawn by formula: brushed metal with grain, stains and a slow change of the
light; the defects are round spots, darker or brighter, of 12, 18 and 30 pixels. Two models are trained by main.py on
the same pictures, one with --tile. What is done already in FOLDER is not done again.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
from PIL import Image

from artifacts import model_card
from benchmarks.promises import RATES, split
from inference.predictor import Predictor
from system.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
SIZE = (2000, 3000)  # of the pictures
DIAMETERS = (12, 18, 30)  # pixels, of the defects
CONTRAST = 60  # gray values between a defect and what it lies on
IMAGESIZE = 256
TRAINING, GOOD, DEFECTS = 15, 12, 5  # pictures: to train and calibrate with, to count alarms on, of each diameter
HELD_OUT = 0.6  # of the first
NETWORK = ("--pretrain_embed_dimension", "192", "--target_embed_dimension", "192", "--dsc_hidden", "256")


def surface(rng: np.random.Generator) -> np.ndarray:
    """Draw a good surface, float32 [H, W] in gray values."""
    height, width = SIZE
    brushed = cv2.GaussianBlur(rng.normal(0, 1, SIZE).astype(np.float32), (0, 0), sigmaX=12, sigmaY=0.7)
    grain = cv2.GaussianBlur(rng.normal(0, 1, SIZE).astype(np.float32), (0, 0), 1.2)
    coarse = rng.normal(0, 1, (height // 100, width // 100)).astype(np.float32)
    stains = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    light = 8 * (np.cos(angle) * x + np.sin(angle) * y)
    return 130 + 10 * brushed / brushed.std() + 6 * grain / grain.std() + 4 * stains + light


def with_spot(pixels: np.ndarray, diameter: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add a spot with a soft rim anywhere; return the picture and the mask of the spot."""
    centre = [rng.uniform(diameter, side - diameter) for side in SIZE]
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    share = np.clip(diameter / 2 - distance + 0.5, 0, 1).astype(np.float32)
    sign = rng.choice((-1, 1))
    return pixels + sign * CONTRAST * share, share >= 0.5


def draw(root: Path) -> None:
    """Write the pictures: <root>/data/metal to train on, <root>/new/<kind> to score."""
    kinds = [("data/metal", TRAINING, 0), ("new/good", GOOD, 0), *((f"new/{d}", DEFECTS, d) for d in DIAMETERS)]
    for number, (folder, count, diameter) in enumerate(kinds):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            path = root / folder / f"{k:03d}.png"
            if path.is_file():
                continue
            rng = np.random.default_rng([number, k])
            pixels = surface(rng)
            pixels, mask = with_spot(pixels, diameter, rng) if diameter else (pixels, None)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, compress_level=1)
            if mask is not None:
                Image.fromarray(mask).save(path.with_suffix(".mask"), "PNG")


def train(root: Path, name: str, weights: str, iterations: int, cut: tuple[str, ...]) -> Path:
    """Train by main.py with options of tiles; return the class folder."""
    results = root / name
    command = [
        sys.executable, "main.py", "--results_path", str(results), "--false_alarm_rate", "0.1", "net",
        "-b", "resnet18",
        "--backbone_weights", weights, *NETWORK, "--recipe", "quick", "--iterations", str(iterations), "dataset",
        "-d", "metal", "--num_workers", "1", "--imagesize", str(IMAGESIZE), "--calibration", str(HELD_OUT), *cut,
        "folder", str(root / "data"),
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    return results / "models" / "backbone_0" / "folder_metal"


def score(root: Path, folder: Path) -> dict[str, list]:
    """Score all new pictures; return by kind their scores, and of defects whether the peak of the map lies on them."""
    predictor, path = Predictor(folder), folder / "new.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for kind in ("good", *map(str, DIAMETERS)):
        if kind not in found:
            found[kind] = list(_scores(predictor, root / "new" / kind))
            atomic_write(path, json.dumps(found).encode())
    return found


def _scores(predictor: Predictor, folder: Path) -> Iterator[tuple[float, bool]]:
    for path in sorted(folder.glob("*.png")):
        prediction = predictor(path)
        mask = path.with_suffix(".mask")
        on_it = mask.is_file() and _is_near(np.asarray(Image.open(mask, formats=["PNG"])), prediction.map)
        yield prediction.score, bool(on_it)


def _is_near(mask: np.ndarray, anomaly_map: np.ndarray, pixels: int = 20) -> bool:
    """Say whether a map is highest on a mask, or so many pixels beside it."""
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8))
    return bool(wide[np.unravel_index(np.nanargmax(anomaly_map), anomaly_map.shape)])


def row(folder: Path, found: dict[str, list]) -> list[str]:
    """Count the pictures of each kind that are NG, and of defects how many are where the map says."""
    card = model_card.read(folder)
    cells = []
    for kind, each in found.items():
        ng = [model_card.verdict(value, card.threshold.score) == model_card.NG for value, _ in each]
        there = sum(alarm and near for alarm, (_, near) in zip(ng, each, strict=True))
        cells.append(f"{sum(ng)} of {len(each)}" + ("" if kind == "good" else f" ({there} at the place)"))
    good = [*card.calibration.scores, *(value for value, _ in found["good"])]
    mean, low, high = split(good, card.threshold.count, "good")["rates"][RATES.index(0.1)]
    return [*cells, f"{100 * mean:.1f} % ({100 * low:.0f} to {100 * high:.0f} %)"]


@click.command()
@click.argument("root", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--backbone_weights", default="imagenet", help="Weights of ResNet-18.")
@click.option("--iterations", default=40, help="Of each training.")
@click.option("--tile", default=300, help="Side of the tiles in pixels; a tenth of it overlaps.")
def main(root: Path, backbone_weights: str, iterations: int, tile: int) -> None:
    """Draw, train, score and count in FOLDER; print a table."""
    root = root.absolute()
    draw(root)
    print("| trained on | good, NG | " + " | ".join(f"{d} px, NG" for d in DIAMETERS) + " | alarms, 200 splits |")
    print("|---|" + "---|" * (len(DIAMETERS) + 2))
    for name, cut in (("whole", ()), (f"tiles_{tile}", ("--tile", str(tile), "--overlap", str(tile // 10)))):
        folder = train(root, name, backbone_weights, iterations, cut)
        print("|", " | ".join([name, *row(folder, score(root, folder))]), "|", flush=True)


if __name__ == "__main__":
    main()
