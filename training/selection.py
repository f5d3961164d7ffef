"""Selection of the epoch whose weights become ckpt_best_<epoch>.pth, and early stopping.

    best        highest image + pixel AUROC on the test set, as released: the published numbers are chosen so
    last        the last epoch
    val         as best, on a part of the test set that is then left out of the test
    synthetic   as best, on normal images that are held out of training, with and without synthetic defects

Which images a rule looks at is the caller's business (jobs/held_out.py); this module decides on the figures.
"""

from dataclasses import dataclass

import numpy as np

from artifacts.options import BEST, LAST, SYNTHETIC, VAL

AUROCS = ("image_auroc", "pixel_auroc")
SHARES = {VAL: 0.5, SYNTHETIC: 0.1}  # held out by default: of the test set, of the training images


@dataclass(frozen=True)
class Selection:
    """A rule that chooses an epoch.

    Attributes:
        rule: one of options.RULES.
        patience: evaluations without improvement after which training stops; 0 for never.
        wanted_share: of the images that the rule holds out; None for SHARES.
    """

    rule: str = BEST
    patience: int = 0
    wanted_share: float | None = None

    def __post_init__(self) -> None:
        if self.patience and self.rule == LAST:
            advice = "name another --select, or leave it"
            raise ValueError(f"--patience has nothing to go by with --select last (as quick sets it): {advice}.")
        if self.wanted_share is not None and self.rule not in SHARES:
            raise ValueError(f"--val_share does nothing with --select {self.rule}: leave it, or select val, synthetic.")

    @property
    def share(self) -> float:
        """Return the share of images that the rule holds out: of the test set (val), of the training (synthetic)."""
        return SHARES.get(self.rule, 0.0) if self.wanted_share is None else self.wanted_share

    def better(self, record: dict[str, float], best: dict[str, float]) -> bool:
        """Say whether an evaluation's AUROCs beat the best so far, which is empty before the first.

        The first is kept, then each that is strictly greater in their sum. A metric that is NaN counts nothing; while
        none is defined, the latest is best. Where only the last epoch counts, none is.
        """
        if self.rule == LAST:
            return False
        now, before = ([values[key] for key in AUROCS] if values else [np.nan] for values in (record, best))
        return bool(np.isnan(before).all() or np.nansum(now) > np.nansum(before))

    def stops(self, best: dict[str, float], epoch: int, eval_epochs: int) -> bool:
        """Say whether to stop after an epoch, counted from 0: the best is `patience` or more evaluations old."""
        return self.patience > 0 and bool(best) and (epoch - best["epoch"]) // eval_epochs >= self.patience
