"""The options of a run, which commands/ types once: name, default, help, what each shapes, and the paper's value.

main.py makes click's parameters of these fields, and runs keep their values in state.pth, run.json and result.json.
Whoever wants a list of options reads it off the fields: see names and paper_values.
"""

# ruff: noqa: F401  (all names of the commands are had from here)

from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields, replace
from typing import Any

import click

from artifacts.commands.choices import (
    ADAMW,
    ASK,
    AUTO,
    BCE,
    BEST,
    BF16,
    CENTERS,
    CLASS,
    CONSTANT,
    COSINE,
    DEVICE,
    FOCAL,
    FURTHER,
    GOOD,
    HOST,
    HYPERSPHERE,
    HYPOTHESES,
    IGNORE,
    IMAGENET,
    LAST,
    LEAST_CELL,
    LOCAL_LOSSES,
    MANIFOLD,
    MANIFOLD_RADII,
    MASK,
    MASK_MODES,
    MIXED,
    MLFLOW,
    MUON,
    NO_TEXTURES,
    NORMALISATIONS,
    NUMBERED,
    OFF,
    OPTIMIZERS,
    OWN,
    OWN_NORMALISATION,
    OWN_RECIPE,
    PAPER,
    PAPERS,
    PICTURE,
    PLACES,
    PRECISIONS,
    QUICK,
    RECIPES,
    RESIZE,
    RULES,
    SCHEDULES,
    SHARED,
    SIDECARS,
    STARTS,
    SYNTHETIC,
    TENSORBOARD,
    TRACKERS,
    VAL,
    VALIDATED,
    WANDB,
    WHITENED,
    XAVIER,
    settings_text,
)
from artifacts.commands.dataset import DataOptions, refuse_unused
from artifacts.commands.net import NetOptions
from artifacts.commands.option import (
    COMPARED,
    IGNORED,
    LATER,
    LOOK,
    MODEL,
    READER,
    TRAINING,
    UNKNOWN,
    VAL_SPLIT,
    argument,
    option,
    refuse_given,
)
from artifacts.commands.run import RunOptions

ALL = (RunOptions, NetOptions, DataOptions)


def with_recipe(
    run: RunOptions, net: NetOptions, data: DataOptions, named: Collection[str], begun: str | None = None
) -> tuple[RunOptions, NetOptions]:
    """Return the options with what their recipe sets, and its name.

    Args:
        run, net, data: as given.
        named: names of the options that stand on the command line, and so keep their values.
        begun: recipe by which the results folder's classes were trained, if there are any; own pictures keep to it.

    Raises:
        ValueError: they do not fit together.
    """
    name = net.recipe or (PAPER if data.name != OWN else begun or OWN_RECIPE)
    kept = {*named, "iterations"} if "meta_epochs" in named else named  # either of them is the length
    sets = {"recipe": name} | {key: value for key, value in RECIPES[name].items() if key not in kept}
    parts = [{item.name for item in fields(part)} & set(sets) for part in (run, net)]
    run, net = (replace(part, **{key: sets[key] for key in own}) for part, own in zip((run, net), parts, strict=True))
    _refuse_idle(run, net, data)
    return run, net


def _refuse_idle(run: RunOptions, net: NetOptions, data: DataOptions) -> None:
    """Refuse options that an option of another command leaves without effect; see refuse_given."""
    if data.distribution == HYPERSPHERE:
        refuse_given(net, ("manifold_radii",), f"--distribution {HYPERSPHERE} takes a hypersphere for granted")
    if not net.las:
        held_out = run.select == SYNTHETIC or data.calibration > 0  # whose defects are never real ones
        looks = ("mean", "std", "opacity", "defect_size", "mask_mode", "rand_aug", "synthesis")
        refuse_given(data, (*(() if held_out else looks), "real_defects"), "--las 0 leaves out local anomalies")


def recipe_sets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return which of recorded settings are as their recipe sets them; {} with the paper's, which sets nothing."""
    values = RECIPES.get(settings.get("recipe", PAPER), {})
    return {key: value for key, value in values.items() if settings.get(key) == value}


def parameters(kind: type) -> Callable[[Callable], Callable]:
    """Return a decorator that gives a click command the options and arguments of one of ALL, in their order."""

    def decorate(function: Callable) -> Callable:
        for item in reversed(fields(kind)):
            function = _parameter(item)(function)
        return function

    return decorate


def names(shapes: str, *kinds: type) -> list[str]:
    """Return the names of the options that shape something, as runs record them; of ALL or of these kinds."""
    found = [item for kind in kinds or ALL for item in fields(kind) if shapes in item.metadata.get("shapes", ())]
    return [item.metadata["recorded"] or item.name for item in found]


def values(options: Any, shapes: str) -> dict[str, Any]:
    """Return the values of those options that shape something, by name."""
    shaping = [item for item in fields(options) if shapes in item.metadata.get("shapes", ())]
    return {item.metadata["recorded"] or item.name: getattr(options, item.name) for item in shaping}


def reader_values(options: DataOptions) -> dict[str, Any]:
    """Return the options for a reader, under the names of its arguments."""
    shaping = [item for item in fields(options) if READER in item.metadata.get("shapes", ())]
    return {item.metadata["reader"] or item.name: getattr(options, item.name) for item in shaping}


def defaults(kind: type, shapes: str) -> dict[str, Any]:
    """Return the defaults of those options of a kind that shape something: how it was before the option was there."""
    shaping = [item for item in fields(kind) if shapes in item.metadata.get("shapes", ())]
    return {item.metadata["recorded"] or item.name: item.default for item in shaping}


def paper_values() -> dict[str, Any]:
    """Return what the published figures were made with, as runs record it."""
    found = [item for kind in ALL for item in fields(kind)]
    known = [item for item in found if item.metadata.get("paper", UNKNOWN) is not UNKNOWN]
    return {item.metadata["recorded"] or item.name: item.metadata["paper"] for item in known}


def _parameter(item: Field) -> Callable[[Callable], Callable]:
    """Return click's decorator for a field."""
    about = item.metadata
    if about.get("argument"):
        return click.argument(item.name, **about["parameter"])
    default = list(item.default) if isinstance(item.default, tuple) else item.default
    given = {"default": default, "help": about["help"], **about["parameter"]}
    name = f"--{item.name}/--{about['off']}" if about["off"] else f"--{item.name}"
    return click.option(name, *about["flags"], **given)
