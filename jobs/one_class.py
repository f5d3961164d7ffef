"""One class from beginning to end: trained unless that is done, tested, described, and written down."""

import dataclasses
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

import backbones
import utils
from artifacts import checkpoint, class_results, layout, model_card, run_info
from artifacts.monitoring.drift import Drift
from artifacts.options import BEST
from artifacts.run_state import STATE, RunState
from artifacts.tracking import trackers
from datasets.base import AnomalyDataset
from jobs import card_writer, growth, official, review_pictures
from jobs.assembly import Assembly
from jobs.checks import check_options, check_unchanged, keep_backbone
from jobs.held_out import ClassSets, SyntheticDefects
from jobs.joint.training import JointTraining
from jobs.settings import Task
from metrics import ImageScores
from reporting import growth_table
from reporting.growth_table import NEW, OLD, Growth
from system import files
from training import evaluation

LOGGER = logging.getLogger(__name__)

MOST_DESCRIBED = 200  # training images that say what normal ones look like


class ClassRun:
    """A class on a backbone, from its networks to its result file.

    The state of its training is read once, here, and brought up to date by the training.

    Args:
        assembly: of the run.
        task: the class; this process has claimed it.
        sets: its images.
        joint: of --joint, the finished training that gives it its weights.

    Raises:
        ValueError, FileNotFoundError: what the class folder holds does not fit.
    """

    def __init__(self, assembly: Assembly, task: Task, sets: ClassSets, joint: JointTraining | None = None) -> None:
        self.assembly, self.settings, self.task, self.joint = assembly, assembly.settings, task, joint
        self.name, self.folder = task.planned.name, self.settings.class_folder(task)
        self.seed = self.settings.seed(task.choice)
        self.network = assembly.network(task.choice, sets.test.imagesize, self.seed)
        self.glass = self.network.glass
        self.base = growth.read_base(self.settings, task) if self.settings.run.grow else None
        self.sets = (self.base.under_its_hypothesis(sets) if self.base else sets).on_grid(self.glass.grid)
        self.before = {path: files.state(path) for path in sets.files}
        self.contents = assembly.contents(sets.files)
        self.glass.set_model_dir(self.folder.parent, self.name, self.settings.run.results_path)
        self.has_state = (self.folder / STATE).is_file()  # else others trained it, or nobody did
        self.state = RunState.load(self.folder)
        done = self.state.finished if self.has_state else checkpoint.best_checkpoint(self.folder) is not None
        self.trains = sets.train is not None and not done

    def run(self) -> None:
        """Train the class unless that is done, test its best and its last weights, and write the results."""
        if self.trains:
            self._train()
        elif self.sets.train is not None:
            LOGGER.info("%s: already trained: testing only.", self.name)
        if self.sets.train is not None and self.has_state:
            joint, train = self.joint, self.sets.train
            sampler = joint.sampler(self.task.classname) if joint else self.assembly.sampler(train, self.seed)
            review_pictures.keep_synthetic(self.task.results, train, sampler, anew=self.trains)
        loader, tested = self.assembly.test_loader(self.sets.test, self.name), ImageScores()
        weights, epoch = checkpoint.require_best(self.folder)
        pictures = self.settings.run.results_path / layout.EVAL / self.name
        worst, painter = review_pictures.Worst(), self._painter(weights)
        best = self._test(loader, weights, pictures, tested, worst, painter) | {"epoch": epoch}
        described = self._describe(tested)
        colours = review_pictures.Colours(described.threshold, model_card.scale_of(described))
        held_out = self.sets.spoilt is not None and len(self.sets.test) == 0
        if held_out:
            tested, loader = ImageScores(), self.assembly.test_loader(self.sets.spoilt, self.name)
            shown = evaluation.whole(self.glass.scored(loader), loader)
            evaluation.evaluate(shown, False, pictures, tested, worst, painter)
            loader = self.assembly.test_loader(self.sets.test, self.name)
        last, latest = {}, self.folder / checkpoint.LATEST
        if latest.is_file():
            shown = self.settings.run.results_path / layout.TRAINING / self.name
            last = self._test(loader, latest, shown, painter=painter) | {"epoch": self.state.last_epoch}
        check_unchanged(self.before, self.contents)
        result = self._result(best, last, described.checkpoint.select)
        found = review_pictures.gather(tested, self.sets.normals, colours, held_out)
        review_pictures.keep(self.task.results, found, result, worst, colours, pictures, self.folder)
        if self.base:
            self._compare(weights, described.threshold)
        files.atomic_write(self.task.results / class_results.RESULT_FILE, class_results.to_json(result).encode())
        class_results.write_csv(self.settings.run.results_path)

    def _test(self, loader: DataLoader, weights: Path, pictures: Path, *views: Any, **more: Any) -> dict[str, float]:
        """Test weights, see evaluation.test, and add the figures of the data set's own evaluation."""
        own = official.official(self.sets.test)
        if own is None:
            return evaluation.test(self.glass, loader, weights, pictures, *views, **more)
        found = evaluation.test(self.glass, loader, weights, pictures, *views, **more, observer=own.update)
        images = self.sets.calibration if self.assembly.validated else None
        if images is None:
            return found | own.compute()
        validation = self.assembly.test_loader(images, self.name)
        return found | own.compute(evaluation.whole(self.glass.scored(validation), validation), images)

    def _train(self) -> None:
        """Train the class, or take over what was trained jointly; go on where its state says an earlier run stopped."""
        choice, sets = self.task.choice, self.sets
        keep_backbone(self.assembly, choice, self.network)
        check_options(self.assembly, self.task, self.state, sets)
        files.remove_partial(self.folder, age=0)
        utils.fix_seeds(self.seed)
        kept = self.settings.training_options(choice) | {"data": self.assembly.fingerprint(sets)}
        if self.base:
            kept[growth.GROWN] = self.base.grown
        origin, device = self.settings.origin(self.name, choice, kept), utils.device_name(self.assembly.device)
        with run_info.recorded(self.folder, origin, device) as record:
            run_info.write_images(self.folder, self.assembly.image_list(sets))
            if self.joint:
                self.joint.hand_over(self.folder, kept, self.state)
                self.glass.hypersphere = bool(self.state.hypersphere)
            else:
                self._learn(kept)
            record["start"] = self.state.start
        self.has_state = True

    def _learn(self, kept: dict[str, Any]) -> None:
        """Train on the images of the class; `kept` are the options that go with the state."""
        sets, run = self.sets, self.settings.run
        selection = dataclasses.replace(self.settings.selection, rule=sets.rule, wanted_share=None)
        loaders = (
            self.assembly.train_loader(sets.train, self.seed),
            self.assembly.test_loader(sets.choosing, self.name),
        )
        tracker = trackers.opener(run.tracker, run.results_path, self.name, kept)
        with sets.train.kept_pixels():
            if self.base and not self.state.weights:
                self.glass.start_from(self.base.weights)
            self.glass.trainer(*loaders, self.name, kept, selection, self.state, tracker)

    def _compare(self, weights: Path, threshold: model_card.Threshold | None) -> None:
        """Hold the grown model against the one that it comes from, on images that neither was trained on."""
        base, held = self.base, self.sets.spoilt
        if held is None:
            advice = "" if self.assembly.validated else ": dataset --calibration 0.1"
            LOGGER.info("%s: no training pictures are held out, which would tell the old model from the new one%s.",
                        self.name, advice)  # fmt: skip
            return
        old = base.threshold(self.settings.run.false_alarm_rate, self.framing)
        models = {OLD: (base.weights, old), NEW: (weights, threshold)}

        def score(weights: Path, images: SyntheticDefects) -> ImageScores:
            self.glass.load_weights(weights)
            return self._scored(images)

        digests = {each.sha256 for each in base.images.images.values()}
        known = {path for path, digest in self.contents.items() if digest in digests}
        found = Growth(base.grown, growth.compare(held, known, models, score))
        growth_table.write(self.folder, found)
        LOGGER.info("%s: the model that grew, and the new one in %s:\n%s", self.name, self.folder,
                    growth_table.to_text(found))  # fmt: skip
        LOGGER.info("%s: the same command with --accept in place of --grow puts it in place of the old one, which is "
                    "kept.", self.name)  # fmt: skip

    def _painter(self, weights: Path) -> evaluation.Painter:
        """Return what draws the pictures of tests: as released, or in the colours of the best weights' calibration."""
        if self.settings.data.release_pictures:
            return evaluation.as_released
        known, rate = self._known_card(), self.settings.run.false_alarm_rate
        if known is not None:
            described = card_writer.with_rate(known, rate, self.framing)
            return review_pictures.Colours(described.threshold, model_card.scale_of(described)).strip
        self.glass.load_weights(weights)
        found = card_writer.Scores(self._normals(), None)
        threshold = None if found.calibration is None else found.calibration.threshold(rate)
        return review_pictures.Colours(threshold, found.scale).strip

    def _normals(self) -> ImageScores:
        """Score the calibration images, else the normal test images, with the best weights, which are loaded."""
        if self.sets.calibration is not None:
            return self.calibrated
        test = self.sets.test
        return self._scored(test.part([k for k, entry in enumerate(test.entries) if not entry.is_anomaly]))

    @property
    def framing(self) -> dict[str, Any] | None:
        """The tiles and the region of interest of the test, as model.json has them."""
        return self.sets.test.framing.to_dict()

    @cached_property
    def calibrated(self) -> ImageScores | None:
        """What the best weights, which are loaded when it is asked first, say of the calibration images, if any."""
        return None if self.sets.calibration is None else self._scored(self.sets.calibration)

    def _describe(self, tested: ImageScores) -> model_card.Card:
        """Return the card of the best weights, which are loaded; write it unless it is there, or not ours to write."""
        known = self._known_card()
        rate = self.settings.run.false_alarm_rate
        elsewhere = self.settings.models_path != self.settings.run.results_path
        ours = self.settings.run.train or (known is None and not elsewhere)
        if ours and known is None:
            keep_backbone(self.assembly, self.task.choice, self.network)  # of a test that is the first to name it
        described = self._new_card(tested) if known is None else card_writer.with_rate(known, rate, self.framing)
        check_unchanged(self.before, self.contents)
        another = known is not None and known.framing != self.framing
        if another:
            LOGGER.warning("%s: the threshold in model.json is for other tiles or another region (predict.py "
                           "--calibrate): this test has none.", self.name)  # fmt: skip
        if ours and described != known and not another:
            model_card.write(self.folder, described)
        card_writer.say_verdicts(self.name, described.threshold, tested)
        return described

    def _new_card(self, tested: ImageScores) -> model_card.Card:
        """Score the calibration images with the best weights, which are loaded, and describe the class."""
        sets, run = self.sets, self.settings.run
        # An earlier run may have been cut off after training, before it described what it had trained.
        trained = self.trains or (sets.train is not None and self.state.finished)
        select = sets.rule if trained else self.state.options.get("select", BEST)
        origin = card_writer.origin(
            card_writer.TRAINING if trained else card_writer.TEST, run.seed, utils.device_name(self.assembly.device)
        )
        return card_writer.new_card(
            card_writer.Weights(
                self.folder, self._hypersphere() if trained else None, select, origin, self.state.options
            ),
            sets, card_writer.Scores(tested, self.calibrated, self._drift()), run.false_alarm_rate, self._backbone(),
            self.settings.net,
        )  # fmt: skip

    def _known_card(self) -> model_card.Card | None:
        """Return the card that describes the best weights; None where they are new."""
        return None if self.trains else card_writer.known_card(self.folder)

    def _scored(self, images: AnomalyDataset | SyntheticDefects) -> ImageScores:
        """Score images with the weights that are loaded."""
        found = ImageScores()
        loader = self.assembly.test_loader(images, self.name)
        evaluation.evaluate(evaluation.whole(self.glass.scored(loader), loader), record=found)
        return found

    def _drift(self) -> Drift | None:
        """Tell what normal images look like, with the weights that are loaded.

        None unless some are held out, and with tiles.
        """
        train, held = self.sets.train, self.sets.calibration
        if train is None or held is None or train.framing.tiling is not None:
            return None
        count = len(train.entries)
        chosen = np.linspace(0, count - 1, min(MOST_DESCRIBED, count)).astype(int).tolist()
        parts = (train.part(chosen, held_out=True).without_defects(), held)
        loaders = [self.assembly.test_loader(part, self.name) for part in parts]
        found = (batch for loader in loaders for batch, _, _ in self.glass.scored(loader, describe=True))
        return Drift.of(np.concatenate([batch["mean_feats"].cpu().numpy() for batch in found]))

    def _hypersphere(self) -> bool:
        """Return the hypothesis that the class was trained under."""
        return self.glass.hypersphere if self.trains else bool(self.state.hypersphere)

    def _backbone(self) -> model_card.Backbone:
        """Describe the backbone."""
        choice = self.task.choice
        weights, kept = self.assembly.weights(choice), self.assembly.kept_weights(choice)
        return model_card.Backbone(
            choice.name,
            choice.layers,
            weights if weights in (backbones.IMAGENET, backbones.RANDOM) else "file",
            self.network.fingerprint,
            layout.KEPT_BACKBONE if kept.is_file() else None,
            self.settings.net.train_backbone,
            self.settings.net.normalise,
        )

    def _result(self, best: dict[str, float], last: dict[str, float], select: str) -> class_results.Result:
        """Return the class's result, with the settings of its training where they are known."""
        planned, choice = self.task.planned, self.task.choice
        settings: dict[str, Any] = self.state.options or self.settings.training_options(choice)
        return class_results.Result(
            self.name, choice.name, choice.index, planned.order, best, last=last, select=select, settings=settings,
            best_epoch=best["epoch"], last_epoch=last.get("epoch", class_results.ABSENT),
        )  # fmt: skip
