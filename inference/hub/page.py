"""The page of a shared model, README.md of its repository: what it is, what it promises, how it is used."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from artifacts.class_results import METRICS, OFFICIAL, Result
from artifacts.model_card import Card
from inference.hub.access import PREFIX

README = "README.md"
TEMPLATE = "page.md.jinja"
TAGS = ["anomaly-detection", "anomaly-localization", "industrial-inspection", "glass"]


def page(card: Card, result: Result | None, repository: str, licence: str | None, exported: bool) -> str:
    """Return the page, in Markdown with the Hub's head of metadata.

    Args:
        card: of the model.
        result: what its test gave, if it is known.
        repository: USER/NAME.
        licence: identifier of the Hub; left out of the page without one.
        exported: the model is one ONNX file.
    """
    from huggingface_hub import ModelCardData

    place = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    figures = {} if result is None else result.best
    known = {title: figures.get(key, float("nan")) for key, title in (METRICS | OFFICIAL).items()}
    return place.get_template(TEMPLATE).render(
        card=card, head=ModelCardData(license=licence, tags=TAGS).to_yaml(), reference=PREFIX + repository,
        figures={title: f"{100 * value:.2f}" for title, value in known.items() if value == value},
        exported=exported, height=card.network.input_shape[1], width=card.network.input_shape[2],
    )  # fmt: skip
