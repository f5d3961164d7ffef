"""Command line: `python export.py --model CLASS_FOLDER --format onnx|pt2 --out FILE`, a model in one file.

docs/deploy.md tells how to use the file.

Exit status: 0 done; 1 the file gave other answers, and was not kept; 2 wrong input.
"""

import logging
import sys
from pathlib import Path

import click

from inference.exporting import LEAST_OPSET, ONNX, PT2, check, export
from inference.torch_engine import TorchEngine
from system.logs import log_to_screen

LOGGER = logging.getLogger(__name__)

EXIT_DIFFERS, EXIT_WRONG = 1, 2


@click.command(context_settings={"show_default": True})
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Class folder.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights to use instead of the folder's best.")
@click.option(
    "--backbone_weights",
    type=click.Path(path_type=Path),
    help="Weights of the backbone, if they are not found by themselves.",
)
@click.option("--format", "kind", required=True, type=click.Choice([ONNX, PT2]), help="ONNX, or PyTorch's own format.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to write, named .onnx or .pt2.")
@click.option("--opset", default=LEAST_OPSET, type=int, help="ONNX operator set.")
def main(model: Path, checkpoint: Path | None, backbone_weights: Path | None, kind: str, out: Path, opset: int) -> None:
    """Write a trained model as one file that needs none of this repository to run."""
    log_to_screen()
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # the file is checked by running it
    try:
        check(kind, out, opset)
        engine = TorchEngine(model, checkpoint, backbone_weights, "cpu")
        kept = export(engine, kind, out, opset)
    except (ValueError, OSError) as error:
        LOGGER.error("%s", error)
        sys.exit(EXIT_WRONG)
    sys.exit(0 if kept else EXIT_DIFFERS)


if __name__ == "__main__":
    main()
