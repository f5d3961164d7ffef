"""A result of a class, complete."""

from artifacts import class_results
from artifacts.class_results import Result

SCORES = dict(zip(class_results.METRICS, (0.5, 0.25, 0.75, 0.125, 1.0, 0.0), strict=True))


def result(name: str = "mvtec_tile", **changes: object) -> Result:
    """Make a complete result, but for what is changed."""
    content = {"backbone": "wideresnet50", "best": SCORES, "best_epoch": 12, "last": SCORES, "last_epoch": 639}
    return Result(name, **(content | changes))
