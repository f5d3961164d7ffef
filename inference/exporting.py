"""A trained model to one file, ONNX or PyTorch's own format, that is kept only if its answers are the model's.

The file takes uint8 pictures of the model's size and gives score and map (docs/deploy.md); the model's card goes with
it. It is written under another name, run at several batch sizes, compared, and only then gets its name.
"""

import io
import json
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from artifacts import run_info
from images.geometry import LETTERBOX, Geometry
from inference.onnx_engine import (
    CARD,
    DIGEST,
    EXPORT,
    IMAGE,
    MAP,
    MEAN_FEATS,
    NO_DIGEST,
    SCORE,
    VALID,
    OnnxEngine,
    sealed,
    sidecar,
)
from inference.torch_engine import TorchEngine
from inference.traced_model import TRACED_BATCH, DeployedModel
from system.files import PARTIAL, told

LOGGER = logging.getLogger(__name__)

ONNX, PT2 = "onnx", "pt2"
LEAST_OPSET = 18  # what PyTorch writes; older ones are refused, newer ones are converted to
BATCH = "batch"  # the name of the open size
BATCHES = (1, 2, 7)  # that the file is run with
TOLERANCE = 1e-4  # of scores and maps in (0, 1)

DRIFT_TOLERANCE = 0.01  # of drift, whose limit is 1; relative above it
Batch = tuple[np.ndarray, ...]  # pixels and valid; or scores and maps, and drift where the model tells it


class Difference(NamedTuple):
    """How far the answers of two engines lie apart at most."""

    score: float
    map: float
    drift: float = 0.0

    def __str__(self) -> str:
        return f"scores {self.score:.1e}, maps {self.map:.1e}"

    @property
    def small(self) -> bool:
        """Whether the answers are the same, as far as anybody can tell; NaN is not."""
        return self.score < TOLERANCE and self.map < TOLERANCE and self.drift < DRIFT_TOLERANCE


def check(kind: str, out: Path, opset: int) -> None:
    """Make sure, before any work, that a file can be written as asked.

    Raises:
        ValueError: it cannot: its name, the operator set, or a package that is missing.
    """
    if out.suffix != f".{kind}":
        raise ValueError(f"--out {out} does not fit --format {kind}: name it {out.with_suffix('.' + kind).name}.")
    if out.is_dir():
        raise IsADirectoryError(f"--out {out} is a folder: give the name of a file.")
    if kind == PT2:
        if opset != LEAST_OPSET:
            raise ValueError(f"--opset {opset} is of ONNX: leave it away with --format {kind}.")
        return
    try:
        import onnx
        import onnxruntime  # noqa: F401 - the file is run with it
        import onnxscript  # noqa: F401 - PyTorch writes with it
    except ModuleNotFoundError as error:
        raise ValueError(f"--format onnx needs {error.name}: install requirements/export.txt.") from error
    newest = onnx.defs.onnx_opset_version()
    if not LEAST_OPSET <= opset <= newest:
        raise ValueError(f"--opset {opset} cannot be written: give {LEAST_OPSET} to {newest}.")


def export(engine: TorchEngine, kind: str, out: Path, opset: int) -> bool:
    """Write a file, run it, and keep it if it gives the engine's answers; return whether it did.

    Raises:
        ValueError: it cannot be written with this operator set.
    """
    write = _write_onnx if kind == ONNX else _write_pt2
    with told(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with told(out), TemporaryDirectory(prefix=PARTIAL, dir=out.parent) as folder:
        partial = Path(folder) / out.name
        describe = kind == ONNX and engine.card.drift is not None
        write(torch_program(engine, describe), metadata(engine, kind, opset), partial, opset)
        run = OnnxEngine(partial, "cpu") if kind == ONNX else Pt2Engine(partial)
        found = {size: compare(engine, run, size) for size in BATCHES}
        for size, difference in found.items():
            LOGGER.info("Batch of %d: largest difference from PyTorch: %s.", size, difference)
        if not all(difference.small for difference in found.values()):
            LOGGER.error("%s is not kept: its answers differ by more than %g.", out, TOLERANCE)
            return False
        partial.replace(out)
        sidecar(out).unlink(missing_ok=True)  # of an earlier file
    LOGGER.info("%s: %.1f MB.", out, out.stat().st_size / 1e6)
    return True


def torch_program(engine: TorchEngine, describe: bool = False) -> ExportedProgram:
    """Return the model as a program with an open batch size; see DeployedModel."""
    given = [torch.from_numpy(each) for each in _pictures(engine, TRACED_BATCH)]
    if not _is_letterbox(engine):
        given = given[:1]
    model = DeployedModel(engine.glass, describe).eval().requires_grad_(False)
    batch = Dim(BATCH, min=1)
    with torch.no_grad():
        return torch.export.export(model, tuple(given), dynamic_shapes=tuple({0: batch} for _ in given), strict=False)


def metadata(engine: TorchEngine, kind: str, opset: int) -> dict[str, str]:
    """Return what is written into the file beside the graph."""
    made = {"date": run_info.date(), "versions": run_info.versions(), "git": run_info.git_state()}
    made |= {"format": kind} | ({"opset": opset} if kind == ONNX else {})
    return {CARD: engine.card.to_json(), EXPORT: json.dumps(made)}


def compare(engine: TorchEngine, run: Callable[..., Batch], size: int) -> Difference:
    """Score a batch both ways."""
    pictures = _pictures(engine, size)
    (scores, maps, *drift), (other_scores, other_maps, *other_drift) = engine(*pictures), run(*pictures)
    if not np.array_equal(np.isnan(maps), np.isnan(other_maps)):
        return Difference(np.inf, np.inf)
    apart = [np.abs(one - other) / np.maximum(1, one) for one, other in zip(drift, other_drift, strict=False)]
    return Difference(
        float(np.abs(scores - other_scores).max()), float(np.nanmax(np.abs(maps - other_maps))),
        max((float(each.max()) for each in apart), default=0.0),
    )  # fmt: skip


class Pt2Engine:
    """Runs a .pt2 file.

    Raises:
        ValueError: its bytes are not those that were written, which torch.export.load does not notice.
    """

    def __init__(self, file: Path) -> None:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
        except zipfile.BadZipFile as error:
            damaged = error
        if damaged:
            raise ValueError(f"{file} is damaged ({damaged}): export it again.")
        self.module = torch.export.load(file).module()
        self.masked = len(list(self.module.graph.find_nodes(op="placeholder"))) > 1

    def __call__(self, pixels: np.ndarray, valid: np.ndarray) -> Batch:
        """Score pictures: see inference.predictor.Engine."""
        given = [torch.from_numpy(each) for each in (pixels, valid)]
        with torch.no_grad():
            scores, maps = self.module(*given[: 1 + self.masked])
        return scores.numpy(), maps.numpy()


def _write_onnx(program: ExportedProgram, described: dict[str, str], path: Path, opset: int) -> None:
    inputs = [IMAGE, VALID][: len(program.graph_signature.user_inputs)]
    outputs = [SCORE, MAP, MEAN_FEATS][: len(program.graph_signature.user_outputs)]
    written = torch.onnx.export(
        program, dynamo=True, opset_version=opset, input_names=inputs, output_names=outputs, verbose=False
    )
    model = written.model
    if model.opset_imports[""] != opset:
        raise ValueError(f"--opset {opset} cannot be reached, only {model.opset_imports['']}: give that.")
    model.metadata_props.update(described | {DIGEST: NO_DIGEST})
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # traces of the source, with the paths of this machine
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = type(value.shape)([BATCH, *list(value.shape)[1:]])
    path.write_bytes(sealed(written.model_proto.SerializeToString()))


def _write_pt2(program: ExportedProgram, described: dict[str, str], path: Path, _: int) -> None:
    for graph in (each for each in program.graph_module.modules() if isinstance(each, torch.fx.GraphModule)):
        for node in graph.graph.nodes:
            node.meta.pop("stack_trace", None)  # it has the paths of this machine
    content = io.BytesIO()  # of a disk that is full, torch.export.save would end the process
    torch.export.save(program, content, extra_files=described)
    path.write_bytes(content.getvalue())


def _pictures(engine: TorchEngine, size: int) -> Batch:
    """Draw pictures of the model's size, from smooth to noise, and where they show no padding."""
    geometry, rng = Geometry.from_dict(engine.card.geometry), np.random.default_rng(size)
    height, width = geometry.imagesize
    pixels = np.empty((size, height, width, 3), dtype=np.uint8)
    valid = np.ones((size, height, width), dtype=bool)
    for i in range(size):
        cell = 2 ** (i % 6)
        coarse = rng.integers(0, 256, (height // cell + 1, width // cell + 1, 3), dtype=np.uint8)
        pixels[i] = coarse.repeat(cell, 0).repeat(cell, 1)[:height, :width]
        if geometry.mode == LETTERBOX:
            valid[i] = geometry.valid((height * (1 + i % 3), width * (1 + (i + 1) % 3)))
    return pixels, valid


def _is_letterbox(engine: TorchEngine) -> bool:
    return engine.card.geometry["mode"] == LETTERBOX
