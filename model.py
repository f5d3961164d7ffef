"""The trained networks: feature adaptor and discriminator, and the 3x3 neighbourhoods."""

import torch
import torch.nn.functional as F
from torch import nn


def init_weight(module: nn.Module) -> None:
    """Draw linear layers' weights from the xavier-normal distribution; all else keeps PyTorch's default."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)


def linear(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype | None
) -> torch.Tensor:
    """Return rows [N, C] times weight^T, plus bias, in the rows' type; dtype, if given, is that of the product."""
    if dtype is None:
        return F.linear(rows, weight, bias)
    return F.linear(rows.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)).to(rows.dtype)


class Discriminator(nn.Module):
    """Score feature rows: near 0 for normal, near 1 for anomalous.

    Args:
        in_planes: C, width of a row.
        n_layers: linear layers in all; the last is the scoring one, so 1 is a plain logistic regression.
        hidden: width of the hidden layers, C by default.
    """

    def __init__(self, in_planes: int, n_layers: int = 2, hidden: int | None = None) -> None:
        super().__init__()
        hidden = in_planes if hidden is None else hidden
        self.body = nn.Sequential()
        width = in_planes
        for i in range(1, n_layers):
            block = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2))
            self.body.add_module(f"block{i}", block)
            width = hidden
        self.tail = nn.Sequential(nn.Linear(width, 1, bias=False), nn.Sigmoid())
        self.apply(init_weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map rows [N, C] to scores [N, 1] in (0, 1)."""
        return self.tail(self.body(x))

    @property
    def first(self) -> nn.Linear:
        """The linear layer that sees the rows, x to z = W x + b, [N, H]."""
        return (self.body[0] if len(self.body) else self.tail)[0]

    def to_first(self, x: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Map rows [N, C] to z [N, H]; dtype, if given, is that of the product."""
        return linear(x, self.first.weight, self.first.bias, dtype)

    def after_first(self, z: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Map z [N, H] to scores [N, 1]; dtype, if given, is that of hidden layers' products, not of the last one."""
        if len(self.body) == 0:
            return self.tail[1:](z)
        with torch.autocast(z.device.type, dtype, enabled=dtype is not None):
            hidden = self.body[1:](self.body[0][1:](z))
        return self.tail(hidden.to(z.dtype))


class Projection(nn.Module):
    """Feature adaptor: linear layers in a row, no activation between them (as released)."""

    def __init__(self, in_planes: int, out_planes: int | None = None, n_layers: int = 1) -> None:
        super().__init__()
        out_planes = in_planes if out_planes is None else out_planes
        self.layers = nn.Sequential()
        width = in_planes
        for i in range(n_layers):
            self.layers.add_module(f"{i}fc", nn.Linear(width, out_planes))
            width = out_planes
        self.apply(init_weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map rows [N, in_planes] to [N, out_planes]."""
        return self.layers(x)


class PatchMaker:
    """Cut feature maps into overlapping neighbourhoods, and put patch scores together again.

    The plain form of what common.PatchEmbedding computes without the unfolded copy; tests hold the two together.

    Args:
        patchsize: side of a neighbourhood, odd; zero padding keeps the grid.
        top_k: with more than 1, an image's score is the mean of its top_k patch scores.
        stride: step between neighbourhoods.
    """

    def __init__(self, patchsize: int, top_k: int = 0, stride: int | None = None) -> None:
        self.patchsize = patchsize
        self.top_k = top_k
        self.stride = 1 if stride is None else stride

    def patchify(
        self, features: torch.Tensor, return_spatial_info: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, list[int]]:
        """Unfold [B, C, h, w] into patches [B, h'·w', C, p, p]; on request also return [h', w']."""
        padding = (self.patchsize - 1) // 2
        grid = [(side + 2 * padding - self.patchsize) // self.stride + 1 for side in features.shape[-2:]]
        unfolded = F.unfold(features, self.patchsize, padding=padding, stride=self.stride)  # [B, C·p·p, h'·w']
        patches = unfolded.unflatten(1, (features.shape[1], self.patchsize, self.patchsize)).permute(0, 4, 1, 2, 3)
        return (patches, grid) if return_spatial_info else patches

    def unpatch_scores(self, scores: torch.Tensor, batchsize: int) -> torch.Tensor:
        """Split the scores of all patches, [B·h·w, ...], by image: [B, h·w, ...]."""
        return scores.reshape(batchsize, -1, *scores.shape[1:])

    def score(self, scores: torch.Tensor) -> torch.Tensor:
        """Reduce patch scores [B, h·w, ...] to one score an image, [B]: the maximum, or the mean of the top_k."""
        scores = torch.as_tensor(scores)
        if scores.ndim > 2:
            scores = scores.flatten(2).amax(2)
        if scores.ndim == 2:
            scores = scores.topk(self.top_k, dim=1).values.mean(1) if self.top_k > 1 else scores.amax(1)
        return scores
