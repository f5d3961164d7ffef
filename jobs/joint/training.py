"""Training one model on all classes of a command line (--joint), and giving it to each of their folders.

The training has a folder of its own beside those of the classes, <dataset>_joint, with a state and checkpoints like
theirs, so that it is claimed and goes on after a stop as a class is. When it is finished, each class folder gets its
weights and a finished state. From then on a class is tested, predicted and exported like any other.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

import utils
from artifacts import checkpoint, class_status, curves, layout, run_info
from artifacts.options import CLASS, HYPERSPHERE, LAST
from artifacts.run_state import RunState, is_done
from artifacts.tracking import trackers
from jobs.assembly import Assembly
from jobs.checks import check_settings, check_unchanged, keep_backbone, known_options
from jobs.held_out import ClassSets
from jobs.joint.images import JointImages, PartSampler
from jobs.settings import Task
from system import files
from training.selection import Selection


class JointTraining:
    """The training of all classes together on a backbone.

    Args:
        assembly: of the run.
        task: of the training, see Settings.joint_tasks.
        sets: the images of each class that is trained, by its task.

    Attributes:
        needed: whether a class waits for it.
    """

    def __init__(self, assembly: Assembly, task: Task, sets: Mapping[Task, ClassSets]) -> None:
        self.assembly, self.settings, self.task, self.choice = assembly, assembly.settings, task, task.choice
        self.sets = {task.classname: each for task, each in sorted(sets.items(), key=lambda pair: pair[0].classname)}
        self.name, self.folder, self.seed = task.planned.name, task.folder, self.settings.seed(task.choice)
        self.needed = not all(is_done(task.folder) for task in sets)

    @cached_property
    def kept(self) -> dict[str, Any]:
        """The options of the training, with a fingerprint of the images of all classes."""
        prints = "".join(self.assembly.fingerprint(each) for each in self.sets.values())
        data = hashlib.sha256(prints.encode()).hexdigest()
        return self.settings.training_options(self.choice) | {"data": data}

    def check(self) -> RunState:
        """Make sure that what the folder holds was begun with the options and images of now; return its state.

        Raises:
            ValueError, FileNotFoundError: it was not, or the weights are gone.
        """
        state = RunState.load(self.folder)
        if state.options:
            found = known_options(state.options)
            data = found.pop("data", None)
            check_settings(self.settings, self.task, self.folder, found, state.finished)
            if data != self.kept["data"]:
                raise ValueError(f"{self.folder} began with other images: restore them, give another --results_path, "
                                 "or --fresh to start over.")  # fmt: skip
        if state.finished:
            checkpoint.require_best(self.folder)
        return state

    def run(self) -> None:
        """Train, unless that is done or no class waits for it; go on where the state says an earlier run stopped."""
        if not self.needed and not self.settings.run.fresh:
            return
        state = self.check()
        if not state.finished:
            self._train(state)
        text = json.dumps([*self.sets])
        files.atomic_write(self.folder / layout.JOINT_FILE, f"{text}\n".encode())

    def _train(self, state: RunState) -> None:
        assembly, run = self.assembly, self.settings.run
        network = assembly.network(self.choice, next(iter(self.sets.values())).test.imagesize, self.seed)
        glass = network.glass
        paths = [path for each in self.sets.values() for path in each.files]
        before, contents = {path: files.state(path) for path in paths}, assembly.contents(paths)
        keep_backbone(assembly, self.choice, network)
        files.remove_partial(self.folder, age=0)
        utils.fix_seeds(self.seed)
        glass.set_model_dir(self.folder.parent, self.name, run.results_path)
        images = JointImages(self.name, [each.train.on_grid(glass.grid) for each in self.sets.values()])
        origin, device = self.settings.origin(self.name, self.choice, self.kept), utils.device_name(assembly.device)
        tracker = trackers.opener(run.tracker, run.results_path, self.name, self.kept)
        with run_info.recorded(self.folder, origin, device) as record, images.kept_pixels():
            glass.trainer(self._loader(images), [], self.name, self.kept, Selection(LAST), state, tracker)
            record["start"] = state.start
        check_unchanged(before, contents)

    def _loader(self, images: JointImages) -> DataLoader:
        """Return the training batches; where each class has a center, with the batches of each, see GLASS.center."""
        loader = self.assembly.train_loader(images, self.seed)
        if images.distribution == HYPERSPHERE and self.settings.run.joint_center == CLASS:
            # Without workers: as many for each class would be too many. Where features are kept, nothing reads these.
            loader.classes = {
                span: DataLoader(part, batch_sampler=self.assembly.sampler(part, self.seed))
                for span, part in zip(images.spans, images.parts, strict=True)
            }
        return loader

    def hand_over(self, folder: Path, kept: dict[str, Any], state: RunState) -> None:
        """Give the model to a class folder; the state there is brought up to date in place, the last of all.

        Raises:
            ValueError: the training did not come to its end.
        """
        found, failure = RunState.load(self.folder), class_status.read_failure(self.folder)
        if failure is not None:
            raise ValueError(f"{self.name} failed: {failure.error}")
        if not found.finished:
            raise ValueError(f"{self.name} is not trained to its end: the same command goes on.")
        RunState(options=kept).save(folder)  # before anything that would look like a finished class
        best, _ = checkpoint.require_best(self.folder)
        for name in (checkpoint.LATEST, best.name, curves.CURVES_FILE):
            files.atomic_write(folder / name, (self.folder / name).read_bytes())
        done = dataclasses.replace(found, options=kept, center=None, weights={}, averaged={}, optimizers={})
        done.save(folder)
        state.reload(folder)

    def sampler(self, classname: str) -> PartSampler:
        """Return what drew the images of a class."""
        parts = [each.train for each in self.sets.values()]
        images = JointImages(self.name, parts)
        return PartSampler(self.assembly.sampler(images, self.seed), images.spans[[*self.sets].index(classname)])
