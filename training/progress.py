"""What a person sees while a class trains: one bar (or plain lines), and its curves."""

import logging
import math
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import utils
from artifacts import class_status
from artifacts.class_status import Standing
from artifacts.curves import EPOCH, ITERATION, NOISE_LOSS, CurveWriter
from artifacts.options import QUICK, RECIPES
from artifacts.tensorboard import open_writer
from artifacts.test_scores import EVALUATIONS, RAW
from artifacts.tracking.trackers import Open
from system.progress_bar import hidden

LOGGER = logging.getLogger(__name__)

CURVES = ("p_true", "p_fake", "r_t", "r_g", "r_f", NOISE_LOSS, "loss")
CHANCE = 2 * math.log(2)  # loss of normal against noise where the discriminator calls both 0.5
SEEN = 0.95 * CHANCE  # below it, the noise is seen
LINE_SECONDS = 10  # between two plain lines at epochs' ends, where no terminal shows the bar
STEP_SECONDS = 60  # the same within an epoch
RECORD_SECONDS = 5  # between two records for status.py
WARM, TIMED = 2, 3  # iterations of a session that are left out of the forecast, and those that it is made of
QUICK_SHARE = 0.5  # of a run's iterations, below which the quick recipe's are worth a word


@torch.no_grad()
def shares_right(
    true_scores: torch.Tensor, gaus_scores: torch.Tensor, fake_scores: torch.Tensor, defect: torch.Tensor, margin: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shares of normal rows below the margin and of synthetic ones at or above it, [] each.

    Args:
        true_scores, gaus_scores, fake_scores: of the images', the globally and the locally synthesised rows, [N, 1];
            of the latter two there may be none.
        defect: which locally synthesised rows are anomalous, bool [N, 1].
        margin: in [0, 1].
    """
    defects = defect.sum()
    right = (true_scores < margin).sum() + ((fake_scores < margin) & ~defect).sum()
    caught = (gaus_scores >= margin).sum() + ((fake_scores >= margin) & defect).sum()
    return right / (len(true_scores) + len(defect) - defects), caught / (len(gaus_scores) + defects)


class Progress:
    """Show and log the training of one class.

    Args:
        name: the class, as shown.
        iterations: iterations in all.
        steps: iterations of an epoch; the last may have fewer.
        start: the iteration over the whole run that comes first, counted from 0; above 0 in a continued run.
        epoch: the epoch that comes first, or is under way, counted from 0.
        folder: of the class.
        tracker: opens what takes the curves, beside curves.jsonl: TensorBoard's files in the folder by default.
    """

    def __init__(
        self, name: str, iterations: int, steps: int, start: int, epoch: int, folder: Path, tracker: Open = open_writer
    ) -> None:  # fmt: skip
        self.name, self.epochs = name, math.ceil(iterations / steps)
        self.steps, self.iteration = steps, start
        self.steps_left, self.steps_done = iterations - start, 0
        self.sees_noise = False
        self.warm = math.nan  # when the iterations began that are timed
        self.shown: dict[str, str] = {}
        self.waiting: list[tuple[torch.Tensor, list[str]]] = []  # iterations whose values are still on the device
        self.curves: list[np.ndarray] = []  # of the epoch
        self.started = self.last_line = time.monotonic()
        self.folder, self.last_record = folder, -math.inf
        self.bar = tqdm(total=iterations, initial=start, desc=name, unit="it", disable=hidden())
        self.written = CurveWriter(folder, start, epoch)
        self.writer = tracker(folder, start)

    def step(self, curves: torch.Tensor, pictures: list[str]) -> None:
        """Move on by one iteration, with its values of CURVES, [7] on any device, and the pictures of its batch."""
        self.waiting.append((curves, pictures))
        self.bar.update()
        self.steps_done += 1
        if self.steps_done in (WARM, WARM + TIMED):
            curves.cpu()  # waits for the device
        now = self._line(STEP_SECONDS)
        if self.steps_done == WARM:
            self.warm = now
        if self.steps_done == WARM + TIMED:
            self._forecast((now - self.warm) / TIMED, curves.device)

    def _forecast(self, pace: float, device: torch.device) -> None:
        """Say how long the iterations that are left take, by the seconds of the first ones."""
        left, quick = self.steps_left - self.steps_done, RECIPES[QUICK]["iterations"]
        if left <= 0:
            return
        shorter = ""
        if quick <= QUICK_SHARE * (self.iteration + len(self.waiting) + left):
            shorter = f"; --recipe quick has {quick} iterations, {rough_time(quick * pace)}"
        where = "this CPU" if device.type == "cpu" else utils.device_name(device)
        LOGGER.info("%s: training takes %s on %s: %d iterations of %.2g s, evaluations not counted%s.", self.name,
                    rough_time(left * pace), where, left, pace, shorter)  # fmt: skip

    def take(self) -> None:
        """Bring the values of the latest iterations to the host, all at once, and write them down.

        Raises:
            FloatingPointError: a loss is not finite; the iteration and its pictures are named.
        """
        if not self.waiting:
            return
        rows = torch.stack([curves for curves, _ in self.waiting]).cpu().numpy()
        for row, (_, pictures) in zip(rows, self.waiting, strict=True):
            if not np.isfinite(row[CURVES.index("loss")]):
                raise FloatingPointError(self._not_finite(pictures))
            values = dict(zip(CURVES, row, strict=True))
            self.writer.add(ITERATION, self.iteration, values)
            self.written.add(ITERATION, self.iteration, values)
            self.iteration += 1
            self.curves.append(row)
        self.waiting.clear()
        self.written.flush()
        self.writer.flush()

    def _not_finite(self, pictures: list[str]) -> str:
        epoch, position = divmod(self.iteration, self.steps)
        where = f"iteration {self.iteration} (epoch {epoch}, batch {position}) with {', '.join(pictures)}"
        return f"{self.name}: loss not finite in {where}: lower --lr, or look at these pictures."

    def epoch(self, epoch: int) -> None:
        """End an epoch whose values have all been taken: show their means."""
        self.shown["epoch"] = f"{epoch}/{self.epochs - 1}"
        if self.curves:
            means = np.mean(self.curves, axis=0)
            self.shown |= {tag: f"{value:.3f}" for tag, value in zip(CURVES, means, strict=True)}
            self._say_noise_is_seen(epoch, means[CURVES.index(NOISE_LOSS)])
        self.curves = []

    def _say_noise_is_seen(self, epoch: int, loss: float) -> None:
        """Log, once a session, that the loss of normal against noise, the mean of an epoch, has left chance."""
        if not self.sees_noise and loss < SEEN:
            self.sees_noise = True
            line = "%s: the discriminator tells noise from normal since epoch %d: their loss is %.2f, chance is %.2f."
            LOGGER.info(line, self.name, epoch, loss, CHANCE)

    def evaluation(
        self, epoch: int, record: dict[str, float], best: dict[str, float], raw: dict[str, float] | None = None
    ) -> None:
        """Take the AUROCs of an evaluated epoch, fractions.

        Args:
            epoch: counted from 0.
            record: of the weights that may be kept.
            best: the best so far; empty while nothing is best.
            raw: of the weights as they are, where those of the record are averaged.
        """
        values = {tag: record[key] for tag, key in EVALUATIONS.items()}
        values |= {tag: raw[key] for tag, key in RAW.items()} if raw else {}
        self.writer.add(EPOCH, epoch, values)
        self.written.add(EPOCH, epoch, values)
        self.written.flush()
        self.writer.flush()  # before a state is saved that stands behind it
        self.shown["last"] = _pair(record)
        if best:
            self.shown["best"] = f"{_pair(best)} @{int(best['epoch'])}"

    def show(self, epoch: int) -> None:
        """Refresh the bar; without a terminal, log a line now and then, and one at the end."""
        self.bar.set_postfix(self.shown)
        self._line(LINE_SECONDS if epoch + 1 < self.epochs else 0)

    def _line(self, seconds: float) -> float:
        """Log where training stands, unless a bar shows it or the last line is younger than this; keep the record.

        Returns:
            the time on the clock.
        """
        now = time.monotonic()
        pace = (now - self.started) / max(self.steps_done, 1)
        left = timedelta(seconds=round(pace * (self.steps_left - self.steps_done)))
        if now - self.last_record >= RECORD_SECONDS:
            self._record(now, left)
        if not self.bar.disable or now - self.last_line < seconds:
            return now
        self.last_line = now
        shown = " ".join(f"{key} {value}" for key, value in self.shown.items())
        LOGGER.info("%s: %s, %.2f s/it, %s left", self.name, shown or f"{self.steps_done} iterations", pace, left)
        return now

    def _record(self, now: float, left: timedelta | None) -> None:
        """Keep what status.py shows of a class in training."""
        self.last_record = now
        epoch = min((self.iteration + len(self.waiting)) // self.steps, self.epochs - 1)
        seconds = None if left is None else left.total_seconds()
        class_status.write_standing(self.folder, Standing(epoch, self.epochs, seconds, self.shown.get("best", "")))

    def close(self) -> None:
        """End the bar, write what the tracker still holds back, and keep where a class stands that was stopped."""
        self.bar.close()
        with suppress(OSError):  # which may be why training ends
            self._record(self.last_record, None)
        self.writer.close(failed=sys.exc_info()[0] is not None)


def rough_time(seconds: float) -> str:
    """Say how long something takes, to two digits: "about 40 s", "about 35 minutes", "about 5.2 hours"."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"about {float(f'{seconds / length:.2g}'):g} {unit}"
    return f"about {float(f'{seconds:.2g}'):g} s"


def _pair(record: dict[str, float]) -> str:
    """Return "image/pixel" AUROC in percent, "-" where there is none."""
    values = (record["image_auroc"], record["pixel_auroc"])
    return "/".join(f"{100 * value:.1f}" if np.isfinite(value) else "-" for value in values)
