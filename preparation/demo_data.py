"""The demo's data set: photographs cut into crops, defects painted on some of them, their masks exact."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage
from sklearn.metrics import roc_auc_score

from images import drawing, reading
from system.files import atomic_write

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"

CLASSES = {"gravel": 256, "brick": 192}  # pixels of the photograph that a crop takes from it
TEXTURES = (
    "astronaut.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
SIZE = 64  # pixels of an image
ZOOM = 8  # least pixels of a photograph in a texture: smooth ones are as foreign to a class as rough ones
GRAY, CONTRAST = 115, 40  # mean and deviation the classes' photographs are brought to; zero padding is 115, too
TRAIN, GOOD, BAD, TILES = 48, 20, 8, 12  # images to train on, normal ones to test, of each defect, of each texture
BLUR = 2.0  # pixels, of the baseline's differences
GAP, LINE, ENLARGE = 8, 2, 2  # on the sheet of heat maps: pixels between classes, between rows; enlargement

Defect = tuple[np.ndarray, float, float]  # mask [SIZE, SIZE] in {0, 1}; opacity; brightness in the crop's deviations


def photograph(name: str) -> np.ndarray:
    """Read a photograph of scikit-image's wheel as gray values, float32 [H, W]."""
    return np.asarray(reading.open_rgb(PHOTOGRAPHS / name).convert("L"), dtype=np.float32)


def even(pixels: np.ndarray) -> np.ndarray:
    """Bring a photograph to the classes' common brightness and contrast."""
    return GRAY + CONTRAST * (pixels - pixels.mean()) / pixels.std()


def halves(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a photograph [H, W] in two: the left half for training, the right one for testing."""
    middle = pixels.shape[1] // 2
    return pixels[:, :middle], pixels[:, middle:]


def crop(pixels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a random square out of [H, W] and bring it to [SIZE, SIZE], whole gray values."""
    top, left = (rng.integers(length - side + 1) for length in pixels.shape)
    square = cv2.resize(pixels[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.rint(square)


def line(rng: np.random.Generator, width: int, length: float, bend: float) -> np.ndarray:
    """Draw a bent line, all three in pixels."""
    angle, middle, t = rng.uniform(0, np.pi), rng.uniform(0.3 * SIZE, 0.7 * SIZE, 2), np.linspace(-1, 1, 30)[:, None]
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    points = middle + length / 2 * t * along + bend * (t**2 - 1) * across
    return cv2.polylines(np.zeros((SIZE, SIZE), np.uint8), [np.rint(points).astype(np.int32)], False, 1, width)


def blob(rng: np.random.Generator, radius: float, roughness: float) -> np.ndarray:
    """Fill a wobbly outline."""
    middle, t = rng.uniform(radius, SIZE - radius, 2), np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wobble = sum(rng.normal() / k * np.cos(k * t + rng.uniform(0, 7)) for k in (2, 3, 4, 5))
    outline = radius * (1 + roughness * wobble) * np.array([np.cos(t), rng.uniform(0.6, 1) * np.sin(t)])
    return cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [np.rint(middle + outline.T).astype(np.int32)], 1)


def either(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a brightness, darker or lighter than the crop."""
    return rng.choice([-1, 1]) * rng.uniform(low, high)


def cut(rng: np.random.Generator) -> Defect:
    """Draw a dark, straight, wide line."""
    mask = line(rng, int(rng.integers(4, 7)), rng.uniform(18, 36), 0)
    return mask, rng.uniform(0.9, 1), -rng.uniform(1.4, 2.1)


def scratch(rng: np.random.Generator) -> Defect:
    """Draw a long, bent, narrow line."""
    mask = line(rng, int(rng.integers(3, 5)), rng.uniform(24, 48), rng.uniform(-6, 6))
    return mask, rng.uniform(0.9, 1), either(rng, 1.6, 2.4)


def spot(rng: np.random.Generator) -> Defect:
    """Draw a small round patch."""
    return blob(rng, rng.uniform(5, 8), 0.07), rng.uniform(0.9, 1), either(rng, 1.1, 1.8)


def stain(rng: np.random.Generator) -> Defect:
    """Draw a large pale patch."""
    return blob(rng, rng.uniform(9, 15), 0.17), rng.uniform(0.9, 1), either(rng, 0.5, 1.0)


DEFECTS: tuple[Callable[[np.random.Generator], Defect], ...] = (cut, scratch, spot, stain)


def paint(pixels: np.ndarray, mask: np.ndarray, opacity: float, brightness: float) -> np.ndarray:
    """Paint a defect over [SIZE, SIZE]; outside the mask nothing changes."""
    colour = pixels.mean() + brightness * pixels.std()
    return np.where(mask > 0, (1 - opacity) * pixels + opacity * colour, pixels)


def save_gray(path: Path, pixels: np.ndarray) -> None:
    """Write gray values [SIZE, SIZE] as an RGB picture."""
    gray = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    atomic_write(path, drawing.encode_png(np.repeat(gray[..., None], 3, axis=2)))


def build(folder: Path) -> None:
    """Write the data set, in MVTec AD's layout, and the textures; the same files each time."""
    for k, (classname, side) in enumerate(CLASSES.items()):
        rng, root = np.random.default_rng(k), folder / classname
        train, test = halves(even(photograph(f"{classname}.png")))
        for i in range(TRAIN):  # every second one mirrored, as the rows of bricks lean to either side
            save_gray(root / "train" / "good" / f"{i:03d}.png", crop(train, side, rng)[:, :: 1 - 2 * (i % 2)])
        for i in range(GOOD):
            save_gray(root / "test" / "good" / f"{i:03d}.png", crop(test, side, rng))
        for defect in DEFECTS:
            for i in range(BAD):
                pixels, (mask, *how) = crop(test, side, rng), defect(rng)
                save_gray(root / "test" / defect.__name__ / f"{i:03d}.png", paint(pixels, mask, *how))
                save_gray(root / "ground_truth" / defect.__name__ / f"{i:03d}_mask.png", 255 * mask)
    rng = np.random.default_rng(len(CLASSES))
    for name in TEXTURES:
        pixels = photograph(name)
        for i in range(TILES):
            side = int(np.exp(rng.uniform(np.log(ZOOM), np.log(min(pixels.shape)))))
            save_gray(folder / "textures" / Path(name).stem / f"{i:02d}.png", crop(pixels, side, rng))


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


def levels(heat: np.ndarray) -> np.ndarray:
    """Read a heat map's values [H, W] in [0, 1] back from its colours, uint8 [H, W, 3]."""
    colours = drawing.heatmap((np.arange(256)[None] + 0.5) / 255)[0].astype(int)  # [256, 3]
    distances = np.abs(heat[:, :, None].astype(int) - colours).sum(-1)  # [H, W, 256]
    return distances.argmin(-1) / 255


def panels(folder: Path) -> np.ndarray:
    """Lay out a class: image | ground truth | heat map | the same map stretched; a normal image and each defect.

    They are the first image of each kind; none is chosen. The stretched colours run from the lowest to the highest
    value on all test images of the class.
    """
    strips = [np.asarray(reading.open_rgb(path).resize((3 * SIZE, SIZE))) for path in reading.list_images(folder)]
    maps = np.stack([levels(strip[:, 2 * SIZE :]) for strip in strips])
    stretched = (maps - maps.min()) / max(np.ptp(maps), 1 / 255)
    kinds = sorted(["good", *(defect.__name__ for defect in DEFECTS)])  # pictures are in the order of the folders
    firsts = np.cumsum([0, *(GOOD if kind == "good" else BAD for kind in kinds)])[:-1]
    rows = [np.hstack([strips[first], drawing.heatmap(stretched[first])]) for first in firsts]
    return np.vstack([np.pad(row, ((0, LINE), (0, 0), (0, 0)), constant_values=255) for row in rows])


def contact_sheet(run: Path, path: Path) -> None:
    """Write the panels of a run's classes side by side."""
    columns = [panels(run / "training" / f"mvtec_{classname}") for classname in CLASSES]
    gap = np.full((len(columns[0]), GAP, 3), 255, np.uint8)
    sheet = np.hstack([part for column in columns for part in (gap, column)][1:])
    atomic_write(path, drawing.encode_png(sheet.repeat(ENLARGE, axis=0).repeat(ENLARGE, axis=1)))


def compare(folder: Path) -> str:
    """Return what the plainest detectors reach on the same images, a line a class."""
    lines = ["For comparison, |image - mean training image| on the same test images, image / pixel AUROC (%):"]
    for classname in CLASSES:
        plain, blurred = (baseline(folder, classname, blur) for blur in (0, BLUR))
        values = "   blurred ".join(f"{100 * image:.1f} / {100 * pixel:.1f}" for image, pixel in (plain, blurred))
        lines.append(f"  {classname:8} plain {values}")
    return "\n".join(lines)
