"""The demo's data set: photographs of scikit-image's wheel to normal pictures and pictures with painted defects.

Each class is one photograph. Pictures to train on show one half of it, pictures to test the other; some of these get
defects, whose masks are exact. Other photographs are the textures of local anomaly synthesis.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage
from sklearn.metrics import roc_auc_score

from images import drawing, reading
from system.files import atomic_write

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"

CLASSES = {"brick": 1, "coins": 0}  # axis along which the photograph is cut in two; no coin lies on the cut
WALL = 192  # pixels of the photograph that a picture of bricks shows
COINS = (  # middle row, middle column and diameter, in pixels of the photograph
    (44, 335, 60), (51, 155, 47), (51, 216, 48), (53, 276, 42), (54, 44, 45), (56, 100, 39), (119, 270, 51),
    (124, 46, 42), (124, 206, 40), (125, 336, 39), (126, 103, 38), (127, 153, 39), (187, 347, 65), (193, 213, 48),
    (194, 274, 46), (196, 102, 44), (198, 44, 38), (198, 154, 39), (260, 46, 57), (262, 172, 57), (264, 301, 50),
    (264, 244, 49), (266, 114, 43), (268, 359, 46),
)  # fmt: skip
MARGIN, SHIFT = 1.25, 2  # side of a coin's picture in diameters; pixels of the photograph it may lie off the middle
TEXTURES = (
    "astronaut.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "grass.png",
    "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg",
    "rocket.jpg",
)  # fmt: skip
SIZE = 128  # pixels of a picture
ZOOM = 16  # least pixels of a photograph in a texture: smooth ones are as foreign to a class as rough ones
GRAY, CONTRAST = 115, 40  # mean and deviation the classes' photographs are brought to; zero padding is 115, too
COUNTS = (48, 20, 8)  # images to train on, normal ones to test, of each defect
TILES = 12  # of each texture
BLUR = 4.0  # pixels, of the baseline's differences

Defect = tuple[np.ndarray, float, float]  # mask [SIZE, SIZE] in {0, 1}; opacity; brightness, as of paint


class Source(NamedTuple):
    """What pictures are cut from.

    Attributes:
        pixels: gray values, float32 [H, W].
        coins: (middle row, middle column, diameter) of each coin on it; empty for a texture.
    """

    pixels: np.ndarray
    coins: tuple[tuple[int, int, int], ...]


def photograph(name: str) -> np.ndarray:
    """Read a photograph of scikit-image's wheel as gray values, float32 [H, W]."""
    return np.asarray(reading.open_rgb(PHOTOGRAPHS / name).convert("L"), dtype=np.float32)


def source(classname: str) -> Source:
    """Read a class's photograph, brought to the common brightness and contrast."""
    pixels = photograph(f"{classname}.png")
    pixels = GRAY + CONTRAST * (pixels - pixels.mean()) / pixels.std()
    return Source(pixels, COINS if classname == "coins" else ())


def halve(whole: Source, axis: int) -> tuple[Source, Source]:
    """Cut in two, across axis 0 into the upper and the lower half, across axis 1 into the left and the right one."""
    first, second = np.array_split(whole.pixels, 2, axis=axis)
    cut = first.shape[axis]
    before = tuple(coin for coin in whole.coins if coin[axis] < cut)
    after = (np.array(coin) - cut * np.eye(3, dtype=int)[axis] for coin in whole.coins if coin[axis] >= cut)
    return Source(first, before), Source(second, tuple(tuple(coin.tolist()) for coin in after))


def view(place: Source, number: int, rng: np.random.Generator) -> np.ndarray:
    """Cut picture `number` out of a source: a part of a texture or one of the coins, turned; whole gray values."""
    if not place.coins:
        return crop(place.pixels, WALL, rng)[:, :: 1 - 2 * (number % 2)]  # rows of bricks lean to either side
    row, column, diameter = place.coins[number % len(place.coins)]
    side = round(MARGIN * diameter)
    middle = np.array([row, column]) + rng.integers(-SHIFT, SHIFT + 1, 2)
    top, left = np.clip(middle - side // 2, 0, np.array(place.pixels.shape) - side)
    turned = np.rot90(shrink(place.pixels[top : top + side, left : left + side]), rng.integers(4))
    return turned[:, :: rng.choice([-1, 1])]


def crop(pixels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a random square out of [H, W] and bring it to [SIZE, SIZE], whole gray values."""
    top, left = (rng.integers(length - side + 1) for length in pixels.shape)
    return shrink(pixels[top : top + side, left : left + side])


def shrink(square: np.ndarray) -> np.ndarray:
    """Bring a square to [SIZE, SIZE], whole gray values."""
    smaller = square.shape[0] > SIZE
    resized = cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return np.rint(resized.clip(0, 255))


def line(rng: np.random.Generator, width: int, length: float, bend: float) -> np.ndarray:
    """Draw a bent line, all three in pixels."""
    angle, middle, t = rng.uniform(0, np.pi), rng.uniform(0.35 * SIZE, 0.65 * SIZE, 2), np.linspace(-1, 1, 30)[:, None]
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    points = middle + length / 2 * t * along + bend * (t**2 - 1) * across
    return cv2.polylines(np.zeros((SIZE, SIZE), np.uint8), [np.rint(points).astype(np.int32)], False, 1, width)


def blob(rng: np.random.Generator, radius: float, roughness: float) -> np.ndarray:
    """Fill a wobbly outline."""
    middle, t = rng.uniform(0.3 * SIZE, 0.7 * SIZE, 2), np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wobble = sum(rng.normal() / k * np.cos(k * t + rng.uniform(0, 7)) for k in (2, 3, 4, 5))
    outline = radius * (1 + roughness * wobble) * np.array([np.cos(t), rng.uniform(0.6, 1) * np.sin(t)])
    return cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [np.rint(middle + outline.T).astype(np.int32)], 1)


def either(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a brightness, darker or lighter than what is painted over."""
    return rng.choice([-1, 1]) * rng.uniform(low, high)


def cut(rng: np.random.Generator) -> Defect:
    """Draw a dark, straight, wide line."""
    mask = line(rng, int(rng.integers(6, 11)), rng.uniform(36, 72), 0)
    return mask, rng.uniform(0.9, 1), -rng.uniform(1.4, 2.1)


def scratch(rng: np.random.Generator) -> Defect:
    """Draw a long, bent, narrow line."""
    mask = line(rng, int(rng.integers(4, 7)), rng.uniform(44, 84), rng.uniform(-12, 12))
    return mask, rng.uniform(0.9, 1), either(rng, 1.6, 2.4)


def spot(rng: np.random.Generator) -> Defect:
    """Draw a small round patch."""
    return blob(rng, rng.uniform(8, 14), 0.07), rng.uniform(0.9, 1), either(rng, 1.1, 1.8)


def stain(rng: np.random.Generator) -> Defect:
    """Draw a large pale patch."""
    return blob(rng, rng.uniform(16, 26), 0.17), rng.uniform(0.85, 0.95), either(rng, 0.8, 1.4)


DEFECTS: tuple[Callable[[np.random.Generator], Defect], ...] = (cut, scratch, spot, stain)


def paint(pixels: np.ndarray, mask: np.ndarray, opacity: float, brightness: float) -> np.ndarray:
    """Paint a defect over [SIZE, SIZE]; outside the mask nothing changes.

    Args:
        brightness: of the paint, in deviations of the picture, from the mean of what it covers.
    """
    colour = (pixels[mask > 0].mean() + brightness * pixels.std()).clip(0, 255)
    return np.where(mask > 0, (1 - opacity) * pixels + opacity * colour, pixels)


def save_gray(path: Path, pixels: np.ndarray) -> None:
    """Write gray values [SIZE, SIZE] as an RGB picture."""
    gray = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    atomic_write(path, drawing.encode_png(np.repeat(gray[..., None], 3, axis=2)))


def build_class(
    root: Path, train: Source, test: Source, rng: np.random.Generator, counts: tuple[int, int, int] = COUNTS
) -> None:
    """Write the pictures of a class and their masks; counts as COUNTS."""
    to_train, good, bad = counts
    for i in range(to_train):
        save_gray(root / "train" / "good" / f"{i:03d}.png", view(train, i, rng))
    for i in range(good):
        save_gray(root / "test" / "good" / f"{i:03d}.png", view(test, i, rng))
    for k, defect in enumerate(DEFECTS):
        for i in range(bad):
            pixels, (mask, *how) = view(test, good + k * bad + i, rng), defect(rng)
            save_gray(root / "test" / defect.__name__ / f"{i:03d}.png", paint(pixels, mask, *how))
            save_gray(root / "ground_truth" / defect.__name__ / f"{i:03d}_mask.png", 255 * mask)


def build(folder: Path) -> None:
    """Write the data set, in MVTec AD's layout, and the textures; the same files each time."""
    for k, (classname, axis) in enumerate(CLASSES.items()):
        build_class(folder / classname, *halve(source(classname), axis), np.random.default_rng(k), COUNTS)
    build_textures(folder / "textures", np.random.default_rng(len(CLASSES)))


def build_textures(folder: Path, rng: np.random.Generator) -> None:
    """Write the textures: squares of all sizes."""
    for name in TEXTURES:
        pixels = photograph(name)
        for i in range(TILES):
            side = int(np.exp(rng.uniform(np.log(ZOOM), np.log(min(pixels.shape)))))
            save_gray(folder / Path(name).stem / f"{i:02d}.png", crop(pixels, side, rng))


def baseline(folder: Path, classname: str, blur: float = BLUR) -> tuple[float, float]:
    """Return image and pixel AUROC of the plainest detector: the difference to the mean training image, blurred."""
    root = folder / classname
    read = {path: np.asarray(reading.open_mask(path), np.float32) for path in reading.list_images(root, recursive=True)}
    mean = np.mean([pixels for path, pixels in read.items() if path.parts[-3] == "train"], axis=0)
    tests = [path for path in read if path.parts[-3] == "test"]
    maps = np.stack([np.abs(read[path] - mean) for path in tests])
    if blur > 0:
        maps = np.stack([cv2.GaussianBlur(each, (0, 0), blur) for each in maps])
    truth = [root / "ground_truth" / path.parent.name / f"{path.stem}_mask.png" for path in tests]
    masks = np.stack([read.get(path, np.zeros((SIZE, SIZE))) > 0 for path in truth])
    return roc_auc_score(masks.any((1, 2)), maps.max((1, 2))), roc_auc_score(masks.ravel(), maps.ravel())


def compare(folder: Path) -> str:
    """Return what the plainest detectors reach on the same images, a line a class."""
    lines = ["For comparison, |image - mean training image| on the same test images, image / pixel AUROC (%):"]
    for classname in CLASSES:
        plain, blurred = (baseline(folder, classname, blur) for blur in (0, BLUR))
        values = "   blurred ".join(f"{100 * image:.1f} / {100 * pixel:.1f}" for image, pixel in (plain, blurred))
        lines.append(f"  {classname:8} plain {values}")
    return "\n".join(lines)
