"""What a test leaves for people, beside its figures: the evidence, the worst pictures, examples of training defects.

All of it lies in the class folder, so that the report can be made again, anywhere, from class folders alone:
evidence.json, and under review/ JPEGs missed_<k>, alarm_<k> (picture, defect outlined | picture under its heat map)
and synthetic_<k> (normal picture | the same with a synthetic defect, outlined).
"""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from artifacts import class_results, tensorboard, test_scores
from artifacts.model_card import Threshold
from artifacts.test_scores import EVALUATIONS, Evidence
from datasets.base import AnomalyDataset
from datasets.sampler import EpochSampler
from images import drawing, reading
from metrics import ImageScores
from reporting.review import ALARM, COUNT, FOLDER, MISSED, SYNTHETIC, picture
from system import files

EXAMPLES = 8  # pictures shown in TensorBoard
HEIGHT = 224  # of a picture
JPEG_QUALITY = 82
GAP = 5  # pixels between the two halves of a picture
WIDENED = np.ones((7, 7), np.uint8)  # what a mask is widened by before it is outlined
OUTLINE = (255, 60, 200)  # a colour that neither parts nor heat maps have


def gather(tested: ImageScores, train_images: int | None, threshold: Threshold | None) -> Evidence:
    """Return what is known of a test but its figures: scores and curves, the class's training images, the threshold."""
    found = Evidence(train_images=train_images, threshold=None if threshold is None else asdict(threshold))
    found.add(tested.paths, tested.labels, tested.scores)
    found.add_curves(tested.curves)
    return found


def keep(folder: Path, found: Evidence, result: class_results.Result, pictures: Path, events: Path) -> None:
    """Write what is worth seeing of the test of a class.

    Args:
        folder: class folder of the results.
        found: of the test, as gathered.
        result: its figures.
        pictures: folder of the test's pictures 001.png, ... (image | ground truth | heat map).
        events: folder of the training's TensorBoard files.
    """
    found.figures, found.training = dict(result.best), tensorboard.read_curves(events, EVALUATIONS)
    files.atomic_write(folder / test_scores.EVIDENCE_FILE, test_scores.to_json(found).encode())
    for name, label in ((MISSED, 1), (ALARM, 0)):
        strips = [_read(pictures / f"{k + 1:03d}.png") for k in found.worst(label, COUNT)]
        _replace(folder, name, (_judged(strip) for strip in strips))
    spread = np.linspace(0, len(found.images) - 1, min(EXAMPLES, len(found.images))).astype(int)
    examples = {found.images[k]: _read(pictures / f"{k + 1:03d}.png") for k in spread}
    tensorboard.show_pictures(folder / "tb", examples, 0 if np.isnan(result.best_epoch) else int(result.best_epoch))


def keep_synthetic(folder: Path, dataset: AnomalyDataset, sampler: EpochSampler, anew: bool = True) -> None:
    """Write the first synthetic defects of a training, made again by its data set and sampler.

    Where not `anew`, pictures that are all there stay; a run that was killed may have left some out.
    """
    if not anew and picture(folder, SYNTHETIC, min(COUNT, len(dataset)) - 1).is_file():
        return
    sampler.set_epoch(0)
    draws = islice((draw for batch in sampler for draw in batch), COUNT)
    samples = (dataset[draw] for draw in draws)
    pairs = ((_shown(each, "image"), _outlined(_shown(each, "aug"), each["mask_s"].numpy())) for each in samples)
    _replace(folder, SYNTHETIC, (_pair(*pair) for pair in pairs))


def _replace(folder: Path, name: str, found: Iterable[np.ndarray]) -> None:
    """Write pictures, uint8 RGB, into a class folder under a name; those of an earlier test go."""
    for old in (folder / FOLDER).glob(f"{name}_*.jpg"):
        old.unlink()
    for rank, pixels in enumerate(found):
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        files.atomic_write(picture(folder, name, rank), content.tobytes())


def _judged(strip: np.ndarray) -> np.ndarray:
    """Turn image | ground truth | heat map into the image, its defect outlined | the image under the heat map."""
    image, truth, heat = np.array_split(strip, 3, axis=1)
    image, truth, heat = (_scaled(each) for each in (image, truth, heat))
    return _pair(_outlined(image, truth[..., 0] / 255), cv2.addWeighted(image, 0.5, heat, 0.5, 0))


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.hstack([first, np.full((len(first), GAP, 3), 128, np.uint8), second])


def _shown(sample: dict, key: str) -> np.ndarray:
    return _scaled(drawing.denormalise(sample[key].numpy()))


def _scaled(picture: np.ndarray) -> np.ndarray:
    """Bring a picture to HEIGHT, aspect kept."""
    width = round(picture.shape[1] * HEIGHT / picture.shape[0])
    shrinks = picture.shape[0] > HEIGHT
    return cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw a thin line around a mask in [0, 1], of any size, a little apart, so that it hides nothing."""
    mask = cv2.resize(mask.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    mask = cv2.dilate((mask > 0.5).astype(np.uint8), WIDENED)
    found, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(picture), found, -1, OUTLINE, 1, cv2.LINE_AA)


def _read(path: Path) -> np.ndarray:
    return np.asarray(reading.open_rgb(path))
