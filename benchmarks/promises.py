"""How many false alarms a threshold gives that promises a share of them: promised against counted.

    python -m benchmarks.promises CLASS_FOLDER --data DATA --out FILE.json
    python -m benchmarks.promises CLASS_FOLDER --out FILE.json

The second counts both promises of `predict.py --calibrate`, on average and with 95 % confidence.

CLASS_FOLDER is of a run with `--select last` and `dataset --calibration`, so that there are normal images which it
was not trained on and which chose nothing: those held out of training, and the test set's. A threshold is set by some
of them and counted on others, or, as no run does, set by images it was trained on.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from scipy.stats import binomtest

from artifacts import model_card, run_info, test_scores
from artifacts.model_card import Calibration, above
from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from inference.predictor import Predictor
from jobs.held_out import CALIBRATION, hold_out
from system.files import atomic_write

RATES = (0.05, 0.1)
SPLITS = 200  # random ones, each into images to calibrate on and images to count
INTERVAL = 0.95  # confidence
POOLED = 0.75  # of the images at most set a threshold, so that others are left to count

Scores = Sequence[float]


def scores_of_trained(folder: Path, data: Path) -> list[float]:
    """Score the images that a class folder's weights were trained on."""
    found = model_card.read(folder)
    run = json.loads((folder / run_info.RUN_FILE).read_text(encoding="utf-8"))
    options = {"resize": run["resize"], "imagesize": run["imagesize"], "distribution": run["distribution"]}
    classname = found.name.partition("_")[2]
    images = MVTecDataset(data, None, classname=classname, split=DatasetSplit.TRAIN, fg=0, **options)
    trained, held = hold_out(images, run["calibration"], run["seed"], CALIBRATION)
    count = len(held.entries)
    if count != found.images.calibration:
        raise ValueError(f"{folder} held {found.images.calibration} images out, of {data} it would be {count}.")
    predictor = Predictor(folder)
    return [predictor(entry.image).score for entry in trained.entries]


def counted(calibration: Scores, others: Scores, rate: float) -> int:
    """Return how many of the other images are false alarms by the threshold that promises a rate."""
    threshold = Calibration.of("", calibration, calibration).threshold(rate).score
    return int(above(others, threshold).sum())


def once(calibration: Scores, others: Scores, what: tuple[str, str]) -> dict:
    """Count the false alarms of one calibration, with the exact binomial interval."""
    rows = []
    for rate in RATES:
        alarms = counted(calibration, others, rate)
        interval = binomtest(alarms, len(others)).proportion_ci(INTERVAL)
        rows.append([alarms / len(others), interval.low, interval.high])
    return {"calibrated_on": what[0], "counted_on": what[1], "rates": rows}


def split(scores: Scores, count: int, what: str) -> dict:
    """Count the false alarms of random splits: their mean, and the middle 95 % of single splits."""
    rng, scores = np.random.default_rng(0), np.asarray(scores)
    orders = [rng.permutation(len(scores)) for _ in range(SPLITS)]
    rows = []
    for rate in RATES:
        shares = [counted(scores[o[:count]], scores[o[count:]], rate) / (len(scores) - count) for o in orders]
        rows.append([float(np.mean(shares)), *np.quantile(shares, [0.5 - INTERVAL / 2, 0.5 + INTERVAL / 2]).tolist()])
    return {"calibrated_on": f"{count} of {what}, {SPLITS} random splits", "counted_on": "the others", "rates": rows}


def both(scores: Scores) -> list[dict]:
    """Count, over random splits, how both promises of a recalibration are kept, by the fewest images for each rate.

    The images are taken for all that there are: a threshold set by some of them breaks its rate if more than this share
    of all is above it.

    Returns:
        a row a rate: images that set the threshold; mean share of the other images that are false alarms by the
        threshold that promises the rate on average; share of splits in which the threshold that promises it with
        confidence keeps it, and the mean share of false alarms by it.
    """
    rng, scores, rows = np.random.default_rng(0), np.asarray(scores), []
    for rate in (0.2, 0.1, 0.05, 0.02, 0.01):
        count = model_card.least_count(rate)
        if count > POOLED * len(scores):
            continue
        averages, confident = [], []
        for _ in range(SPLITS):
            order = rng.permutation(len(scores))
            own, others = scores[order[:count]], scores[order[count:]]
            found = Calibration.of(model_card.GOOD_PICTURES, own, own)
            averages.append(above(others, found.recalibrated(rate, confident=False).score).mean())
            confident.append(above(scores, found.recalibrated(rate, confident=True).score).mean())
        kept = float(np.mean(np.asarray(confident) <= rate))
        rows.append({"rate": rate, "count": count, "average": float(np.mean(averages)), "kept": kept,
                     "confident": float(np.mean(confident))})  # fmt: skip
    return rows


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of classes, MVTec layout; without, both promises.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
def main(folder: Path, data: Path | None, out: Path) -> None:
    """Count the false alarms of a class FOLDER's thresholds."""
    held = model_card.read(folder).calibration
    if held is None or held.basis != model_card.HELD_OUT:
        raise click.UsageError(f"{folder} held no images out: train it with --calibration.")
    path = folder / test_scores.EVIDENCE_FILE
    tested = test_scores.from_json(path.read_text(encoding="utf-8"), path)
    test = [score for score, label in zip(tested.scores, tested.labels, strict=True) if label == 0]
    if data is None:
        images = f"{len(held.scores)} held-out and {len(test)} test normals"
        content = {"name": model_card.read(folder).name, "images": images, "both": both([*held.scores, *test])}
        atomic_write(out, (json.dumps(content, indent=1) + "\n").encode())
        return
    trained = scores_of_trained(folder, data)
    rest = f"the test's {len(test)} normals"
    tables = [
        split(test, len(test) // 2, rest),
        split([*held.scores, *test], len(held.scores), f"all {len(held.scores) + len(test)} not trained on"),
        once(held.scores, test, (f"the {len(held.scores)} held out, as a run does", rest)),
        once(trained, test, (f"the {len(trained)} trained on, as no run does", rest)),
    ]
    content = {"name": model_card.read(folder).name, "promised": RATES, "tables": tables}
    atomic_write(out, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
