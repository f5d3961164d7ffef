"""Checks before any training: options, memory, folders and weights that would fail a run later."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save

import backbones
import utils
from artifacts import checkpoint, class_results, layout, options, run_info
from artifacts.hypothesis_table import table_flag
from artifacts.options import FURTHER, LATER, LOOK, OWN, TRAINING, VAL_SPLIT, DataOptions, NetOptions, RunOptions
from artifacts.run_state import RunState, is_done
from datasets.base import AnomalyDataset
from glass import GLASS
from jobs import card_writer, growth
from jobs.assembly import Assembly, Network
from jobs.held_out import ClassSets
from jobs.settings import Choice, Settings, Task
from preparation import audit, layouts
from reporting import report_page
from system import claims, files
from training.selection import VAL

LOGGER = logging.getLogger(__name__)

KEPT_COPIES = 6  # of a class's weights: latest, best, and the state's three; another best before the earlier one goes
AVERAGE_COPIES = 1  # in the state, beside them
PARTIAL_COPIES = 3  # of them in a file that is being written
PICTURE_BYTES = 200_000  # of a test image's strip, whose photograph takes 256 x 256 x 3 at most
ADAM_COPIES = 4  # of a weight in training: itself, its gradient, two moments
LAYOUTS = {"visa": layouts.VISA, OWN: layouts.FOLDER} | {name: name for name in FURTHER}  # of others: MVTec's
OUT_OF_MEMORY = "lower --batch_size or --imagesize, or --target_embed_dimension and --dsc_hidden"


class Space(NamedTuple):
    """Bytes that a run writes: those that stay, and those that go again before the next class is done."""

    lasting: int
    passing: int


def check_run(assembly: Assembly, tasks: Sequence[Task], sets: Mapping[str, ClassSets], fresh: bool) -> list[Space]:
    """Check everything that can be checked of classes; return the space that they take, on each backbone.

    Args:
        assembly: of the run.
        tasks: the classes, on all backbones.
        sets: their images, by class.
        fresh: what the class folders hold will be moved away.

    Raises:
        ValueError, FileNotFoundError: something is wrong.
    """
    settings, spaces = assembly.settings, []
    _check_memory(assembly, sets)
    _check_tables(settings)
    for folder in (settings.run.results_path, *layout.shared_folders(settings.run.results_path)):
        files.remove_partial(folder)
    for choice in settings.choices:
        own = {task: sets[task.classname] for task in tasks if task.choice.index == choice.index}
        if not own:
            continue
        files.remove_partial(settings.models(choice))
        network = assembly.network(choice, next(iter(own.values())).test.imagesize, settings.run.seed)
        for kept in filter(None, (assembly.kept_weights(choice), settings.kept_before(choice))):
            check_backbone(kept, network)
        for task, each in own.items():
            try:
                _check_folder(assembly, task, network.glass, each, fresh)
            except FileNotFoundError:
                if claims.holder(task.folder) is None:
                    raise  # else its owner has just put another checkpoint in place of the best
        spaces.append(_space(settings, network.glass, own, fresh))
    return spaces


def check_space(results_path: Path, spaces: Sequence[Space]) -> None:
    """Make sure that what all seeds and backbones write finds room.

    Raises:
        ValueError: it does not.
    """
    needed = sum(space.lasting for space in spaces) + max(space.passing for space in spaces)
    free = files.free_bytes(results_path)
    if free < needed:
        room = f"{free / 1e9:.2f} GB free, this run needs about {needed / 1e9:.2f}"
        raise ValueError(f"{results_path} has {room}: make room, or give another --results_path.")


def check_data(settings: Settings, classname: str, parts: Sequence[AnomalyDataset]) -> None:
    """Tell what `prepare.py check` would find in a class, of what the run uses; nothing is decoded for it again.

    Args:
        settings: of the run.
        classname: as in -d.
        parts: its images, checked; the last are those of the test.

    Raises:
        ValueError: there is an error.
    """
    data, test = settings.data, parts[-1]
    layout, trains = LAYOUTS.get(data.name, layouts.MVTEC), len(parts) > 1
    trees = layouts.read_trees(data.data_path, layout, [classname], test.rules, trains)
    seen = audit.Seen(*({path: look for part in parts for path, look in getattr(part, kind).items()}
                        for kind in ("pictures", "masks")))  # fmt: skip
    foreground = parts[0].textures is not None and parts[0].wants_foreground()
    use = audit.Use(layout, test.geometry, data.bits, data.mask_threshold, data.skip_broken, foreground)
    audit.audit(trees[0], use, seen)
    found = audit.of_all(data.data_path, layout, trees)
    errors = [finding for finding in found if finding.level == layouts.ERROR]
    for finding in [finding for finding in found if finding.level == layouts.WARNING] if not errors else errors[1:]:
        LOGGER.warning("%s", finding)
    if errors:
        raise ValueError(str(errors[0]))


def check_backbone(kept: Path, network: Network) -> None:
    """Make sure that the models of a folder use these backbone weights, if the folder keeps any.

    Raises:
        ValueError: they use others.
    """
    if kept.is_file() and backbones.fingerprint(backbones.read_tensors(kept)) != network.fingerprint:
        raise ValueError(f"The models beside {kept} use other backbone weights: give another --results_path.")


def keep_backbone(assembly: Assembly, choice: Choice, network: Network) -> None:
    """Keep the weights of a backbone that cannot be fetched again beside the models.

    Raises:
        ValueError: the models there use others.
    """
    path = assembly.kept_weights(choice)
    if assembly.settings.net.backbone_weights != backbones.IMAGENET and not path.is_file():
        files.write_new(path, save(network.backbone_state, {"origin": f"{choice.name} sha256:{network.fingerprint}"}))
    check_backbone(path, network)


def check_unchanged(before: Mapping[Path, tuple[int, int] | None], contents: Mapping[Path, str]) -> None:
    """Make sure that images and masks are those of before.

    Args:
        before: system.files.state of each.
        contents: their digests then.

    Raises:
        ValueError: one was changed.
    """
    touched = [path for path, state in before.items() if files.state(path) != state]
    changed = [path for path in touched if not path.is_file() or run_info.sha256(path) != contents[path]]
    if changed:
        advice = "the same command tests the images of now, with --fresh it also trains on them"
        count = f"{len(changed)} of {len(before)} images and masks"
        raise ValueError(f"{count} changed while the class ran, e.g. {changed[0]}: {advice}.")


def check_options(assembly: Assembly, task: Task, state: RunState, sets: ClassSets) -> None:
    """Make sure that a class was trained with the options of now, and if it goes on, with the same images.

    Raises:
        ValueError: it was not.
    """
    if not state.options:
        return
    settings, folder = assembly.settings, assembly.settings.class_folder(task)
    found = known_options(state.options)
    data, grown = found.pop("data", None), found.pop(growth.GROWN, None)
    advice = "give another --results_path, or --fresh to start over"
    if settings.run.grow and grown != (wanted := growth.read_base(settings, task).grown):
        raise ValueError(f"{folder} has grown {grown}, wanted {wanted}: accept it by --accept, or --fresh.")
    check_settings(settings, task, folder, found, state.finished)
    if state.finished:
        _check_images(assembly, folder, sets)
    # Of a finished class other images only matter where those held out of it are wanted again.
    undescribed = settings.data.calibration > 0 and card_writer.known_card(folder) is None
    matters = not state.finished or settings.selection.rule == VAL or undescribed
    if data is not None and matters and data != assembly.fingerprint(sets):
        what = "images" if settings.data.synthesis is None else f"images, or another {settings.data.synthesis}"
        raise ValueError(f"{folder} began with other {what}: restore them, {advice}.")


def known_options(recorded: Mapping[str, object]) -> dict[str, object]:
    """Return the options of a run as it recorded them, and the defaults where its version lacked them."""
    later = options.defaults(RunOptions, LATER) | options.defaults(DataOptions, LATER)
    return options.defaults(NetOptions, TRAINING) | later | recorded


def check_settings(settings: Settings, task: Task, folder: Path, found: Mapping[str, object], done: bool) -> None:
    """Make sure that a class was trained with the options of now, or, where it is done, with those that it knows.

    Raises:
        ValueError: it was not.
    """
    wanted = settings.training_options(task.choice)
    known = found if done else {**wanted, **found}
    pairs = [(key, found.get(key), wanted.get(key)) for key in known]
    changed = {key: (before, now) for key, before, now in pairs if before != now}
    if changed:
        said = "; ".join(f"{key} {before}, now {now}" for key, (before, now) in changed.items())
        # An earlier version's recipe had other values, which nobody typed.
        by_recipe = found.get("recipe") == wanted["recipe"] and {*changed} <= {*options.recipe_sets(wanted)}
        before = " ".join(f"--{key} {before}" for key, (before, _) in changed.items())
        kept = f"--recipe {wanted['recipe']} sets that now. To keep what was, give {before}; else " if by_recipe else ""
        advice = f"{kept}give another --results_path, or --fresh to start over"
        raise ValueError(f"{folder} was trained with {said}: {advice}.")


def _check_images(assembly: Assembly, folder: Path, sets: ClassSets) -> None:
    """Make sure that a finished class was trained on the images of now, where that is known.

    Raises:
        ValueError: it was not.
    """
    known = run_info.read_images(folder)
    difference = "" if known is None else known.difference(assembly.image_list(sets))
    if difference:
        grow = "" if assembly.settings.run.joint else "--grow N to go on from its weights for N iterations, "
        raise ValueError(
            f"{folder} is trained on other pictures: {difference}. Give {grow}--fresh to train anew, another "
            f"--results_path, or --test test{' without --joint' * (not grow)} to test it as it is."
        )


def _check_base(settings: Settings, task: Task, glass: GLASS) -> None:
    """Make sure that the model that is to grow fits the options, whatever its images.

    Raises:
        ValueError: it does not, or there is none.
    """
    base = growth.read_base(settings, task)
    own = {"data", growth.GROWN, *options.defaults(DataOptions, LOOK)}  # of this training alone
    found = {key: value for key, value in known_options(base.state.options).items() if key not in own}
    check_settings(settings, task, base.folder, found, done=True)
    glass.load_weights(base.weights)
    card_writer.known_card(base.folder)


def _check_folder(assembly: Assembly, task: Task, glass: GLASS, sets: ClassSets, fresh: bool) -> None:
    """Make sure that what a class folder holds can be read and tested, or trained on without mixing options."""
    settings, folder = assembly.settings, assembly.settings.class_folder(task)
    if settings.run.grow:
        _check_base(settings, task, glass)
    elif settings.run.train and not folder.exists() and growth.is_complete(
        growth.grown_folder(settings.models_path, task)
    ):  # fmt: skip
        raise ValueError(f"{folder} is gone, and its grown model is there: --accept puts it in its place.")
    best = checkpoint.best_checkpoint(folder) if settings.run.train else checkpoint.require_best(folder)
    if fresh:
        return
    state = RunState.load(folder)
    if state.finished and best is None:
        raise FileNotFoundError(f"{folder} is trained, but its ckpt_best_<epoch>.pth is gone: restore it, or --fresh.")
    if settings.run.train:
        if settings.run.joint and best is not None and not state.options:
            raise ValueError(f"{folder} holds weights that --joint did not train: give another --results_path, or "
                             "--fresh.")  # fmt: skip
        check_options(assembly, task, state, sets)
    else:
        _warn_of_another_split(folder, state, settings.training_options(task.choice))
    if best is not None:
        for path in (folder / checkpoint.LATEST, best[0]):
            if path.is_file():
                glass.load_weights(path)
        card_writer.known_card(folder)


def _warn_of_another_split(folder: Path, state: RunState, wanted: dict[str, object]) -> None:
    """Say so where a test is about to test images that epochs were chosen on."""
    deciding = options.names(VAL_SPLIT)
    if state.options.get("select") == VAL and any(state.options[key] != wanted[key] for key in deciding):
        given = ", ".join(f"{key} {state.options[key]}" for key in deciding)
        LOGGER.warning("%s: epochs were chosen on a part of the test set (%s): give these options to leave it out.",
                       folder, given)  # fmt: skip


def _check_memory(assembly: Assembly, sets: Mapping[str, ClassSets]) -> None:
    """Refuse sizes for which even the trained weights and the pictures of a batch are larger than the memory."""
    net, data = assembly.settings.net, assembly.settings.data
    width, hidden = net.target_embed_dimension, net.dsc_hidden
    weights = net.pre_proj * width**2 + width * hidden + max(0, net.dsc_layers - 2) * hidden**2
    images = max(len(part) for each in sets.values() for part in (each.train, each.test) if part is not None)
    pixels = 2 * min(images, data.batch_size) * math.prod(next(iter(sets.values())).test.imagesize)
    needed = 4 * (ADAM_COPIES * weights + pixels)  # bytes
    there = utils.memory(assembly.device)
    if needed > there:
        sizes = f"more than {needed / 1e9:.0f} GB of memory, there are {there / 1e9:.0f}"
        raise ValueError(f"This run needs {sizes}: {OUT_OF_MEMORY}.")


def _check_tables(settings: Settings) -> None:
    """Read what is read at the end, or in the middle of a run: earlier results, and the tables of hypotheses."""
    results_path = settings.run.results_path
    try:
        if class_results.collect(results_path):
            report_page.build(results_path)
    except FileNotFoundError:
        if not report_page.is_busy(results_path):
            raise  # else another process has just put other files in their place
    for classname in settings.data.subdatasets:
        table_flag(settings.name(classname), "Distribution", settings.judge_path)


def _space(settings: Settings, glass: GLASS, sets: Mapping[Task, ClassSets], fresh: bool) -> Space:
    """Return the space that classes on a backbone take: weights and states, and a picture of each test image."""
    values = [value for network in glass.trained().values() for value in network.state_dict().values()]
    size = sum(value.numel() * value.element_size() for value in values)
    lasting, kept = 0, KEPT_COPIES + AVERAGE_COPIES * (settings.net.ema_decay > 0)
    for task, each in sets.items():
        done = not settings.run.train or is_done(settings.class_folder(task))
        lasting += (0 if done and not fresh else kept * size) + 2 * PICTURE_BYTES * len(each.test.entries)
    return Space(lasting, PARTIAL_COPIES * size)
