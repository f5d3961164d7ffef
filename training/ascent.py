"""Gradient ascent on synthetic features and their truncated projection (paper Eq. 2).

The loss to ascend is the one of calling the rows anomalous, so they move towards normal: hard anomalies. Each step
is a constant for autograd. The discriminator's batch norm is computed over, and updated by, normal and synthetic
rows together.
"""

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from model import Discriminator, linear

RATE = 0.001  # length of a step
EPSILON = 1e-10
LEAKY_RELU_BACKWARD = torch.ops.aten.leaky_relu_backward  # a torch.where with a column costs ten passes on the CPU


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


def require_triton(dsc_layers: int) -> None:
    """Check that the ascent can run by Triton kernels with a discriminator of so many layers.

    Raises:
        ValueError: it cannot.
    """
    if importlib.util.find_spec("triton") is None:
        raise ValueError("--triton needs the package triton, which is not there: install it, or leave it out.")
    if dsc_layers != 2:
        raise ValueError("--triton is about a discriminator of two layers: give --dsc_layers 2, or leave it out.")


def start_ascent(
    discriminator: Discriminator, true_feats: torch.Tensor, true_z: torch.Tensor, noise: torch.Tensor,
    dtype: torch.dtype | None = None, triton: bool = False,
) -> "Ascent":  # fmt: skip
    """Return the fastest way to ascend that there is for a discriminator; see Ascent for the arguments.

    Args:
        triton: take TritonAscent in place of HiddenAscent.
    """
    hidden = TritonAscent if triton else HiddenAscent
    kind = hidden if len(discriminator.body) == 1 else Ascent
    return kind(discriminator, true_feats, true_z, noise, dtype)


class Ascent:
    """Synthetic rows on their way: steps against a fixed discriminator, with projections in between.

    Args:
        discriminator: in training mode.
        true_feats: normal rows u [N, C].
        true_z: what the discriminator's first layer makes of them, W u + b, [N, H].
        noise: [N, C], the synthetic rows start at u + noise; a constant for autograd, like every step.
        dtype: of the factors of products, the rows' by default; bfloat16 rounds what is added to rows, not their sums.
    """

    def __init__(
        self, discriminator: Discriminator, true_feats: torch.Tensor, true_z: torch.Tensor, noise: torch.Tensor,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        self.discriminator, self.first, self.dtype = discriminator, discriminator.first, dtype or noise.dtype
        self.true_feats, self.true_z = true_feats, true_z
        self._begin(noise)

    def _begin(self, noise: torch.Tensor) -> None:
        self.gaus_feats = self.true_feats + noise

    def rows(self) -> torch.Tensor:
        """Return the synthetic rows [N, C], attached to the normal ones."""
        return self.gaus_feats

    def mapped(self) -> torch.Tensor:
        """Return what the discriminator's first layer makes of the synthetic rows, [N, H], attached like them.

        It is counted from true_z: whatever rounding that has, both have, and it does not tell them apart.
        """
        return self.true_z + linear(self.rows() - self.true_feats, self.first.weight, None, self.dtype)

    def climb(self) -> None:
        """Take a step."""
        self.gaus_feats = self.gaus_feats + ascend(self.discriminator, self.true_feats, self.gaus_feats)

    def project_around_normal(self, low: float, high: float) -> None:
        """Project each synthetic row x to the shell low <= ||x - u|| <= high around the normal row it began at."""
        self.gaus_feats = truncate(self.gaus_feats, self.true_feats, low, high)

    def project_around(self, origin: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
        """Project the synthetic rows to the shell between two distances [] from origin [N, C]."""
        self.gaus_feats = truncate(self.gaus_feats, origin, low, high)


class HiddenAscent(Ascent):
    """The ascent behind the linear map z = W x + b of a discriminator with one hidden layer of H units.

    The gradient there is a closed form in which the normal rows enter by their sums alone, and a step in x moves z by
    K = W W^T times that gradient: one product [N, H] x [H, H] and a few passes over [N, H] replace two forward and
    two backward products with [2N, C]. Equal to rounding.

    Rows are x = base + d, d = scale offset + W^T way, with way [N, H]; W^T is applied when rows are asked for. Around
    normal rows base is u, and ||d||^2 = scale^2 ||offset||^2 + way . W (scale offset + d) needs no x either.
    """

    @torch.no_grad()
    def _begin(self, noise: torch.Tensor) -> None:
        _, self.norm, activation = self.discriminator.body[0]
        self.tail, self.slope = self.discriminator.tail[0].weight[0], activation.negative_slope  # [H]
        weight = self.first.weight
        self.kernel = (weight @ weight.T).to(self.dtype)  # K  [H, H]
        self.center = self.true_z.mean(0)  # z is counted from here: batch norm does not mind, its variance stays exact
        self.normal = self.true_z - self.center
        self.true_squares = self.normal.square().sum(0)
        self.work, self.spare, self.product = (torch.empty_like(self.normal) for _ in range(3))  # new ones cost a pass
        self.base, self.z = self.true_feats, linear(noise, weight, None, self.dtype).add_(self.normal)
        self._count_from(noise)

    def _count_from(self, offset: torch.Tensor) -> None:
        """Call what the rows have moved from their base `offset`."""
        self.offset, self.squares = offset, offset.square().sum(1, keepdim=True)
        self.offset_z, self.scale, self.way = self.z - self.normal, offset.new_ones(()), None

    @torch.no_grad()
    def _settle(self) -> None:
        """Apply W^T to the way."""
        if self.way is not None:
            moved = linear(self.way, self.first.weight.T, None, self.dtype)
            self._count_from(moved.addcmul_(self.offset, self.scale))

    def rows(self) -> torch.Tensor:
        """Return the synthetic rows [N, C], attached to the normal ones."""
        self._settle()
        return self.base + self.scale * self.offset

    def mapped(self) -> torch.Tensor:
        """Return what the first layer makes of the rows, [N, H], attached like them."""
        if self.base is not self.true_feats:
            return super().mapped()
        self._settle()
        away = (self.scale * self.offset).to(self.dtype)  # W away is known
        return self.true_z + Known.apply(self.z - self.normal, away, self.first.weight.to(self.dtype))

    @torch.no_grad()
    def project_around_normal(self, low: float, high: float) -> None:
        """Project each synthetic row x to the shell low <= ||x - u|| <= high; not after project_around."""
        gap, squares = self.z - self.normal, self.scale.square() * self.squares
        if self.way is not None:
            squares = squares + self._dot(self.way, torch.addcmul(gap, self.offset_z, self.scale, out=self.work))
        length = squares.clamp_min(0).sqrt()
        share = length.clamp(low, high) / (length + EPSILON)  # [N, 1]
        self.scale = self.scale * share
        self.z = torch.addcmul(self.normal, gap, share)
        if self.way is not None:
            self.way *= share

    def project_around(self, origin: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
        """Project the synthetic rows to the shell between two distances [] from origin [N, C]."""
        moved = truncate(self.rows(), origin, low, high)
        with torch.no_grad():
            self.base, self.z = moved, self.first(moved) - self.center
            self._count_from(torch.zeros_like(moved))

    @torch.no_grad()
    def climb(self) -> None:
        """Take a step."""
        if self.way is None:
            self.way = torch.zeros_like(self.z)
        grad = self._gradient()
        self._move(grad, self._through_kernel(grad))

    def _move(self, grad: torch.Tensor, moved: torch.Tensor) -> None:
        """Move z by grad K and the way by grad, a step long."""
        length = self._dot(grad, moved).clamp_min_(0).sqrt_()  # ||W^T grad||
        pace = RATE / length.add_(EPSILON)
        self.z.addcmul_(moved, pace)
        self.way.addcmul_(grad, pace)

    def _through_kernel(self, grad: torch.Tensor) -> torch.Tensor:
        """Return grad K, [N, H]."""
        if self.kernel.dtype == grad.dtype:
            return torch.mm(grad, self.kernel, out=self.work)
        return self.work.copy_(torch.mm(grad.to(self.kernel.dtype), self.kernel))

    def _gradient(self) -> torch.Tensor:
        """Return dL/dz for the synthetic rows, [N, H], and let the batch norm see the call.

        L is the cross entropy of the scores against 1. With x the normalised z, y = gamma x + beta, slopes l of the
        leaky ReLU, a = l y and c = (score - 1) / N: dL/dy = c l w, and a batch norm over n rows passes on
        gamma / sigma (dL/dy - mean(dL/dy) - x mean(dL/dy x)), where the means include the normal rows' zeros. As
        gamma x = y - beta, the last mean is w (sum(c a) - beta sum(c l)) / (gamma n).
        """
        n = 2 * len(self.z)
        mean = self.z.sum(0) / n  # the normal rows sum to 0
        variance = (self.true_squares + torch.mul(self.z, self.z, out=self.work).sum(0)) / n - mean.square()
        self._update_running(mean + self.center, variance * (n / (n - 1)))
        inverse = torch.rsqrt(variance.clamp_min(0) + self.norm.eps)
        gain = self.norm.weight * inverse
        y = torch.addcmul(self.norm.bias - mean * gain, self.z, gain, out=self.work)
        activated = F.leaky_relu_(y, self.slope)
        c = (torch.sigmoid(activated @ self.tail) - 1) / len(self.z)  # [N]
        c_slopes = LEAKY_RELU_BACKWARD(c[:, None], activated, self.slope, True, grad_input=self.spare)
        total, gain = c_slopes.sum(0), gain * self.tail
        factor = inverse.square() * self.tail * (c @ activated - self.norm.bias * total) / n  # of z - mean
        shift = mean * factor - gain * total / n
        return torch.addcmul(shift, c_slopes, gain, out=self.spare).addcmul_(self.z, factor, value=-1)

    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        running = [self.norm.running_mean, self.norm.running_var]
        torch._foreach_lerp_(running, [mean, variance], self.norm.momentum)
        self.norm.num_batches_tracked += 1

    def _dot(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Return the rows' scalar products, [N, 1]."""
        return torch.mul(a, b, out=self.product).sum(1, keepdim=True)


class Known(torch.autograd.Function):
    """The product of constant rows [N, C] and weight^T whose values [N, H] are known: it computes the gradient only."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(rows)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        return None, None, grad.T.to(rows.dtype) @ rows


class TritonAscent(HiddenAscent):
    """The same, float32, with all between two products in Triton kernels; equal to rounding.

    Raises:
        ImportError: there is no Triton.
    """

    def _begin(self, noise: torch.Tensor) -> None:
        super()._begin(noise)
        from training.kernels.ascent import Kernels  # most machines without CUDA lack Triton

        self.kernels = Kernels(self.z, self.kernel.dtype)
        self.moved = torch.empty_like(self.kernels.rounded)

    def _gradient(self) -> torch.Tensor:
        self.kernels.gradient(self.z, self.center, self.true_squares, self.norm, self.tail, self.slope)
        return self.kernels.grad

    def _through_kernel(self, grad: torch.Tensor) -> torch.Tensor:
        return torch.mm(self.kernels.rounded, self.kernel, out=self.moved)

    def _move(self, grad: torch.Tensor, moved: torch.Tensor) -> None:
        self.kernels.move(moved, self.z, self.way, RATE, EPSILON)
