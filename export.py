"""Command line: `python export.py --model CLASS_FOLDER --format onnx|pt2 --out FILE`, a model in one file.

`--push USER/NAME` shares that file, or without --format and --out the class folder or the file that --model names, on
the Hugging Face Hub. docs/deploy.md tells how to use the file, and what is shared.

Exit status: 0 done; 1 the file gave other answers, and was not kept; 2 wrong input, or the Hub refused.
"""

import logging
import sys
from pathlib import Path

import click

from artifacts.options import BF16
from inference.exporting import LEAST_OPSET, ONNX, PT2, check, export
from inference.hub.sharing import share
from inference.torch_engine import TorchEngine
from system.logs import log_to_screen

LOGGER = logging.getLogger(__name__)

EXIT_DIFFERS, EXIT_WRONG = 1, 2
ROUNDED = (
    "The model was trained and its threshold set with --precision bf16. The file computes in float32, so its scores "
    "differ from those of the class folder, some in the second decimal."
)


@click.command(context_settings={"show_default": True})
@click.option(
    "--model", required=True, type=click.Path(path_type=Path), help="Class folder. With --push also an ONNX file."
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights to use instead of the folder's best.")
@click.option(
    "--backbone_weights",
    type=click.Path(path_type=Path),
    help="Weights of the backbone, if they are not found by themselves.",
)
@click.option("--format", "kind", type=click.Choice([ONNX, PT2]), help="ONNX, or PyTorch's own format.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write, named .onnx or .pt2.")
@click.option("--opset", default=LEAST_OPSET, type=int, help="ONNX operator set.")
@click.option("--push", metavar="USER/NAME", help="Share the model in this repository of the Hugging Face Hub.")
@click.option("--license", "licence", help="Licence on the model's page, as apache-2.0. By default it names none.")
@click.option("--public", is_flag=True, help="A repository that --push makes is open to all, not to you alone.")
def main(
    model: Path, checkpoint: Path | None, backbone_weights: Path | None, kind: str | None, out: Path | None,
    opset: int, push: str | None, licence: str | None, public: bool,
) -> None:  # fmt: skip
    """Write a trained model as one file that needs none of this repository to run; share a model."""
    log_to_screen()
    for name in ("onnxscript", "onnx_ir", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.ERROR)  # the file is checked by running it
    try:
        _check_usage(kind, out, push, licence, public)
        if kind is None:
            if checkpoint or backbone_weights or opset != LEAST_OPSET:
                raise ValueError("--checkpoint, --backbone_weights and --opset go with --format: leave them away.")
            share(model, push, licence, public)
            return
        check(kind, out, opset)
        engine = TorchEngine(model, checkpoint, backbone_weights, "cpu", exact=True)
        if engine.card.network.precision == BF16:
            LOGGER.info("%s", ROUNDED)
        kept = export(engine, kind, out, opset)
        if kept and push:
            share(out, push, licence, public, trained=None if checkpoint else model)
    except (ValueError, OSError) as error:
        LOGGER.error("%s", error)
        sys.exit(EXIT_WRONG)
    sys.exit(0 if kept else EXIT_DIFFERS)


def _check_usage(kind: str | None, out: Path | None, push: str | None, licence: str | None, public: bool) -> None:
    """Make sure that the options say what to do.

    Raises:
        ValueError: they do not.
    """
    if (kind is None) != (out is None) or not (kind or push):
        raise ValueError("--format and --out go together: give both, or --push USER/NAME to share a model as it is.")
    if (licence or public) and not push:
        raise ValueError("--license and --public are of a model that is shared: give --push USER/NAME, too.")
    if push and kind == PT2:
        raise ValueError("--push shares no .pt2 file, as it may hold code: give --format onnx, or no format.")


if __name__ == "__main__":
    main()
