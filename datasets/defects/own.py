"""A local anomaly synthesis of one's own: a function in place of datasets.synthesis.add_defect.

The function gets

    image       float32 [3, H, W], a normal picture, normalised by ImageNet's mean and deviation
    texture     float32 [3, H, W], normalised likewise
    foreground  bool [H, W], where a defect may lie
    rng         numpy.random.Generator, the only source of its random draws

and returns the picture with its defect, float32 [3, H, W] between BLACK and WHITE, and the mask of the defect,
[H, W] in {0, 1}. Pixels that it leaves alone keep their values to the bit. A mask that marks nothing is drawn again.
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng

from images.drawing import NORMALISED
from perlin import max_pool

BLACK, WHITE = NORMALISED[:, 0, None, None], NORMALISED[:, 255, None, None]  # [3, 1, 1], the range of a picture
SLACK = 1e-3  # of this range, for rounding
TRIES = 100  # draws until a mask marks something
TRIALS = 4  # draws that check makes

Synthesis = Callable[[np.ndarray, np.ndarray, np.ndarray, Generator], tuple[np.ndarray, np.ndarray]]


class OwnSynthesis:
    """A function that makes local anomalies, and what is asked of it; may be called by several processes.

    Args:
        function: as the head of this module says.
        name: by which errors call it.
    """

    def __init__(self, function: Synthesis, name: str = "") -> None:
        self.function, self.name = function, name or getattr(function, "__name__", repr(function))

    @classmethod
    def load(cls, name: str) -> "OwnSynthesis":
        """Import `module:function`; modules of the folder that the program runs in are found, too.

        Raises:
            ValueError: there is no such module or function.
        """
        module, _, attribute = name.partition(":")
        if not module or not attribute:
            raise ValueError(f"--synthesis {name}: give MODULE:FUNCTION, such as scratches:scratch.")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)  # last, so that it hides nothing
        try:
            function = getattr(importlib.import_module(module), attribute, None)
        except Exception as error:  # whatever goes wrong in a module of others
            what = f"{module} cannot be imported: {_told(error)}"
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                what = f"there is no module {error.name}: put its file into {here} or its folder into PYTHONPATH"
            raise ValueError(f"--synthesis {name}: {what}.") from error
        if not callable(function):
            what = "has no" if function is None else "is no function:"
            raise ValueError(f"--synthesis {name}: {module} {what} {attribute}. Give MODULE:FUNCTION.")
        return cls(function, name)

    @property
    def source(self) -> Path | None:
        """The file that the function's module was read from; None where that is not known."""
        module = sys.modules.get(getattr(self.function, "__module__", None) or "")
        path = getattr(module, "__file__", None)
        return None if path is None else Path(path)

    def add(
        self, image: np.ndarray, texture: np.ndarray, mask_fg: np.ndarray, grid: tuple[int, int], rng: Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make a synthetic defect.

        Args:
            image, texture: float32 [3, H, W], normalised.
            mask_fg: 1, or the foreground [H, W] in {0, 1}.
            grid: (h, w) of the features.
            rng: random generator.

        Returns:
            aug float32 [3, H, W]; mask_s float32 [h, w] in {0, 1}, the max-pool of the function's mask.

        Raises:
            ValueError: the function fails, or returns something else than it should.
        """
        foreground = np.broadcast_to(np.asarray(mask_fg, dtype=bool), image.shape[1:])
        for _ in range(TRIES):
            aug, mask = self._called(image, texture, foreground, rng)
            if mask.any():
                return aug, max_pool(mask, grid)
        raise self._wrong(f"its mask marked nothing {TRIES} times: does it find room in the foreground?")

    def check(self, image: np.ndarray, texture: np.ndarray) -> None:
        """Make some defects on an image, each twice; for the arguments see add.

        Raises:
            ValueError: as of add; or a defect is another one though the generator is in the same state.
        """
        everywhere, grid = np.ones(image.shape[1:]), image.shape[1:]
        for seed in range(TRIALS):
            first, second = (self.add(image, texture, everywhere, grid, default_rng(seed)) for _ in range(2))
            if not all(map(np.array_equal, first, second)):
                raise self._wrong("equal states of rng gave two defects: take every random draw from rng.")

    def _called(
        self, image: np.ndarray, texture: np.ndarray, foreground: np.ndarray, rng: Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Call the function and check what it returns: the picture, and its mask as float32."""
        try:
            found = self.function(image.copy(), texture, foreground, rng)  # it may paint on what it gets
        except Exception as error:  # whatever goes wrong in a function of others
            raise self._wrong(_told(error)) from error
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise self._wrong(f"it must return (picture, mask), not {type(found).__name__}.")
        try:
            aug, mask = np.ascontiguousarray(found[0], dtype=np.float32), np.asarray(found[1], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise self._wrong(f"it must return arrays: {error}.") from error
        for what, array, shape in (("picture", aug, image.shape), ("mask", mask, image.shape[1:])):
            if array.shape != shape:
                raise self._wrong(f"its {what} must have the shape {shape}, not {array.shape}.")
        if not ((aug >= BLACK - SLACK) & (aug <= WHITE + SLACK)).all():
            limits = f"black ({BLACK.min():.2f}) to white ({WHITE.max():.2f}), channel by channel"
            seen = f"{aug.min():.2f} to {aug.max():.2f}"
            raise self._wrong(f"its picture has values {seen}, beyond {limits}: clip it to BLACK and WHITE.")
        if not ((mask == 0) | (mask == 1)).all():
            raise self._wrong(f"its mask must hold 0 and 1 alone, not values {mask.min():.3g} to {mask.max():.3g}.")
        return aug, mask

    def _wrong(self, what: str) -> ValueError:
        return ValueError(f"--synthesis {self.name}: {what}")


def _told(error: Exception) -> str:
    """Say in one line what went wrong, and in which line of which file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and "site-packages" not in frame.filename]
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message} ({Path(own[-1].filename).name}, line {own[-1].lineno})"
