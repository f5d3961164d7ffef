"""What an option is: a field of a dataclass that says its default, its help, what it shapes, and the paper's value."""

from collections.abc import Iterable
from dataclasses import field
from functools import partial
from typing import Any

from artifacts.commands.choices import OWN

MODEL = "model"  # goes to GLASS.load
READER = "reader"  # goes to the reader of the images
TRAINING = "training"  # what is trained depends on it, so a run goes on only with the same value
VAL_SPLIT = "val split"  # decides which test images epochs are chosen on
COMPARED = "compared"  # runs that differ in it are told apart in tables of many runs
LATER = "later"  # earlier versions lacked it: a run that does not record it had the default
LOOK = "look"  # of synthetic defects: a model that grows may learn from others

IGNORED = "Accepted for old command lines; has no effect."
UNKNOWN = object()  # there is no value of the paper's


def option(
    default: Any,
    help: str,
    *flags: str,
    shapes: tuple[str, ...] = (),
    paper: Any = UNKNOWN,
    own: Any = None,
    compared: bool = False,
    recorded: str = "",
    reader: str = "",
    off: str = "",
    **parameter: Any,
) -> Any:
    """Return a field that is an option of the command line.

    Args:
        default: of the option, for benchmark data.
        help: what it does.
        flags: short forms of its name.
        shapes: what it decides, of MODEL, READER, TRAINING, VAL_SPLIT.
        paper: the value that the published figures were made with.
        own: the default for one's own pictures, if another.
        compared: whether tables of many runs tell them apart by it.
        recorded: its name among a run's settings, if another.
        reader: its name as an argument of the readers, if another.
        off: the name that turns a flag off which may be on by default.
        parameter: further arguments for click.option.
    """
    shapes += (COMPARED,) * compared
    if own is not None:
        shown = f"{default}; {own} for {OWN}" if own != default else f"{default}"
        parameter = {"default": None, "show_default": shown, **parameter}
    described = {"help": help, "flags": flags, "shapes": shapes, "paper": paper, "own": own, "parameter": parameter}
    return field(default=default, metadata=described | {"recorded": recorded, "reader": reader, "off": off})


def argument(default: Any, **parameter: Any) -> Any:
    """Return a field that is an argument of the command line."""
    return field(default=default, metadata={"argument": True, "parameter": parameter})


network = partial(option, shapes=(MODEL, TRAINING))
trained = partial(option, shapes=(TRAINING,))
sample = partial(option, shapes=(READER, TRAINING))
framed = partial(option, None, shapes=(READER, TRAINING, LATER))
look = partial(option, shapes=(READER, TRAINING, LATER, LOOK))
made_elsewhere = partial(option, shapes=(TRAINING, LATER, LOOK))  # what the reader is not told of
random_transform = partial(option, 0, shapes=(READER, TRAINING), paper=0)


def refuse_given(part: Any, names: Iterable[str], why: str) -> None:
    """Refuse options that have no effect beside others.

    Args:
        part: options that were made.
        names: of those without effect.
        why: what takes their effect.

    Raises:
        ValueError: one has another value than its default.
    """
    given = [f"--{name}" for name in names if getattr(part, name) != getattr(type(part), name)]
    if given:
        raise ValueError(f"{', '.join(given)}: {why}: leave one or the other out.")
