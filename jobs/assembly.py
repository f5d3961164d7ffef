"""Settings to data and networks: the readers, loaders and networks of a run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import backbones
import glass
import utils
from artifacts import layout, options, run_info
from artifacts.options import FURTHER, MODEL, VALIDATED, DataOptions
from artifacts.run_info import ImageList, Listed
from datasets.base import AnomalyDataset, DatasetSplit
from datasets.defects.own import OwnSynthesis
from datasets.defects.real import Reader
from datasets.folder import FolderDataset
from datasets.mvtec import MVTecDataset
from datasets.readers.dataset import BenchmarkDataset
from datasets.sampler import Draw, EpochSampler
from datasets.visa import VisADataset
from glass import GLASS
from jobs.held_out import ClassSets, share_out
from jobs.official import official
from jobs.settings import Choice, Settings
from preparation.audit import LEAST_CUT
from system.processes import usable_cores
from system.signals import leave_signals_to_parent

LOGGER = logging.getLogger(__name__)

READERS = {
    "mvtec": MVTecDataset,
    "mpdd": MVTecDataset,
    "wfdd": MVTecDataset,
    "visa": VisADataset,
    "folder": FolderDataset,
} | dict.fromkeys(FURTHER, BenchmarkDataset)
CUT = (
    "%s: the crop cuts away %.1f %% of the pictures' area, and defects there are not seen: --resize_mode letterbox or "
    "stretch keeps all of it."
)


@dataclass(frozen=True)
class Network:
    """The networks of a class, and the backbone's weights that they use, as loaded."""

    glass: GLASS
    backbone_state: dict[str, torch.Tensor]

    @property
    def fingerprint(self) -> str:
        """What tells these backbone weights from others."""
        return backbones.fingerprint(self.backbone_state)


@dataclass(frozen=True)
class Images:
    """What is known of images, whatever the seed: none is decoded or hashed for each of --seeds.

    Attributes:
        checked: sets whose images were decoded, by class and split.
        digests: of images and masks.
    """

    checked: dict[tuple[str, DatasetSplit], AnomalyDataset] = field(default_factory=dict)
    digests: dict[Path, str] = field(default_factory=dict)


class Assembly:
    """Makes what a run needs from its settings.

    Args:
        settings: of the run.
        device: of the networks.
        workers: processes that load images.
        images: what runs with other seeds have found.
    """

    def __init__(
        self, settings: Settings, device: torch.device, workers: int, images: Images | None = None
    ) -> None:  # fmt: skip
        self.settings, self.device, self.workers = settings, device, workers
        self.images = images or Images()
        self.fingerprints: dict[str, str] = {}  # of the classes' data

    # --- images ---------------------------------------------------------------------------------------------

    def opened(self, classname: str) -> tuple[AnomalyDataset, ...]:
        """Make the sets of a class, (training, test) or (test,), and decode each of their images once."""
        splits = [DatasetSplit.TRAIN, DatasetSplit.TEST] if self.settings.run.train else [DatasetSplit.TEST]
        known = all((classname, split) in self.images.checked for split in splits)
        sets = tuple(self._open(classname, split) for split in splits)
        if known:
            return sets
        if sets[0].synthesis is not None:
            _try(sets[0])
        cut = max(each.cut for each in sets)
        if cut >= LEAST_CUT:
            LOGGER.warning(CUT, self.settings.name(classname), 100 * cut)
        return sets

    @property
    def validated(self) -> bool:
        """Whether the data set comes with normal images for the threshold."""
        return self.settings.data.name in VALIDATED

    def _open(self, classname: str, split: DatasetSplit) -> AnomalyDataset:
        """Make a set of a class, and decode each of its images, unless another seed has."""
        known = self.images.checked.get((classname, split))
        if known is not None:
            same = known.judged_in(self.settings.judge_path)
            if same.wants_foreground() == known.wants_foreground():  # else other files were checked
                return same
        found = open_set(self.settings.data, classname, split, self.settings.judge_path)
        found.check(usable_cores())
        self.images.checked[classname, split] = found
        return found.judged_in(self.settings.judge_path)

    def sets(self, classname: str, earlier: ImageList | None = None) -> ClassSets:
        """Make the sets of a class, and decide which images are held out of training.

        Args:
            classname: as in -d.
            earlier: the images of an earlier training of the class, whose use stays.
        """
        *trains, test = opened = self.opened(classname)
        train, share, seed = trains[0] if trains else None, self.settings.data.calibration, self.settings.run.seed
        official(test)  # refuses what does not fit, before any training
        known = {}
        if train is not None and earlier is not None:
            digests = self.contents([entry.image for entry in train.entries])
            known = earlier.uses(digests, self.settings.data.data_path)
        sets = share_out(train, test, self.settings.selection, share, seed, known)
        if self.validated:
            sets = replace(sets, calibration=self._open(classname, DatasetSplit.VALIDATION))
        if sets.train is None:
            return sets
        seen = {picture.digest: path for each in opened for path, picture in each.pictures.items()}
        return replace(sets, train=with_real_defects(self.settings.data, sets.train, seen))

    def contents(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Return the digests of files, each as it was when it was asked for first."""
        known = self.images.digests
        known |= run_info.digests([path for path in paths if path not in known])
        return {path: known[path] for path in paths}

    def image_list(self, sets: ClassSets) -> ImageList:
        """Return the list of a class's normal training images."""
        uses, root = sets.uses, self.settings.data.data_path
        digests = self.contents(list(uses))
        return ImageList(
            {run_info.name_below(root, path): Listed(digests[path], use) for path, use in sorted(uses.items())}
        )

    def fingerprint(self, sets: ClassSets) -> str:
        """Return the fingerprint of a class's images, masks and --synthesis, and of the textures' names and sizes."""
        if sets.test.name not in self.fingerprints:
            textures, root = sets.train.textures.paths, self.settings.data.data_path
            real = {} if sets.train.real is None else self.contents(sets.train.real.files)
            own = self.contents([path for path in [_source(sets.train)] if path is not None])
            found = run_info.fingerprint(self.contents(sets.files) | real | own, textures, root)
            self.fingerprints[sets.test.name] = found
        return self.fingerprints[sets.test.name]

    def sampler(self, train_set: AnomalyDataset, seed: int) -> EpochSampler:
        """Return what draws the training batches."""
        return EpochSampler(len(train_set), self.settings.data.batch_size, seed, train_set.name)

    def train_loader(self, train_set: AnomalyDataset, seed: int) -> DataLoader:
        """Return the training batches."""
        return self._loader(train_set, train_set.name, batch_sampler=self.sampler(train_set, seed))

    def test_loader(self, test_set: AnomalyDataset, name: str) -> DataLoader:
        """Return the batches of any other set of a class."""
        return self._loader(test_set, name, batch_size=self.settings.data.batch_size)

    def _loader(self, dataset: AnomalyDataset, name: str, **batching: Any) -> DataLoader:
        loader = DataLoader(
            dataset,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=leave_signals_to_parent,
            **batching,
        )
        loader.name = name
        return loader

    # --- networks -------------------------------------------------------------------------------------------

    def network(self, choice: Choice, input_shape: tuple[int, int, int], seed: int) -> Network:
        """Build the networks of a class, the backbone freshly loaded, initial weights from the run's seed."""
        utils.fix_seeds(self.settings.run.seed)
        values = options.values(self.settings.net, MODEL)
        if self.settings.run.grow:
            values["iterations"] = self.settings.run.grow
        backbone = (choice.name, choice.layers, self.weights(choice), self.device, input_shape)
        return Network(*glass.build(*backbone, normalise=self.settings.net.normalise, seed=seed, **values))

    def weights(self, choice: Choice) -> str:
        """Return the weights to load; a test that names no file takes those kept beside the models."""
        kept, wanted = self.kept_weights(choice), self.settings.net.backbone_weights
        named = wanted not in (backbones.IMAGENET, backbones.RANDOM)
        return wanted if named or self.settings.run.train or not kept.is_file() else str(kept)

    def kept_weights(self, choice: Choice) -> Path:
        """Return where weights of a backbone are kept that cannot be fetched again."""
        return self.settings.models(choice) / layout.BACKBONE_FILE


def with_real_defects(data: DataOptions, train_set: AnomalyDataset, known: Mapping[str, Path]) -> AnomalyDataset:
    """Return training images whose local anomalies are in part confirmed defects, if such are given.

    They lie in --real_defects, or where that has a folder of the class's name, there.

    Args:
        data: options of the command `dataset`.
        train_set: without the images that are held out.
        known: pictures that may not be among the defects, by Picture.digest.

    Raises:
        ValueError, FileNotFoundError: there are none, or they do not fit.
    """
    if data.real_defects is None or train_set.textures is None:
        return train_set
    folder = Path(data.real_defects)
    own = folder / train_set.classname
    if len(set(data.subdatasets)) > 1 and not own.is_dir():
        raise FileNotFoundError(f"{own} does not exist: with several classes --real_defects has a folder for each.")
    normals = [entry.image for entry in train_set.entries]
    reader = Reader(train_set.geometry, train_set.bits, normals, train_set.framing)
    return train_set.with_real_defects(reader.read(own if own.is_dir() else folder, known), data.real_share)


def open_set(data: DataOptions, classname: str, split: DatasetSplit, judge_path: Path) -> AnomalyDataset:
    """List the images of a class as the options of the command `dataset` say; training ones with their synthesis.

    Raises:
        ValueError, FileNotFoundError: something is missing, or an option does not fit.
    """
    values = options.reader_values(data)
    values |= {"dataset_name": data.name, "classname": classname, "judge_path": judge_path}
    found = READERS[data.name](data.data_path, data.aug_path, split=split, **values)
    if data.synthesis is None or found.textures is None:
        return found
    return found.with_synthesis(OwnSynthesis.load(data.synthesis))


def _try(images: AnomalyDataset) -> None:
    """Let the function of --synthesis make defects on the first image, with the last one for a texture.

    Raises:
        ValueError: it fails.
    """
    first, last = (images[Draw(k, 0, synthesise=False)]["image"].numpy() for k in (0, len(images) - 1))
    images.synthesis.check(first, last)


def _source(images: AnomalyDataset) -> Path | None:
    return None if images.synthesis is None else images.synthesis.source
