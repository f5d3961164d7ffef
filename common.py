"""Frozen features to rows, and rows of scores to anomaly maps.

A layer's output is cut into 3x3 neighbourhoods and pooled twice to the width of a feature row. MeanMapper,
Preprocessing and Aggregator say this step by step; PatchEmbedding is the same fixed linear map as grouped
convolutions, without the unfolded copy, and is what training and prediction use.
"""

import copy
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from math import gcd

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.ndimage import gaussian_filter1d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.hooks import RemovableHandle

import layers

SMOOTHING = 4  # sigma of the Gaussian filter in pixels
PLAIN_MAPS = ("Conv2d", "Conv2dSame", "Linear")  # classes that apply their weight as it is; others change it first


class MeanMapper(nn.Module):
    """Pool every patch [N, ...] to preprocessing_dim values, [N, preprocessing_dim]."""

    def __init__(self, preprocessing_dim: int) -> None:
        super().__init__()
        self.preprocessing_dim = preprocessing_dim

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool1d(features.flatten(1).unsqueeze(1), self.preprocessing_dim).squeeze(1)


class Preprocessing(nn.Module):
    """Pool the patches of every layer to one width and stack them, [N, layers, output_dim]."""

    def __init__(self, input_dims: list[int], output_dim: int) -> None:
        super().__init__()
        self.input_dims = input_dims
        self.output_dim = output_dim
        self.preprocessing_modules = nn.ModuleList(MeanMapper(output_dim) for _ in input_dims)

    def forward(self, features: Iterable[torch.Tensor]) -> torch.Tensor:
        mapped = [module(feature) for module, feature in zip(self.preprocessing_modules, features, strict=True)]
        return torch.stack(mapped, dim=1)


class Aggregator(nn.Module):
    """Pool the stacked layers [N, layers, D], flattened layer-major, to rows [N, target_dim]."""

    def __init__(self, target_dim: int) -> None:
        super().__init__()
        self.target_dim = target_dim

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool1d(features.flatten(1).unsqueeze(1), self.target_dim).squeeze(1)


def pooling_matrix(n_in: int, n_out: int) -> sparse.csr_array:
    """Return adaptive average pooling of n_in values to n_out as a matrix [n_out, n_in]."""
    j = np.arange(n_out)
    start, stop = j * n_in // n_out, -(-(j + 1) * n_in // n_out)
    length = stop - start
    indptr = np.concatenate([[0], np.cumsum(length)])
    columns = np.arange(indptr[-1]) - np.repeat(indptr[:-1], length) + np.repeat(start, length)
    return sparse.csr_array((np.repeat(1 / length, length), columns, indptr), shape=(n_out, n_in))


class PatchEmbedding(nn.Module):
    """Turn layer outputs into feature rows: neighbourhoods, both poolings and the resize in one linear map.

    The row of a position is a fixed matrix times its c·p·p neighbourhood, so it is a p x p convolution. The
    matrix is nearly diagonal: each layer feeds its own share of the outputs, and groups of few channels feed
    groups of few outputs (2 channels 3 outputs for 512 channels and widths 1536), hence grouped convolutions.
    Resizing after the convolution instead of before is equal, both being linear (the padding is part of the
    unfolding, which comes first).

    Args:
        channels: channels c of each layer, in row order.
        patchsize: side p of a neighbourhood, odd.
        layer_dim: width each layer is pooled to (pretrain_embed_dimension).
        target_dim: C, width of a row (target_embed_dimension).
    """

    def __init__(self, channels: list[int], patchsize: int, layer_dim: int, target_dim: int) -> None:
        super().__init__()
        self.padding = (patchsize - 1) // 2
        self.target_dim = target_dim
        self.groups: list[int] = []
        self.spans: list[slice] = []
        stack_pooling = pooling_matrix(len(channels) * layer_dim, target_dim)
        for i, c in enumerate(channels):
            layer_pooling = pooling_matrix(c * patchsize**2, layer_dim)
            matrix = (stack_pooling[:, i * layer_dim : (i + 1) * layer_dim] @ layer_pooling).tocoo()
            span, groups, weight = _as_convolution(matrix, c, patchsize)
            self.spans.append(span)
            self.groups.append(groups)
            self.register_buffer(f"weight{i}", weight, persistent=False)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Map layer outputs [B, c, h_l, w_l] to rows [B·h·w, C]: image, row, column of the first layer's grid."""
        return self.merge([self.pool(i, feature) for i, feature in enumerate(features)])

    def pool(self, i: int, feature: torch.Tensor) -> torch.Tensor:
        """Pool layer i on its own grid: [B, c, h_l, w_l] to its share of the outputs, [B, C_i, h_l, w_l]."""
        return F.conv2d(feature, getattr(self, f"weight{i}"), padding=self.padding, groups=self.groups[i])

    def merge(self, pooled: list[torch.Tensor]) -> torch.Tensor:
        """Resize every layer's share to the first layer's grid and put them together: rows [B·h·w, C]."""
        batch, _, *grid = pooled[0].shape
        planes = pooled[0].new_zeros(batch, self.target_dim, *grid)
        for span, plane in zip(self.spans, pooled, strict=True):
            same = list(plane.shape[-2:]) == grid
            planes[:, span] += plane if same else F.interpolate(plane, size=grid, mode="bilinear")
        return planes.permute(0, 2, 3, 1).reshape(-1, self.target_dim)  # [B·h·w, C]


def _as_convolution(matrix: sparse.coo_array, channels: int, patchsize: int) -> tuple[slice, int, torch.Tensor]:
    """Write a matrix on flattened neighbourhoods as a convolution with as many groups as its zeros allow.

    Returns:
        the span of outputs the layer feeds, the number of groups, and the weight [outputs, c / groups, p, p].
    """
    area = patchsize**2
    span = slice(int(matrix.row.min()), int(matrix.row.max()) + 1)
    outputs = span.stop - span.start
    row, channel = matrix.row - span.start, matrix.col // area
    both = gcd(channels, outputs)
    for groups in sorted((g for g in range(1, both + 1) if both % g == 0), reverse=True):
        if np.array_equal(row // (outputs // groups), channel // (channels // groups)):
            break
    weight = np.zeros((outputs, channels // groups, area), dtype=np.float32)
    weight[row, channel % (channels // groups), matrix.col % area] = matrix.data
    return span, groups, torch.from_numpy(weight).unflatten(2, (patchsize, patchsize))


class _AllLayersSeen(Exception):
    """Ends the forward pass of a backbone: what follows is not used."""


class NetworkFeatureAggregator(nn.Module):
    """Run a backbone up to the deepest named layer and collect the layers' outputs as planes.

    Args:
        backbone: the network; see layers.as_planes for the layout of its outputs.
        layers_to_extract_from: dotted module names, in the order in which their features are stacked.
        device: where it runs.
        train_backbone: let forward(eval=False) run in training mode with gradients.
        dtype: run a frozen backbone as a copy with its batch norms folded into the convolutions, whose weights and
            products, and those of linear layers, are of this type; None runs it as it is, to the same bits.

    Raises:
        ValueError: a name is no module of the backbone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        layers_to_extract_from: list[str],
        device: torch.device,
        train_backbone: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone.to(device)
        self.layers_to_extract_from = list(layers_to_extract_from)
        self.device = device
        self.train_backbone = train_backbone
        self.layout = torch.contiguous_format if train_backbone else torch.channels_last
        self.used_keys: set[str] = set()  # state-dict keys of what runs, known after feature_dimensions
        self.dtype = None if train_backbone else dtype
        self.foldable: list[tuple[str, str]] = []  # convolutions and the batch norms right behind them, likewise
        self._lean: list[nn.Module] = []  # the copy that runs, once made
        backbone.register_load_state_dict_post_hook(lambda *_: self._lean.clear())
        self._outputs: dict[str, torch.Tensor] = {}
        modules = dict(backbone.named_modules())
        for name in self.layers_to_extract_from:
            if name not in modules or not name:
                near = get_close_matches(name, modules, n=4, cutoff=0.3) or [each for each in modules if each][:8]
                raise ValueError(f"The backbone has no layer '{name}'. Near ones: {', '.join(near)}.")
            modules[name].register_forward_hook(lambda _, __, output, name=name: self._outputs.update({name: output}))

    def forward(self, images: torch.Tensor, eval: bool = True) -> dict[str, torch.Tensor]:
        """Return the planes [B, c, h_l, w_l] of every layer for images [B, 3, H, W]."""
        train = self.train_backbone and not eval
        images = images.contiguous(memory_format=self.layout)
        if self.backbone.training != train:
            self.backbone.train(train)
        if self.dtype is not None:
            return self._run_lean(images)
        with torch.set_grad_enabled(train and torch.is_grad_enabled()):
            return self._run(images)

    @torch.no_grad()
    def _run_lean(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the copy of the backbone that takes less work; make it first."""
        if not self._lean:
            twin = copy.deepcopy(self.backbone, {id(self): self})  # whose hooks still tell this object
            self._lean.append(lean(twin, self.foldable, self.dtype).to(memory_format=self.layout))
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._run(images, self._lean[0])

    @torch.no_grad()
    def shift_batch_norms(self, input_shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        """Shift the batch norms as the release does, and return every layer's (c, h_l, w_l) for input_shape (3, H, W).

        As released, one image of ones passes in whatever mode the network was handed over. In training mode
        this moves the batch norms by that image's statistics (0.9 old + 0.1 new), and everything the method
        learns afterwards, the authors' checkpoints too, stands on the moved network.
        """
        ran: set[nn.Module] = set()
        handles = [module.register_forward_pre_hook(self._watch(ran)) for module in _workers(self.backbone)]
        handles += self._watch_norms()
        planes = self._run(torch.ones(1, *input_shape, device=self.device))
        for handle in handles:
            handle.remove()
        # A frozen backbone is an eighth faster on a CPU with channels last. Not before: in training mode PyTorch sums
        # the norms' statistics less exactly in that layout (1.6e-4 off for this image).
        self.backbone.eval().to(memory_format=self.layout)
        self.used_keys = _keys_of(self.backbone, ran)
        return [tuple(planes[name].shape[1:]) for name in self.layers_to_extract_from]

    def feature_dimensions(self, input_shape: tuple[int, int, int]) -> list[int]:
        """Return the channels of every layer; see shift_batch_norms."""
        return [shape[0] for shape in self.shift_batch_norms(input_shape)]

    def _run(self, images: torch.Tensor, network: nn.Module | None = None) -> dict[str, torch.Tensor]:
        self._outputs.clear()
        with suppress(_AllLayersSeen):
            (network or self.backbone)(images)
        size = tuple(images.shape[-2:])
        planes = {
            name: layers.as_planes(self._outputs[name], self.backbone, size) for name in self.layers_to_extract_from
        }
        self._outputs.clear()
        return planes

    def _watch(self, ran: set[nn.Module]) -> Callable[[nn.Module, tuple], None]:
        """Return a pre-hook that notes what runs, and stops before the first module that cannot change the outputs.

        An activation in place right behind the last layer still belongs to it: hooks see the activated values.
        """

        def before(module: nn.Module, _: tuple) -> None:
            if len(self._outputs) == len(self.layers_to_extract_from) and not getattr(module, "inplace", False):
                module.register_forward_pre_hook(self._stop)
                raise _AllLayersSeen
            ran.add(module)

        return before

    def _watch_norms(self) -> list[RemovableHandle]:
        """Add hooks that note which batch norms can be folded: those whose input is what a convolution returned.

        Where one of the two is a layer whose outputs are used, they stay apart.
        """
        latest: list[tuple[str, torch.Tensor]] = []  # convolution and its output
        self.foldable.clear()

        def after(name: str, output: torch.Tensor) -> None:
            latest[:] = [(name, output)]

        def before(name: str, image: torch.Tensor) -> None:
            if latest and latest[0][1] is image and not {name, latest[0][0]} & set(self.layers_to_extract_from):
                self.foldable.append((latest[0][0], name))

        handles = []
        for name, module in self.backbone.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                handles.append(module.register_forward_pre_hook(lambda _, inputs, name=name: before(name, inputs[0])))
            elif type(module).__name__ in PLAIN_MAPS:
                handles.append(module.register_forward_hook(lambda _, __, output, name=name: after(name, output)))
        return handles

    def _stop(self, *_) -> None:
        if len(self._outputs) == len(self.layers_to_extract_from):
            raise _AllLayersSeen


@torch.no_grad()
def lean(network: nn.Module, foldable: list[tuple[str, str]], dtype: torch.dtype) -> nn.Module:
    """Make a frozen network compute less, in place: equal to rounding in float32.

    Args:
        network: in evaluation mode.
        foldable: convolutions and the batch norms right behind them, by name; the pairs become convolutions.
        dtype: of the weights of convolutions and linear layers, which otherwise would be cast at every call.
    """
    for conv_name, norm_name in foldable:
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        bias = None if conv.bias is None else conv.bias.double()
        weight, statistics = conv.weight.double(), (norm.running_mean.double(), norm.running_var.double())
        folded = fuse_conv_bn_weights(weight, bias, *statistics, norm.eps, norm.weight, norm.bias)
        conv.weight, conv.bias = (nn.Parameter(each.float(), requires_grad=False) for each in folded)
        rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]  # of timm's norms
        network.set_submodule(norm_name, nn.Sequential(*rest))
    for module in network.modules():
        if type(module).__name__ in PLAIN_MAPS:
            module.to(dtype)
    return network


def _workers(network: nn.Module) -> list[nn.Module]:
    """Return the modules that compute: those without parts, and those with tensors of their own beside their parts."""
    return [
        module
        for module in network.modules()
        if next(module.children(), None) is None or next(module.parameters(recurse=False), None) is not None
    ]


def _keys_of(network: nn.Module, ran: set[nn.Module]) -> set[str]:
    """Return the state-dict keys of a network without those of modules that did not run."""
    resting = set(_workers(network)) - ran
    idle = {name for name, module in network.named_modules() if module in resting}
    return {key for key in network.state_dict() if key.rpartition(".")[0] not in idle}


@lru_cache(maxsize=16)
def smoothing_matrix(n_in: int, n_out: int) -> torch.Tensor:
    """Return bilinear resizing (align_corners False) followed by SciPy's Gaussian filter as a matrix [n_out, n_in]."""
    resize = F.interpolate(torch.eye(n_in, dtype=torch.float64)[None], size=n_out, mode="linear")[0].T
    return torch.from_numpy(gaussian_filter1d(resize.numpy(), SMOOTHING, axis=0)).float()


class RescaleSegmentor:
    """Turn grids of scores into smooth anomaly maps of the image's size.

    Args:
        device: where the maps are computed.
        target_size: (H, W) in pixels, or one number for a square.
    """

    def __init__(self, device: torch.device, target_size: int | tuple[int, int] = 288) -> None:
        self.device = device
        self.target_size = (target_size, target_size) if isinstance(target_size, int) else tuple(target_size)
        self._matrices: dict[tuple, list[torch.Tensor]] = {}  # by grid and device

    def maps(self, scores: torch.Tensor) -> torch.Tensor:
        """Map scores [B, h, w] to maps [B, H, W]; both axes are resized and smoothed apart, as matrix products."""
        key = (tuple(scores.shape[1:]), scores.device)
        if key not in self._matrices:
            sizes = zip(scores.shape[1:], self.target_size, strict=True)
            self._matrices[key] = [smoothing_matrix(*each).to(scores.device) for each in sizes]
        rows, columns = self._matrices[key]
        return rows @ scores @ columns.T

    def convert_to_segmentation(self, patch_scores: torch.Tensor | np.ndarray) -> list[np.ndarray]:
        """Return the maps of scores [B, h, w] as a list of float32 arrays [H, W]."""
        return list(self.maps(torch.as_tensor(patch_scores, device=self.device)).cpu().numpy())
