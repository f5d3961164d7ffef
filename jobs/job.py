"""One run: options to data and networks, every class trained and tested, results to files and tables."""

import dataclasses
import itertools
import logging
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch.utils.data import DataLoader

import backbones
import utils
from artifacts import checkpoint, class_results, class_status, hypothesis_table, model_card, run_info, run_state
from artifacts.class_status import Failure, Planned
from artifacts.run_state import RunState, _is_done
from datasets.base import JUDGE_ONLY, AnomalyDataset, DatasetSplit
from datasets.sampler import EpochSampler
from glass import GLASS
from jobs import card_writer, review_pictures
from jobs.assembly import CUT, LEAST_CUT, open_set
from jobs.checks import ADAM_COPIES, KEPT_COPIES, OUT_OF_MEMORY, PARTIAL_COPIES, PICTURE_BYTES
from jobs.held_out import ClassSets, share_out
from jobs.settings import BACKBONE_FILE, NOT_MODEL, NOT_TRAINING, VAL_SPLIT, Choice, Task, read_choices
from jobs.sharing import Team
from metrics import ImageScores
from reporting import report_page, tables
from system import claims, files
from system.processes import Place, usable_cores
from system.signals import leave_signals_to_parent
from training.selection import BEST, LAST, VAL, Selection

LOGGER = logging.getLogger(__name__)


NO_TEXTURES = (
    "No AUG_PATH: synthetic defects take textures drawn by formula. Real ones, DTD, are better, and published figures "
    "rest on them: python prepare.py dtd OUT fetches them; then give OUT/dtd/images as AUG_PATH."
)


class Job:
    """The classes of a command line, on the backbones of a command line.

    Args:
        results_path: where results go.
        models_path: the results folder that trained models are read from.
        gpu: wanted CUDA devices; none or a negative one is the CPU.
        seed: of weights and draws.
        net: options of the command `net`.
        data: options of the command `dataset`.
        train: train what is not trained yet; else only test.
        selection: which epoch's weights are the best, and whether training stops early; the release's by default.
        false_alarm_rate: of the thresholds.
        fresh: train everything anew; earlier class folders are kept under models/backbone_<i>/old.
        place: of this process among those that share the classes.

    Raises:
        ValueError, FileNotFoundError: anything that is wrong with the options, before any image is read.
    """

    def __init__(
        self,
        results_path: Path,
        models_path: Path,
        gpu: list[int],
        seed: int,
        net: dict[str, Any],
        data: dict[str, Any],
        train: bool = True,
        selection: Selection | None = None,
        false_alarm_rate: float = 0.01,
        fresh: bool = False,
        place: Place | None = None,
    ) -> None:
        self.results_path, self.models_path, self.seed = results_path, models_path, seed
        self.selection, self.false_alarm_rate = selection or Selection(), false_alarm_rate
        self.net, self.data, self.train, self.place = net, data, train, place or Place()
        self.fresh = fresh and not self.place.restarted
        if fresh and not self.fresh:
            LOGGER.warning("A launcher started this command before: classes go on, instead of starting over again.")
        self.fingerprints: dict[str, str] = {}  # of the classes' data
        self.choices = read_choices(net["backbone_names"], net["layers_to_extract_from"])
        self.device = utils.set_torch_device([index for index in gpu if index >= 0])
        utils.set_precision(net["precision"])
        self.workers = self._cap_workers(data["num_workers"])
        if train and data.get("aug_path") is None and data.get("distribution") != JUDGE_ONLY:
            LOGGER.warning("%s", NO_TEXTURES)

    def run(self) -> bool:
        """Train (unless only tests are wanted) and test every class on every backbone; return whether any failed.

        Where several processes share the classes, each is done by one of them.

        Raises:
            ValueError, FileNotFoundError: wrong input, found before any training.
        """
        everything = self._tasks()
        tasks = self.place.part(everything)
        if not tasks:
            LOGGER.info("This shard holds none of the %d classes.", len(everything))
            return False
        team = Team(self.place, tasks, self.fresh)
        earlier = {task: _inode(task.folder) for task in tasks}
        sets = {name: self._sets(name) for name in dict.fromkeys(task.classname for task in tasks)}
        self._check(tasks, sets)
        class_status.write_plan(self.results_path, [task.planned for task in everything])
        if self.fresh:
            self._start_over(tasks[self.place.rank :: self.place.world], earlier)
        left = team.work(lambda task: self._attempt_class(task, sets[task.classname], earlier[task]))
        if team.last or self.place.world == 1:
            self._conclude()
        return bool(left) or any(class_status.read_failure(task.results) for task in tasks)

    def _tasks(self) -> list[Task]:
        """Return the classes of the command line on each of its backbones."""
        tasks = []
        for choice in self.choices:
            for order, classname in enumerate(dict.fromkeys(self.data["subdatasets"])):
                planned = Planned(self._name(classname), choice.name, choice.index, order)
                results = class_results.result_path(self.results_path, choice.index, planned.name).parent
                folder = self._models(self.models_path, choice) / planned.name if self.train else results
                tasks.append(Task(choice, classname, planned, folder, results))
        return tasks

    def _conclude(self) -> None:
        """Make what is derived from all classes, and show it."""
        results, page = report_page.collect(self.results_path)
        LOGGER.info("Results:\n%s", tables.to_text(results, class_status.failures(self.results_path)))
        LOGGER.info(
            "Figures are in %s, pictures under %s.", self.results_path / "results.csv", self.results_path / "eval"
        )
        if page is not None:
            LOGGER.info("All of it is on one page: %s.", page)

    def judge(self) -> bool:
        """Judge the hypothesis of every class from its images and write it down, without training."""
        glass = GLASS(self.device)
        for classname in self.place.own(self.data["subdatasets"]):
            train_set = self._datasets(classname)[0]
            name = self._name(classname)
            glass.set_model_dir(self._models(self.results_path, self.choices[0]), name, self.results_path)
            glass.judge(self._train_loader(train_set, name, self.seed), name)
        LOGGER.info("Judgements are in %s.", self.results_path / "judge")
        return False

    # --- one class ------------------------------------------------------------------------------------------

    def _attempt_class(self, task: Task, sets: ClassSets, earlier: int | None) -> None:
        """Run a class that this process has claimed; where that fails, say so and write it down, so that others go on.

        Raises:
            RuntimeError: the device is lost, and with it this process.
        """
        name = task.planned.name
        try:
            if self.fresh:
                _move_aside(task.folder, earlier)
            self._run_class(task.choice, task.classname, task.planned.order, sets)
        except torch.OutOfMemoryError:
            error = f"out of device memory: {OUT_OF_MEMORY}."
            LOGGER.error("%s: %s", name, error)
        except (FloatingPointError, ValueError, FileNotFoundError) as failure:
            error = _last_line(failure).removeprefix(f"{name}: ")
            LOGGER.error("%s: %s", name, error)
        except RuntimeError as failure:  # of PyTorch, which has no other for most of what goes wrong
            error = _last_line(failure)
            LOGGER.exception("%s: %s", name, error)
            utils.check_device(self.device)  # one that is lost would fail all other classes, too
        else:
            class_status.clear(task.folder)
            class_status.clear(task.results)
            return
        class_status.write_failure(task.results, Failure(task.planned, error))

    def _run_class(self, choice: Choice, classname: str, position: int, sets: ClassSets) -> None:
        """Train a class unless that is done, test its best and its last weights, and write the results."""
        name = self._name(classname)
        seed = self.seed if choice.seed is None else choice.seed
        glass = self._network(choice, sets.test.imagesize, seed)
        folder = self._models(self.models_path, choice)
        glass.set_model_dir(folder, name, self.results_path)
        trained = sets.train is not None and not _is_done(folder / name)
        if trained:
            self._train_class(choice, glass, sets, seed)
        path = class_results.result_path(self.results_path, choice.index, name)
        if sets.train is not None and (folder / name / run_state.STATE).is_file():  # else others trained it
            sets.train.grid = glass.grid
            sampler = EpochSampler(len(sets.train), self.data["batch_size"], seed, name)
            review_pictures.keep_synthetic(path.parent, sets.train, sampler, anew=trained)
        test_loader, tested = self._test_loader(sets.test, name), ImageScores()
        best = glass.test(test_loader, name, BEST, tested)
        described = self._describe(choice, glass, sets, tested, trained)
        last = glass.test(test_loader, name, LAST) if (folder / name / checkpoint.LATEST).is_file() else {}
        result = self._result(choice, name, position, best, last, described.checkpoint.select)
        found = review_pictures.gather(tested, sets.normals, described.threshold)
        review_pictures.keep(path.parent, found, result, self.results_path / "eval" / name, glass.ckpt_dir / "tb")
        files.atomic_write(path, class_results.to_json(result).encode())
        class_results.write_csv(self.results_path)

    def _train_class(self, choice: Choice, glass: GLASS, sets: ClassSets, seed: int) -> None:
        """Train a class."""
        folder, name = glass.ckpt_dir, sets.test.name
        self._check_options(folder, RunState.load(folder), choice, sets)
        files.remove_partial(folder, age=0)
        sets.train.grid = sets.choosing.grid = glass.grid
        utils.fix_seeds(seed)
        glass.options = self._training_options(choice) | {"data": self._fingerprint(sets)}
        glass.selection = dataclasses.replace(self.selection, rule=sets.rule, wanted_share=None)
        origin = {"name": name, "training_seed": seed, "options": {**self.net, **self.data}, **glass.options}
        with run_info.recorded(folder, origin, utils.device_name(self.device)), sets.train.kept_pixels():
            glass.trainer(self._train_loader(sets.train, name, seed), self._test_loader(sets.choosing, name), name)

    def _describe(
        self, choice: Choice, glass: GLASS, sets: ClassSets, tested: ImageScores, trained: bool
    ) -> model_card.Card:
        """Return the card of the best weights, which are loaded; write it unless it is there, or not ours to write."""
        known = None if trained else card_writer.known_card(glass.ckpt_dir)
        if known is None:
            state = RunState.load(glass.ckpt_dir)  # an earlier run may have been cut off after training
            if sets.train is not None and state.finished:
                trained, glass.hypersphere = True, bool(state.hypersphere)
            described = self._new_card(choice, glass, sets, tested, trained)
        else:
            described = card_writer.with_rate(known, self.false_alarm_rate)
        ours = self.train or (known is None and self.models_path == self.results_path)
        if ours and described != known:
            files.atomic_write(glass.ckpt_dir / model_card.FILE, described.to_json().encode())
        card_writer.say_verdicts(sets.test.name, described.threshold, tested)
        return described

    def _new_card(
        self, choice: Choice, glass: GLASS, sets: ClassSets, tested: ImageScores, trained: bool
    ) -> model_card.Card:
        """Score the calibration images with the best weights, which are loaded, and describe the class."""
        calibrated = None
        if sets.calibration is not None:
            calibrated = ImageScores()
            glass.evaluate(self._test_loader(sets.calibration, sets.test.name), record=calibrated)
        select = sets.rule if trained else RunState.load(glass.ckpt_dir).options.get("select", BEST)
        weights, kept = self._weights(choice), self._models(self.models_path, choice) / BACKBONE_FILE
        backbone = model_card.Backbone(
            choice.name,
            choice.layers,
            weights if weights in (backbones.IMAGENET, backbones.RANDOM) else "file",
            backbones.fingerprint(self.backbone_state),
            f"../{BACKBONE_FILE}" if kept.is_file() else None,
            self.net["train_backbone"],
        )
        scores = card_writer.Scores(tested, calibrated)
        origin = card_writer.origin(
            card_writer.TRAINING if trained else card_writer.TEST, self.seed, utils.device_name(self.device)
        )
        return card_writer.new_card(glass, sets, scores, select, self.false_alarm_rate, backbone, self.net, origin)

    def _result(
        self, choice: Choice, name: str, position: int, best: dict[str, float], last: dict[str, float], select: str
    ) -> class_results.Result:
        """Return a class's result, with the settings of its training where they are known."""
        epochs = {"best_epoch": best["epoch"], "last_epoch": last.get("epoch", class_results.ABSENT)}
        place = (name, choice.name, choice.index, position)
        folder = self._models(self.models_path, choice) / name
        settings = RunState.load(folder).options or self._training_options(choice)
        return class_results.Result(*place, best, last=last, select=select, settings=settings, **epochs)

    def _network(self, choice: Choice, input_shape: tuple[int, int, int], seed: int) -> GLASS:
        """Build the networks of a class, the backbone freshly loaded, initial weights from the run's seed."""
        utils.fix_seeds(self.seed)
        weights = self._weights(choice)
        backbone = backbones.load(choice.name, weights, input_shape[1:])
        original = {key: value.clone().contiguous() for key, value in backbone.state_dict().items()}
        glass = GLASS(self.device)
        options = {key: value for key, value in self.net.items() if key not in NOT_MODEL}
        glass.load(backbone, choice.layers, self.device, input_shape, seed=seed, **options)
        used = glass.aggregator.used_keys
        backbones.check_complete(backbone, used, weights)
        self.backbone_state = {key: value for key, value in original.items() if key in used}
        return glass

    # --- checks before any training -------------------------------------------------------------------------

    def _check(self, tasks: list[Task], sets: dict[str, ClassSets]) -> None:
        """Check everything that can be checked of classes.

        Raises:
            ValueError, FileNotFoundError: something is wrong.
        """
        self._check_memory(sets)
        self._check_tables()
        files.remove_partial(self.results_path)
        for index in dict.fromkeys(task.choice.index for task in tasks):
            own = [task for task in tasks if task.choice.index == index]
            choice, class_sets = own[0].choice, {task.classname: sets[task.classname] for task in own}
            files.remove_partial(self._models(self.models_path, choice))
            glass = self._check_networks(choice, next(iter(class_sets.values())).test.imagesize)
            for task in own:
                try:
                    self._check_folder(choice, task.classname, glass, class_sets[task.classname])
                except FileNotFoundError:
                    if claims.holder(task.folder) is None:
                        raise  # else its owner has just put another checkpoint in place of the best
            self._check_space(choice, glass, class_sets)

    def _check_networks(self, choice: Choice, input_shape: tuple[int, int, int]) -> GLASS:
        """Build the networks once; keep the weights of a backbone that cannot be fetched again beside the models."""
        glass = self._network(choice, input_shape, self.seed)
        path = self._models(self.models_path, choice) / BACKBONE_FILE
        fingerprint = backbones.fingerprint(self.backbone_state)
        if self.train and self.net["backbone_weights"] != backbones.IMAGENET and not path.is_file():
            files.write_new(path, save(self.backbone_state, {"origin": f"{choice.name} sha256:{fingerprint}"}))
        if path.is_file() and backbones.fingerprint(backbones.read_tensors(path)) != fingerprint:
            raise ValueError(f"The models beside {path} use other backbone weights: give another --results_path.")
        return glass

    def _check_folder(self, choice: Choice, classname: str, glass: GLASS, sets: ClassSets) -> None:
        """Make sure that what a class folder holds can be read and tested, or trained on without mixing options."""
        folder = self._models(self.models_path, choice) / self._name(classname)
        best = checkpoint.best_checkpoint(folder)
        if not self.train and best is None:
            raise FileNotFoundError(f"{folder} holds no ckpt_best_<epoch>.pth: train first (--test ckpt).")
        if self.fresh:
            return
        state, wanted = RunState.load(folder), self._training_options(choice)
        if state.finished and best is None:
            raise FileNotFoundError(
                f"{folder} is trained, but its ckpt_best_<epoch>.pth is gone: restore it, or --fresh."
            )
        if self.train:
            self._check_options(folder, state, choice, sets)
        found = state.options
        if not self.train and found.get("select") == VAL and any(found[key] != wanted[key] for key in VAL_SPLIT):
            given = ", ".join(f"{key} {found[key]}" for key in VAL_SPLIT)
            LOGGER.warning("%s: epochs were chosen on a part of the test set (%s): give these options to leave it out.",
                           folder, given)  # fmt: skip
        if best is not None:
            for path in (folder / checkpoint.LATEST, best[0]):
                if path.is_file():
                    glass.load_weights(path)
            card_writer.known_card(folder)

    def _check_options(self, folder: Path, state: RunState, choice: Choice, sets: ClassSets) -> None:
        """Make sure that a class was trained with the options of now, and if it goes on, with the same images."""
        if not state.options:
            return
        wanted, found = self._training_options(choice), dict(state.options)
        data = found.pop("data", None)
        known = found if state.finished else {**wanted, **found}  # a version of before may lack some
        pairs = [(key, found.get(key), wanted.get(key)) for key in known]
        changed = [f"{key} {before}, now {now}" for key, before, now in pairs if before != now]
        advice = "give another --results_path, or --fresh to start over"
        if changed:
            raise ValueError(f"{folder} was trained with {'; '.join(changed)}: {advice}.")
        # Of a finished class other images only matter where those held out of it are wanted again.
        undescribed = self.data["calibration"] > 0 and card_writer.known_card(folder) is None
        matters = not state.finished or self.selection.rule == VAL or undescribed
        if data is not None and matters and data != self._fingerprint(sets):
            raise ValueError(f"{folder} began with other images than those of now: restore them, {advice}.")

    def _check_memory(self, sets: dict[str, ClassSets]) -> None:
        """Refuse sizes for which even the trained weights and the pictures of a batch are larger than the memory."""
        width, hidden, layers = (self.net[key] for key in ("target_embed_dimension", "dsc_hidden", "dsc_layers"))
        weights = self.net["pre_proj"] * width**2 + width * hidden + max(0, layers - 2) * hidden**2
        images = max(len(part) for each in sets.values() for part in (each.train, each.test) if part is not None)
        pixels = 2 * min(images, self.data["batch_size"]) * math.prod(next(iter(sets.values())).test.imagesize)
        needed = 4 * (ADAM_COPIES * weights + pixels)  # bytes
        there = utils.memory(self.device)
        if needed > there:
            sizes = f"more than {needed / 1e9:.0f} GB of memory, there are {there / 1e9:.0f}"
            raise ValueError(f"This run needs {sizes}: {OUT_OF_MEMORY}.")

    def _check_tables(self) -> None:
        """Read what is read at the end, or in the middle of a run: earlier results, and the tables of hypotheses."""
        try:
            if class_results.collect(self.results_path):
                report_page.build(self.results_path)
        except FileNotFoundError:
            if not report_page.is_busy(self.results_path):
                raise  # else another process has just put other files in their place
        for classname in self.data["subdatasets"]:
            hypothesis_table.table_flag(self._name(classname), "Distribution", self.results_path / "judge")

    def _check_space(self, choice: Choice, glass: GLASS, sets: dict[str, ClassSets]) -> None:
        """Make sure that what will be written finds room: weights and states, and a picture of each test image."""
        values = [value for network in glass.trained().values() for value in network.state_dict().values()]
        size = sum(value.numel() * value.element_size() for value in values)
        needed = PARTIAL_COPIES * size
        for classname, each in sets.items():
            done = not self.train or _is_done(self._models(self.models_path, choice) / self._name(classname))
            needed += (0 if done and not self.fresh else KEPT_COPIES * size) + 2 * PICTURE_BYTES * len(each.test)
        free = files.free_bytes(self.results_path)
        if free < needed:
            room = f"{free / 1e9:.2f} GB free, this run needs about {needed / 1e9:.2f}"
            raise ValueError(f"{self.results_path} has {room}: make room, or give another --results_path.")

    def _start_over(self, tasks: list[Task], earlier: dict[Task, int | None]) -> None:
        """Move the class folders of earlier runs out of the way, each as a whole; a colleague may have begun some.

        Raises:
            Claimed: another run works on one.
        """
        for task in tasks:
            with suppress(*[claims.Claimed] * (self.place.world > 1)), claims.claim(task.folder):
                _move_aside(task.folder, earlier[task])

    # --- parts ----------------------------------------------------------------------------------------------

    def _datasets(self, classname: str) -> tuple[AnomalyDataset, ...]:
        """Make the sets of a class, (training, test) or (test,), and decode each of their images once."""
        splits = [DatasetSplit.TRAIN, DatasetSplit.TEST] if self.train else [DatasetSplit.TEST]
        sets = tuple(open_set(self.data, classname, split, self.results_path / "judge") for split in splits)
        for each in sets:
            each.check(usable_cores())
        cut = max(each.cut for each in sets)
        if cut >= LEAST_CUT:
            LOGGER.warning(CUT, self._name(classname), 100 * cut)
        return sets

    def _sets(self, classname: str) -> ClassSets:
        """Make the sets of a class, and decide which images are held out of training."""
        *train, test = self._datasets(classname)
        share = self.data["calibration"]
        return share_out(train[0] if train else None, test, self.selection, share, self.seed)

    def _fingerprint(self, sets: ClassSets) -> str:
        """Return the fingerprint of a class's images and masks, and of the textures' names and sizes."""
        if sets.test.name not in self.fingerprints:
            whole = sorted({path for entry in sets.entries for path in (entry.image, entry.mask) if path is not None})
            found = run_info.fingerprint(whole, sets.train.textures.paths, self.data["data_path"])
            self.fingerprints[sets.test.name] = found
        return self.fingerprints[sets.test.name]

    def _train_loader(self, train_set: AnomalyDataset, name: str, seed: int) -> DataLoader:
        sampler = EpochSampler(len(train_set), self.data["batch_size"], seed, name)
        return self._loader(train_set, name, batch_sampler=sampler)

    def _test_loader(self, test_set: AnomalyDataset, name: str) -> DataLoader:
        return self._loader(test_set, name, batch_size=self.data["batch_size"])

    def _loader(self, dataset: AnomalyDataset, name: str, **batching: Any) -> DataLoader:
        pin = self.device.type == "cuda"
        loader = DataLoader(
            dataset,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=pin,
            worker_init_fn=leave_signals_to_parent,
            **batching,
        )
        loader.name = name
        return loader

    def _weights(self, choice: Choice) -> str:
        """Return the weights to load; a test that names no file takes those kept beside the models."""
        kept = self._models(self.models_path, choice) / BACKBONE_FILE
        wanted = self.net["backbone_weights"]
        named = wanted not in (backbones.IMAGENET, backbones.RANDOM)
        return wanted if named or self.train or not kept.is_file() else str(kept)

    def _models(self, results_path: Path, choice: Choice) -> Path:
        return results_path / "models" / f"backbone_{choice.index}"

    def _name(self, classname: str) -> str:
        return f"{self.data['name']}_{classname}"

    def _training_options(self, choice: Choice) -> dict[str, Any]:
        """Return what a trained model depends on, as plain values."""
        options = {key: value for key, value in {**self.net, **self.data}.items() if key not in NOT_TRAINING}
        options |= {"backbone": choice.name, "layers_to_extract_from": ",".join(choice.layers)}
        options |= {"select": self.selection.rule, "val_share": self.selection.share}
        options |= {"patience": self.selection.patience}
        return options | {"seed": self.seed if choice.seed is None else f"{self.seed}, training {choice.seed}"}

    def _cap_workers(self, wanted: int) -> int:
        cores, processes = usable_cores(), self.place.local_world
        most = max(1, cores // processes)
        if wanted > most:
            shared = f" for {processes} processes" if processes > 1 else ""
            LOGGER.info("Loader workers: %d instead of %d; cores here: %d%s.", most, wanted, cores, shared)
        return min(wanted, most)


def _inode(folder: Path) -> int | None:
    """Return what tells a folder from another that takes its name; None where there is none."""
    return folder.stat().st_ino if folder.is_dir() else None


def _move_aside(folder: Path, earlier: int | None) -> None:
    """Move a class folder, if it still is an earlier run's, to where no table looks, <parent>/old/<name>-<n>."""
    if earlier is None or _inode(folder) != earlier:
        return
    numbers = itertools.count(1)
    target = next(path for n in numbers if not (path := folder.parent / "old" / f"{folder.name}-{n}").exists())
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    LOGGER.info("%s: the earlier run is kept in %s.", folder.name, target)


def _last_line(error: Exception) -> str:
    """Return the last line of an error's message: one from a loader process begins with a traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
