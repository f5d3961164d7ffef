"""Command line: `python main.py [options] net [options] dataset [options] NAME DATA_PATH [AUG_PATH]`.

The three parts are chained: the group says where results go and on which device, `net` which networks, `dataset`
which images. Each class is checked, trained, tested with its best and its last weights, and written to results.csv.
"""

import logging
import math
import os
import sys
from pathlib import Path
from typing import Any

import click
import torch

from datasets.base import GOOD
from images import geometry
from jobs.job import Job
from system import launch, logs, processes
from system.processes import Place
from system.signals import Interrupts
from training.feature_cache import PLACES
from training.progress import NO_BARS
from training.selection import BEST, RULES, Selection
from utils import PRECISIONS, set_deterministic, set_torch_device

LOGGER = logging.getLogger(__name__)


IGNORED = "Accepted for old command lines; has no effect."
OWN = "folder"  # NAME of one's own pictures
NO_TEXTURES = "none"  # for AUG_PATH
DEFAULTS = {  # option -> its default for benchmark data, and for one's own pictures
    "fg": (1, 0),
    "calibration": (0.0, 0.1),
    "resize_mode": (geometry.CROP, geometry.LETTERBOX),
}
RESIZE = 288  # where there is a crop


class Size(click.ParamType):
    """A side in pixels, or height x width: 288 or 200x320."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        """Return the side, or (height, width)."""
        if not isinstance(value, str):
            return value
        sides = [int(part) if part.isdecimal() and len(part) < 7 else 0 for part in value.lower().split("x")]
        if len(sides) > 2 or min(sides) < 1:
            self.fail(f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH, as in 200x320.", param, ctx)
        return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])


class Number(click.FloatRange):
    """A number within limits, and neither infinite nor "not a number"."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


@click.group(chain=True, context_settings={"show_default": True})
@click.option(
    "--results_path", default="results", type=click.Path(path_type=Path), help="Folder for everything a run writes."
)
@click.option(
    "--models_path",
    default=None,
    type=click.Path(path_type=Path),
    help="Results folder to read trained models from, if another.",
)
@click.option(
    "--gpu",
    default=[],
    multiple=True,
    type=int,
    show_default="0",
    help="CUDA device to use; the CPU where there is none, or for -1. Given several times: a process on each, which "
    "share the classes. Processes of torchrun and srun take the one of their local rank.",
)
@click.option(
    "--shard",
    default=None,
    metavar="I/N",
    help="Do only every N-th class, from class I on, I = 0 .. N - 1; other runs may do the other shards.",
)
@click.option(
    "--seed", default=0, type=click.IntRange(-(2**63), 2**63 - 1), help="Seed of weights and of every random draw."
)
@click.option(
    "--test",
    default="ckpt",
    type=click.Choice(["ckpt", "test"]),
    help="ckpt: train, then test; test: only test what is trained.",
)
@click.option(
    "--select",
    default=BEST,
    type=click.Choice(RULES),
    help="Epoch that is kept as the best: by image + pixel AUROC on the test set (best, as released), on a part of it "
    "that is then not tested (val), or on held-out normal images with synthetic defects (synthetic); or the last.",
)
@click.option(
    "--val_share",
    default=None,
    type=Number(0, 1, min_open=True, max_open=True),
    help="Share of the test set (val; 0.5 by default) or of the training images (synthetic; 0.1) to choose on.",
)
@click.option(
    "--patience",
    default=0,
    type=click.IntRange(0),
    help="Stop training after this many evaluations without improvement; 0 for never.",
)
@click.option(
    "--false_alarm_rate",
    default=0.01,
    type=Number(0, 1, min_open=True, max_open=True),
    help="Share of normal images that may score above the threshold in model.json.",
)
@click.option(
    "--fresh", is_flag=True, help="Train anew what is trained already; earlier runs are kept in models/backbone_0/old."
)
@click.option("--deterministic", is_flag=True, help="Make CUDA repeat a run's bits, too, at the cost of speed.")
@click.option("--log_group", default="group", help=IGNORED)
@click.option("--log_project", default="project", help=IGNORED)
@click.option("--run_name", default="test", help=IGNORED)
def main(**_: Any) -> None:
    """Train and test GLASS, an anomaly detector that learns from good images only."""


@main.result_callback()
def run(methods: list[tuple[str, dict[str, Any]]], fresh: bool, deterministic: bool, **group: Any) -> None:
    """Run what the chained commands describe.

    Exits with 0: done; 1: a class failed, or another run trains it; 2: wrong input, or nowhere to write to;
    130 or 143: SIGINT or SIGTERM came, and the same command goes on from there.
    """
    parts = dict(methods)
    for wanted in ("net", "dataset"):
        if wanted not in parts:
            raise click.UsageError(
                f"The command '{wanted}' is missing: main.py [options] net [options] dataset [options] ..."
            )
    if fresh and group["test"] == "test":
        raise click.UsageError("--fresh trains anew, --test test does not train: leave one out.")
    try:
        with Interrupts():
            place, devices = take_place(group["results_path"], group["shard"], group["gpu"])
            if deterministic:
                set_deterministic()
            job = _job(parts["net"], parts["dataset"], fresh, group, devices, place)
            failed = job.judge() if parts["dataset"]["distribution"] == 1 else job.run()
    except (ValueError, OSError) as error:
        LOGGER.error("%s", error)
        sys.exit(2)
    sys.exit(1 if failed else 0)


def _job(
    net_options: dict[str, Any],
    data_options: dict[str, Any],
    fresh: bool,
    group: dict[str, Any],
    devices: list[int],
    place: Place,
) -> Job:
    """Return the job of a command line's three parts; raises as runs.Job does."""
    return Job(
        group["results_path"],
        group["models_path"] or group["results_path"],
        devices,
        group["seed"],
        net_options,
        data_options,
        train=group["test"] == "ckpt",
        selection=Selection(group["select"], group["patience"], group["val_share"]),
        false_alarm_rate=group["false_alarm_rate"],
        fresh=fresh,
        place=place,
    )


def take_place(results_path: Path, shard: str | None, gpu: tuple[int, ...]) -> tuple[Place, list[int]]:
    """Return the place of this process and its one device; if several are wanted, run a process on each, and exit.

    Raises:
        ValueError: wrong options or variables, or a device that does not exist.
        SystemExit: the processes have ended.
    """
    place = processes.read_place(os.environ, shard)
    devices = processes.choose_devices(gpu, place, torch.cuda.device_count())
    logs.log_to(results_path, place)
    launch.end_with_launcher()
    if len(devices) > 1:
        for device in devices:
            set_torch_device([device] if device >= 0 else [])  # refuses one that is not there
        sys.exit(launch.Launcher(devices).run())
    if place.world > 1:
        os.environ.setdefault(NO_BARS, "1")
    return place, devices


@main.command("net", context_settings={"show_default": True})
@click.option(
    "--backbone_names",
    "-b",
    multiple=True,
    default=["wideresnet50"],
    help="Backbone; NAME.seed-K seeds its training with K. May be given several times.",
)
@click.option(
    "--layers_to_extract_from",
    "-le",
    multiple=True,
    default=[],
    help="Layer to take features from (default: the natural ones). With several backbones: 0.LAYER, 1.LAYER.",
)
@click.option(
    "--backbone_weights",
    default="imagenet",
    metavar="imagenet|random|FILE",
    help="Weights of the backbone: ImageNet's, random ones, or a state dict (.pth, .safetensors).",
)
@click.option(
    "--pretrain_embed_dimension",
    type=click.IntRange(1),
    default=1024,
    help="Width each layer's neighbourhoods are pooled to.",
)
@click.option("--target_embed_dimension", type=click.IntRange(1), default=1024, help="Width of a feature row.")
@click.option(
    "--patchsize", type=click.IntRange(1, 99), default=3, help="Side of a neighbourhood on the feature grid, odd."
)
@click.option("--meta_epochs", type=click.IntRange(1), default=640, help="Epochs to train.")
@click.option(
    "--eval_epochs", type=click.IntRange(1), default=1, help="Evaluate on the test set every this many epochs."
)
@click.option("--dsc_layers", type=click.IntRange(1, 1000), default=2, help="Linear layers of the discriminator.")
@click.option("--dsc_hidden", type=click.IntRange(1), default=1024, help="Width of its hidden layers.")
@click.option(
    "--dsc_margin", type=Number(), default=0.5, help="Score that the logged shares p_true and p_fake count from."
)
@click.option(
    "--pre_proj", type=click.IntRange(0, 1000), default=1, help="Linear layers of the feature adaptor; 0 for none."
)
@click.option(
    "--mining", type=click.IntRange(0, 1), default=1, help="1: gradient ascent on the noisy features; 0: noise alone."
)
@click.option("--noise", type=Number(0), default=0.015, help="Standard deviation of the noise on features.")
@click.option(
    "--radius",
    type=Number(0, 1),
    default=0.75,
    help="Quantile of the distances from the center that makes the radius.",
)
@click.option(
    "--p",
    type=Number(0, 1),
    default=0.5,
    help="Quantile of hardness below which rows are left out of the focal loss; 0 keeps all.",
)
@click.option(
    "--lr",
    type=Number(0, min_open=True),
    default=0.0001,
    help="Learning rate of the adaptor; the discriminator's is twice that.",
)
@click.option(
    "--svd", type=click.IntRange(0, 1), default=0, help="Accepted for old command lines; --distribution decides."
)
@click.option("--step", type=click.IntRange(0), default=20, help="Steps of gradient ascent.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=392,
    help="An epoch ends after the batch that brings the images seen above this.",
)
@click.option(
    "--cache",
    type=click.Choice(PLACES),
    default="auto",
    help="Where features that do not change are kept: where they fit, on the device, in host memory, or nowhere.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    help="fp32; tf32: faster matrix products on CUDA, rounded; bf16: the frozen backbone in bfloat16.",
)
@click.option("--train_backbone", is_flag=True, help="Train the backbone, too.")
def net(**options: Any) -> tuple[str, dict[str, Any]]:
    """Choose the networks and how they are trained."""
    if options["patchsize"] % 2 == 0:
        raise click.UsageError(f"--patchsize {options['patchsize']} must be odd, so that a neighbourhood has a centre.")
    return "net", options


@main.command("dataset", context_settings={"show_default": True})
@click.option("--subdatasets", "-d", multiple=True, required=True, help="Class; may be given several times.")
@click.option("--batch_size", type=click.IntRange(1), default=8, help="Images in a batch.")
@click.option(
    "--num_workers",
    type=click.IntRange(0),
    default=16,
    help="Processes that load images; at most the machine's cores are used.",
)
@click.option(
    "--resize_mode",
    type=click.Choice(geometry.MODES),
    show_default="crop; letterbox for folder",
    help="crop: cut the centre out of the resized picture; stretch: to the size, aspect not kept; letterbox: aspect "
    "kept, padded.",
)
@click.option(
    "--resize",
    type=Size(),
    metavar="N|HxW",
    show_default=f"{RESIZE}, for crop alone",
    help="Pixels the shorter side is resized to before the crop; HxW does not keep the aspect.",
)
@click.option(
    "--imagesize", type=Size(), metavar="N|HxW", default=288, help="Pixels of the network's picture: a side, or HxW."
)
@click.option("--rotate_degrees", type=Number(0), default=0, help="Rotate training images by up to this.")
@click.option(
    "--translate",
    type=Number(0, 1),
    default=0,
    help="Shift training images by up to this share of their size.",
)
@click.option("--scale", type=Number(0, 1, max_open=True), default=0, help="Scale training images by up to this share.")
@click.option(
    "--brightness",
    type=Number(0),
    default=0,
    help="Jitter the brightness of training images by up to this share.",
)
@click.option(
    "--contrast",
    type=Number(0),
    default=0,
    help="Jitter the contrast of training images by up to this share.",
)
@click.option(
    "--saturation",
    type=Number(0),
    default=0,
    help="Jitter the saturation of training images by up to this share.",
)
@click.option("--gray", type=Number(0, 1), default=0, help="Probability of turning a training image gray.")
@click.option("--hflip", type=Number(0, 1), default=0, help="Probability of mirroring a training image left to right.")
@click.option("--vflip", type=Number(0, 1), default=0, help="Probability of mirroring a training image top to bottom.")
@click.option(
    "--distribution",
    type=click.IntRange(0, 4),
    default=0,
    help="Hypothesis: 0 by table, 1 only judge, 2 manifold, 3 hypersphere, 4 opposite of the table.",
)
@click.option("--mean", type=Number(), default=0.5, help="Mean of the blend's opacity beta.")
@click.option("--std", type=Number(0), default=0.1, help="Standard deviation of beta.")
@click.option(
    "--fg",
    type=click.IntRange(0, 2),
    show_default="1; 0 for folder",
    help="Keep synthetic defects on the foreground: 0 never, 1 always, 2 by table.",
)
@click.option(
    "--calibration",
    type=Number(0, 1, max_open=True),
    show_default="0; 0.1 for folder",
    help="Share of the training images that is not trained on, but sets the threshold; 0: the test's normals do.",
)
@click.option(
    "--rand_aug", type=click.IntRange(0, 1), default=1, help="1: change each texture by three random operations."
)
@click.option(
    "--downsampling",
    type=click.IntRange(1),
    default=8,
    help="Accepted for old command lines; the backbone's own grid decides.",
)
@click.option(
    "--normal_dir",
    multiple=True,
    default=[GOOD],
    help="Name of a folder of normal pictures. May be given several times.",
)
@click.option("--skip_broken", is_flag=True, help="Leave out images that cannot be read, and count them.")
@click.option("--augment", is_flag=True, help=IGNORED)
@click.argument("name", type=click.Choice(["mvtec", "visa", "mpdd", "wfdd", OWN]))
@click.argument("data_path", type=click.Path(path_type=Path))
@click.argument("aug_path", type=click.Path(path_type=Path), required=False)
def dataset(**options: Any) -> tuple[str, dict[str, Any]]:
    """Choose the images: data set NAME in DATA_PATH, textures for synthetic defects in AUG_PATH (dtd/images).

    NAME folder takes one's own pictures: DATA_PATH/CLASS holds good ones. Without AUG_PATH, or with none, textures are
    drawn by formula.
    """
    for option, (benchmark, own) in DEFAULTS.items():
        if options[option] is None:
            options[option] = own if options["name"] == OWN else benchmark
    if options["resize"] is None and options["resize_mode"] == geometry.CROP:
        options["resize"] = RESIZE
    if options["name"] == "visa" and options["normal_dir"] != (GOOD,):
        raise click.UsageError("--normal_dir has no effect on visa, whose list says which images are normal.")
    if str(options["aug_path"]) == NO_TEXTURES:
        options["aug_path"] = None
    try:
        geometry.Geometry(options["resize"], geometry.pair(options["imagesize"]), options["resize_mode"])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return "dataset", options


if __name__ == "__main__":
    main()
