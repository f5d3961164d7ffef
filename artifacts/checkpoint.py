"""ckpt.pth and ckpt_best_<epoch>.pth: the latest and the best weights of a class.

They hold exactly the release's keys, so that weights travel both ways. What only a continued run needs lies beside
them (run_state.py). Files of tensors are read without running code that may be in them.
"""

import io
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from system.files import atomic_write

LATEST = "ckpt.pth"
BEST = "ckpt_best"  # and _<epoch>.pth
SAFETENSORS = ".safetensors"
PARTS = ("discriminator", "pre_projection", "backbone")
PREFIXES = {  # of the parts' names in a whole model's state dict
    "discriminator": "discriminator.",
    "pre_projection": "pre_projection.",
    "backbone": "forward_modules.feature_aggregator.backbone.",
}
# What reading a damaged file raises, by where the damage is.
UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, LookupError, ValueError,
    TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError, SafetensorError,
)  # fmt: skip


class OtherOptions(ValueError):
    """Weights of networks that were built with other options."""


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
        if path.suffix == SAFETENSORS:
            return load_file(path, device=str(device))
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


def best_checkpoint(folder: Path) -> tuple[Path, int] | None:
    """Return the ckpt_best_<epoch>.pth of a class folder and its epoch; the latest one, if an old one was left."""
    epochs = {path: re.search(r"_(\d+)$", path.stem) for path in folder.glob(f"{BEST}*.pth")}
    found = [(int(match[1]), path) for path, match in epochs.items() if match]
    return (max(found)[1], max(found)[0]) if found else None


def save_best(folder: Path, epoch: int, weights: Mapping[str, Any]) -> None:
    """Write the best weights of a class folder, in place of earlier ones."""
    path = folder / f"{BEST}_{epoch}.pth"
    save_tensors(path, weights)
    for old in folder.glob(f"{BEST}*.pth"):
        if old != path:
            old.unlink()


def require_best(folder: Path) -> tuple[Path, int]:
    """Return the best checkpoint of a class folder and its epoch.

    Raises:
        FileNotFoundError: there is none.
    """
    found = best_checkpoint(folder)
    if found is None:
        raise FileNotFoundError(f"{folder} holds no ckpt_best_<epoch>.pth: train first (--test ckpt).")
    return found


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
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor) and isinstance(key, str)}
    parts = {
        part: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for part, prefix in PREFIXES.items()
    }
    if not parts["discriminator"]:
        raise ValueError(f"{source} is no checkpoint of this method: it has no discriminator.")
    return {part: state for part, state in parts.items() if state}


def joined_state(parts: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return networks that split_state sorted as one flat table, named as in a whole model's state dict."""
    return {PREFIXES[part] + key: value for part, state in parts.items() for key, value in state.items()}


def load_fitting(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load a state dict into a network.

    Raises:
        OtherOptions: names or shapes differ; the first ones are named.
    """
    own = network.state_dict()
    found = {key: list(value.shape) for key, value in state.items()}
    wanted = {key: list(value.shape) for key, value in own.items()}
    wrong = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    if wrong:
        first = f"{wrong[0]} is {found.get(wrong[0], 'absent')}, wanted {wanted.get(wrong[0], 'absent')}"
        raise OtherOptions(f"{source} was made with other options: {first}. Give the options of its training.")
    network.load_state_dict(state)


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
