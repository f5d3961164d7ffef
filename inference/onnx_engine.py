"""An exported file to scores, run by onnxruntime; needs requirements/deploy.txt alone."""

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from artifacts.model_card import FILE as CARD
from artifacts.model_card import Card

LOGGER = logging.getLogger(__name__)

EXPORT, DIGEST = "export.json", "sha256"  # the other keys of the file's metadata, beside CARD
NO_DIGEST = "0" * 64  # in place of the digest while it is computed
DIGEST_FIELD = re.compile(rb"\n\x06%b\x12@([0-9a-f]{64})" % DIGEST.encode())  # as protobuf writes key and value
IMAGE, VALID, SCORE, MAP, MEAN_FEATS = "image", "valid", "score", "map", "mean_feats"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxEngine:
    """Scores pictures of the model's size; may be shared by threads, which it serves at once.

    Args:
        file: written by export.py.
        device: "auto" (CUDA where onnxruntime has it), "cpu", "cuda" or "cuda:<i>".

    Raises:
        FileNotFoundError, ValueError: no such file, damaged, or not written by export.py.
    """

    def __init__(self, file: Path, device: str = "auto") -> None:
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: check --model.")
        proven = _check_digest(file)
        self.session = _open(file, device)
        metadata = self.session.get_modelmeta().custom_metadata_map
        if CARD not in metadata:
            raise ValueError(f"{file} is another model, not one that export.py wrote: give one of its files.")
        if not proven:
            LOGGER.warning("%s carries no hash, so damage to it would not be noticed: export it again.", file)
        self.card = _recalibrated(Card.from_json(metadata[CARD], file), sidecar(file))
        self.inputs = [each.name for each in self.session.get_inputs()]
        told = {each.name for each in self.session.get_outputs()}
        self.outputs = [SCORE, MAP, *[MEAN_FEATS] * (self.card.drift is not None and MEAN_FEATS in told)]
        found = self.session.get_inputs()[0].shape[1:]
        wanted = [*self.card.network.input_shape[1:], 3]
        if self.inputs[0] != IMAGE or found != wanted:
            raise ValueError(f"{file} takes pictures of {found}, but its {CARD} says {wanted}: export it again.")

    def start(self, pixels: np.ndarray, valid: np.ndarray) -> Callable[[], tuple[np.ndarray, ...]]:
        """Score pictures: see inference.predictor.Engine."""
        answer = self(pixels, valid)
        return lambda: answer

    def __call__(self, pixels: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, ...]:
        """Score pictures, and wait."""
        given = {IMAGE: pixels, VALID: valid}
        scores, maps, *feats = self.session.run(self.outputs, {name: given[name] for name in self.inputs})
        return scores, maps, *map(self.card.drift, feats)


def sidecar(file: Path) -> Path:
    """Return where the card of an exported file lies that was calibrated after its export."""
    return file.with_name(f"{file.name}.json")


def _recalibrated(exported: Card, path: Path) -> Card:
    """Return the card beside an exported file, if there is one.

    Raises:
        ValueError: it is damaged, or of another model.
    """
    if not path.is_file():
        return exported
    found = Card.from_json(path.read_text(encoding="utf-8", errors="replace"), path)
    if (found.checkpoint, found.network, found.geometry) != (exported.checkpoint, exported.network, exported.geometry):
        raise ValueError(f"{path} holds the threshold of another model than the file beside it: delete it.")
    return found


def sealed(content: bytes) -> bytes:
    """Return an exported file's bytes with their SHA-256 in its metadata, where NO_DIGEST stands."""
    found = DIGEST_FIELD.search(content)
    return content[: found.start(1)] + _digest(content, found) + content[found.end(1) :]


def _digest(content: bytes, found: re.Match[bytes]) -> bytes:
    """Return the SHA-256, as digits, of a file in which NO_DIGEST stands where a digest was found."""
    total = hashlib.sha256(memoryview(content)[: found.start(1)])
    total.update(NO_DIGEST.encode())
    total.update(memoryview(content)[found.end(1) :])
    return total.hexdigest().encode()


def _check_digest(file: Path) -> bool:
    """Make sure that an exported file holds what was written; return whether it carries a digest to tell by.

    Raises:
        ValueError: it does not.
    """
    content = file.read_bytes()
    found = DIGEST_FIELD.search(content)
    if found is not None and found[1] != _digest(content, found):
        raise ValueError(f"{file} is damaged, or was changed after its export: export it again.")
    return found is not None


def _open(file: Path, device: str) -> "onnxruntime.InferenceSession":  # noqa: F821 - imported below
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors
    except ModuleNotFoundError as error:
        advice = "install requirements/deploy.txt"
        raise ValueError(f"--model {file} needs {error.name}, which is not installed: {advice}.") from error
    providers = _providers(device, onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    damaged = errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument, errors.NotImplemented, errors.Fail
    try:
        return onnxruntime.InferenceSession(file, options, providers)
    except damaged as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} cannot be run ({reason}): it is damaged, or newer than onnxruntime.") from error


def _providers(device: str, available: list[str]) -> list[str | tuple[str, dict[str, str]]]:
    """Return what onnxruntime is to run on.

    Raises:
        ValueError: a device that is unknown, or not there.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"--device {device} is unknown: give auto, cpu, cuda or cuda:<number>.")
    if kind == "cuda" and CUDA not in available:
        raise ValueError(f"--device {device}: this onnxruntime has {', '.join(available)} only; use onnxruntime-gpu.")
    if kind == "cpu" or CUDA not in available:
        return [CPU]
    return [(CUDA, {"device_id": index or "0"}), CPU]
