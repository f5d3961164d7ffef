"""Where things lie in a results folder; nothing here needs PyTorch.

    results.csv                                    every class, and the mean (class_results)
    models/plan.json                               the classes of the latest command line (class_status)
    models/backbone_<i>/backbone.safetensors       weights that cannot be fetched again: random ones, or a user's file
    models/backbone_<i>/<name>/                    a class folder; <name> is "<dataset>_<class>"
        ckpt.pth, ckpt_best_<epoch>.pth            the latest and the best weights (checkpoint)
        state.pth                                  what a continued run needs beside them (run_state)
        tb/                                        TensorBoard's curves and pictures (tensorboard)
        model.json, run.json                       what the weights are, and how they were made (model_card, run_info)
        tracker.json                               its run in MLflow or wandb (tracking.trackers)
        images.json                                the images of the training (run_info)
        result.json, evidence.json                 figures of the test, their grounds (class_results, test_scores)
        review/                                    pictures for the report
        progress.json, failure.json                of a class that is not done (class_status)
    models/backbone_<i>/<dataset>_joint/           the training of --joint: as a class folder, without figures
        joint.json                                 the classes that it is finished for
    models/backbone_<i>/old/<name>-<n>/            class folders of earlier runs (--fresh)
    grown/                                         a results folder of its own: models of --grow, until --accept
    training/<name>/, eval/<name>/                 pictures by the last and by the best weights
    mlruns/                                        the store of --tracker mlflow (tracking.trackers)
    judge/                                         judged hypotheses (hypothesis_table)
    report/index.html                              all of it on one page

With --seeds 0,1 a results folder holds seed_0/ and seed_1/, a results folder each, and seeds.csv: mean and deviation.

The file in brackets reads and writes it, and has its name as a constant. What several files need stands here.
"""

from pathlib import Path

RESULTS_FILE = "results.csv"
BACKBONE_FILE = "backbone.safetensors"
SHARED_FILE = "model.safetensors"  # the weights of a class, in place of ckpt_best_<epoch>.pth, where they are shared
KEPT_BACKBONE = f"../{BACKBONE_FILE}"  # as a card names it, from its class folder
STATE_FILE = "state.pth"
MODELS, TRAINING, EVAL, JUDGE, REPORT = "models", "training", "eval", "judge", "report"
GROWN = "grown"
TENSORBOARD = "tb"
JOINT, JOINT_FILE = "joint", "joint.json"  # in place of a class
SEEDS_FILE, KINDS_FILE = "seeds.csv", "kinds.csv"
_SEED = "seed_"
_BACKBONE = "backbone_"


def seed_folder(results_path: Path, seed: int) -> Path:
    """Return the results folder of one of several seeds."""
    return results_path / f"{_SEED}{seed}"


def results_folders(results_path: Path) -> list[Path]:
    """Return the results folders of the seeds, by seed; the folder itself where it has models, or there are none."""
    if (results_path / MODELS).is_dir():
        return [results_path]
    found = [path for path in results_path.glob(f"{_SEED}*") if path.name.removeprefix(_SEED).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(_SEED))) or [results_path]


def models_folder(results_path: Path, backbone_index: int) -> Path:
    """Return the folder of the classes of one backbone, by its position in -b."""
    return results_path / MODELS / f"{_BACKBONE}{backbone_index}"


def class_folder(results_path: Path, backbone_index: int, name: str) -> Path:
    """Return the folder of a class, "<dataset>_<class>"."""
    return models_folder(results_path, backbone_index) / name


def class_folders(results_path: Path) -> list[Path]:
    """Return the class folders that are there, sorted; `old` is among them, which holds no file itself."""
    return sorted(path for path in (results_path / MODELS).glob(f"{_BACKBONE}*/*") if path.is_dir())


def shared_folders(results_path: Path) -> list[Path]:
    """Return the folders that are there of what belongs to no class alone: plan, judgements and page."""
    judge = results_path / JUDGE
    return [results_path / MODELS, results_path / REPORT, judge, *(path for path in judge.rglob("*") if path.is_dir())]


def backbone_index(class_folder: Path) -> int | None:
    """Return the position of a class folder's backbone in -b; None where its parent's name tells none."""
    index = class_folder.parent.name.removeprefix(_BACKBONE)
    return int(index) if index.isdecimal() else None
