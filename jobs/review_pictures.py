"""What does a test leave for people beside its figures? Evidence, the worst pictures, examples of synthetic defects.

All of it lies in the class folder, so that the report can be made again, anywhere, from class folders alone:
evidence.json, and the pictures that reporting/review.py tells of.
"""

import dataclasses
from bisect import insort
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from artifacts import class_results, curves, layout, tensorboard, test_scores
from artifacts.model_card import NG, Scale, Threshold, calibrated, verdict
from artifacts.test_scores import EVALUATIONS, RAW, Evidence
from datasets.base import AnomalyDataset
from datasets.sampler import EpochSampler
from images.contact_sheet import PINK, outlined
from images.drawing import mark_peak, strip, tinted
from images.reading import open_rgb
from jobs.examples import first_examples
from metrics import ImageScores
from reporting.review import ALARM, COUNT, FOLDER, MISSED, SYNTHETIC, picture
from system import files
from training.evaluation import Panels

EXAMPLES = 8  # pictures shown in TensorBoard
HEIGHT = 224  # of a picture
JPEG_QUALITY = 82
GAP = 5  # pixels between the two halves of a picture
APART = 3  # pixels between a defect and its outline


@dataclass(frozen=True)
class Colours:
    """The colours of a model's heat maps; see images.drawing.tinted.

    Attributes:
        threshold, scale: of the model; None where it has none.
    """

    threshold: Threshold | None
    scale: Scale | None

    def covered(self, panels: Panels, height: int | None = None) -> np.ndarray:
        """Draw an image under its heat map, uint8 RGB, scaled to a height."""
        limits = (None if each is None else each.pixel for each in (self.threshold, self.scale))
        shown = tinted(panels.image, calibrated(panels.segmentation, *limits))
        return shown if height is None else _scaled(shown, height)

    def strip(self, score: float, panels: Panels) -> np.ndarray:
        """Draw image | ground truth | the image under its heat map, with a ring at the peak where it is NG."""
        shown, limit = self.covered(panels), None if self.threshold is None else self.threshold.score
        return strip(*panels[:2], mark_peak(shown, panels.segmentation) if verdict(score, limit) == NG else shown)


class Worst:
    """Picks the worst pictures of a test while it runs, so that no more than these are held.

    Attributes:
        found: panels by label, worst first, as test_scores.Evidence.worst ranks them.
    """

    def __init__(self) -> None:
        self.ranked: dict[int, list[tuple[tuple[float, int], Panels]]] = {0: [], 1: []}
        self.seen = 0

    def __call__(self, label: int, score: float, panels: Panels) -> None:
        """Take an image; see evaluation.Viewer."""
        key, ranked = (score if label else -score, self.seen), self.ranked[label]
        self.seen += 1
        if len(ranked) < COUNT or key < ranked[-1][0]:
            insort(ranked, (key, Panels(*map(np.copy, panels))))  # copied: they are parts of large batches
            del ranked[COUNT:]

    @property
    def found(self) -> dict[int, list[Panels]]:
        return {label: [panels for _, panels in ranked] for label, ranked in self.ranked.items()}


def gather(tested: ImageScores, train_images: int | None, colours: Colours, held_out: bool = False) -> Evidence:
    """Return what is known of a test but its figures: scores and curves, the class's training images, the threshold.

    Where there are no test images, `tested` may be of held-out ones; of them there are no curves.
    """
    threshold, scale = (None if each is None else asdict(each) for each in (colours.threshold, colours.scale))
    found = Evidence(train_images=train_images, threshold=threshold, scale=scale, held_out=held_out)
    found.add(tested.paths, tested.kinds, tested.labels, tested.scores)
    found.kind_pixel_auroc = dict(tested.kind_pixel_auroc)
    if not held_out:
        found.add_curves(tested.curves)
    if threshold is not None:
        found.judge()
    return found


def keep(
    folder: Path, found: Evidence, result: class_results.Result, worst: Worst, colours: Colours, pictures: Path,
    trained: Path,
) -> None:  # fmt: skip
    """Write what is worth seeing of the test of a class.

    Args:
        folder: class folder of the results.
        found: of the test, as gathered.
        result: its figures.
        worst: of the test, too.
        colours: of its heat maps.
        pictures: folder of the test's pictures 001.png, ..., of which TensorBoard shows some as they are.
        trained: class folder of the training.
    """
    exact = (*EVALUATIONS, *RAW)
    training = curves.read(trained, exact)
    if training is None:  # trained by an earlier version
        training = tensorboard.read_curves(trained / layout.TENSORBOARD, exact)
    training.pop(curves.NOISE_LOSS, None)  # a part of the loss, whole in curves.jsonl
    found = dataclasses.replace(found, figures=dict(result.best), training=training)
    files.atomic_write(folder / test_scores.EVIDENCE_FILE, test_scores.to_json(found).encode())
    for name, label in ((MISSED, 1), (ALARM, 0)):
        rows = zip(found.worst(label, COUNT), worst.found[label], strict=True)
        alarms = [(panels, bool(found.verdicts) and found.verdicts[k] == NG) for k, panels in rows]
        _replace(folder, name, (_judged(panels, alarm, colours) for panels, alarm in alarms))
    spread = np.linspace(0, len(found.images) - 1, min(EXAMPLES, len(found.images))).astype(int)
    examples = {found.images[k]: np.asarray(open_rgb(pictures / f"{k + 1:03d}.png")) for k in spread}
    tensorboard.show_pictures(
        folder / layout.TENSORBOARD, examples, 0 if np.isnan(result.best_epoch) else int(result.best_epoch)
    )


def keep_synthetic(folder: Path, dataset: AnomalyDataset, sampler: EpochSampler, anew: bool = True) -> None:
    """Write the first synthetic defects of a training, made again by its data set and sampler.

    Where not `anew`, pictures that are all there stay; a run that was killed may have left some out.
    """
    if not anew and picture(folder, SYNTHETIC, min(COUNT, len(dataset)) - 1).is_file():
        return
    found = first_examples(dataset, sampler, COUNT)
    pairs = (_pair(_scaled(each.image), outlined(_scaled(each.aug), each.mask, PINK, APART)) for each in found)
    _replace(folder, SYNTHETIC, pairs)


def _replace(folder: Path, name: str, found: Iterable[np.ndarray]) -> None:
    """Write pictures, uint8 RGB, into a class folder under a name; those of an earlier test go."""
    files.remove_partial(folder / FOLDER, age=0)
    for old in (folder / FOLDER).glob(f"{name}_*.jpg"):
        old.unlink()
    for rank, pixels in enumerate(found):
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        files.atomic_write(picture(folder, name, rank), content.tobytes())


def _judged(panels: Panels, alarm: bool, colours: Colours) -> np.ndarray:
    """Draw an image, its defect outlined | the image under the heat map, with a ring at the peak if it is an alarm."""
    shown = colours.covered(panels, HEIGHT)
    shown = mark_peak(shown, panels.segmentation) if alarm else shown
    return _pair(outlined(_scaled(panels.image), panels.truth, PINK, APART), shown)


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.hstack([first, np.full((len(first), GAP, 3), 128, np.uint8), second])


def _scaled(pixels: np.ndarray, height: int = HEIGHT) -> np.ndarray:
    """Bring a picture to a height, aspect kept."""
    width = round(pixels.shape[1] * height / pixels.shape[0])
    shrinks = pixels.shape[0] > height
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
