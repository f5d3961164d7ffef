"""Pictures of a test that stay in the class folder: the worst ones, examples of synthetic defects, TensorBoard's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from artifacts import checkpoint, class_results, test_scores
from artifacts.model_card import Scale, Threshold
from artifacts.test_scores import Evidence
from datasets.sampler import EpochSampler
from images import drawing
from jobs import review_pictures
from jobs.review_pictures import Colours, Worst
from metrics import ImageScores
from reporting import review
from tests.helpers.small_glass import loader, small_glass
from training import evaluation
from training.evaluation import Panels

SIDE = 64
COLOURS = Colours(Threshold(0.5, 0.6, 0.01, 0.2, "test normals", 3), Scale(0.4, 0.3))
Tested = tuple[Path, Evidence, Worst, Path]


@pytest.fixture
def tested(tmp_path: Path) -> Tested:
    """A class folder, the evidence of eight test images, every second defective, the worst, and the test's pictures.

    The image k has gray value 10 k and score (k * 5 % 8)/8.
    """
    pictures, mask = tmp_path / "eval", np.zeros((SIDE, SIDE))
    pictures.mkdir()
    mask[20:40, 20:40] = 1
    scores, worst = [k * 5 % 8 / 8 for k in range(8)], Worst()
    for k in range(8):
        panels = Panels(np.full((SIDE, SIDE, 3), 10 * k, np.uint8), mask * (k % 2), np.zeros((SIDE, SIDE)))
        worst(k % 2, scores[k], panels)
        (pictures / f"{k + 1:03d}.png").write_bytes(drawing.encode_png(drawing.side_by_side(*panels)))
    names = [f"kind/{k}.png" for k in range(8)]
    return tmp_path / "class", Evidence({}, names, ["kind"] * 8, [k % 2 for k in range(8)], scores), worst, pictures


def keep(tested: Tested, **best: float) -> class_results.Result:
    folder, found, worst, pictures = tested
    result = class_results.Result("mvtec_nut", best=best, best_epoch=3)
    review_pictures.keep(folder, found, result, worst, COLOURS, pictures, folder / "none")
    return result


def gray(path: Path) -> int:
    """Return the gray value of the image of a picture, at a corner, where nothing is drawn."""
    with Image.open(path) as picture:
        return int(np.asarray(picture)[:8, :8].mean().round())


def test_the_worst_pictures_are_kept_in_order(tested: Tested) -> None:
    keep(tested)
    missed = [gray(review.picture(tested[0], review.MISSED, rank)) for rank in range(4)]
    alarms = [gray(review.picture(tested[0], review.ALARM, rank)) for rank in range(4)]
    assert missed == pytest.approx([50, 70, 10, 30], abs=2)  # scores 1/8, 3/8, 5/8, 7/8
    assert alarms == pytest.approx([60, 40, 20, 0], abs=2)  # scores 6/8, 4/8, 2/8, 0
    assert not review.picture(tested[0], review.MISSED, 4).exists()


@pytest.mark.parametrize("label", [0, 1])
def test_the_worst_are_picked_as_the_evidence_ranks_them(label: int) -> None:
    scores, worst = np.random.default_rng(label).integers(0, 5, 40) / 8, Worst()  # many are equal
    labels = [k // 3 % 2 for k in range(40)]
    for k, score in enumerate(scores):
        worst(labels[k], float(score), Panels(np.full((1, 1, 3), k, np.uint8), np.zeros((1, 1)), np.zeros((1, 1))))
    found = Evidence()
    found.add([f"kind/{k}.png" for k in range(40)], ["kind"] * 40, labels, scores)
    assert [panels.image.max() for panels in worst.found[label]] == found.worst(label, review.COUNT)


def test_pictures_of_an_earlier_test_go(tested: Tested) -> None:
    stale = review.picture(tested[0], review.MISSED, 5)
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    keep(tested)
    assert not stale.exists()


def test_defects_are_outlined_and_normal_pictures_are_not(tested: Tested) -> None:
    keep(tested)
    pink = []
    for name in (review.MISSED, review.ALARM):
        with Image.open(review.picture(tested[0], name, 0)) as picture:
            red, green, _ = np.moveaxis(np.asarray(picture)[:, : review_pictures.HEIGHT].astype(int), 2, 0)
            pink.append((red - green > 40).sum())
    assert pink[0] > 200 and pink[1] == 0


def test_the_evidence_fits_the_figures(tested: Tested) -> None:
    result = keep(tested, image_auroc=0.5)
    assert test_scores.read(tested[0], result.best).images == tested[1].images


def test_tensorboard_shows_examples_once(tested: Tested) -> None:
    keep(tested)
    keep(tested)
    events = EventAccumulator(str(tested[0] / "tb"), size_guidance={"images": 0}).Reload()
    tags = events.Tags()["images"]
    assert tags == [f"best/kind/{k}.png" for k in range(8)]
    assert [(each.step, each.height, each.width) for each in events.Images(tags[0])] == [(3, 256, 768)]


class Defects:
    """A training set whose synthetic defect k is of value k, and which records its draws."""

    def __init__(self) -> None:
        self.draws: list = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, draw: tuple) -> dict[str, torch.Tensor]:
        self.draws.append(draw)
        image, mask_s = torch.zeros(3, SIDE, SIDE), torch.zeros(8, 8)
        mask_s[3:5, 3:5] = 1
        return {"image": image, "aug": image + 1, "mask_s": mask_s, "image_path": "0.png"}


def test_synthetic_defects_are_those_of_the_first_epoch(tmp_path: Path) -> None:
    sampler, defects = EpochSampler(10, 4, 0, "mvtec_nut"), Defects()
    wanted = [draw for batch in sampler for draw in batch][: review.COUNT]
    sampler.set_epoch(7, "center")
    review_pictures.keep_synthetic(tmp_path, defects, sampler)
    assert defects.draws == wanted and all(draw.synthesise for draw in wanted)
    with Image.open(review.picture(tmp_path, review.SYNTHETIC, review.COUNT - 1)) as picture:
        assert picture.size == (2 * review_pictures.HEIGHT + review_pictures.GAP, review_pictures.HEIGHT)


def test_synthetic_defects_that_are_there_stay_and_missing_ones_are_made(tmp_path: Path) -> None:
    sampler, defects = EpochSampler(10, 4, 0, "mvtec_nut"), Defects()
    review_pictures.keep_synthetic(tmp_path, defects, sampler, anew=False)
    assert len(defects.draws) == review.COUNT
    review_pictures.keep_synthetic(tmp_path, defects, sampler, anew=False)
    assert len(defects.draws) == review.COUNT
    review.picture(tmp_path, review.SYNTHETIC, review.COUNT - 1).unlink()
    review_pictures.keep_synthetic(tmp_path, defects, sampler, anew=False)
    assert len(defects.draws) == 2 * review.COUNT


def test_a_test_gives_scores_and_curves(tmp_path: Path) -> None:
    glass, tested = small_glass(tmp_path, meta_epochs=1), ImageScores()
    glass.trainer(loader(4, train=True), loader(6, train=False), "mvtec_small")
    weights, _ = checkpoint.require_best(glass.ckpt_dir)
    evaluation.test(glass, loader(6, train=False), weights, tmp_path / "eval", tested)
    found = review_pictures.gather(tested, 4, COLOURS)
    _, scores, _, labels, _ = glass.predict(loader(6, train=False))
    assert found.labels == labels and found.images[5] == "005.png"
    assert np.allclose(found.scores, scores, atol=1e-8)
    assert set(found.curves) == {"image_roc", "pixel_roc", "pixel_pro"}
    assert (found.train_images, found.threshold["score"], found.scale) == (4, 0.5, {"score": 0.4, "pixel": 0.3})
    assert found.scores == tested.scores and found.verdicts == ["NG" if score > 0.5 else "OK" for score in scores]
