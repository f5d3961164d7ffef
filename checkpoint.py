"""Files of tensors, and the state a run continues from.

ckpt.pth and ckpt_best_<epoch>.pth hold exactly the release's keys, so that weights travel both ways. What only
a continued run needs is one RunState in a file of its own beside them.
"""

import io
import pickle
import re
import struct
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from files import atomic_write

LATEST = "ckpt.pth"
STATE = "state.pth"
PARTS = ("discriminator", "pre_projection", "backbone")
SAVE_SECONDS = 60  # between two saves
SAVE_SHARE = 0.02  # of the time that saving may take, at most
# What reading a damaged file raises, by where the damage is.
UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, LookupError, ValueError,
    TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError,
)  # fmt: skip


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values with torch.save, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    atomic_write(path, buffer.getvalue())


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a file of tensors and plain values; code in it is never run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, or it holds something else; what would have been run is named.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles that are refused a moment later
            content = torch.load(path, map_location=device, weights_only=True)
    except UNREADABLE as error:
        code = re.search(r"(?:GLOBAL|class) '?([\w.]+)|\b([\w.]+) was not an allowed global", str(error))
        reason = (
            f"holds more than tensors ({code[1] or code[2]}, which is not run)"
            if code
            else "is damaged, or no file of tensors"
        )
        raise ValueError(f"{path} {reason}: restore it, or take another file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint: it holds a {type(content).__name__}.")
    return content


def _check_archive(path: Path) -> None:
    """Check what torch.load does not: that an archive's bytes are those that were written, and not packed.

    Raises:
        BadZipFile: they are not.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                raise zipfile.BadZipFile("packed: torch.save never does that, and it may unpack to any size")
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("bytes have changed")


def best_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Return the ckpt_best_<epoch>.pth of a class folder and its epoch; the latest one, if an old one was left."""
    epochs = {path: re.search(r"_(\d+)$", path.stem) for path in folder.glob("ckpt_best*.pth")}
    found = [(int(match[1]), path) for path, match in epochs.items() if match]
    return (max(found)[1], max(found)[0]) if found else None


def split_state(content: Mapping[str, Any], source: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Sort a checkpoint into its networks.

    It is the release's {"discriminator": .., "pre_projection": ..}, or a whole model's state dict.

    Raises:
        ValueError: neither.
    """
    if isinstance(content.get("discriminator"), Mapping):
        parts = {part: content[part] for part in PARTS if content.get(part) is not None}
        for part, state in parts.items():
            if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
                raise ValueError(f"{source} is damaged: its {part} is no table of names and tensors.")
        return {part: dict(state) for part, state in parts.items() if state}
    prefixes = {
        "discriminator": "discriminator.",
        "pre_projection": "pre_projection.",
        "backbone": "forward_modules.feature_aggregator.backbone.",
    }
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor) and isinstance(key, str)}
    parts = {
        part: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for part, prefix in prefixes.items()
    }
    if not parts["discriminator"]:
        raise ValueError(f"{source} is no checkpoint of this method: it has no discriminator.")
    return {part: state for part, state in parts.items() if state}


def load_fitting(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load a state dict into a network.

    Raises:
        ValueError: names or shapes differ; the first ones are named.
    """
    own = network.state_dict()
    found = {key: list(value.shape) for key, value in state.items()}
    wanted = {key: list(value.shape) for key, value in own.items()}
    wrong = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    if wrong:
        first = f"{wrong[0]} is {found.get(wrong[0], 'absent')}, wanted {wanted.get(wrong[0], 'absent')}"
        raise ValueError(f"{source} was made with other options: {first}. Give the options of its training.")
    network.load_state_dict(state)


@dataclass
class RunState:
    """Everything that a class in training needs to go on.

    Attributes:
        epoch: the epoch that comes next or is under way, counted from 0.
        position: training steps done in it; with all of them done, its evaluation comes next.
        iteration: training steps done over the whole run.
        finished: the last epoch is done.
        best: {"epoch", "image_auroc", "pixel_auroc"} of the best evaluation; empty before the first.
        seconds: time spent in training so far.
        center: of the epoch under way, [h·w, C]; None before its first step.
        hypersphere: the hypothesis; None in states of earlier versions.
        cached: whether the training images' features are kept, which decides the center's last bits; None as above.
        weights: latest weights, by network.
        optimizers: optimiser states, by network.
        options: what the run was started with, as plain values.
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
    optimizers: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

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


OPTIONAL = {"center": (torch.Tensor,), "hypersphere": (bool,), "cached": (bool,)}  # types beside None


class Saver:
    """Keeps the state of a class in training: the networks' weights, the optimisers' states, and a RunState.

    Args:
        folder: of the class.
        networks: those that are trained.
        optimizers: theirs, under the same names.
        options: what the run was started with, as plain values.
    """

    def __init__(
        self,
        folder: Path,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        options: dict[str, Any],
    ) -> None:
        self.folder, self.networks, self.optimizers, self.options = folder, networks, optimizers, options
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
        """Write the latest weights, then the state, which alone says what holds.

        Raises:
            FloatingPointError: weights are not finite; nothing is written.
        """
        started = time.monotonic()
        state.weights = {part: network.state_dict() for part, network in self.networks.items()}
        state.optimizers = {part: optimizer.state_dict() for part, optimizer in self.optimizers.items()}
        state.options = self.options
        self.check_finite(state)
        state.seconds += started - self.saved
        save_tensors(self.folder / LATEST, state.weights)
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
        try:
            for part, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state.optimizers[part])
                for key, kept in optimizer.state.items():
                    if any(value.shape not in ((), key.shape) for value in kept.values()):
                        raise ValueError("of another shape")
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged (optimiser of {part}): train again with --fresh.") from error
