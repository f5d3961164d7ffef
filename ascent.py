"""Gradient ascent on synthetic features and their truncated projection (paper Eq. 2).

The loss to ascend is the one of calling the rows anomalous, so they move towards normal: hard anomalies. Each step
is a constant for autograd. The discriminator's batch norm is computed over, and updated by, normal and synthetic
rows together.
"""

import torch
import torch.nn.functional as F
from torch import nn

RATE = 0.001  # length of a step
EPSILON = 1e-10


def truncate(
    feats: torch.Tensor, origin: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float
) -> torch.Tensor:
    """Project rows [N, C] to the shell low <= ||x - origin|| <= high (Eq. 2); differentiable, origin [N, C]."""
    offset = feats - origin
    length = offset.norm(dim=1, keepdim=True)
    return origin + length.clamp(low, high) / (length + EPSILON) * offset


def ascend(discriminator: nn.Module, true_feats: torch.Tensor, gaus_feats: torch.Tensor) -> torch.Tensor:
    """Return one step of gradient ascent for the synthetic rows, as the paper writes it, [N, C].

    Args:
        discriminator: in training mode.
        true_feats: normal rows [N, C].
        gaus_feats: synthetic rows [N, C].
    """
    moved = gaus_feats.detach().requires_grad_()
    scores = discriminator(torch.cat([true_feats.detach(), moved]))[len(true_feats) :]
    loss = F.binary_cross_entropy(scores.nan_to_num(nan=0.5), torch.ones_like(scores))
    grad = torch.autograd.grad(loss, moved)[0]
    return RATE * grad / (grad.norm(dim=1, keepdim=True) + EPSILON)


class Ascent:
    """Runs of ascent steps against a fixed discriminator and fixed normal rows.

    With exactly one hidden layer the steps are taken behind its linear map, z = W x + b: the gradient there is a
    closed form in which the normal rows enter by their sums alone, and a step in x moves z by K = W W^T times that
    gradient. One product [N, H] x [H, H] and a few passes over [N, H] replace two forward and two backward products
    with [2N, C]; five times faster on a CPU at C = 1536, H = 1024, equal to rounding.

    Args:
        discriminator: a model.Discriminator in training mode.
        true_feats: normal rows [N, C], as many as the synthetic ones.
    """

    def __init__(self, discriminator: nn.Module, true_feats: torch.Tensor) -> None:
        self.discriminator, self.true_feats = discriminator, true_feats.detach()
        self.hidden = _HiddenLayer(discriminator, self.true_feats) if len(discriminator.body) == 1 else None

    def run(self, gaus_feats: torch.Tensor, steps: int) -> torch.Tensor:
        """Return the way that `steps` steps take the synthetic rows [N, C], [N, C]."""
        if self.hidden is not None:
            return self.hidden.run(gaus_feats.detach(), steps)
        way = torch.zeros_like(gaus_feats)
        for _ in range(steps):
            way += ascend(self.discriminator, self.true_feats, gaus_feats.detach() + way)
        return way


class _HiddenLayer:
    """The ascent behind the first linear map of a discriminator with one hidden layer of H units."""

    @torch.no_grad()
    def __init__(self, discriminator: nn.Module, true_feats: torch.Tensor) -> None:
        linear, self.norm, activation = discriminator.body[0]
        self.tail = discriminator.tail[0].weight[0]  # [H]
        self.slopes = self.tail.new_ones(()), self.tail.new_full((), activation.negative_slope)
        self.kernel = linear.weight @ linear.weight.T  # K  [H, H]
        z = linear(true_feats)  # [N, H]
        self.origin = z.mean(0)  # z is counted from here: the batch norm does not mind, and its variance stays exact
        self.weight, self.bias = linear.weight, linear.bias - self.origin
        self.true_squares = z.sub_(self.origin).square_().sum(0)

    @torch.no_grad()
    def run(self, gaus_feats: torch.Tensor, steps: int) -> torch.Tensor:
        z = F.linear(gaus_feats, self.weight, self.bias)  # [N, H]
        way = torch.zeros_like(z)  # what W^T is to be multiplied with
        for _ in range(steps):
            grad = self._gradient(z)
            moved = grad @ self.kernel
            length = (grad * moved).sum(1, keepdim=True).clamp_min_(0).sqrt_()  # ||W^T grad||
            pace = RATE / length.add_(EPSILON)
            z.addcmul_(moved, pace)
            way.addcmul_(grad, pace)
        return way @ self.weight

    def _gradient(self, z: torch.Tensor) -> torch.Tensor:
        """Return dL/dz for the synthetic rows, [N, H], and let the batch norm see the call.

        L is the cross entropy of the scores against 1. With x the normalised z, y = gamma x + beta, slopes l of the
        leaky ReLU and c = (score - 1) / N: dL/dy = c l w, and a batch norm over n rows passes on
        gamma / sigma (dL/dy - mean(dL/dy) - x mean(dL/dy x)), where the means include the normal rows' zeros.
        """
        n = 2 * len(z)
        mean = z.sum(0) / n  # the normal rows sum to 0
        variance = (self.true_squares + z.square().sum(0)) / n - mean.square()
        self._update_running(mean + self.origin, variance * (n / (n - 1)))
        inverse = torch.rsqrt(variance.clamp_min(0) + self.norm.eps)
        x = torch.sub(z, mean).mul_(inverse)
        y = torch.addcmul(self.norm.bias, x, self.norm.weight)
        slope = torch.where(y > 0, *self.slopes)
        c = (torch.sigmoid(y.mul_(slope) @ self.tail) - 1) / len(z)  # [N]
        mean_grad = self.tail * (c @ slope) / n
        mean_product = self.tail * (c @ torch.mul(slope, x, out=y)) / n
        grad = slope.mul_(self.tail).mul_(c[:, None])  # dL/dy
        return grad.sub_(mean_grad).addcmul_(x, mean_product, value=-1).mul_(self.norm.weight * inverse)

    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self.norm.running_mean.lerp_(mean, self.norm.momentum)
        self.norm.running_var.lerp_(variance, self.norm.momentum)
        self.norm.num_batches_tracked += 1
