"""Where an image's score comes from, and whether another rule than the maximum of its grid tells defects better.

    python -m benchmarks.probes.peaks CLASS_FOLDER --data DATA --weights resnet18.pth

CLASS_FOLDER is of a class of DATA in MVTec AD's layout. Scores are taken as logits. A rule that looks at training
images (a mean and deviation of each cell, or its highest score) is set by those that the model was trained on.
"""

import json
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

import glass
from artifacts import checkpoint, run_info
from datasets.base import DatasetSplit
from datasets.mvtec import MVTecDataset
from metrics import compute_imagewise_retrieval_metrics

CPU = torch.device("cpu")
LEAST = 1e-3  # deviation of a cell
NETWORKS = ("pretrain_embed_dimension", "target_embed_dimension", "patchsize", "pre_proj", "dsc_layers", "dsc_hidden")

Rule = Callable[[np.ndarray], np.ndarray]  # grids [B, h, w] to scores [B]


def rules(trained: np.ndarray) -> dict[str, Rule]:
    """Return the rules by name; trained: grids of the training images [B, h, w]."""

    def top(count: int) -> Rule:
        return lambda grids: np.sort(grids.reshape(len(grids), -1), 1)[:, -count:].mean(1)

    def blurred(sigma: float) -> Rule:
        return lambda grids: np.stack([cv2.GaussianBlur(grid, (0, 0), sigma) for grid in grids]).max((1, 2))

    mean, deviation, highest = trained.mean(0), trained.std(0) + LEAST, trained.max(0)
    return {
        "maximum": lambda grids: grids.max((1, 2)),
        "maximum of (logit - mean) / deviation of the cell": lambda grids: ((grids - mean) / deviation).max((1, 2)),
        "maximum of logit - the cell's highest": lambda grids: (grids - highest).max((1, 2)),
        **{f"mean of the highest {count}": top(count) for count in (3, 10, 30)},
        **{f"maximum, blurred by {sigma} cells": blurred(sigma) for sigma in (0.5, 1.0)},
        "mean": lambda grids: grids.mean((1, 2)),
    }


def on_border(grids: np.ndarray) -> float:
    """Return the share of grids [B, h, w] whose maximum lies in an outer cell."""
    rows, columns = np.unravel_index(grids.reshape(len(grids), -1).argmax(1), grids.shape[1:])
    last = np.array(grids.shape[1:]) - 1
    return float(((rows % last[0] == 0) | (columns % last[1] == 0)).mean())


@torch.no_grad()
def logits(model: glass.GLASS, images: MVTecDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the grids of images, float32 [B, h, w], and which images are defective, bool [B]."""
    grids, defective = [], []
    for batch in DataLoader(images, batch_size=8):
        scores = model.heads.now(model.patch_embedding.spans, model.grid)(model.pooled(batch["image"], evaluation=True))
        grids.append(torch.logit(scores.double(), eps=1e-12).float().numpy())
        defective += [bool(each) for each in batch["is_anomaly"]]
    return np.concatenate(grids), np.array(defective)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Folder of classes.")
@click.option("--weights", required=True, help="Of the backbone: imagenet, or a file.")
def main(folder: Path, data: Path, weights: str) -> None:
    """Print image AUROC by rule, and where the maxima lie."""
    run = json.loads((folder / run_info.RUN_FILE).read_text(encoding="utf-8"))
    side, classname = run["imagesize"], run["name"].partition("_")[2]
    sizes = {key: run[key] for key in NETWORKS}
    model, _ = glass.build(
        run["backbone"], run["layers_to_extract_from"].split(","), weights, CPU, (3, side, side), **sizes
    )
    model.load_weights(checkpoint.require_best(folder)[0])
    model.set_training(False)
    options = {"classname": classname, "resize": run["resize"], "imagesize": side, "fg": 0}
    trained, _ = logits(model, MVTecDataset(data, None, split=DatasetSplit.TRAIN, distribution=2, **options))
    tested, defective = logits(model, MVTecDataset(data, None, split=DatasetSplit.TEST, distribution=2, **options))
    for name, rule in rules(trained).items():
        auroc = compute_imagewise_retrieval_metrics(rule(tested), defective)["auroc"]
        print(f"{name:50} image AUROC {100 * auroc:.1f}")
    border = 1 - np.prod(np.array(tested.shape[1:]) - 2) / tested[0].size
    print(f"outer cells are {border:.0%} of the grid")
    for name, grids in (("train", trained), ("good", tested[~defective]), ("defective", tested[defective])):
        print(f"{name:10} median maximum {np.median(grids.max((1, 2))):.2f}, in an outer cell {on_border(grids):.0%}")


if __name__ == "__main__":
    main()
