"""Training that goes on with further good pictures (--grow): what it begins with, whether it is better, and --accept.

The grown model has a results folder of its own, <results>/grown, so that the model that it comes from is untouched.
--accept moves the earlier class folder to models/backbone_<i>/old, then the grown one into its place. Both are renames,
so either model lies somewhere as a whole at any moment, and the same command goes on after a stop in between.
"""

import itertools
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from artifacts import checkpoint, class_results, layout, model_card, run_info
from artifacts.model_card import Threshold, above
from artifacts.options import HYPERSPHERE, MANIFOLD
from artifacts.run_info import ImageList
from artifacts.run_state import STATE, RunState
from jobs import card_writer
from jobs.held_out import ClassSets, SyntheticDefects
from jobs.settings import Settings, Task
from metrics import ImageScores
from reporting.growth_table import NEW, OLD, Judged
from system import claims

LOGGER = logging.getLogger(__name__)

GROWN = "grown"  # among the options of a state: iterations, and the weights that they began with


@dataclass(frozen=True)
class Base:
    """The trained model that grows.

    Attributes:
        folder: of the class.
        state: of its training.
        weights: its best, which are in use.
        images: of its training.
        grown: how it grows: iterations, and these weights.
    """

    folder: Path
    state: RunState
    weights: Path
    images: ImageList
    grown: str

    def threshold(self, rate: float, framing: dict[str, Any] | None) -> Threshold | None:
        """Return its threshold for a false-alarm rate and a framing; None where it has none."""
        card = card_writer.known_card(self.folder)
        return None if card is None else card_writer.with_rate(card, rate, framing).threshold

    def under_its_hypothesis(self, sets: ClassSets) -> ClassSets:
        """Return the images of a class for a training under the hypothesis of the model."""
        if self.state.hypersphere is None:
            return sets
        train = sets.train.part(range(len(sets.train.entries)))
        train.distribution = HYPERSPHERE if self.state.hypersphere else MANIFOLD
        return replace(sets, train=train)


def read_base(settings: Settings, task: Task) -> Base:
    """Read the model of a class that is to grow.

    Raises:
        ValueError: there is none, or nothing tells which images it was trained on.
    """
    folder = settings.earlier_folder(task)
    best, state, images = checkpoint.best_checkpoint(folder), RunState.load(folder), run_info.read_images(folder)
    if best is None or not (folder / STATE).is_file() or not state.finished:
        raise ValueError(f"{folder} holds no model that was trained to its end here: leave out --grow to train one.")
    if images is None:
        raise ValueError(f"{folder} keeps no list of its training images, as an earlier version trained it: train with "
                         "--fresh in place of --grow, once.")  # fmt: skip
    told = f"{settings.run.grow} iterations from {best[0].name} sha256:{run_info.sha256(best[0])}"
    return Base(folder, state, best[0], images, told)


def compare(
    held: SyntheticDefects,
    known: Collection[Path],
    models: Mapping[str, tuple[Path, Threshold | None]],
    score: Callable[[Path, SyntheticDefects], ImageScores],
) -> list[Judged]:
    """Judge held-out images by the old and the new model.

    Args:
        held: all of them, each as it is and with a synthetic defect.
        known: images of the old model's training.
        models: weights and threshold of OLD and NEW.
        score: by some weights.
    """
    rows, calibrates = [], {(OLD, OLD), (OLD, NEW), (NEW, NEW)}
    for pictures in (OLD, NEW):
        part = [k for k, entry in enumerate(held.normals.entries) if (entry.image in known) == (pictures == OLD)]
        if not part:
            continue
        images = SyntheticDefects(held.normals.part(part), held.seed)
        for model, (weights, threshold) in models.items():
            scores = score(weights, images)
            (normal, _), (defect, _) = scores.of(0), scores.of(1)
            limit = None if threshold is None else threshold.score
            alarms = [None if limit is None else int(above(each, limit).sum()) for each in (normal, defect)]
            sets = limit is not None and (pictures, model) in calibrates and threshold.basis == model_card.HELD_OUT
            limit = None if limit is None else model_card.rounded_up(limit)
            numbers = float(np.median(normal)), float(normal.max())
            rows.append(Judged(pictures, model, len(part), *numbers, limit, *alarms, sets))
    return rows


# --- acceptance ---------------------------------------------------------------------------------------------


def grown_folder(results_path: Path, task: Task) -> Path:
    """Return the class folder of a grown model."""
    return layout.class_folder(results_path / layout.GROWN, task.choice.index, task.planned.name)


def is_complete(folder: Path) -> bool:
    """Say whether a class folder holds a model that is trained and tested."""
    return (
        (folder / class_results.RESULT_FILE).is_file() and (folder / STATE).is_file() and RunState.load(folder).finished
    )


def accept(results_path: Path, task: Task) -> None:
    """Put a grown model in place of the earlier one; nothing is to be done where that was done before.

    Raises:
        Claimed: another process works on either.
        ValueError: nothing has grown to its end.
    """
    grown = grown_folder(results_path, task)
    with ExitStack() as stack:
        for folder in (grown, task.folder):
            stack.enter_context(claims.claim(folder))
        if is_complete(grown):
            move_aside(task.folder)
            task.folder.parent.mkdir(parents=True, exist_ok=True)
            grown.rename(task.folder)
            LOGGER.info("%s: the grown model is accepted: it lies in %s.", task.planned.name, task.folder)
        elif grown.exists() or GROWN not in RunState.load(task.folder).options:
            raise ValueError(f"{grown} holds no model that has grown to its end: give --grow N in place of --accept.")


def move_aside(folder: Path) -> None:
    """Move a class folder, if it is there, to where no table looks, <parent>/old/<name>-<n>."""
    if not folder.is_dir():
        return
    numbers = itertools.count(1)
    target = next(path for n in numbers if not (path := folder.parent / "old" / f"{folder.name}-{n}").exists())
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    LOGGER.info("%s: the earlier run is kept in %s.", folder.name, target)
