"""A class folder or an exported file to a repository of the Hugging Face Hub, as inference.hub.access finds it there.

Weights go as safetensors, never as the pickles of a class folder. The card of a class folder goes without the command
line of the training, whose paths are nobody's business; an exported file has it inside, and a line says so. One commit
replaces the model that a repository held before.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from safetensors.torch import save

from artifacts import checkpoint, class_results, layout, model_card, run_info
from artifacts.model_card import Card
from inference.hub.access import BACKBONE_NAME, CARD_FILE, FETCHED, FILES, ONNX_FILE, PREFIX, TOKEN, on_the_hub
from inference.hub.page import README, page
from inference.onnx_engine import OnnxEngine, sidecar
from inference.predictor import ONNX

LOGGER = logging.getLogger(__name__)

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def share(model: Path, repository: str, licence: str | None, public: bool, trained: Path | None = None) -> str:
    """Put a model into a repository of the Hub, which is made if there is none; return the commit's address.

    Args:
        model: class folder, or an ONNX file of export.py.
        repository: USER/NAME.
        licence: what the page says of it, an identifier of the Hub as "apache-2.0"; nothing by default.
        public: a repository that is made is open to everybody, not to its owner alone.
        trained: class folder that an exported file comes from, for the figures of its test.

    Raises:
        ValueError, FileNotFoundError: something is missing, damaged, or does not fit, or the Hub refused.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ValueError(f"--push {repository} is no repository of the Hub: give USER/NAME.")
    with on_the_hub(PREFIX + repository, writes=True):
        from huggingface_hub import get_token

        if get_token() is None:
            raise ValueError(f"--push {repository} needs a token that may write there: {TOKEN}.")
    card, files = exported_content(model) if model.suffix == ONNX else folder_content(model)
    folder = trained if model.suffix == ONNX else model
    result = None if folder is None else _result(folder)
    files |= {README: page(card, result, repository, licence, model.suffix == ONNX).encode()}
    address = _upload(repository, files, public, f"{card.name}, epoch {card.checkpoint.epoch}")
    LOGGER.info("%s is shared (%.1f MB): %s", model, sum(map(len, files.values())) / 1e6, address)
    LOGGER.info("It is used by: python predict.py --model %s%s PICTURES", PREFIX, repository)
    return address


def folder_content(folder: Path) -> tuple[Card, dict[str, bytes]]:
    """Return the card of a class folder as it is shared, and the files that go with it.

    Raises:
        ValueError, FileNotFoundError: the folder has no card of its best weights, or lacks weights.
    """
    path, _ = checkpoint.require_best(folder)
    card = model_card.read(folder)
    if run_info.sha256(path) != card.checkpoint.sha256:
        raise ValueError(f"{path} is not what {folder / model_card.FILE} describes: run main.py --test test first.")
    parts = checkpoint.split_state(checkpoint.load_tensors(path), path)
    tensors = {key: value.clone().contiguous() for key, value in checkpoint.joined_state(parts).items()}
    files = {layout.SHARED_FILE: save(tensors)}
    backbone = card.backbone
    if backbone.file is not None:
        kept = folder / backbone.file
        if kept.name != layout.BACKBONE_FILE or not kept.is_file():
            raise FileNotFoundError(f"{kept} is missing, which {folder} needs: copy it along.")
        files[layout.BACKBONE_FILE] = kept.read_bytes()
        backbone = replace(backbone, file=layout.BACKBONE_FILE)
    elif backbone.weights != FETCHED:
        raise ValueError(f"{folder} was tested with a backbone's weights that were not kept: export it to ONNX first.")
    if not BACKBONE_NAME.fullmatch(backbone.name):
        raise ValueError(f"{folder} has a backbone by address ({backbone.name}): export it to ONNX first.")
    digest = sha256(files[layout.SHARED_FILE]).hexdigest()
    weights = replace(card.checkpoint, file=layout.SHARED_FILE, sha256=digest)
    described = replace(card, checkpoint=weights, backbone=backbone, provenance=replace(card.provenance, command=""))
    return described, files | {model_card.FILE: described.to_json().encode()}


def exported_content(file: Path) -> tuple[Card, dict[str, bytes]]:
    """Return the card of an exported file, and the file, with the card beside it if there is one.

    Raises:
        ValueError, FileNotFoundError: there is none, it is damaged, or not one of export.py.
    """
    card = OnnxEngine(file, "cpu").card
    if card.provenance.command:
        LOGGER.warning("%s tells the command line of its training: %s", file, card.provenance.command)
    names = {ONNX_FILE: file, CARD_FILE: sidecar(file)}
    return card, {name: path.read_bytes() for name, path in names.items() if path.is_file()}


def _result(folder: Path) -> class_results.Result | None:
    """Return what the test of a class folder gave, if it is there."""
    path = folder / class_results.RESULT_FILE
    return class_results.from_json(path.read_text(encoding="utf-8"), path) if path.is_file() else None


def _upload(repository: str, files: Mapping[str, bytes], public: bool, message: str) -> str:
    """Commit files to a repository, in place of the model that it holds; return the commit's address."""
    with on_the_hub(PREFIX + repository, writes=True):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        hub = HfApi()
        hub.create_repo(repository, private=not public, exist_ok=True)
        old = {*FILES, README}.intersection(hub.list_repo_files(repository)) - set(files)
        changes = [CommitOperationAdd(name, content) for name, content in files.items()]
        changes += [CommitOperationDelete(name) for name in sorted(old)]
        return hub.create_commit(repository, changes, commit_message=message).commit_url
