"""Layers of a backbone by name: which ones there are, on which grids, and their outputs as planes [B, c, h, w].

timm's networks tell the layout of their outputs by num_prefix_tokens, patch_embed.grid_size and output_fmt.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from math import isqrt
from typing import Any

import torch
from torch import nn

DEEPEST = 1  # dots in the names of the modules that are listed
MOST = 16  # entries of a list of layers
BORDER = 4  # cells that convolutions without padding may take from one axis alone
SCRAMBLED = ("reroll",)  # of networks whose tokens are not in the order of rows and columns

Grid = tuple[int, int]


def as_planes(output: Any, network: nn.Module, size: Grid) -> torch.Tensor:
    """Bring a layer's output into the form [B, c, h, w]: tokens [B, L, c] become a grid, channels the second axis.

    Args:
        output: of a module of the network.
        network: the whole of it, which tells its layout.
        size: (H, W) of the images.

    Raises:
        ValueError: the output is no feature map.
    """
    if isinstance(output, torch.Tensor) and output.ndim == 4:
        return output.permute(0, 3, 1, 2) if _is_channels_last(output, network, size) else output
    shape = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    prefix = getattr(network, "num_prefix_tokens", 0)
    count = int(output.shape[1]) - prefix if isinstance(shape, list) and len(shape) == 3 else 0
    grid = _token_grid(count, getattr(getattr(network, "patch_embed", None), "grid_size", None), size)
    if grid is None or any(hasattr(network, name) for name in SCRAMBLED):
        raise ValueError(f"A layer with output {shape} is no feature map: choose another with -le.")
    return output[:, prefix:].transpose(1, 2).unflatten(2, grid)  # [B, c, h, w]


def _is_channels_last(output: torch.Tensor, network: nn.Module, size: Grid) -> bool:
    """Say whether an output [B, ., ., .] has its channels behind: by its shape, or where that leaves both, as told."""
    first, second, third = (int(side) for side in output.shape[1:])
    ahead, behind = _fits((second, third), size), _fits((first, second), size)
    return behind if ahead != behind else getattr(network, "output_fmt", "NCHW") == "NHWC"


def _fits(grid: Grid, size: Grid) -> bool:
    """Say whether a grid has the aspect of the images."""
    (h, w), (height, width) = grid, size
    slack = BORDER * abs(width - height) + max(height, width) * (height != width)
    return h <= height and w <= width and abs(h * width - w * height) <= slack


def _token_grid(count: int, grid: Grid | None, size: Grid) -> Grid | None:
    """Return the rows and columns of so many tokens: as the network says, else of the images' aspect; or None."""
    if count <= 0:
        return None
    if grid is not None and grid[0] * grid[1] == count:
        return int(grid[0]), int(grid[1])
    rows = isqrt(count * size[0] // size[1])
    return (rows, count // rows) if rows and count % rows == 0 and _fits((rows, count // rows), size) else None


@torch.no_grad()
def survey(network: nn.Module, size: Grid) -> dict[str, Grid]:
    """Run a network once in evaluation mode, and return the grid (h, w) of each module that gives a feature map.

    Batch norms on a single value are left in evaluation mode: it has no variance that the network could be moved by.

    Raises:
        ValueError: the network cannot take images of this size.
    """
    found: dict[str, Grid] = {}
    modes = {module: module.training for module in network.modules()}

    def note(name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and inputs[0].shape[2:].numel() == 1:
            modes[module] = False
        found.pop(name, None)  # of an earlier call
        with suppress(ValueError):
            grid = tuple(as_planes(output, network, size).shape[2:])
            if _fits(grid, size) and max(grid) > 1:
                found[name] = grid

    handles = [
        module.register_forward_hook(lambda *call, name=name: note(name, *call))
        for name, module in network.named_modules()
        if name
    ]
    device = next(network.parameters()).device
    try:
        network.eval()(torch.zeros(1, 3, *size, device=device))
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{type(network).__name__} cannot take images of {size[0]} x {size[1]} pixels ({reason}): "
            "give another --imagesize."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return {name: found[name] for name, _ in network.named_modules() if name in found}


def check(network: nn.Module, names: Sequence[str], size: Grid) -> None:
    """Make sure that layers are there and give feature maps of images of a size (H, W).

    Raises:
        ValueError: none is named, or one is not there or gives none; those that do are listed with their strides.
    """
    found, there = survey(network, size), dict(network.named_modules())
    wrong = next((name for name in names if name not in found), None)
    if wrong is None and names:
        return
    choice = f"Choose by -le: {listed(found, network, size)}."
    if wrong is None:
        raise ValueError(f"{type(network).__name__} needs the names of its layers. {choice}")
    near = get_close_matches(wrong, found, n=2, cutoff=0.6)
    near = f" Near: {', '.join(f'{name} ({_stride(found[name], size)})' for name in near)}." if near else ""
    says = f"gives no feature map for layer '{wrong}'" if wrong in there else f"has no layer '{wrong}'"
    raise ValueError(f"{type(network).__name__} {says}.{near} {choice}")


def listed(found: Mapping[str, Grid], network: nn.Module, size: Grid) -> str:
    """List layers that have weights with their strides, runs of one stride in one: "blocks.0 to blocks.11 (stride 16)".

    Of those below others that are listed, only numbered ones are named.
    """
    runs: list[list[str]] = []
    for name, grid in found.items():
        above, _, own = name.rpartition(".")
        deep = name.count(".") > DEEPEST or (above in found and not own.isdecimal())
        if deep or next(network.get_submodule(name).parameters(), None) is None:
            continue
        if runs and above and above == runs[-1][-1].rpartition(".")[0] and grid == found[runs[-1][-1]]:
            runs[-1].append(name)
        else:
            runs.append([name])
    texts = [f"{' to '.join(dict.fromkeys((run[0], run[-1])))} ({_stride(found[run[0]], size)})" for run in runs]
    return ", ".join(texts[:MOST]) + (f", and {len(texts) - MOST} more" if len(texts) > MOST else "")


def _stride(grid: Grid, size: Grid) -> str:
    return f"stride {round(size[0] / grid[0], 1):g}"


def renormalise(network: nn.Module, given: tuple[Any, Any], own: tuple[Any, Any]) -> None:
    """Let a network take images in another normalisation than its own: the first thing it does is to change them.

    Args:
        network: gets two buffers that are not part of its state dict.
        given: mean and std, 3 values each of RGB in [0, 1], that the images to come are normalised with.
        own: mean and std that the network was trained with.
    """
    (mean, std), (own_mean, own_std) = (
        [torch.tensor(values, dtype=torch.float64).reshape(3, 1, 1) for values in pair] for pair in (given, own)
    )
    network.register_buffer("own_gain", (std / own_std).float(), persistent=False)
    network.register_buffer("own_offset", ((mean - own_mean) / own_std).float(), persistent=False)
    network.register_forward_pre_hook(_renormalised)


def _renormalised(network: nn.Module, inputs: tuple) -> tuple:
    return inputs[0] * network.own_gain + network.own_offset, *inputs[1:]
