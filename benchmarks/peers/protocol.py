"""What every program is measured by: the same pictures, metrics, clocks and memory; one JSON file a run.

Pictures are read, resized, cropped and normalised by this repository's reader, masks are read by it, and figures are
computed by its metrics, from the raw scores and anomaly maps of the program under test. Pictures lie in memory before
a clock starts: training time is from pictures to a model that predicts, without the evaluations on the way.
"""

import ctypes
import functools
import gc
import hashlib
import json
import math
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch

from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from datasets.sampler import Draw
from metrics import ImageMetrics, PixelMetrics
from system.files import atomic_write

EVALUATION_BATCH = 8
PREDICTION_BATCHES = (1, 8)
PREDICTION_SECONDS, PREDICTION_ROUNDS = 10.0, 5  # at least, for each batch size
CLEAR_REFS, PEAK = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"  # of clear_refs: the peak starts again at what is held now
PACKAGES = ("torch", "torchvision", "timm", "numpy")

OPTIONS = (
    click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of classes, MVTec layout."),
    click.option("--class", "classname", required=True, help="Class."),
    click.option("--size", type=click.IntRange(32), default=192, help="Side of the images in pixels."),
    click.option("--resize", type=click.IntRange(32), default=None, help="Shorter side before the crop. [--size]"),
    click.option("--weights", type=click.Path(path_type=Path), required=True, help="State dict of a ResNet-18."),
    click.option("--textures", type=click.Path(path_type=Path), default=None, help="GLASS: folder of textures."),
    click.option("--width", type=click.IntRange(1), default=1536, help="GLASS: width of a feature row."),
    click.option("--hidden", type=click.IntRange(1), default=1024, help="GLASS: width of the hidden layer."),
    click.option("--lr", type=click.FloatRange(0, min_open=True), default=0.0001, help="GLASS: learning rate."),
    click.option("--svd", type=click.IntRange(0, 1), default=0, help="GLASS: hypothesis, 1 for the hypersphere."),
    click.option("--epochs", type=click.IntRange(1), default=10, help="GLASS: epochs to train."),
    click.option("--every", type=click.IntRange(1), default=1, help="GLASS: evaluate after so many epochs."),
    click.option("--batch_size", type=click.IntRange(1), default=8, help="Training images in a batch."),
    click.option("--seed", type=click.IntRange(0), default=0, help="Seed."),
    click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file to write."),
)

Predict = Callable[[torch.Tensor], tuple[np.ndarray, np.ndarray]]  # [B, 3, H, W] -> scores [B], maps [B, H, W]


@dataclass(frozen=True)
class Command:
    """What is asked for; see OPTIONS. The backbone is a ResNet-18 in every program."""

    data: Path
    classname: str
    size: int
    resize: int | None
    weights: Path
    textures: Path | None
    width: int
    hidden: int
    lr: float
    svd: int
    epochs: int
    every: int
    batch_size: int
    seed: int
    out: Path

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return what figures depend on, but for the seed, as plain values without paths."""
        weights = hashlib.sha256(self.weights.read_bytes()).hexdigest()[:16]
        resize = self.resize or self.size
        return {"class": self.classname, "size": self.size, "resize": resize, "weights": weights} | more

    def glass_settings(self, textures: int) -> dict[str, Any]:
        """Return the same of a GLASS that draws from so many textures."""
        names = ("batch_size", "epochs", "hidden", "lr", "svd", "width")
        return self.settings(textures=textures, **{name: getattr(self, name) for name in names})


def options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all programs share; it gets them as a Command, and its own by name."""

    @functools.wraps(function)
    def command(**values: Any) -> None:
        shared = {item.name: values.pop(item.name) for item in fields(Command)}
        function(Command(**shared), **values)

    for option in reversed(OPTIONS):
        command = option(command)
    return command


@contextmanager
def wrong_input() -> Iterator[None]:
    """Tell of wrong input in a line; exit status 2."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error


@dataclass
class Pictures:
    """The images of a class, in memory.

    Attributes:
        train: [N, 3, H, W], normalised.
        test: [M, 3, H, W], likewise.
        masks: of the test images, [M, H, W] in [0, 1].
        labels: of the test images, [M], 0 or 1.
    """

    train: torch.Tensor
    test: torch.Tensor
    masks: np.ndarray
    labels: np.ndarray


def read(command: Command) -> Pictures:
    """Read the images of a class, resized and cropped as this repository's programs do.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or there is no such class.
    """
    sets = []
    shape = {"resize": command.resize or command.size, "imagesize": command.size}
    for split in (DatasetSplit.TRAIN, DatasetSplit.TEST):
        found = MVTecDataset(command.data, classname=command.classname, split=split, **shape)
        sets.append([found[Draw(index, 0, synthesise=False)] for index in range(len(found))])
    train, test = sets
    masks = torch.cat([sample["mask_gt"] for sample in test]).numpy()
    images = [torch.stack([sample["image"] for sample in samples]) for samples in (train, test)]
    return Pictures(*images, masks, np.array([sample["is_anomaly"] for sample in test]))


class Clock:
    """Wall seconds and CPU seconds of all threads, while it runs."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the seconds of the block."""
        self._add(-1)
        try:
            yield
        finally:
            self._add(1)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the seconds of a block within `running`."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, sign: int) -> None:
        self.wall_s += sign * time.perf_counter()
        self.cpu_s += sign * time.process_time()


@dataclass
class Run:
    """What is measured of a program on the images of a class; `evaluate` and `finish` fill it.

    Attributes:
        program: what is tested, as tables name it.
        settings: of this run; runs that differ in the seed alone are averaged.
        seed: of this run.
        pictures: of the class.
        evaluations: figures (fractions) after an epoch, and the training time until then.
        speed: of predictions, by batch size, and the peak of memory on the way.
    """

    program: str
    settings: dict[str, Any]
    seed: int
    pictures: Pictures
    clock: Clock = field(default_factory=Clock)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    speed: dict[str, Any] = field(default_factory=dict)
    peak_train_gb: float = math.nan
    start_gb: float = field(default_factory=lambda: peak_gb(anew=True))

    def evaluate(self, epoch: int, predict: Predict) -> None:
        """Test the model as it is after an epoch."""
        if math.isnan(self.peak_train_gb):
            self.peak_train_gb = peak_gb()  # before the evaluation, which is not training
        image, pixel, pictures = ImageMetrics(), PixelMetrics(), self.pictures
        for start in range(0, len(pictures.test), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            scores, maps = predict(pictures.test[part])
            image.update(scores, pictures.labels[part])
            pixel.update(maps, pictures.masks[part])
        figures = {f"image_{key}": value for key, value in image.compute().items()}
        figures |= {f"pixel_{key}": value for key, value in pixel.compute().items()}
        times = {"train_s": self.clock.wall_s, "train_cpu_s": self.clock.cpu_s}
        self.evaluations.append({"epoch": epoch, **times, **figures})

    def finish(self, predict: Predict, packages: tuple[str, ...], out: Path) -> None:
        """Measure predictions, and write everything to a file."""
        give_back_memory()
        peak_gb(anew=True)
        self.speed = {str(count): speed(predict, self.pictures.test, count) for count in PREDICTION_BATCHES}
        versions = {name: metadata.version(name) for name in (*packages, *PACKAGES)}
        content = {
            "program": self.program,
            "settings": self.settings,
            "seed": self.seed,
            "date": datetime.now(UTC).date().isoformat(),
            "images": {"train": len(self.pictures.train), "test": len(self.pictures.test)},
            "evaluations": self.evaluations,
            "speed": self.speed,
            "memory_gb": {"start": self.start_gb, "train": self.peak_train_gb, "predict": peak_gb()},
            "machine": {
                "processor": processor(),
                "threads": torch.get_num_threads(),
                "python": platform.python_version(),
            },
            "versions": versions,
        }
        atomic_write(out, (json.dumps(content, indent=1) + "\n").encode())


def speed(predict: Predict, images: torch.Tensor, count: int) -> dict[str, float]:
    """Measure predictions of batches of `count` images, in turn: images a second, and CPU seconds an image."""
    order = torch.arange(count * math.ceil(len(images) / count)) % len(images)
    batches = images[order].split(count)
    predict(batches[0])
    walls, cpus, end = [], [], time.perf_counter() + PREDICTION_SECONDS
    while len(walls) < PREDICTION_ROUNDS or time.perf_counter() < end:
        clock = Clock()
        with clock.running():
            predict(batches[len(walls) % len(batches)])
        walls.append(clock.wall_s)
        cpus.append(clock.cpu_s)
    return {"images_per_s": count / median(walls), "cpu_s_per_image": median(cpus) / count}


def peak_gb(anew: bool = False) -> float:
    """Return the peak of this process's memory in GB since the start, or since the last call with `anew`."""
    if not CLEAR_REFS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    if anew:
        CLEAR_REFS.write_text(RESET_PEAK)
    line = next(line for line in PEAK.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def give_back_memory() -> None:
    """Let the C library give free memory back to the system, so that predictions are not charged for training's."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def processor() -> str:
    """Name the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
