"""Local anomaly synthesis on arrays: textures, random image transforms, the blend (paper Eq. 4).

Pixels are uint8 RGB [H, W, 3]; every draw comes from the generator that is handed in. The operations are
torchvision's on PIL images.
"""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageOps

from perlin import perlin_mask

N_OPERATIONS = 3  # of the nine, per texture
FACTORS = (0.8, 1.2)  # range of contrast, brightness and saturation
MAX_HUE = 0.2  # of the colour circle
MAX_ANGLE = 45  # degrees
BETA_RANGE = (0.2, 0.8)  # transparency of a defect
EXPONENTS = (0, 6)  # the noise lattice has 2^0 .. 2^5 cells a side

Operation = Callable[[Image.Image, Generator], Image.Image]


def _saturation_and_hue(image: Image.Image, rng: Generator) -> Image.Image:
    """Change saturation and hue, in random order."""
    factor, shift = rng.uniform(*FACTORS), rng.uniform(-MAX_HUE, MAX_HUE)
    if rng.random() < 0.5:
        return _shift_hue(ImageEnhance.Color(image).enhance(factor), shift)
    return ImageEnhance.Color(_shift_hue(image, shift)).enhance(factor)


def _shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turn the hue by a share of the colour circle."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(shift * 255) % 256)  # uint8 wraps around, as the circle does
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _affine(
    image: Image.Image, angle: float, translate: tuple[int, int], scale: float, resample: Image.Resampling
) -> Image.Image:
    """Rotate clockwise by degrees and scale about the centre, then move by (x, y) pixels; outside is 0."""
    cos, sin = math.cos(math.radians(angle)) / scale, math.sin(math.radians(angle)) / scale
    cx, cy = image.width / 2, image.height / 2
    x, y = cx + translate[0], cy + translate[1]
    inverse = (cos, sin, cx - cos * x - sin * y, -sin, cos, cy + sin * x - cos * y)  # from the result to the image
    return image.transform(image.size, Image.Transform.AFFINE, inverse, resample, fillcolor=0)


def _rotation(image: Image.Image, rng: Generator) -> Image.Image:
    return _affine(image, rng.uniform(-MAX_ANGLE, MAX_ANGLE), (0, 0), 1.0, Image.Resampling.NEAREST)


OPERATIONS: dict[str, Operation] = {
    "contrast": lambda image, rng: ImageEnhance.Contrast(image).enhance(rng.uniform(*FACTORS)),
    "brightness": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.uniform(*FACTORS)),
    "saturation and hue": _saturation_and_hue,
    "horizontal flip": lambda image, rng: ImageOps.mirror(image),
    "vertical flip": lambda image, rng: ImageOps.flip(image),
    "grayscale": lambda image, rng: image.convert("L").convert("RGB"),
    "autocontrast": lambda image, rng: ImageOps.autocontrast(image),
    "equalize": lambda image, rng: ImageOps.equalize(image),
    "rotation": _rotation,
}


def augment_texture(texture: np.ndarray, rng: Generator) -> np.ndarray:
    """Change a texture by three distinct operations out of nine, in random order."""
    image = Image.fromarray(texture)
    for name in rng.choice(list(OPERATIONS), N_OPERATIONS, replace=False):
        image = OPERATIONS[name](image, rng)
    return np.asarray(image)


@dataclass(frozen=True)
class ImageJitter:
    """The random transforms of training images; all off by default.

    Attributes:
        brightness, contrast, saturation: reach x of a factor drawn from [max(0, 1 - x), 1 + x].
        h_flip, v_flip, gray: probabilities.
        rotate: largest angle, degrees.
        translate: largest shift, as a share of width and height.
        scale: reach of the scale about 1.
    """

    brightness: float = 0
    contrast: float = 0
    saturation: float = 0
    h_flip: float = 0
    v_flip: float = 0
    gray: float = 0
    rotate: float = 0
    translate: float = 0
    scale: float = 0

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0:
            raise ValueError("A random image transform has a negative strength: give 0 (off) or more.")
        if max(self.h_flip, self.v_flip, self.gray, self.translate) > 1 or self.scale >= 1:
            raise ValueError("--hflip, --vflip, --gray and --translate are at most 1, and --scale is below 1.")

    @property
    def active(self) -> bool:
        """Whether any transform is on."""
        return any(astuple(self))

    def __call__(self, pixels: np.ndarray, rng: Generator) -> np.ndarray:
        """Transform an image; the very same array comes back where all are off."""
        if not self.active:
            return pixels
        image = self._colours(Image.fromarray(pixels), rng)
        image = ImageOps.mirror(image) if rng.random() < self.h_flip else image
        image = ImageOps.flip(image) if rng.random() < self.v_flip else image
        image = image.convert("L").convert("RGB") if rng.random() < self.gray else image
        return np.asarray(self._moved(image, rng))

    def _colours(self, image: Image.Image, rng: Generator) -> Image.Image:
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        reaches = (self.brightness, self.contrast, self.saturation)
        for k in rng.permutation(len(enhancers)):
            if reaches[k] > 0:
                image = enhancers[k](image).enhance(rng.uniform(max(0, 1 - reaches[k]), 1 + reaches[k]))
        return image

    def _moved(self, image: Image.Image, rng: Generator) -> Image.Image:
        if not (self.rotate or self.translate or self.scale):
            return image
        angle = rng.uniform(-self.rotate, self.rotate)
        shift = tuple(round(rng.uniform(-1, 1) * self.translate * side) for side in image.size)
        scale = rng.uniform(1 - self.scale, 1 + self.scale)
        return _affine(image, angle, shift, scale, Image.Resampling.BILINEAR)


def add_defect(
    image: np.ndarray, texture: np.ndarray, mask_fg: np.ndarray, grid: tuple[int, int], beta: float, rng: Generator,
    exponents: tuple[int, int] = EXPONENTS,
    mask_mode: str = "mixed",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Make a synthetic defect inside the foreground (Eq. 3, 4).

    Args:
        image, texture: float32 [3, H, W], normalised.
        mask_fg: 1, or the foreground [H, W] in {0, 1}.
        grid: (h, w) of the features.
        beta: share of the image under the defect.
        rng: random generator.
        exponents: of the noise lattice's cells a side, the smallest and one above the largest.
        mask_mode: how two Perlin masks are joined, one of perlin.MODES.

    Returns:
        aug float32 [3, H, W]; mask_s float32 [h, w] in {0, 1}.

    Raises:
        ValueError: the foreground is empty.
    """
    mask_s, mask_l = perlin_mask(image.shape, grid, *exponents, mask_fg, 1, rng, mask_mode)
    return blend(image, texture, mask_l, beta), mask_s


def draw_beta(rng: Generator, mean: float, std: float) -> float:
    """Draw the transparency of a defect: normal, clipped."""
    return float(np.clip(rng.normal(mean, std), *BETA_RANGE))


def exponents_of(size: tuple[float, float] | None) -> tuple[int, int]:
    """Return the exponents of a noise lattice whose cells have these shares of the picture's sides, low to high."""
    if size is None:
        return EXPONENTS
    low, high = size
    return round(-math.log2(high)), round(-math.log2(low)) + 1


def blend(image: np.ndarray, texture: np.ndarray, mask_l: np.ndarray, beta: float) -> np.ndarray:
    """Lay a texture over an image (both float32 [3, H, W]) where mask_l [H, W] is 1; beta of it stays (Eq. 4)."""
    aug = texture - image  # image (1 - mask) + (1 - beta) texture mask + beta image mask, sorted to copy little
    aug *= (1 - beta) * mask_l
    aug += image
    return aug
