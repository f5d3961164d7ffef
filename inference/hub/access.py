"""Models on the Hugging Face Hub: `hf:USER/NAME[@REVISION]` to files here, checked; nothing in them is ever run.

A repository holds one model, as export.py --push puts it there: either model.json, model.safetensors and, where the
backbone's weights cannot be fetched by name, backbone.safetensors; or model.onnx, and model.onnx.json where it was
calibrated after its export. Only these are downloaded, into the cache of huggingface_hub, which also serves where there
is no network.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts import layout, model_card, run_info
from artifacts.model_card import Card

PREFIX = "hf:"
REFERENCE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>\S+))?")
ONNX_FILE, CARD_FILE = "model.onnx", "model.onnx.json"
FILES = (model_card.FILE, layout.SHARED_FILE, layout.BACKBONE_FILE, ONNX_FILE, CARD_FILE)
BACKBONE_NAME = re.compile(r"(timm:)?[\w.]+")  # no address from which timm would load whatever lies there
FETCHED = "imagenet"  # weights of a backbone that are fetched by its name
TOKEN = "run `hf auth login`, or set HF_TOKEN"
REFUSED = (401, 403)


def is_reference(model: str) -> bool:
    """Say whether a model is named by its place on the Hub."""
    return model.startswith(PREFIX)


def fetch(reference: str) -> Path:
    """Download a model of the Hub unless it is here; return its folder, or its exported file.

    Args:
        reference: hf:USER/NAME, and @REVISION: a branch, a tag or a commit, by default the newest of main.

    Raises:
        ValueError, FileNotFoundError: it cannot be had, is damaged, or is no model of export.py --push.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(f"{reference} is no model of the Hub: give hf:USER/NAME or hf:USER/NAME@REVISION.")
    with on_the_hub(reference):
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars

        from system.progress_bar import hidden  # needs tqdm, which comes with huggingface_hub

        if hidden():
            disable_progress_bars()
        found = snapshot_download(match["repository"], revision=match["revision"], allow_patterns=list(FILES))
    folder = Path(found)
    if (folder / ONNX_FILE).is_file():
        return folder / ONNX_FILE
    if not all((folder / name).is_file() for name in (model_card.FILE, layout.SHARED_FILE)):
        raise FileNotFoundError(f"{reference} holds no model that export.py --push put there: check the name.")
    _check(model_card.read(folder), folder, reference)
    return folder


def _check(card: Card, folder: Path, reference: str) -> None:
    """Make sure that a downloaded card describes its weights, and names no other files.

    Raises:
        ValueError: it does not.
    """
    backbone = card.backbone
    kept = backbone.file == layout.BACKBONE_FILE or (backbone.file is None and backbone.weights == FETCHED)
    if not kept or not BACKBONE_NAME.fullmatch(backbone.name) or card.checkpoint.file != layout.SHARED_FILE:
        raise ValueError(f"{reference} is refused: its {model_card.FILE} names files outside of the repository.")
    if card.checkpoint.sha256 != run_info.sha256(folder / layout.SHARED_FILE):
        advice = f"remove {folder} to download it again; if that does not help, ask who shared it"
        raise ValueError(f"{reference} is damaged: {layout.SHARED_FILE} is not what its card describes: {advice}.")


@contextmanager
def on_the_hub(place: str, writes: bool = False) -> Iterator[None]:
    """Let what goes wrong between here and the Hub within the block be one line that says what to do.

    Args:
        place: hf:USER/NAME, for the messages.
        writes: the block writes there.

    Raises:
        ValueError: something went wrong.
    """
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise ValueError(f"{place} needs {error.name}, which is not installed: pip install huggingface_hub") from error
    http_error = errors.HfHubHTTPError.__bases__[0]  # of the HTTP library, whichever this version uses
    try:
        yield
    except errors.GatedRepoError as error:
        raise ValueError(f"{place} is open to some only: ask for access on its page, then {TOKEN}.") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{place} does not exist, or is private: check the name; for a private one {TOKEN}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{place}: there is no such revision: check what follows the @.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ValueError(
            f"{place}: the Hub cannot be reached{_offline()}, and no copy is here: connect once."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in REFUSED:
            right = "write there" if writes else "read it"
            raise ValueError(f"{place}: the Hub refused ({status}): use a token that may {right}: {TOKEN}.") from error
        raise ValueError(f"{place}: the Hub failed ({_first_line(error)}): try again later.") from error
    except http_error as error:
        raise ValueError(f"{place}: the Hub cannot be reached ({_first_line(error)}): check the network.") from error


def _offline() -> str:
    from huggingface_hub import constants

    return " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:160]
