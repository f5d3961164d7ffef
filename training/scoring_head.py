"""What is linear between two activations is one map: feature planes to scores at inference, and the first of a step.

In evaluation mode adaptor and discriminator are constant. Everything between the patch embedding and the first
activation, adaptor and batch norm included, is one linear map; it acts on each layer's own grid, before the resize,
both being linear. Half to a quarter of the work of one layer after the other, equal to rounding.
Letters: B images, h,w feature grid, C channels.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ScoringHead(nn.Module):
    """The adaptor and the discriminator in evaluation mode, as they are when this is made.

    Args:
        pre_projection: model.Projection, or nn.Identity.
        discriminator: model.Discriminator.
        spans: which channels of a row each layer feeds (common.PatchEmbedding.spans).
        grid: (h, w).
        dtype: of the products that are made here; the scores are float32.
    """

    def __init__(
        self,
        pre_projection: nn.Module,
        discriminator: nn.Module,
        spans: list[slice],
        grid: tuple[int, int],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.grid, self.layers = grid, len(spans)
        self.slopes = [block[-1].negative_slope for block in discriminator.body]
        first, *later = [
            (weight.float(), bias.float()) for weight, bias in _linear_stages(pre_projection, discriminator, dtype)
        ]
        for i, span in enumerate(spans):
            self.register_buffer(f"share{i}", first[0][:, span, None, None].contiguous())
        self.register_buffer("bias0", first[1][:, None, None].contiguous())
        for i, (weight, bias) in enumerate(later, start=1):
            self.register_buffer(f"weight{i}", weight[..., None, None].contiguous())  # of 1x1 convolutions
            self.register_buffer(f"bias{i}", bias[:, None, None].contiguous())

    def forward(self, pooled: list[torch.Tensor]) -> torch.Tensor:
        """Map the layers' pooled planes [B, C_i, h_i, w_i] to grids of scores [B, h, w] in (0, 1)."""
        x = self.bias0
        for i, plane in enumerate(pooled):
            # In one memory format, so that planes that were kept and fresh ones give the same bits.
            share = F.conv2d(plane.contiguous(), getattr(self, f"share{i}"))  # [B, C, h_i, w_i]
            same = tuple(share.shape[-2:]) == self.grid
            x = x + (share if same else F.interpolate(share, size=self.grid, mode="bilinear"))
        for i, slope in enumerate(self.slopes, start=1):
            x = F.conv2d(F.leaky_relu(x, slope), getattr(self, f"weight{i}")) + getattr(self, f"bias{i}")
        return torch.sigmoid(x).squeeze(1)


class Heads:
    """The scoring heads of networks that train: one is made once, and again after a weight has changed."""

    def __init__(self, pre_projection: nn.Module, discriminator: nn.Module) -> None:
        self.networks = (pre_projection, discriminator)
        self.forget()

    def forget(self) -> None:
        """Make a new one next time, whatever the weights."""
        self.made: tuple[list, ScoringHead] | None = None

    def now(self, spans: list[slice], grid: tuple[int, int]) -> ScoringHead:
        """Return the networks as they score now; see ScoringHead for the arguments."""
        weights = [each for network in self.networks for each in network.state_dict().values()]
        stamp = [(each.data_ptr(), each._version) for each in weights]
        if self.made is None or self.made[0] != stamp:
            self.made = (stamp, ScoringHead(*self.networks, spans, grid))
        return self.made[1]


@torch.no_grad()
def _linear_stages(
    pre_projection: nn.Module, discriminator: nn.Module, dtype: torch.dtype
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return what lies between activations, each one weight and bias."""
    stages: list[tuple[torch.Tensor, torch.Tensor]] = []
    before = _adaptor_map(pre_projection, dtype)
    for linear, norm, _ in discriminator.body:
        weight, bias = _after(linear, before, dtype)
        gain = norm.weight.to(dtype) / (norm.running_var.to(dtype) + norm.eps).sqrt()
        stages.append((gain[:, None] * weight, (bias - norm.running_mean.to(dtype)) * gain + norm.bias.to(dtype)))
        before = None
    return [*stages, _after(discriminator.tail[0], before, dtype)]


def first_map(pre_projection: nn.Module, discriminator: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the adaptor and the discriminator's first layer as one map, weight M = W A [H, C] and bias [H]; attached.

    With z = M t the gradients of both are made of a single product with the rows, dM = dz^T t; through u = A t they
    take three.
    """
    first = discriminator.first
    return _after(first, _adaptor_map(pre_projection, first.weight.dtype), first.weight.dtype)


def _adaptor_map(pre_projection: nn.Module, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the adaptor's layers as one weight and bias; None is the identity."""
    before = None
    for linear in (module for module in pre_projection.modules() if isinstance(module, nn.Linear)):
        before = _after(linear, before, dtype)
    return before


def _after(
    linear: nn.Linear, before: tuple[torch.Tensor, torch.Tensor] | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a linear layer after an affine map; None is no map."""
    weight = linear.weight.to(dtype)
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.to(dtype)
    return (weight, bias) if before is None else (weight @ before[0], weight @ before[1] + bias)
