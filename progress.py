"""What a person sees while a class trains: one bar (or plain lines), and TensorBoard's curves."""

import logging
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

LOGGER = logging.getLogger(__name__)

CURVES = ("p_true", "p_fake", "r_t", "r_g", "r_f", "loss")
LINE_SECONDS = 10  # between two plain lines at epochs' ends, where no terminal shows the bar
STEP_SECONDS = 60  # the same within an epoch


class Progress:
    """Show and log the training of one class.

    Args:
        name: the class, as shown.
        epochs: epochs in all.
        steps: iterations of an epoch.
        start: (epoch, iteration) that comes first, counted from 0; not (0, 0) in a continued run.
        folder: where TensorBoard's files go.
    """

    def __init__(self, name: str, epochs: int, steps: int, start: tuple[int, int], folder: Path) -> None:
        self.name, self.epochs = name, epochs
        first_epoch, self.iteration = start
        self.steps_left, self.steps_done = (epochs - first_epoch) * steps, 0
        self.shown: dict[str, str] = {}
        self.started = self.last_line = time.monotonic()
        done, hidden = first_epoch * steps, not sys.stderr.isatty()
        self.bar = tqdm(total=epochs * steps, initial=done, desc=name, unit="it", disable=hidden)
        self.writer = SummaryWriter(str(folder), purge_step=self.iteration or None)

    def step(self) -> None:
        """Move on by one iteration."""
        self.bar.update()
        self.steps_done += 1
        self._line(STEP_SECONDS)

    def epoch(self, epoch: int, curves: np.ndarray) -> None:
        """Take the curves of a finished epoch, [iterations, len(CURVES)]: log each iteration, show their means."""
        for row in curves:
            for tag, value in zip(CURVES, row, strict=True):
                if np.isfinite(value):
                    self.writer.add_scalar(tag, value, self.iteration)
            self.iteration += 1
        self.shown["epoch"] = f"{epoch + 1}/{self.epochs}"
        self.shown |= {tag: f"{value:.3f}" for tag, value in zip(CURVES, curves.mean(0), strict=True)}

    def evaluation(self, epoch: int, record: dict[str, float], best: dict[str, float]) -> None:
        """Take the AUROCs of an evaluated epoch and the best so far, fractions; empty while nothing is best."""
        for tag, key in (("i-auroc", "image_auroc"), ("p-auroc", "pixel_auroc")):
            if np.isfinite(record[key]):
                self.writer.add_scalar(tag, record[key], epoch)
        self.shown["last"] = _pair(record)
        if best:
            self.shown["best"] = f"{_pair(best)} @{int(best['epoch'])}"

    def show(self, epoch: int) -> None:
        """Refresh the bar; without a terminal, log a line now and then, and one at the end."""
        self.bar.set_postfix(self.shown)
        self._line(LINE_SECONDS if epoch + 1 < self.epochs else 0)

    def _line(self, seconds: float) -> None:
        """Log where training stands, unless a bar shows it or the last line is younger than this."""
        now = time.monotonic()
        if not self.bar.disable or now - self.last_line < seconds:
            return
        self.last_line = now
        pace = (now - self.started) / self.steps_done
        left = timedelta(seconds=round(pace * (self.steps_left - self.steps_done)))
        shown = " ".join(f"{key} {value}" for key, value in self.shown.items())
        LOGGER.info("%s: %s, %.2f s/it, %s left", self.name, shown or f"{self.steps_done} iterations", pace, left)

    def close(self) -> None:
        """End the bar and write what TensorBoard still holds back."""
        self.bar.close()
        self.writer.close()


def _pair(record: dict[str, float]) -> str:
    """Return "image/pixel" AUROC in percent, "-" where there is none."""
    values = (record["image_auroc"], record["pixel_auroc"])
    return "/".join(f"{100 * value:.1f}" if np.isfinite(value) else "-" for value in values)
