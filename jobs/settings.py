"""The settings of a run, and what follows from them: backbones, classes, folders, and what training depends on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import backbones
from artifacts import class_results, layout, options
from artifacts.class_status import Planned
from artifacts.options import HYPOTHESES, LAST, MANIFOLD, TRAINING, DataOptions, NetOptions, RunOptions
from training.selection import Selection

FIRST = -1  # place of a joint training in tables, before its classes
DIGITS = 19  # of the first numbers that are no seeds


@dataclass(frozen=True)
class Choice:
    """A backbone of the command line: its index, name, layers, and the seed of its training (None: the run's)."""

    index: int
    name: str
    layers: list[str]
    seed: int | None


@dataclass(frozen=True)
class Task:
    """A class to be trained and tested on a backbone.

    Attributes:
        choice: the backbone.
        classname: as in -d.
        planned: its name, and its place on the command line.
        folder: of the weights, or where they are only read, of the results.
        results: folder of its result file.
    """

    choice: Choice = field(compare=False)
    classname: str
    planned: Planned
    folder: Path
    results: Path


@dataclass(frozen=True)
class Settings:
    """The three parts of a command line.

    Attributes:
        before: results folder of the models that grow, whose own results go into a folder in it; None without --grow.

    Raises:
        ValueError: an unknown backbone, or options that do not fit together.
    """

    run: RunOptions
    net: NetOptions
    data: DataOptions
    before: Path | None = None

    def __post_init__(self) -> None:
        _ = self.choices, self.selection  # refuse what is wrong with them before anything else is done
        if self.run.joint:
            self._check_joint()
        if self.run.grow and len(self.choices) > 1:
            raise ValueError("--grow is about one backbone: give one -b.")
        if self.run.seeds and any(choice.seed is not None for choice in self.choices):
            raise ValueError("--seeds gives the seeds: leave .seed- out of -b.")
        if self.run.seeds and (self.run.results_path / layout.MODELS).is_dir():
            raise ValueError(f"{self.run.results_path} holds one training: give another --results_path for --seeds.")

    def _check_joint(self) -> None:
        """Refuse what does not go with --joint.

        Raises:
            ValueError: something does not.
        """
        classes, distribution = set(self.data.subdatasets), self.data.distribution
        if len(classes) < 2:
            raise ValueError("--joint is about several classes: give -d at least twice, or leave --joint out.")
        if layout.JOINT in classes:
            raise ValueError(f"--joint: its folder has the name of the class {layout.JOINT}: rename the class.")
        if self.selection.rule != LAST:
            raise ValueError(
                f"--joint with --select {self.selection.rule}: one model has one epoch for all classes, so none can "
                "choose it: give --select last (as --recipe quick does)."
            )
        if distribution not in HYPOTHESES:
            raise ValueError(
                f"--joint with --distribution {distribution}: all classes are trained under one hypothesis: give "
                "--distribution 2 (manifold) or 3 (hypersphere)."
            )
        if distribution == MANIFOLD and self.run.joint_center != RunOptions.joint_center:
            raise ValueError("--joint_center has no effect with --distribution 2, the manifold: leave it out.")

    @classmethod
    def of(cls, run: RunOptions, net: NetOptions, data: DataOptions) -> "Settings":
        """Make the settings of a command line."""
        if not run.grow:
            return cls(run, net, data)
        return cls(replace(run, results_path=run.results_path / layout.GROWN), net, data, run.results_path)

    def of_seeds(self) -> list["Settings"]:
        """Return the settings of each of --seeds, with a results folder of its own; without, these alone."""
        return [replace(self, run=self.run.of_seed(seed)) for seed in self.run.seeds] or [self]

    @cached_property
    def choices(self) -> list[Choice]:
        """The backbones."""
        return read_choices(self.net.backbone_names, self.net.layers_to_extract_from)

    @cached_property
    def selection(self) -> Selection:
        """Which epoch's weights are the best, and whether training stops early."""
        return Selection(self.run.select, self.run.patience, self.run.val_share)

    @property
    def models_path(self) -> Path:
        """The results folder that trained models are read from."""
        return self.run.models_path or self.run.results_path

    @property
    def judge_path(self) -> Path:
        """Folder of the judgements of hypotheses."""
        return (self.before or self.run.results_path) / layout.JUDGE

    def name(self, classname: str) -> str:
        """Return "<dataset>_<class>"."""
        return f"{self.data.name}_{classname}"

    def models(self, choice: Choice) -> Path:
        """Return the folder of the class folders of a backbone."""
        return layout.models_folder(self.models_path, choice.index)

    def class_folder(self, task: Task) -> Path:
        """Return the folder of a class's weights."""
        return self.models(task.choice) / task.planned.name

    def earlier_folder(self, task: Task) -> Path:
        """Return the folder of the class that the images' uses stand by: that which grows, or the class's own."""
        return layout.class_folder(self.before or self.models_path, task.choice.index, task.planned.name)

    def kept_before(self, choice: Choice) -> Path | None:
        """Return where weights of the backbone of models that grow are kept, if they are; None without --grow."""
        return self.before and layout.models_folder(self.before, choice.index) / layout.BACKBONE_FILE

    def seed(self, choice: Choice) -> int:
        """Return the seed of a backbone's training."""
        return self.run.seed if choice.seed is None else choice.seed

    def tasks(self) -> list[Task]:
        """Return the classes of the command line on each of its backbones."""
        tasks = []
        for choice in self.choices:
            for order, classname in enumerate(dict.fromkeys(self.data.subdatasets)):
                planned = Planned(self.name(classname), choice.name, choice.index, order)
                results = class_results.result_path(self.run.results_path, choice.index, planned.name).parent
                folder = self.models(choice) / planned.name if self.run.train else results
                tasks.append(Task(choice, classname, planned, folder, results))
        return tasks

    def joint_tasks(self) -> list[Task]:
        """Return the trainings of all classes together, one on each backbone; none without --joint."""
        name, tasks = self.name(layout.JOINT), []
        for choice in self.choices if self.run.joint else []:
            folder = self.models(choice) / name
            tasks.append(Task(choice, "", Planned(name, choice.name, choice.index, FIRST), folder, folder))
        return tasks

    def training_options(self, choice: Choice) -> dict[str, Any]:
        """Return what a trained model depends on, as plain values."""
        shaping = options.values(self.net, TRAINING) | options.values(self.data, TRAINING)
        shaping |= {"backbone": choice.name, "layers_to_extract_from": ",".join(choice.layers)}
        shaping |= {"select": self.selection.rule, "val_share": self.selection.share}
        seed = self.run.seed if choice.seed is None else f"{self.run.seed}, training {choice.seed}"
        shaping |= {"patience": self.selection.patience, "seed": seed, "joint": self.run.joint}
        if self.run.joint:
            classes = ",".join(sorted(set(self.data.subdatasets)))
            shaping |= {"classes": classes, "joint_center": self.run.joint_center}
        return shaping

    def origin(self, name: str, choice: Choice, kept: Mapping[str, Any]) -> dict[str, Any]:
        """Return what run.json says of a training: all options, and what is kept of them with its state."""
        given = asdict(self.net) | asdict(self.data)
        origin = {"name": name, "training_seed": self.seed(choice), "options": given, **kept}
        return origin | {"recipe_sets": options.recipe_sets(kept)}


def read_choices(names: tuple[str, ...], layers: tuple[str, ...]) -> list[Choice]:
    """Read `-b` and `-le`: NAME or NAME.seed-K; with several backbones, layers are 0.LAYER, 1.LAYER, ...

    Raises:
        ValueError: an unknown backbone or a seed that is no number.
    """
    choices = []
    for index, text in enumerate(names):
        name, _, seed = text.partition(".seed-")
        if seed and not (seed.isdecimal() and len(seed) < DIGITS):
            raise ValueError(f"-b {text}: the seed must be a number of up to {DIGITS - 1} digits: {name}.seed-1.")
        natural = backbones.natural_layers(name)
        own = list(layers)
        if len(names) > 1:
            own = [layer.partition(".")[2] for layer in layers if layer.startswith(f"{index}.")]
        choices.append(Choice(index, name, own or natural, int(seed) if seed else None))
    return choices
