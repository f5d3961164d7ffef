"""The words and numbers that options take, and what each recipe sets."""

from collections.abc import Mapping
from typing import Any

AUTO, DEVICE, HOST, OFF = PLACES = ("auto", "device", "host", "off")  # --cache
BEST, LAST, VAL, SYNTHETIC = RULES = ("best", "last", "val", "synthetic")  # --select
FP32, TF32, BF16 = PRECISIONS = ("fp32", "tf32", "bf16")
CONSTANT, COSINE = SCHEDULES = ("constant", "cosine")
XAVIER, WHITENED, _ = STARTS = ("xavier", "whitened", AUTO)  # --dsc_init
ADAMW, MUON, _ = OPTIMIZERS = ("adamw", "muon", AUTO)  # --dsc_optimizer
FOCAL, BCE = LOCAL_LOSSES = ("focal", "bce")  # --local_loss
MIXED = "mixed"  # --mask_mode
MASK_MODES = (MIXED, "one", "union", "intersection")
MANIFOLD_RADII = (0.5, 1.0)  # paper: 1 and 2; the noise alone has length 0.59, so this projection hardly ever acts
TENSORBOARD, MLFLOW, WANDB = TRACKERS = ("tensorboard", "mlflow", "wandb")  # --tracker
PAPER, QUICK = "paper", "quick"  # --recipe
RECIPES: dict[str, dict[str, Any]] = {  # what each sets, unless the command line does
    PAPER: {},
    QUICK: {
        "lr": 0.001,
        "schedule": COSINE,
        "warmup": 20,
        "dsc_optimizer": AUTO,
        "ema_decay": 0.98,
        "iterations": 320,
        "select": LAST,
    },
}
IMAGENET, OWN_NORMALISATION = NORMALISATIONS = ("imagenet", "model")  # --normalise
OWN_RECIPE = QUICK  # of one's own pictures
OWN = "folder"  # NAME of one's own pictures
PAPERS = ("mvtec", "visa", "mpdd", "wfdd")  # NAME of the benchmarks that the paper has figures for
FURTHER = ("mvtec2", "realiad", "loco", "autovi", "btad", "ksdd2", "dagm")  # of others, see datasets.readers
VALIDATED = ("mvtec2", "loco")  # of those that come with normal pictures for the threshold
NUMBERED = ("visa", "loco", "autovi")  # whose masks mark defects by any value above 0
MANIFOLD, HYPERSPHERE = HYPOTHESES = (2, 3)  # --distribution
CLASS, SHARED = CENTERS = ("class", "shared")  # --joint_center
GOOD = "good"  # the folder of normal images
ASK, MASK, IGNORE, PICTURE = SIDECARS = ("ask", "mask", "ignore", "picture")  # --sidecars
NO_TEXTURES = "none"  # for AUG_PATH
RESIZE = 288  # where there is a crop
LEAST_CELL = 1 / 128  # of the noise that shapes synthetic defects, as a share of the picture's side


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as a command line would have them, without the dashes: "lr 0.001, schedule cosine"."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())
