"""Types of command line parameters that click does not have."""

import math
from typing import Any

import click


class Size(click.ParamType):
    """A side in pixels, or height x width: 288 or 200x320."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        """Return the side, or (height, width)."""
        if not isinstance(value, str):
            return value
        sides = [int(part) if part.isdecimal() and len(part) < 7 else 0 for part in value.lower().split("x")]
        if len(sides) > 2 or min(sides) < 1:
            self.fail(f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH, as in 200x320.", param, ctx)
        return sides[0] if len(set(sides)) == 1 else (sides[0], sides[1])


class Number(click.FloatRange):
    """A number within limits, and neither infinite nor "not a number"."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:  # click writes x<=None where there are no limits
        return "" if self.min is None and self.max is None else super()._describe_range()


class Span(click.ParamType):
    """Two numbers, LOW,HIGH, the second not below the first: 0.5,1.

    Args:
        each: what both must be.
    """

    name = "span"

    def __init__(self, each: Number) -> None:
        self.each = each

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Return (low, high)."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            low, high = (self.each.convert(part, None, None) for part in value.split(","))
        except (ValueError, click.BadParameter):
            low, high = 1, 0
        if low > high:
            limits = self.each._describe_range()
            self.fail(f"{value!r} is not LOW,HIGH, two numbers {limits}, as in 0.2,0.8.", param, ctx)
        return low, high


class Seeds(click.ParamType):
    """Different seeds, none negative: 0,1,2."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the seeds."""
        if not isinstance(value, str):
            return tuple(value)
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) < 2**63 for part in parts) or len({*map(int, parts)}) < len(parts):
            self.fail(f"{value!r} is no list of different seeds as in 0,1,2.", param, ctx)
        return tuple(map(int, parts))


class Seed(click.IntRange):
    """A whole number of 64 bits."""

    def __init__(self) -> None:
        super().__init__(-(2**63), 2**63 - 1)

    def _describe_range(self) -> str:  # 40 digits tell a reader of --help nothing
        return ""
