"""The losses: cross entropy, the focal loss of local anomaly synthesis (Lin et al., ICCV 2017), and its hard rows."""

import torch
import torch.nn.functional as F
from torch import nn

from metrics import ABSENT

SMOOTH = 1e-5  # as released: the target is clamped to [SMOOTH, 1 - SMOOTH] and pt is raised by SMOOTH
GAMMA = 2


def focal_terms(probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of every row.

    Args:
        probabilities: [N, K], each row sums to 1.
        target: class of each row, [N, 1], in 0..K-1.

    Returns:
        -(1 - pt)^2 log pt, [N].
    """
    classes = torch.arange(probabilities.shape[1], device=target.device)
    one_hot = (target.long() == classes).to(probabilities.dtype).clamp(SMOOTH, 1 - SMOOTH)  # [N, K]
    pt = (one_hot * probabilities).sum(1) + SMOOTH
    return -((1 - pt) ** GAMMA) * pt.log()


def cross_entropy(scores: torch.Tensor, target: float) -> torch.Tensor:
    """Return the mean binary cross entropy of scores in [0, 1] against one target for all.

    NaN scores make it NaN; PyTorch's own would raise on the CPU and end the process on CUDA.
    """
    clean = scores.nan_to_num(nan=0.5)
    return F.binary_cross_entropy(clean, torch.full_like(clean, target)) + 0 * scores.detach().mean()


def masked_quantile(values: torch.Tensor, keep: torch.Tensor, q: float) -> torch.Tensor:
    """Return the q-quantile, linearly interpolated, of the values where keep is true.

    Nothing is copied to the host: what is left out is sorted behind the rest. NaN where nothing is kept.

    Args:
        values: [M].
        keep: bool, [M].
        q: in [0, 1].
    """
    ordered = values.masked_fill(~keep, float("inf")).sort().values
    position = q * (keep.sum() - 1).clamp(min=0)
    low, high = (ordered.take(end.long()) for end in (position.floor(), position.ceil()))  # [i] would wait for i
    quantile = torch.lerp(low, high, position - position.floor())
    return torch.where(keep.any(), quantile, ABSENT)


def hard_examples(scores: torch.Tensor, target: torch.Tensor, p: float) -> torch.Tensor:
    """Return which rows count: those at least as wrong as the p-quantile, bool [N]; all of them with p = 0."""
    hardness = (scores.detach() - target).square().flatten()
    if p <= 0:
        return torch.ones_like(hardness, dtype=torch.bool)
    return hardness >= masked_quantile(hardness, torch.ones_like(hardness, dtype=torch.bool), p)


def local_loss(scores: torch.Tensor, target: torch.Tensor, p: float, kind: str = "focal") -> torch.Tensor:
    """Return the loss of locally synthesised rows: its mean over the hard ones, see hard_examples.

    Args:
        scores: in [0, 1], [N, 1].
        target: 0 or 1, [N, 1].
        p: quantile of hardness.
        kind: "focal", or "bce" for cross entropy.
    """
    hard = hard_examples(scores, target, p)
    if kind == "focal":
        terms = focal_terms(torch.cat([1 - scores, scores], dim=1), target)
    else:  # what is not finite stays so: see cross_entropy
        clean = scores.nan_to_num(nan=0.5)
        terms = (F.binary_cross_entropy(clean, target, reduction="none") + 0 * scores.detach()).flatten()
    return (terms * hard).sum() / hard.sum()


class FocalLoss(nn.Module):
    """Mean focal loss, gamma 2, alpha 1."""

    def forward(self, probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return focal_terms(probabilities, target).mean()
