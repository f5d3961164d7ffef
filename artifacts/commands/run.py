"""Options of the command group of main.py: where results go, on which device, and which epoch counts."""

from dataclasses import dataclass, replace
from pathlib import Path

import click

from artifacts.commands.choices import BEST, CENTERS, CLASS, RULES, TENSORBOARD, TRACKERS
from artifacts.commands.option import IGNORED, LATER, TRAINING, VAL_SPLIT, option, refuse_given
from artifacts.layout import seed_folder
from system.parameters import Number, Seed, Seeds


@dataclass(frozen=True)
class RunOptions:
    """Options of the command group: where results go, on which device, and which epoch counts."""

    results_path: Path = option(
        Path("results"), "Folder for everything that a run writes.", type=click.Path(path_type=Path)
    )
    models_path: Path | None = option(
        None, "Results folder to read trained models from, if it is another one.", type=click.Path(path_type=Path)
    )
    gpu: tuple[int, ...] = option(
        (),
        "CUDA device; -1 is the CPU, which is also used where there is no GPU. Repeat it to share the classes among "
        "several devices, one process each. Under torchrun and srun each process takes the device of its local rank.",
        multiple=True,
        type=int,
        show_default="0",
    )
    shard: str | None = option(
        None,
        "Do only every N-th class, beginning with class I (0 to N - 1). Other runs do the other shards.",
        metavar="I/N",
    )
    seed: int = option(
        0,
        "Seed of the initial weights and of every random draw.",
        shapes=(TRAINING, VAL_SPLIT),
        compared=True,
        type=Seed(),
    )
    seeds: tuple[int, ...] = option(
        (),
        "Train each class with each of these seeds instead of --seed, each seed in a results folder of its own: "
        "RESULTS/seed_0, RESULTS/seed_1, ... The tables at the end have mean and standard deviation.",
        type=Seeds(),
        metavar="N,N,...",
        show_default="-",
    )
    test: str = option(
        "ckpt", "ckpt: train, then test. test: only test what is trained.", type=click.Choice(["ckpt", "test"])
    )
    select: str = option(
        BEST,
        "Which epoch to keep. best: highest image + pixel AUROC on the test set, as released. val: the same on a share "
        "of the test set, which the test then leaves out. synthetic: the same on held-out normal images with synthetic "
        "defects. last: the last epoch.",
        shapes=(TRAINING, VAL_SPLIT),
        compared=True,
        paper=BEST,
        type=click.Choice(RULES),
    )
    val_share: float | None = option(
        None,
        "Share to choose the epoch on: of the test set for val (default 0.5), of the training images for synthetic "
        "(default 0.1).",
        shapes=(TRAINING, VAL_SPLIT),
        type=Number(0, 1, min_open=True, max_open=True),
    )
    patience: int = option(
        0,
        "Stop after this many evaluations without improvement; 0: never.",
        shapes=(TRAINING,),
        paper=0,
        type=click.IntRange(0),
    )
    false_alarm_rate: float = option(
        0.01,
        "Share of normal images that may score above the threshold.",
        type=Number(0, 1, min_open=True, max_open=True),
    )
    fresh: bool = option(
        False,
        "Train again what is already trained. Earlier runs move to models/backbone_0/old.",
        is_flag=True,
    )
    grow: int = option(
        0,
        "Go on from the trained weights with the pictures of now, for this many iterations. The grown model lies in "
        "the folder grown of --results_path until --accept; 0: do not.",
        type=click.IntRange(0),
    )
    accept: bool = option(
        False,
        "Put what --grow has made in place of the earlier model, which moves to models/backbone_0/old.",
        is_flag=True,
    )
    joint: bool = option(
        False,
        "Train one model on all classes together, in batches mixed over them, instead of one a class. Each class is "
        "then tested with its weights. Needs --select last and --distribution 2 or 3.",
        shapes=(TRAINING, LATER),
        paper=False,
        is_flag=True,
    )
    joint_center: str = option(
        CLASS,
        "Center of the hypersphere with --joint: each class its own, or one shared by all.",
        type=click.Choice(CENTERS),
    )
    tracker: str = option(
        TENSORBOARD,
        "Where the curves of a training go. mlflow and wandb are packages to install.",
        type=click.Choice(TRACKERS),
    )
    deterministic: bool = option(False, "Make runs on CUDA repeatable to the bit. Slower.", is_flag=True)
    log_group: str = option("group", IGNORED)
    log_project: str = option("project", IGNORED)
    run_name: str = option("test", IGNORED)

    def __post_init__(self) -> None:
        if self.fresh and not self.train:
            raise ValueError("--fresh trains anew, --test test does not train: leave one out.")
        if self.seeds and (self.grow or self.accept):
            raise ValueError("--grow and --accept are for one training: give --seed and not --seeds.")
        if self.grow and (self.accept or not self.train or self.models_path is not None):
            raise ValueError("--grow trains in --results_path: leave out --accept, --test test and --models_path.")
        if self.accept and (self.fresh or not self.train or self.models_path is not None):
            raise ValueError("--accept takes what --grow has made: leave out --fresh, --test test and --models_path.")
        if self.joint and (self.grow or self.accept or not self.train or self.shard is not None):
            raise ValueError(
                "--joint trains all classes together: leave out --grow, --accept, --shard and --test test; its classes "
                "are tested like any others."
            )
        if not self.joint:
            refuse_given(self, ("joint_center",), "without --joint it has no effect")

    def of_seed(self, seed: int) -> "RunOptions":
        """Return the options of one of the seeds."""
        models = None if self.models_path is None else seed_folder(self.models_path, seed)
        return replace(self, seed=seed, seeds=(), results_path=seed_folder(self.results_path, seed), models_path=models)

    @property
    def train(self) -> bool:
        """Whether what is not trained yet is trained; else there are only tests."""
        return self.test == "ckpt"
