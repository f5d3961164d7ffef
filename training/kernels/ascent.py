"""What training.ascent.HiddenAscent computes between two matrix products, as five Triton kernels; equal to rounding.

Letters: N rows, H hidden units, P programs that share the rows. Tensors are contiguous; sums are float32, in an order
that depends on N and H alone, so that the same rows give the same bits.
"""

import torch
import triton
import triton.language as tl
from torch import nn

MOST_PROGRAMS = 528  # four for each multiprocessor of an H100
TILE = 2048  # values that a program holds at a time; a row at least
COLUMNS, PARTS = 32, 64  # of the tiles in which the programs' sums are added
FUSED = {"enable_fp_fusion": True}  # a product and a sum in one instruction; Triton 3.9 warns where nothing is said


@triton.jit
def _place(start, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Return the rows [ROWS], the columns [WIDTH] and the offsets [ROWS, WIDTH] of a tile of whole rows."""
    row = start + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    return row, column, row.to(tl.int64)[:, None] * width + column[None, :]


@triton.jit
def _added(parts, programs, width, column, PARTS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return both sums [COLUMNS] of parts [P, 2, H]."""
    first = tl.zeros([COLUMNS], tl.float32)
    second = tl.zeros([COLUMNS], tl.float32)
    for start in range(0, programs, PARTS):
        part = start + tl.arange(0, PARTS)
        place = parts + part[:, None] * 2 * width + column[None, :]
        inside = (part < programs)[:, None] & (column < width)[None, :]
        first += tl.sum(tl.load(place, mask=inside, other=0.0), 0)
        second += tl.sum(tl.load(place + width, mask=inside, other=0.0), 0)
    return first, second


@triton.jit
def _sum_rows(z, parts, rows, width, share, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Write sum(z) and sum(z²) over each program's rows, [P, 2, H]."""
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    squares = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, share, ROWS):
        row, column, place = _place(tl.program_id(0) * share + start, width, ROWS, WIDTH)
        values = tl.load(z + place, mask=(row < rows)[:, None] & (column < width)[None, :], other=0.0)
        total += values
        squares += values * values
    column = tl.arange(0, WIDTH)
    place = parts + tl.program_id(0) * 2 * width + column
    tl.store(place, tl.sum(total, 0), mask=column < width)
    tl.store(place + width, tl.sum(squares, 0), mask=column < width)


@triton.jit
def _normalise(
    parts, true_squares, center, weight, bias, running_mean, running_var, norm, rows, programs, width, momentum, eps,
    PARTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the batch norm as mean, 1 / sigma, gain and offset, [4, H], and let its running statistics follow."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    total, squares = _added(parts, programs, width, column, PARTS, COLUMNS)
    n = 2.0 * rows
    mean = total / n  # the normal rows sum to 0
    variance = (tl.load(true_squares + column, mask=inside, other=0.0) + squares) / n - mean * mean
    before = tl.load(running_mean + column, mask=inside, other=0.0)
    now = mean + tl.load(center + column, mask=inside, other=0.0)
    tl.store(running_mean + column, before + momentum * (now - before), mask=inside)
    before = tl.load(running_var + column, mask=inside, other=0.0)
    tl.store(running_var + column, before + momentum * (variance * (n / (n - 1)) - before), mask=inside)
    inverse = 1 / tl.sqrt(tl.maximum(variance, 0.0) + eps)
    gain = tl.load(weight + column, mask=inside, other=0.0) * inverse
    tl.store(norm + column, mean, mask=inside)
    tl.store(norm + width + column, inverse, mask=inside)
    tl.store(norm + 2 * width + column, gain, mask=inside)
    tl.store(norm + 3 * width + column, tl.load(bias + column, mask=inside, other=0.0) - mean * gain, mask=inside)


@triton.jit
def _score(z, norm, tail, c, parts, rows, width, share, slope, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Write c = (score - 1) / N, [N], and sum(c l) and sum(c a) over each program's rows, [P, 2, H]."""
    column = tl.arange(0, WIDTH)
    gain = tl.load(norm + 2 * width + column, mask=column < width, other=0.0)
    offset = tl.load(norm + 3 * width + column, mask=column < width, other=0.0)
    weights = tl.load(tail + column, mask=column < width, other=0.0)
    c_slopes = tl.zeros([ROWS, WIDTH], tl.float32)
    c_activated = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, share, ROWS):
        row, column, place = _place(tl.program_id(0) * share + start, width, ROWS, WIDTH)
        values = tl.load(z + place, mask=(row < rows)[:, None] & (column < width)[None, :], other=0.0)
        y = offset[None, :] + values * gain[None, :]
        slopes = tl.where(y > 0, 1.0, slope)
        activated = y * slopes
        error = -1 / (1 + tl.exp(tl.sum(activated * weights[None, :], 1))) / rows
        error = tl.where(row < rows, error, 0.0)
        tl.store(c + row, error, mask=row < rows)
        c_slopes += error[:, None] * slopes
        c_activated += error[:, None] * activated
    column = tl.arange(0, WIDTH)
    place = parts + tl.program_id(0) * 2 * width + column
    tl.store(place, tl.sum(c_slopes, 0), mask=column < width)
    tl.store(place + width, tl.sum(c_activated, 0), mask=column < width)


@triton.jit
def _factors(
    parts, norm, bias, tail, factors, rows, programs, width, PARTS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Write what c l, z and 1 are multiplied by in the gradient, [3, H]."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    c_slopes, c_activated = _added(parts, programs, width, column, PARTS, COLUMNS)
    mean = tl.load(norm + column, mask=inside, other=0.0)
    inverse = tl.load(norm + width + column, mask=inside, other=0.0)
    weights = tl.load(tail + column, mask=inside, other=0.0)
    gain = tl.load(norm + 2 * width + column, mask=inside, other=0.0) * weights
    along = c_activated - tl.load(bias + column, mask=inside, other=0.0) * c_slopes
    n = 2.0 * rows
    factor = inverse * inverse * weights * along / n
    tl.store(factors + column, gain, mask=inside)
    tl.store(factors + width + column, -factor, mask=inside)
    tl.store(factors + 2 * width + column, mean * factor - gain * c_slopes / n, mask=inside)


@triton.jit
def _gradient(
    z, norm, c, factors, grad, rounded, rows, width, slope,
    ROUNDS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write the gradient [N, H], and where it is wanted its rounded copy."""
    row, column, place = _place(tl.program_id(0) * ROWS, width, ROWS, WIDTH)
    within = column < width
    inside = (row < rows)[:, None] & within[None, :]
    values = tl.load(z + place, mask=inside, other=0.0)
    gain = tl.load(norm + 2 * width + column, mask=within, other=0.0)
    offset = tl.load(norm + 3 * width + column, mask=within, other=0.0)
    slopes = tl.where(offset[None, :] + values * gain[None, :] > 0, 1.0, slope)
    c_slopes = tl.load(c + row, mask=row < rows, other=0.0)[:, None] * slopes
    of_slopes = tl.load(factors + column, mask=within, other=0.0)
    of_z = tl.load(factors + width + column, mask=within, other=0.0)
    shift = tl.load(factors + 2 * width + column, mask=within, other=0.0)
    result = shift[None, :] + c_slopes * of_slopes[None, :] + values * of_z[None, :]
    tl.store(grad + place, result, mask=inside)
    if ROUNDS:
        tl.store(rounded + place, result.to(rounded.dtype.element_ty), mask=inside)


@triton.jit
def _move(grad, moved, z, way, rows, width, rate, epsilon, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Move z by `moved` and the way by `grad`, both times rate / (sqrt(grad . moved) + epsilon) of the row."""
    row, column, place = _place(tl.program_id(0) * ROWS, width, ROWS, WIDTH)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    along = tl.load(grad + place, mask=inside, other=0.0)
    step = tl.load(moved + place, mask=inside, other=0.0).to(tl.float32)
    pace = rate / (tl.sqrt(tl.maximum(tl.sum(along * step, 1), 0.0)) + epsilon)
    tl.store(z + place, tl.load(z + place, mask=inside, other=0.0) + step * pace[:, None], mask=inside)
    tl.store(way + place, tl.load(way + place, mask=inside, other=0.0) + along * pace[:, None], mask=inside)


class Kernels:
    """Launches the kernels for rows of one shape, in memory that is taken once.

    Args:
        z: like the rows, float32 [N, H].
        dtype: of the products' factors.

    Attributes:
        grad: float32 [N, H], as `gradient` wrote it.
        rounded: the same in dtype.
    """

    def __init__(self, z: torch.Tensor, dtype: torch.dtype) -> None:
        self.rows, self.width = z.shape
        self.tile = {"WIDTH": triton.next_power_of_2(self.width), **FUSED}
        self.tile["ROWS"] = max(1, TILE // self.tile["WIDTH"])
        self.blocks = triton.cdiv(self.rows, self.tile["ROWS"])
        tiles = triton.cdiv(self.blocks, MOST_PROGRAMS)
        self.share, self.programs = tiles * self.tile["ROWS"], triton.cdiv(self.blocks, tiles)
        self.parts, self.norm = z.new_empty(self.programs, 2, self.width), z.new_empty(4, self.width)
        self.c, self.factors = z.new_empty(self.rows), z.new_empty(3, self.width)
        self.grad = torch.empty_like(z)
        self.rounded = self.grad if dtype == z.dtype else torch.empty_like(z, dtype=dtype)

    def gradient(
        self, z: torch.Tensor, center: torch.Tensor, true_squares: torch.Tensor, norm: nn.BatchNorm1d,
        tail: torch.Tensor, slope: float,
    ) -> None:  # fmt: skip
        """Compute the gradient for z [N, H], and let the batch norm see the call; see HiddenAscent._gradient."""
        size, adding = (self.rows, self.width), {"PARTS": PARTS, "COLUMNS": COLUMNS, **FUSED}
        groups = (triton.cdiv(self.width, COLUMNS),)
        _sum_rows[(self.programs,)](z, self.parts, *size, self.share, **self.tile)
        _normalise[groups](
            self.parts, true_squares, center, norm.weight, norm.bias, norm.running_mean, norm.running_var, self.norm,
            self.rows, self.programs, self.width, norm.momentum, norm.eps, **adding,
        )  # fmt: skip
        norm.num_batches_tracked += 1
        _score[(self.programs,)](z, self.norm, tail, self.c, self.parts, *size, self.share, slope, **self.tile)
        _factors[groups](
            self.parts, self.norm, norm.bias, tail, self.factors, self.rows, self.programs, self.width, **adding
        )
        _gradient[(self.blocks,)](
            z, self.norm, self.c, self.factors, self.grad, self.rounded, *size, slope,
            ROUNDS=self.rounded is not self.grad, **self.tile,
        )  # fmt: skip

    def move(self, moved: torch.Tensor, z: torch.Tensor, way: torch.Tensor, rate: float, epsilon: float) -> None:
        """Move z and the way [N, H] in place by a step; moved is the gradient times K, [N, H]."""
        _move[(self.blocks,)](self.grad, moved, z, way, self.rows, self.width, rate, epsilon, **self.tile)
