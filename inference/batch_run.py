"""Pictures through a predictor to files: what predict.py writes of each, and in which order."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
from PIL import Image

from images.reading import list_images, open_rgb
from inference import overlay
from inference.arrivals import PATIENCE, Watch
from inference.predictor import NG, UNKNOWN, Prediction, Predictor
from inference.score_file import Row, ScoreFile
from system.files import atomic_write
from system.progress_bar import progress_bar

LOGGER = logging.getLogger(__name__)

OVERLAYS, MAPS = "overlays", "maps"  # folders under --out
UNREADABLE = "unreadable"
POLL_SECONDS = 0.5  # between two looks into a watched folder


class Output:
    """What is written of every picture: a line of scores.csv, an overlay, a map.

    Args:
        folder: for all of it.
        root: the folder whose pictures' paths below it become names.
        predictor: that knows the threshold.
        shown: which overlays are wanted, "all", "ng" or "none".
        save_maps: "npy", "tiff" or None.
    """

    def __init__(self, folder: Path, root: Path, predictor: Predictor, shown: str, save_maps: str | None) -> None:
        self.folder, self.root, self.predictor, self.shown, self.save_maps = folder, root, predictor, shown, save_maps

    def name(self, path: Path) -> str:
        """Return the name of a picture in scores.csv, which is also its overlay's path below the overlays' folder."""
        return path.relative_to(self.root).as_posix()

    def write(self, path: Path, image: Image.Image, prediction: Prediction) -> Row:
        """Write a picture's files; return its line."""
        name, limits = self.name(path), self.predictor.limits
        area, box = self.predictor.marked(prediction.map)
        if self.shown == "all" or (self.shown == "ng" and prediction.verdict == NG):
            limit = "no threshold" if limits is None else f"threshold {limits.score:.4f}"
            caption = f"{prediction.verdict}   score {prediction.score:.4f}, {limit}"
            pixel = None if limits is None else limits.pixel
            drawn = overlay.draw(np.asarray(image), prediction.map, pixel, caption)
            atomic_write(self.folder / OVERLAYS / name, overlay.encode(drawn, name))
        if self.save_maps:
            content = overlay.encode_map(prediction.map, self.save_maps)
            atomic_write(self.folder / MAPS / f"{name}.{self.save_maps}", content)
        if limits is None:
            return Row(name, prediction.score, prediction.verdict)
        return Row(name, prediction.score, prediction.verdict, limits.score, area, *(box or (None,) * 4))


class Run:
    """Pictures through a predictor to an output, with counts of what came out."""

    def __init__(self, predictor: Predictor, output: Output, pool: ThreadPoolExecutor) -> None:
        self.predictor, self.output, self.pool = predictor, output, pool
        self.counts: Counter[str] = Counter()
        self.started = time.monotonic()

    def score(self, paths: list[Path], scores: ScoreFile) -> None:
        """Score pictures in order, a line each; the next ones are read meanwhile."""
        with progress_bar(len(paths), "Score", "image") as step:
            for chunk, opened in self._read_ahead(paths):
                for row in self.rows(chunk, opened):
                    self.add(row, scores)
                    step()

    def watch(self, folder: Path, recursive: bool, scores: ScoreFile, stop: Event) -> None:
        """Score pictures as they arrive, until told to stop."""
        done = {self.output.root / name for name in scores.done}
        arrivals = Watch(lambda: without_own(list_images(folder, recursive), self.output.folder), done, PATIENCE)
        LOGGER.info("Watching %s, %d pictures scored already. Ctrl-C ends it.", folder, len(done))
        while not stop.wait(POLL_SECONDS):
            for chunk in self._chunks(arrivals.ready()):
                self._score_arrived(chunk, arrivals, scores)
                if stop.is_set():
                    return

    def _score_arrived(self, paths: list[Path], arrivals: Watch, scores: ScoreFile) -> None:
        """Score pictures that have arrived; leave those that cannot be read to the next look, if more may come."""
        for path, row in zip(paths, self.rows(paths, self._read(paths)), strict=True):
            if row.error is not None and not arrivals.is_final(path):
                continue
            arrivals.finish(path)
            self.add(row, scores)
            if row.error is None:
                LOGGER.info("%s  %.4f  %s", row.image, row.score, row.verdict)

    def rows(self, paths: list[Path], opened: list[Image.Image | str]) -> list[Row]:
        """Score pictures and write their files; return their lines."""
        good = [(path, image) for path, image in zip(paths, opened, strict=True) if not isinstance(image, str)]
        predictions = self.predictor.predict([image for _, image in good]) if good else []
        written = self.pool.map(lambda pair, found: self.output.write(*pair, found), good, predictions)
        return [
            Row(self.output.name(path), error=image) if isinstance(image, str) else next(written)
            for path, image in zip(paths, opened, strict=True)
        ]

    def add(self, row: Row, scores: ScoreFile) -> None:
        """Write a line and count it."""
        scores.add(row)
        if row.error is not None:
            LOGGER.warning("%s", row.error)
        self.counts[UNREADABLE if row.error is not None else str(row.verdict)] += 1

    @property
    def speed(self) -> float:
        """Pictures a second so far, everything included but the start."""
        return self.counts.total() / max(time.monotonic() - self.started, 1e-9)

    def summary(self) -> str:
        """Say what came out."""
        names = {UNKNOWN: "without a verdict"}
        parts = ", ".join(f"{count} {names.get(kind, kind)}" for kind, count in sorted(self.counts.items()))
        return f"{self.counts.total()} pictures: {parts}" if parts else "No pictures"

    def _chunks(self, paths: list[Path]) -> Iterator[list[Path]]:
        for start in range(0, len(paths), self.predictor.batch_size):
            yield paths[start : start + self.predictor.batch_size]

    def _read(self, paths: list[Path]) -> list[Image.Image | str]:
        return list(self.pool.map(_open, paths))

    def _read_ahead(self, paths: list[Path]) -> Iterator[tuple[list[Path], list[Image.Image | str]]]:
        """Yield batches of paths with their pictures; the next batch is read while one is used."""
        waiting = None
        for chunk in self._chunks(paths):
            reading = chunk, self.pool.map(_open, chunk)
            if waiting is not None:
                yield waiting[0], list(waiting[1])
            waiting = reading
        if waiting is not None:
            yield waiting[0], list(waiting[1])


def without_own(paths: list[Path], out: Path) -> list[Path]:
    """Leave out what earlier runs have written."""
    own = (out / OVERLAYS, out / MAPS)
    return [path for path in paths if not any(path.absolute().is_relative_to(folder) for folder in own)]


def _open(path: Path) -> Image.Image | str:
    """Open a picture, or say why it cannot be."""
    try:
        return open_rgb(path)
    except (ValueError, FileNotFoundError) as error:
        return " ".join(str(error).split())
