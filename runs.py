"""One run: options to data and networks, every class trained and tested, results to files and tables."""

import dataclasses
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch.utils.data import DataLoader

import backbones
import card
import checkpoint
import describe
import tables
import utils
from checkpoint import RunState
from datasets.base import AnomalyDataset, DatasetSplit, EpochSampler
from datasets.heldout import ClassSets, share_out
from datasets.mvtec import MVTecDataset
from datasets.visa import VisADataset
from glass import GLASS
from metrics import ImageScores
from selection import BEST, LAST, VAL, Selection

LOGGER = logging.getLogger(__name__)

READERS = {"mvtec": MVTecDataset, "mpdd": MVTecDataset, "wfdd": MVTecDataset, "visa": VisADataset}
BACKBONE_FILE = "backbone.safetensors"  # weights that cannot be fetched again: random ones, or a user's file
READER_NAMES = {  # command line -> readers, where they differ
    "brightness": "brightness_factor",
    "contrast": "contrast_factor",
    "saturation": "saturation_factor",
    "gray": "gray_p",
    "hflip": "h_flip_p",
    "vflip": "v_flip_p",
}
NOT_READER = ("subdatasets", "num_workers", "name", "data_path", "aug_path", "calibration")
VAL_SPLIT = ("select", "val_share", "seed")  # what decides which test images epochs are chosen on
NOT_MODEL = ("backbone_names", "layers_to_extract_from", "backbone_weights")
NOT_TRAINING = (
    "cache",
    "num_workers",
    "data_path",
    "aug_path",
    "subdatasets",
    "name",
    "backbone_names",
    "augment",
    "svd",
    "downsampling",
)


@dataclass(frozen=True)
class Choice:
    """A backbone of the command line: its index, name, layers, and the seed of its training (None: the run's)."""

    index: int
    name: str
    layers: list[str]
    seed: int | None


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
    ) -> None:
        self.results_path, self.models_path, self.seed = results_path, models_path, seed
        self.selection, self.false_alarm_rate = selection or Selection(), false_alarm_rate
        self.net, self.data, self.train = net, data, train
        self.choices = read_choices(net["backbone_names"], net["layers_to_extract_from"])
        self.device = utils.set_torch_device([index for index in gpu if index >= 0])
        utils.set_precision(net["precision"])
        self.workers = self._cap_workers(data["num_workers"])

    def run(self) -> bool:
        """Train (unless only tests are wanted) and test every class on every backbone; return whether any failed.

        Raises:
            ValueError, FileNotFoundError: wrong input, found before any training.
        """
        sets = {name: self._sets(name) for name in self.data["subdatasets"]}
        for choice in self.choices:
            glass = self._check_networks(choice, next(iter(sets.values())).test.imagesize)
            for classname in sets:
                self._check_folder(choice, classname, glass)
        failed = False
        for choice in self.choices:
            for position, (classname, class_sets) in enumerate(sets.items()):
                try:
                    self._run_class(choice, classname, position, class_sets)
                except FloatingPointError as error:
                    LOGGER.error("%s", error)
                    failed = True
        LOGGER.info("Results:\n%s", tables.to_text(tables.collect(self.results_path)))
        LOGGER.info(
            "Figures are in %s, pictures under %s.", self.results_path / "results.csv", self.results_path / "eval"
        )
        return failed

    def judge(self) -> bool:
        """Judge the hypothesis of every class from its images and write it down, without training."""
        glass = GLASS(self.device)
        for classname in self.data["subdatasets"]:
            train_set = self._datasets(classname)[0]
            name = self._name(classname)
            glass.set_model_dir(self._models(self.results_path, self.choices[0]), name, self.results_path)
            glass.judge(self._train_loader(train_set, name, self.seed), name)
        LOGGER.info("Judgements are in %s.", self.results_path / "judge")
        return False

    # --- one class ------------------------------------------------------------------------------------------

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
        test_loader, tested = self._test_loader(sets.test, name), ImageScores()
        best = glass.test(test_loader, name, BEST, tested)
        described = self._describe(choice, glass, sets, tested, trained)
        last = glass.test(test_loader, name, LAST) if (folder / name / checkpoint.LATEST).is_file() else {}
        self._write_result(choice, name, position, best, last, described.checkpoint.select)

    def _train_class(self, choice: Choice, glass: GLASS, sets: ClassSets, seed: int) -> None:
        name = sets.test.name
        sets.train.grid = sets.choosing.grid = glass.grid
        utils.fix_seeds(seed)
        glass.options = self._training_options(choice)
        glass.selection = dataclasses.replace(self.selection, rule=sets.rule, wanted_share=None)
        with sets.train.kept_pixels():
            glass.trainer(self._train_loader(sets.train, name, seed), self._test_loader(sets.choosing, name), name)

    def _describe(self, choice: Choice, glass: GLASS, sets: ClassSets, tested: ImageScores, trained: bool) -> card.Card:
        """Return the card of the best weights, which are loaded; write it unless it is there, or not ours to write."""
        known = None if trained else describe.known_card(glass.ckpt_dir)
        if known is None:
            described = self._new_card(choice, glass, sets, tested, trained)
        else:
            described = describe.with_rate(known, self.false_alarm_rate)
        ours = self.train or (known is None and self.models_path == self.results_path)
        if ours and described != known:
            checkpoint.atomic_write(glass.ckpt_dir / card.FILE, described.to_json().encode())
        describe.say_verdicts(sets.test.name, described.threshold, tested)
        return described

    def _new_card(self, choice: Choice, glass: GLASS, sets: ClassSets, tested: ImageScores, trained: bool) -> card.Card:
        """Score the calibration images with the best weights, which are loaded, and describe the class."""
        calibrated = None
        if sets.calibration is not None:
            calibrated = ImageScores()
            glass.evaluate(self._test_loader(sets.calibration, sets.test.name), record=calibrated)
        select = sets.rule if trained else RunState.load(glass.ckpt_dir).options.get("select", BEST)
        weights, kept = self._weights(choice), self._models(self.models_path, choice) / BACKBONE_FILE
        backbone = card.Backbone(
            choice.name,
            choice.layers,
            weights if weights in (backbones.IMAGENET, backbones.RANDOM) else "file",
            backbones.fingerprint(self.backbone_state),
            f"../{BACKBONE_FILE}" if kept.is_file() else None,
            self.net["train_backbone"],
        )
        scores = describe.Scores(tested, calibrated)
        origin = describe.origin(describe.TRAINING if trained else describe.TEST, self.seed, str(self.device))
        return describe.new_card(glass, sets, scores, select, self.false_alarm_rate, backbone, self.net, origin)

    def _write_result(
        self, choice: Choice, name: str, position: int, best: dict[str, float], last: dict[str, float], select: str
    ) -> None:
        """Write a class's result file and, from all of them, results.csv."""
        epochs = {"best_epoch": best["epoch"], "last_epoch": last.get("epoch", tables.ABSENT)}
        place = (name, choice.name, choice.index, position)
        settings = self._training_options(choice)
        result = tables.Result(*place, best, last=last, select=select, settings=settings, **epochs)
        path = tables.result_path(self.results_path, choice.index, name)
        checkpoint.atomic_write(path, tables.to_json(result).encode())
        csv = tables.to_csv(tables.collect(self.results_path))
        checkpoint.atomic_write(self.results_path / "results.csv", csv.encode())

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

    def _check_networks(self, choice: Choice, input_shape: tuple[int, int, int]) -> GLASS:
        """Build the networks once; keep the weights of a backbone that cannot be fetched again beside the models."""
        glass = self._network(choice, input_shape, self.seed)
        path = self._models(self.models_path, choice) / BACKBONE_FILE
        fingerprint = backbones.fingerprint(self.backbone_state)
        if path.is_file():
            if backbones.fingerprint(backbones.read_tensors(path)) != fingerprint:
                raise ValueError(f"The models beside {path} use other backbone weights: give another --results_path.")
        elif self.train and self.net["backbone_weights"] != backbones.IMAGENET:
            checkpoint.atomic_write(path, save(self.backbone_state, {"origin": f"{choice.name} sha256:{fingerprint}"}))
        return glass

    def _check_folder(self, choice: Choice, classname: str, glass: GLASS) -> None:
        """Make sure that what a class folder holds can be read and tested, or trained on without mixing options."""
        folder = self._models(self.models_path, choice) / self._name(classname)
        best = checkpoint.best_checkpoint(folder)
        if not self.train and best is None:
            raise FileNotFoundError(f"{folder} holds no ckpt_best_<epoch>.pth: train first (--test ckpt).")
        found = RunState.load(folder).options
        wanted = self._training_options(choice)
        changed = [f"{key} {found[key]}, now {wanted.get(key)}" for key in found if found[key] != wanted.get(key)]
        if self.train and changed:
            raise ValueError(f"{folder} was trained with {'; '.join(changed)}: give another --results_path.")
        if not self.train and found.get("select") == VAL and any(found[key] != wanted[key] for key in VAL_SPLIT):
            given = ", ".join(f"{key} {found[key]}" for key in VAL_SPLIT)
            LOGGER.warning("%s: epochs were chosen on a part of the test set (%s): give these options to leave it out.",
                           folder, given)  # fmt: skip
        if best is not None:
            glass.load_weights(best[0])
            describe.known_card(folder)

    # --- parts ----------------------------------------------------------------------------------------------

    def _datasets(self, classname: str) -> tuple[AnomalyDataset, ...]:
        """Make the sets of a class, (training, test) or (test,), and decode each of their images once."""
        reader = READERS[self.data["name"]]
        options = {READER_NAMES.get(key, key): value for key, value in self.data.items() if key not in NOT_READER}
        options |= {
            "dataset_name": self.data["name"],
            "classname": classname,
            "judge_path": self.results_path / "judge",
        }
        splits = [DatasetSplit.TRAIN, DatasetSplit.TEST] if self.train else [DatasetSplit.TEST]
        sets = tuple(reader(self.data["data_path"], self.data["aug_path"], split=split, **options) for split in splits)
        for each in sets:
            each.check(os.cpu_count() or 1)
        return sets

    def _sets(self, classname: str) -> ClassSets:
        """Make the sets of a class, and decide which images are held out of training."""
        *train, test = self._datasets(classname)
        share = self.data["calibration"]
        return share_out(train[0] if train else None, test, self.selection, share, self.seed)

    def _train_loader(self, train_set: AnomalyDataset, name: str, seed: int) -> DataLoader:
        sampler = EpochSampler(len(train_set), self.data["batch_size"], seed, name)
        return self._loader(train_set, name, batch_sampler=sampler)

    def _test_loader(self, test_set: AnomalyDataset, name: str) -> DataLoader:
        return self._loader(test_set, name, batch_size=self.data["batch_size"])

    def _loader(self, dataset: AnomalyDataset, name: str, **batching: Any) -> DataLoader:
        pin = self.device.type == "cuda"
        loader = DataLoader(
            dataset, num_workers=self.workers, persistent_workers=self.workers > 0, pin_memory=pin, **batching
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
        cores = os.cpu_count() or 1
        if wanted > cores:
            LOGGER.info("This machine has %d cores: using %d workers instead of %d.", cores, cores, wanted)
        return min(wanted, cores)


def read_choices(names: tuple[str, ...], layers: tuple[str, ...]) -> list[Choice]:
    """Read `-b` and `-le`: NAME or NAME.seed-K; with several backbones, layers are 0.LAYER, 1.LAYER, ...

    Raises:
        ValueError: an unknown backbone or a seed that is no number.
    """
    choices = []
    for index, text in enumerate(names):
        name, _, seed = text.partition(".seed-")
        if seed and not seed.isdecimal():
            raise ValueError(f"-b {text}: the seed must be a number, as in {name}.seed-1.")
        natural = backbones.natural_layers(name)
        own = list(layers)
        if len(names) > 1:
            own = [layer.partition(".")[2] for layer in layers if layer.startswith(f"{index}.")]
        choices.append(Choice(index, name, own or natural, int(seed) if seed else None))
    return choices


def log_to(results_path: Path) -> None:
    """Send the log to the screen, short, and to a file of its own under <results>/logs."""
    folder = results_path / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    screen = logging.StreamHandler(sys.stdout)
    screen.setLevel(logging.INFO)
    screen.setFormatter(logging.Formatter("%(message)s"))
    file = logging.FileHandler(folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[screen, file], force=True)


def _is_done(folder: Path) -> bool:
    """Say whether a class needs no training: it is finished, or holds the authors' checkpoint, without a state."""
    if (folder / checkpoint.STATE).is_file():
        return RunState.load(folder).finished
    return checkpoint.best_checkpoint(folder) is not None
