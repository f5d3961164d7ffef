"""The loop around a training step: epochs, evaluations, the best weights, and going on where a run stopped."""

import logging
import math
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

import utils
from artifacts import checkpoint
from artifacts.options import CONSTANT
from artifacts.run_state import RunState, Saver
from artifacts.tensorboard import open_writer
from artifacts.tracking.trackers import Open
from metrics import ABSENT
from system.signals import Interrupts
from training import feature_cache
from training.batches import TrainingBatches, steps_of_an_epoch
from training.feature_cache import FeatureCache
from training.optimisation import Average, Start, rate_factor, set_rates
from training.progress import Progress
from training.selection import AUROCS, Selection

LOGGER = logging.getLogger(__name__)


class Method(Protocol):
    """What the loop needs of a method; glass.GLASS has it."""

    device: torch.device
    meta_epochs: int  # epochs to train
    iterations: int  # to train in place of these epochs; 0: those count
    eval_epochs: int  # an evaluation every this many epochs
    limit: int  # images of an epoch, see steps_of_an_epoch
    seed: int  # of the noise
    cache: str  # where features are kept, one of options.PLACES
    hypersphere: bool
    ckpt_dir: Path  # the class folder
    optimizers: dict[str, torch.optim.Optimizer]
    schedule: str  # of the learning rate, one of options.SCHEDULES
    warmup: int  # iterations in which the learning rate rises
    ema_decay: float  # of the running average of the weights; 0: none

    def begin(self, train_loader: Iterable[dict], name: str, cache: FeatureCache | None = None) -> Start:
        """Prepare the weights and optimisers of a new run."""

    def go_on(self, start: Start) -> None:
        """Take up the start that a run had."""

    def pooled(self, images: torch.Tensor, evaluation: bool = False) -> list[torch.Tensor]:
        """Return the features of images that a cache keeps."""

    def center(self, train_loader: Iterable[dict], epoch: int, cache: FeatureCache | None = None) -> torch.Tensor:
        """Return the center of an epoch."""

    def train_step(
        self, batch: dict, center: torch.Tensor, generator: torch.Generator, cache: FeatureCache | None = None
    ) -> torch.Tensor:
        """Train on one batch and return the values of progress.CURVES."""

    def set_training(self, training: bool) -> None:
        """Put the trained networks into training or evaluation mode."""

    def evaluate(self, loader: Iterable[dict], cache: FeatureCache | None = None) -> dict[str, float]:
        """Return the metrics of the current weights."""

    def trained(self) -> dict[str, nn.Module]:
        """Return the networks that are trained, under the release's keys."""


def train(
    method: Method,
    train_loader: Iterable[dict],
    test_loader: Iterable[dict],
    name: str,
    options: dict[str, str | int | float | bool],
    selection: Selection,
    state: RunState,
    tracker: Open = open_writer,
) -> None:
    """Train a class from its state on; where the device lacks memory for the features, keep them on the host.

    Args:
        method: the networks; its class folder takes the checkpoints.
        train_loader: images to learn from.
        test_loader: labelled images that epochs are compared on; it may be empty.
        name: "<dataset>_<class>".
        options: kept with the state, to tell runs apart.
        selection: which epoch is kept, and whether training stops early.
        state: what the class folder holds; it is brought up to date in place.
        tracker: opens what takes the curves.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: the state belongs to other networks, or to the other hypothesis.
    """
    given = (method, train_loader, test_loader, name, options, selection, state)
    places = [method.cache, "host"] if method.cache in ("auto", "device") else [method.cache]
    for place in places[:-1]:
        try:
            return Trainer(*given, place, tracker).run()
        except torch.OutOfMemoryError:
            LOGGER.warning("%s: out of device memory. It continues from the last saved state with --cache host.", name)
        torch.cuda.empty_cache()  # here, as the exception above held the frames, and they the tensors
        state.reload(method.ckpt_dir)
    return Trainer(*given, places[-1], tracker).run()


class Trainer:
    """Trains one class, features kept in one place; for the arguments see train."""

    def __init__(
        self,
        method: Method,
        train_loader: Iterable[dict],
        test_loader: Iterable[dict],
        name: str,
        options: dict[str, str | int | float | bool],
        selection: Selection,
        state: RunState,
        place: str,
        tracker: Open = open_writer,
    ) -> None:
        self.tracker = tracker
        self.method, self.train_loader, self.test_loader = method, train_loader, test_loader
        self.name, self.selection, self.state = name, selection, state
        place = "off" if "backbone" in method.optimizers else place
        self.cache = None
        if state.cached is not False:
            self.cache = feature_cache.filled(train_loader, f"{name}, training images", method, place)
        self.test_cache = feature_cache.opened(test_loader, f"{name}, test images", method.device, place)
        self.steps = steps_of_an_epoch(train_loader, method.limit)
        self.batches = TrainingBatches(train_loader, self.steps, kept=self.cache is not None)
        self.iterations = method.iterations or method.meta_epochs * self.steps
        if method.warmup >= self.iterations:
            LOGGER.warning("%s: the run's %d iterations end before --warmup %d: the learning rate never reaches --lr.",
                           name, self.iterations, method.warmup)  # fmt: skip
        if not state.weights:
            state.start = method.begin(train_loader, name, self.cache)._asdict()
        elif state.start:
            method.go_on(Start(**state.start))
        self.average = Average(method.trained(), method.ema_decay)
        averaged = self.average.weights if method.ema_decay else None
        self.saver = Saver(method.ckpt_dir, method.trained(), method.optimizers, options, averaged)
        self.saver.restore(state)

    def run(self) -> None:
        """Train until the last iteration, or until the selection stops; the networks then have the latest weights."""
        method, state = self.method, self.state
        self._begin()
        where = (self.iterations, self.steps, state.iteration, state.epoch)
        progress = Progress(self.name, *where, method.ckpt_dir, self.tracker)
        with closing(progress), Interrupts(hold=True) as interrupts:
            while state.epoch < math.ceil(self.iterations / self.steps):
                self._train_epoch(progress, interrupts)
                if (state.epoch + 1) % method.eval_epochs == 0:
                    self._evaluate(progress, interrupts)
                progress.show(state.epoch)
                state.next_epoch()
                if self.selection.stops(state.best, state.epoch - 1, method.eval_epochs):
                    best = state.best["epoch"]
                    LOGGER.info("%s: stopped after epoch %d, best is %d.", self.name, state.epoch - 1, best)
                    break
            if not state.best:  # the last epoch is wanted, or --eval_epochs is above --meta_epochs
                self._keep(dict.fromkeys(AUROCS, ABSENT), state.epoch - 1)
            state.finished = True
            self.saver.save(state)
            interrupts.leave()
        self.average.exchange()

    def _begin(self) -> None:
        """Note what a new run stands on, before anything that would look like a finished one; hold a continued to it.

        Raises:
            ValueError: a continued run stands on something else.
        """
        state, hypersphere, cached = self.state, self.method.hypersphere, self.cache is not None
        if not state.weights:
            state.hypersphere, state.cached = hypersphere, cached
            self.saver.save(state)
        elif state.hypersphere not in (hypersphere, None):
            raise ValueError(f"{self.name} began under the other hypothesis: give another --results_path, or --fresh.")
        elif state.cached not in (cached, None):
            LOGGER.warning("%s: it began with cached features, which no longer fit: last digits may differ.",
                           self.name)  # fmt: skip

    def _train_epoch(self, progress: Progress, interrupts: Interrupts) -> None:
        """Train the rest of an epoch: the center, then a step per batch up to the limit; save now and then."""
        method, state = self.method, self.state
        if state.center is None:
            state.center = method.center(self.train_loader, state.epoch, self.cache)
        state.center = state.center.to(method.device)
        method.set_training(True)
        stop = min(self.steps, self.iterations - state.epoch * self.steps)
        for batch in self.batches.of(state.epoch, state.position, stop):
            self._set_rates()
            seed = utils.derive_seed(method.seed, self.name, state.epoch, state.position, "noise")
            generator = torch.Generator(method.device).manual_seed(seed)
            curves = method.train_step(batch, state.center, generator, self.cache)
            self.average.update(state.iteration)
            progress.step(curves, batch.get("image_path", []))
            state.position, state.iteration = state.position + 1, state.iteration + 1
            if interrupts.signum or self.saver.due():
                progress.take()
                self.saver.save(state)
                interrupts.leave()
        progress.take()  # the only wait for the device in an epoch
        self.saver.check_finite(state)
        progress.epoch(state.epoch)

    def _set_rates(self) -> None:
        """Set the learning rates of the iteration that comes next."""
        method = self.method
        if method.schedule != CONSTANT or method.warmup:
            factor = rate_factor(self.state.iteration, self.iterations, method.schedule, method.warmup)
            set_rates(method.optimizers.values(), factor)

    def _evaluate(self, progress: Progress, interrupts: Interrupts) -> None:
        """Evaluate the epoch's weights, averaged ones if they are, and keep them if they are better than before."""
        state, sets, raw = self.state, (self.test_loader, self.test_cache), None
        with self.saver.saved_on_exit(state), interrupts.released():
            if self.method.ema_decay:
                raw = self.method.evaluate(*sets)
            with self.average.in_place():
                figures = self.method.evaluate(*sets)
        if self.selection.better(figures, state.best):
            self._keep(figures, state.epoch)
        progress.evaluation(state.epoch, figures, state.best, raw)

    def _keep(self, figures: dict[str, float], epoch: int) -> None:
        """Keep the weights as the best, in place of earlier ones."""
        self.state.best = {"epoch": epoch} | {key: figures[key] for key in AUROCS}
        checkpoint.save_best(self.method.ckpt_dir, epoch, self.average.weights)
