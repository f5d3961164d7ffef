"""The losses: cross entropy, and the focal loss of local anomaly synthesis (Lin et al., ICCV 2017)."""

import torch
import torch.nn.functional as F
from torch import nn

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


class FocalLoss(nn.Module):
    """Mean focal loss, gamma 2, alpha 1."""

    def forward(self, probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return focal_terms(probabilities, target).mean()
