"""Pictures through a predictor to files: what predict.py writes of each, and in which order."""

import filecmp
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
from PIL import Image

from artifacts.model_card import DECIMALS, NG, OK, UNKNOWN, rounded
from artifacts.monitoring.drift import Recent
from images.reading import SeveralPages, UnreadableImage, open_pages, open_rgb, writable
from inference import overlay
from inference.arrivals import PATIENCE, Watch
from inference.predictor import Prediction, Predictor, batches, one_ahead
from inference.score_file import FILE, PAGE, Row, ScoreFile, written_name
from system.files import atomic_write, link
from system.progress_bar import progress_bar

LOGGER = logging.getLogger(__name__)

OVERLAYS, MAPS = "overlays", "maps"  # folders under --out, beside those of the verdicts
LINK, COPY = "link", "copy"
UNREADABLE = "unreadable"
FAULTS = (AssertionError, AttributeError, LookupError, NameError, TypeError)  # nothing but a mistake in code
POLL_SECONDS = 0.5  # between two looks into a watched folder

Opened = Image.Image | UnreadableImage


class Output:
    """What is written of every picture: a line of scores.csv, an overlay, a map.

    Args:
        folder: for all of it.
        root: the folder whose pictures' paths below it become names.
        predictor: that knows the threshold.
        shown: which overlays are wanted, "all", "ng" or "none".
        save_maps: "npy", "tiff" or None.
        sorting: LINK or COPY pictures into folders named by their verdicts, or None.

    Raises:
        ValueError: pictures are to be sorted, and there is no threshold.
    """

    def __init__(
        self, folder: Path, root: Path, predictor: Predictor, shown: str, save_maps: str | None,
        sorting: str | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.root, self.predictor, self.shown, self.save_maps = folder, root, predictor, shown, save_maps
        self.sorting = sorting
        if sorting is not None and predictor.limits is None:
            raise ValueError("--sort needs verdicts, and the model has no threshold: give --threshold.")

    @property
    def own(self) -> frozenset[Path]:
        """Files and folders that are written."""
        names = [self.folder / name for name in (OVERLAYS, MAPS, OK, NG, FILE)]
        return frozenset(names if self.folder == self.root else [self.folder, *names])

    def name(self, path: Path, page: int | None = None) -> str:
        """Return the name of a picture, or of a page of it, in scores.csv and of its files."""
        return written_name(path, self.root, page)

    def write(self, name: str, image: Image.Image, prediction: Prediction) -> Row:
        """Write a picture's files; return its line.

        Raises:
            OSError: they cannot be written.
        """
        if self.shown == "all" or (self.shown == "ng" and prediction.verdict == NG):
            drawn, file = overlay.draw(np.asarray(image), prediction, self.predictor), overlay.file_name(name)
            atomic_write(self.folder / OVERLAYS / file, overlay.encode(drawn, file))
        if self.save_maps:
            content = overlay.encode_map(prediction.map, self.save_maps)
            atomic_write(self.folder / MAPS / f"{name}.{self.save_maps}", content)
        return self.row(name, prediction)

    def sort(self, path: Path, rows: list[Row]) -> None:
        """Put a picture into the folder of its verdict, NG if one of its pages is; leave it out if one has none.

        Raises:
            OSError: it cannot be done.
        """
        verdicts = {row.verdict for row in rows}
        verdict = NG if NG in verdicts else OK if verdicts == {OK} else None
        if self.sorting is None or verdict is None:
            return
        below = path.relative_to(self.root)
        other = self.folder / (OK if verdict == NG else NG) / below
        if other.exists() and filecmp.cmp(other, path, shallow=False):  # put there by an earlier verdict
            other.unlink()
        if self.sorting == LINK:
            link(self.folder / verdict / below, path)
        else:
            atomic_write(self.folder / verdict / below, path.read_bytes())

    def row(self, name: str, prediction: Prediction) -> Row:
        """Return a picture's line."""
        limits = self.predictor.limits
        judged = name, float(rounded(prediction.score)), prediction.verdict
        if limits is None:
            return Row(*judged, drift=prediction.drift)
        area, box = self.predictor.marked(prediction.map)
        return Row(*judged, limits.score, area, *(box or (None,) * 4), calibrated=prediction.calibrated,
                   drift=prediction.drift)  # fmt: skip


class Run:
    """Pictures through a predictor to an output, with counts of what came out.

    Attributes:
        left: pictures, and folders that hold some, which are not judged and have no line.
    """

    def __init__(
        self, predictor: Predictor, output: Output, pool: ThreadPoolExecutor, left: Sequence[Path] = ()
    ) -> None:
        self.predictor, self.output, self.pool, self.left = predictor, output, pool, list(left)
        self.counts: Counter[str] = Counter()
        self.traced: set[type] = set()
        self.unlike = 0  # pictures far darker or brighter than those of the training
        self.recent, self.drifted = Recent(), 0  # pictures that look unlike those of the training
        self.open = partial(_open, bits=predictor.bits)
        self.started = time.monotonic()
        self.patient, self.said = False, ""

    def score(self, paths: list[Path], scores: ScoreFile) -> None:
        """Score pictures in order, a line each or one a page.

        Meanwhile the next ones are read, and the files of the last ones written.
        """
        with progress_bar(len(paths), "Score", "image") as step:
            opened = one_ahead(
                (some, self.pool.map(self.open, some)) for some in batches(paths, self.predictor.batch_size)
            )
            for some, found in one_ahead((some, self.rows(some, list(images))) for some, images in opened):
                for path, rows in zip(some, found, strict=True):
                    self.output.sort(path, rows)
                    self.add(rows, scores)
                    step()

    def watch(self, folder: Path, recursive: bool, scores: ScoreFile, stop: Event) -> None:
        """Score pictures as they arrive, until told to stop, whatever else happens."""
        done = {PAGE.sub("", name) for name in scores.done}
        arrivals = Watch(folder, done, recursive, self.output.own, PATIENCE)
        self.patient = True
        LOGGER.info("Watching %s. Ctrl-C ends it. Pictures scored already: %d.", writable(folder), len(done))
        try:
            while not stop.wait(POLL_SECONDS):
                for chunk in batches(arrivals.ready(), self.predictor.batch_size):
                    self._score_arrived(chunk, arrivals, scores)
                    if stop.is_set():
                        return
        finally:
            self.left = arrivals.left()
            arrivals.stop()

    def _score_arrived(self, paths: list[Path], arrivals: Watch, scores: ScoreFile) -> None:
        """Score pictures that have arrived; leave those that cannot be read to the next look, if more may come."""
        for path, rows in zip(paths, self.rows(paths, list(self.pool.map(self.open, paths))), strict=True):
            if any(row.score is None for row in rows) and not arrivals.gives_up(path):
                continue
            try:
                self.output.sort(path, rows)
                self.add(rows, scores)
            except OSError as error:  # the disk is full, or away: the picture stays for the next look
                reason = error.strerror or error
                self._warn_once(f"{self.output.folder} cannot be written ({reason}): waiting until it can.")
                continue
            self.said = ""
            arrivals.finish(path)
            for row in rows:
                if row.score is not None:
                    LOGGER.info("%s  %.*f  %s", row.image, DECIMALS, row.score, row.verdict)

    def rows(self, paths: list[Path], opened: list[Opened]) -> Iterator[list[Row]]:
        """Score pictures, and begin to write their files; yield the lines of each when its files are written."""
        good = [(self.output.name(path), image) for path, image in zip(paths, opened, strict=True) if is_image(image)]
        single = self._judge(good)
        return (
            [next(single)] if is_image(image) else self._rows_of_pages(path, image)
            for path, image in zip(paths, opened, strict=True)
        )

    def _rows_of_pages(self, path: Path, error: UnreadableImage) -> list[Row]:
        """Score the pages of a file that is no single picture, batch by batch; or say what is wrong with it."""
        if not isinstance(error, SeveralPages):
            return [Row(self.output.name(path), error=str(error))]
        rows, waiting = [], []
        try:
            for page, image in enumerate(open_pages(path, self.predictor.bits), 1):
                waiting.append((self.output.name(path, page), image))
                if len(waiting) == self.predictor.batch_size:
                    rows += self._judge(waiting)
                    waiting = []
        except (UnreadableImage, FileNotFoundError) as trouble:  # it has changed meanwhile
            return [Row(self.output.name(path), error=str(trouble))]
        return [*rows, *self._judge(waiting)]

    def _judge(self, named: list[tuple[str, Opened]]) -> Iterator[Row]:
        """Score pictures, and begin to write their files; yield a line each when they are written."""
        good = [each for each in named if is_image(each[1])]
        for name, image in good:
            self._compare(name, image)
        predictions = iter(self._predict(good))
        found = [next(predictions) if is_image(image) else image for _, image in named]
        return self.pool.map(self._write, named, found)

    def _compare(self, name: str, image: Image.Image) -> None:
        """Count a picture whose brightness is unlike the training's; name the first."""
        if self.predictor.is_like_training(image):
            return
        if not self.unlike:
            advice = "its score means little: check the exposure, and how many bits its values have"
            LOGGER.warning("%s is far darker or brighter than the pictures of the training: %s.", name, advice)
        self.unlike += 1

    def _predict(self, named: list[tuple[str, Image.Image]]) -> list[Prediction | UnreadableImage]:
        """Score pictures, or say of one why it cannot be."""
        found: list[Prediction | UnreadableImage] = []
        for (name, _), each in zip(named, self.predictor.predict_each([image for _, image in named]), strict=True):
            if isinstance(each, FAULTS) and type(each) not in self.traced:
                self.traced.add(type(each))
                LOGGER.error("%s: a fault of this program; please report it with these lines:", name, exc_info=each)
            if isinstance(each, Exception):
                each = UnreadableImage(f"{name} cannot be scored: {' '.join(str(each).split()) or type(each).__name__}")
            found.append(each)
        return found

    def _write(self, named: tuple[str, Opened], found: Prediction | UnreadableImage) -> Row:
        """Write the files of a picture; return its line."""
        name, image = named
        if not isinstance(found, Prediction):
            return Row(name, error=str(found))
        try:
            return self.output.write(name, image, found)
        except OSError as error:
            if not self.patient:
                raise
            return replace(self.output.row(name, found), error=str(error))
        except MemoryError as error:
            return Row(name, error=f"{name} is too large for its files: {error or 'no memory left'}")

    def add(self, rows: list[Row], scores: ScoreFile) -> None:
        """Write the lines of a file and count them."""
        scores.add(*rows)
        for row in rows:
            if row.error is not None:
                LOGGER.warning("%s", row.error)
            self.counts[UNREADABLE if row.verdict is None else row.verdict] += 1
            self.drifted += row.drift is not None and row.drift > 1
            line = self.recent.add(row.drift)
            if line:
                LOGGER.warning("%s", line)

    def _warn_once(self, text: str) -> None:
        if text != self.said:
            LOGGER.warning("%s", text)
        self.said = text

    @property
    def speed(self) -> float:
        """Pictures a second so far, everything included but the start."""
        return self.counts.total() / max(time.monotonic() - self.started, 1e-9)

    def summary(self) -> str:
        """Say what came out."""
        names = {UNKNOWN: "without a verdict"}
        parts = ", ".join(f"{count} {names.get(kind, kind)}" for kind, count in sorted(self.counts.items()))
        total = self.counts.total()
        unlike = f"; {self.unlike} far darker or brighter than those of the training" if self.unlike else ""
        unlike += f"; {self.drifted} drift above 1" if self.drifted else ""
        more = f" and {len(self.left) - 1} more" if len(self.left) > 1 else ""
        left = f"; not judged: {writable(self.left[0])}{more}" if self.left else ""
        return (f"{total} picture{'s' * (total > 1)}: {parts}{unlike}" if parts else "No pictures") + left

    @property
    def all_judged(self) -> bool:
        """Whether every picture has a verdict, or without a threshold a score."""
        return not self.left and not self.counts[UNREADABLE]


def is_own(path: Path, out: Path) -> bool:
    """Say whether an absolute path is of what an earlier run has written into a folder."""
    return path == out / FILE or any(path.is_relative_to(out / name) for name in (OVERLAYS, MAPS, OK, NG))


def is_image(opened: Opened) -> bool:
    return isinstance(opened, Image.Image)


def _open(path: Path, bits: int | None) -> Opened:
    """Open a picture, or say why it cannot be."""
    try:
        return open_rgb(path, bits)
    except UnreadableImage as error:
        return error
    except FileNotFoundError as error:
        return UnreadableImage(str(error))
