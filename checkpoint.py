"""Files that are never half-written, and the state a run continues from.

ckpt.pth and ckpt_best_<epoch>.pth hold exactly the release's keys, so that weights travel both ways. What only
a continued run needs is one RunState in a file of its own beside them.
"""

import io
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

LATEST = "ckpt.pth"
STATE = "state.pth"
PARTS = ("discriminator", "pre_projection", "backbone")


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file so that its name only ever stands for the whole content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".partial-", suffix=path.suffix, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values with torch.save, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    atomic_write(path, buffer.getvalue())


def load_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a file of tensors and plain values; code in it is never run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, or it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is damaged or holds more than tensors: restore it or train again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint: it holds a {type(content).__name__}.")
    return content


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
        return {part: dict(content[part]) for part in PARTS if content.get(part)}
    prefixes = {
        "discriminator": "discriminator.",
        "pre_projection": "pre_projection.",
        "backbone": "forward_modules.feature_aggregator.backbone.",
    }
    parts = {
        part: {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
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
    """Everything that a class in training needs to go on, apart from its options.

    Attributes:
        epoch: the epoch that comes next, counted from 0.
        iteration: training steps done over the whole run.
        finished: the last epoch is done.
        best: {"epoch", "image_auroc", "pixel_auroc"} of the best evaluation; empty before the first.
        seconds: time spent in training so far.
        weights: latest weights, by network.
        optimizers: optimiser states, by network.
        options: what the run was started with, as plain values.
    """

    epoch: int = 0
    iteration: int = 0
    finished: bool = False
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
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
            ValueError: damaged, or written by another version.
        """
        if not (folder / STATE).is_file():
            return cls()
        content = load_tensors(folder / STATE)
        if set(content) != {item.name for item in fields(cls)}:
            raise ValueError(f"{folder / STATE} was written by another version: remove the folder to train again.")
        return cls(**content)
