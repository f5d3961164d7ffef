"""Everything that only a GPU can show, in one call of under ten minutes: `benchmarks/gpu.sh`.

Each stage of benchmarks/gpu_stages.py is kept in gpu.json as soon as it is done, and is not measured again: the same
call goes on where the last one ended. With what time is left, screw is trained at the paper's settings, which goes on,
too. At the end comes a table of all calls so far.

Exit status: 0 done; 1 a stage failed; 2 wrong input, or no GPU.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import torch

import utils
from artifacts import curves, layout
from artifacts.test_scores import EVALUATIONS
from benchmarks import gpu_stages
from benchmarks.cases import Sizes, one_thread
from benchmarks.gpu_stages import Found, Rig
from system.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
FILE = "gpu.json"
PAPER = Sizes("wideresnet50", 288, 8, test_images=160, patience=4)
SMALL = Sizes("resnet18", 96, 4, width=64, hidden=32, test_images=8, maps=6, samples=8, patience=0)
NEEDS_CUDA = ("waits", "graph", "triton")
SECONDS = {  # that a stage is given at least; the rest of a call is the training's
    "environment": 10, "waits": 15, "steps": 45, "profile": 20, "parts": 40, "graph": 25, "triton": 40,
    "predictions": 30, "evaluation": 20, "loading": 40, "predictor": 40, "ratios": 120, "exported": 120,
}  # fmt: skip
LEAST_TRAINING = 60  # seconds that are worth a start
SAVING = 15  # seconds, for what a training does when it is stopped
LOOK_SECONDS = 0.5
SCREW = "mvtec_screw"

LOGGER = logging.getLogger(__name__)


class Findings:
    """What was measured, by stage, in a file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stages: dict[str, Found] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def known(self, stage: str) -> bool:
        """Return whether a stage is done."""
        return "error" not in self.stages.get(stage, {"error": ""})

    def add(self, stage: str, found: Found) -> None:
        """Keep what a stage found."""
        self.stages[stage] = found
        atomic_write(self.path, (json.dumps(self.stages, indent=1) + "\n").encode())


def small_rig(device: torch.device, out: Path) -> Rig:
    """Return a rig whose stages take seconds on a CPU."""
    return Rig(SMALL, device, out, repeat=2, batches=(1, 3), workers=(0, 1), picture=128)


def measure(findings: Findings, stage: str, work: Callable[[], Found]) -> None:
    """Run a stage, and keep what it finds, or why it failed: the others go on."""
    start = time.monotonic()
    try:
        found = work()
    except Exception as error:  # whatever a driver may raise
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    findings.add(stage, found | {"seconds": time.monotonic() - start})
    LOGGER.info("%s (%.0f s)", stage, time.monotonic() - start)
    for name, value in found.items():
        LOGGER.info("  %s: %s", name, shown(value))


def measure_all(rig: Rig, findings: Findings, names: list[str], end: float) -> list[str]:
    """Run the stages that are not done yet, as long as there is time; return those that wait for the next call."""
    waiting = []
    for name in names:
        if findings.known(name):
            continue
        if time.monotonic() + SECONDS[name] > end:
            waiting.append(name)
            continue
        measure(findings, name, lambda name=name: getattr(gpu_stages, name)(rig))
        if rig.device.type == "cuda":
            torch.cuda.empty_cache()
    return waiting


def train(out: Path, settings: dict[str, str], end: float) -> Found:
    """Train screw at the paper's settings, without foreground masks, until time is up; the same call goes on.

    Args:
        out: folder of the results.
        settings: environment of shell/run-mvtec.sh.
        end: time.monotonic() when it has to be over.
    """
    folder = layout.class_folder(out / "screw", 0, SCREW)
    settings = {"CLASSES": "screw", "BACKBONES": "resnet18", "FG": "0"} | settings
    settings |= {"RESULTS": str(out / "screw"), "PYTHON": sys.executable}
    stamps: list[tuple[float, int]] = []
    with (out / "screw.log").open("ab") as log:
        line = ["bash", str(ROOT / "shell" / "run-mvtec.sh")]
        running = subprocess.Popen(line, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True)
        while running.poll() is None and time.monotonic() < end - SAVING:
            time.sleep(LOOK_SECONDS)
            epochs = _epochs(folder)
            if epochs and (not stamps or epochs != stamps[-1][1]):
                stamps.append((time.monotonic(), epochs))
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGINT)
        status = running.wait()
    if status not in (0, 128 + signal.SIGINT):
        raise RuntimeError(f"training ended with {status}: see {out / 'screw.log'}")
    found: Found = {"epochs": _epochs(folder), "done": status == 0, **_best(folder)}
    if len(stamps) > 1:
        found["seconds an epoch"] = (stamps[-1][0] - stamps[0][0]) / (stamps[-1][1] - stamps[0][1])
    return found


def _epochs(folder: Path) -> int:
    """Return how many epochs a class has been evaluated after."""
    steps, _ = (curves.read(folder, tuple(EVALUATIONS)) or {}).get(next(iter(EVALUATIONS)), ([-1], []))
    return int(steps[-1]) + 1


def _best(folder: Path) -> dict[str, float]:
    """Return the highest of each figure that a class's evaluations gave, of a curve thinned to 200 points."""
    seen = curves.read(folder, tuple(EVALUATIONS)) or {}
    return {tag: max(seen[tag][1]) for tag in EVALUATIONS if tag in seen}


def table(stages: dict[str, Found]) -> str:
    """Lay out for the README what was measured; what was not has no line."""
    lines = [f"{stages.get('environment', {}).get('device', 'not known')}; wideresnet50, 288 px, unless it is said", ""]
    lines += ["| what | figure |", "|---|---:|"]
    for text, stage, keys, unit in FIGURES:
        value: Any = stages.get(stage, {})
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            lines.append(f"| {text} | {shown(value)}{unit} |")
    return "\n".join(lines)


FIGURES = [  # of the table: text, stage, keys, unit
    *(
        (f"training step, {precision}, {name}", "steps", (f"{precision} {name}", "queued"), " ms")
        for precision in gpu_stages.PRECISIONS
        for name in gpu_stages.HYPOTHESES
    ),
    *(
        (f"training step as a CUDA graph, {precision}", "graph", (f"step as a graph, {precision}", "queued"), " ms")
        for precision in gpu_stages.PRECISIONS
    ),
    *(
        (f"the same by Triton, {precision}", "triton", (f"step as a graph by Triton, {precision}", "queued"), " ms")
        for precision in gpu_stages.PRECISIONS
    ),
    ("peak device memory of a step, fp32", "steps", ("fp32 manifold", "peak GB"), " GB"),
    ("host waits in a step", "waits", ("host waits in a step",), ""),
    ("kernels in a step", "profile", ("kernels in a step",), ""),
    *(
        (
            f"prediction, batch {count}, {precision}",
            "predictions",
            (f"{precision} batch {count}", "images/s"),
            " images/s",
        )
        for precision in gpu_stages.PRECISIONS
        for count in (1, 8, 64)
    ),
    ("evaluation of 160 images", "evaluation", ("160 images", "single"), " ms"),
    *((f"{name}, release's way / this program", "ratios", (name, "ratio"), "") for name in gpu_stages.RATIOS),
    ("screw, ResNet-18: an epoch", "screw", ("seconds an epoch",), " s"),
    ("screw, ResNet-18: epochs", "screw", ("epochs",), ""),
    ("screw, ResNet-18: best image AUROC in training", "screw", ("i-auroc",), ""),
]


def sound(found: Found) -> bool:
    """Return whether a stage ran, and the answers that it compared agree."""
    return "error" not in found and all(each.get("agree", True) for each in found.values() if isinstance(each, dict))


def shown(value: Any) -> str:
    """Write a value for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(each)}" for key, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@click.command(context_settings={"show_default": True})
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for all that is written. [results/gpu, results/gpu-small]"
)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="MVTec AD, with screw, to train on.")
@click.option("--textures", type=click.Path(exists=True, path_type=Path), help="DTD's images.")
@click.option("--weights", default="imagenet", help="Of the ResNet-18 that is trained: a file, or imagenet.")
@click.option("--minutes", default=9.0, type=click.FloatRange(0, min_open=True), help="When the call ends.")
@click.option(
    "--small", is_flag=True, help="Small sizes, on the CPU if there is no GPU. It checks that all stages run."
)
@click.argument("names", metavar="[STAGE]...", nargs=-1, type=click.Choice(list(SECONDS)))
def main(
    out: Path | None, data: Path | None, textures: Path | None, weights: str, minutes: float, small: bool,
    names: tuple[str, ...],
) -> None:  # fmt: skip
    """Measure what only a GPU can show; go on where the last call ended."""
    end = time.monotonic() + 60 * minutes
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    cuda = torch.cuda.is_available()
    if not cuda and not small:
        LOGGER.error("There is no GPU that PyTorch can use: nothing is measured. --small tries the stages on the CPU.")
        sys.exit(2)
    out = (out or Path("results/gpu-small" if small else "results/gpu")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    findings, device = Findings(out / FILE), torch.device("cuda:0" if cuda else "cpu")
    earlier = findings.stages.get("environment", {}).get("device", utils.device_name(device))
    if earlier != utils.device_name(device):
        LOGGER.error("%s is of another machine, %s: give another --out.", findings.path, earlier)
        sys.exit(2)
    rig = small_rig(device, out) if small else Rig(PAPER, device, out)
    wanted = [name for name in names or SECONDS if cuda or name not in NEEDS_CUDA]
    for name in names:
        findings.stages.pop(name, None)
    with one_thread() if small else nullcontext():
        waiting = measure_all(rig, findings, wanted, end)
    if data is not None and not names and end - time.monotonic() > LEAST_TRAINING:
        sources = {"DATAPATH": str(data.resolve()), "AUGPATH": str(textures.resolve()) if textures else "none"}
        chosen = {"NET_OPTIONS": f"--backbone_weights {weights} {os.environ.get('NET_OPTIONS', '')}"}
        measure(findings, "screw", lambda: train(out, sources | chosen, end))
        waiting += [] if findings.stages["screw"].get("done") else ["screw"]
    print(f"\n{table(findings.stages)}\n")
    print(f"Everything is in {findings.path}." + (f" Call again for {', '.join(waiting)}." if waiting else ""))
    sys.exit(0 if all(map(sound, findings.stages.values())) else 1)


if __name__ == "__main__":
    main()
