"""state.pth: everything that a class in training needs to go on where it stopped, to the last bit.

The file lies beside ckpt.pth, which keeps the release's keys. It is written after the weights, so that it alone says
what holds.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from artifacts import checkpoint
from artifacts.checkpoint import LATEST, load_fitting, load_tensors, save_tensors
from artifacts.layout import STATE_FILE as STATE

SAVE_SECONDS = 60  # between two saves
SAVE_SHARE = 0.02  # of the time that saving may take, at most
OPTIONAL = {"center": (torch.Tensor,), "hypersphere": (bool,), "cached": (bool,)}  # types of fields that may be None


@dataclass
class RunState:
    """Everything that a class in training needs to go on.

    Attributes:
        epoch: the epoch that comes next or is under way, counted from 0.
        position: training steps done in it; with all of them done, its evaluation comes next.
        iteration: training steps done over the whole run.
        finished: tells that the last epoch is done.
        best: {"epoch", "image_auroc", "pixel_auroc"} of the best evaluation; empty before the first.
        seconds: time spent in training so far.
        center: of the epoch under way, [h·w, C]; None before its first step.
        hypersphere: the hypothesis; None in states of earlier versions.
        cached: tells that the training images' features are kept, which decides the center's last bits; None as above.
        weights: latest weights, by network.
        averaged: their running average, by network; empty where none is kept.
        optimizers: optimiser states, by network.
        options: what the run was started with, as plain values.
        start: how it began, a training.optimisation.Start as plain values; empty in states of earlier versions.
    """

    epoch: int = 0
    position: int = 0
    iteration: int = 0
    finished: bool = False
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    center: torch.Tensor | None = None
    hypersphere: bool | None = None
    cached: bool | None = None
    weights: dict[str, Any] = field(default_factory=dict)
    averaged: dict[str, Any] = field(default_factory=dict)
    optimizers: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)

    @property
    def last_epoch(self) -> float:
        """The epoch of the latest weights, counted from 0; NaN while training is not finished."""
        return self.epoch - 1 if self.finished else float("nan")

    def next_epoch(self) -> None:
        """Move on to the first step of the next epoch."""
        self.epoch, self.position, self.center = self.epoch + 1, 0, None

    def reload(self, folder: Path) -> None:
        """Take up what a class folder holds, in place."""
        found = RunState.load(folder)
        for item in fields(self):
            setattr(self, item.name, getattr(found, item.name))

    def save(self, folder: Path) -> None:
        """Write the state of a class folder."""
        save_tensors(folder / STATE, {item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def load(cls, folder: Path) -> "RunState":
        """Read the state of a class folder; a new one where there is none.

        Raises:
            ValueError: damaged, or written by a later version.
        """
        path = folder / STATE
        if not path.is_file():
            return cls()
        content = load_tensors(path)
        new = cls()
        kinds = {item.name: type(getattr(new, item.name)) for item in fields(cls)}
        if not set(content) <= set(kinds):
            raise ValueError(f"{path} was written by a later version: use that one, or --fresh to train again.")
        wrong = [key for key, value in content.items() if not isinstance(value, (kinds[key], *OPTIONAL.get(key, ())))]
        if wrong:
            raise ValueError(f"{path} is damaged ({', '.join(wrong)}): restore it, or train again with --fresh.")
        return cls(**content)


class Saver:
    """Keeps the state of a class in training: the networks' weights, the optimisers' states, and a RunState.

    Args:
        folder: of the class.
        networks: those that are trained.
        optimizers: theirs, under the same names.
        options: what the run was started with, as plain values.
        averaged: running averages of the weights, which are what is tested, by network; none by default.
    """

    def __init__(
        self,
        folder: Path,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        options: dict[str, Any],
        averaged: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    ) -> None:
        self.folder, self.networks, self.optimizers, self.options = folder, networks, optimizers, options
        self.averaged = dict(averaged or {})
        self.saved, self.cost = time.monotonic(), 0.0

    def check_finite(self, state: RunState) -> None:
        """Make sure that the weights are numbers.

        Raises:
            FloatingPointError: they are not.
        """
        values = [value for network in self.networks.values() for value in network.parameters()]
        if not torch.stack([value.isfinite().all() for value in values]).all():
            before = f"iteration {state.iteration - 1}"
            raise FloatingPointError(f"{self.folder.name}: weights not finite after {before}: lower --lr.")

    def due(self) -> bool:
        """Say whether the last save is so long ago that it is time for the next."""
        return time.monotonic() - self.saved > max(SAVE_SECONDS, self.cost / SAVE_SHARE)

    def save(self, state: RunState) -> None:
        """Write the latest weights (averaged ones, where they are kept), then the state, which alone says what holds.

        Raises:
            FloatingPointError: weights are not finite; nothing is written.
        """
        started = time.monotonic()
        state.weights = {part: network.state_dict() for part, network in self.networks.items()}
        state.optimizers = {part: optimizer.state_dict() for part, optimizer in self.optimizers.items()}
        state.options, state.averaged = self.options, self.averaged
        self.check_finite(state)
        state.seconds += started - self.saved
        save_tensors(self.folder / LATEST, self.averaged or state.weights)
        state.save(self.folder)
        self.saved, self.cost = started, time.monotonic() - started

    @contextmanager
    def saved_on_exit(self, state: RunState) -> Iterator[None]:
        """Save when the program is ended within the block, which changes nothing that is saved."""
        try:
            yield
        except SystemExit:
            self.save(state)
            raise

    def restore(self, state: RunState) -> None:
        """Take up the weights and optimisers of a state, if it has any.

        Raises:
            ValueError: it belongs to other networks.
        """
        if not state.weights:
            return
        path = self.folder / STATE
        for part, network in self.networks.items():
            load_fitting(network, state.weights.get(part, {}), f"{path} ({part})")
        self._restore_average(state.averaged, path)
        try:
            for part, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state.optimizers[part])
                for key, kept in optimizer.state.items():
                    if any(value.shape not in ((), key.shape) for value in kept.values()):
                        raise ValueError("of another shape")
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged (optimiser of {part}): train again with --fresh.") from error

    def _restore_average(self, found: Mapping[str, Any], path: Path) -> None:
        """Take up a state's running averages.

        Raises:
            ValueError: they belong to other networks.
        """
        try:
            for part, state in self.averaged.items():
                for key, value in state.items():
                    if found[part][key].shape != value.shape:
                        raise ValueError("of another shape")
                    value.copy_(found[part][key])
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged (average of {part}): train again with --fresh.") from error


def is_done(folder: Path) -> bool:
    """Say whether a class needs no training: it is finished, or holds the authors' checkpoint, without a state."""
    if (folder / STATE).is_file():
        return RunState.load(folder).finished
    return checkpoint.best_checkpoint(folder) is not None
