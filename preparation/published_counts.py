"""Compares how many images a data set has with the published numbers."""

from collections.abc import Iterable, Mapping

from datasets import published
from preparation.layouts import MVTEC, NOTE, VISA, WARNING, Finding

Counts = tuple[int, int, int]  # train normal, test normal, test defect

NAMES = {"mvtec": "MVTec AD", "mpdd": "MPDD", "wfdd": "WFDD", "visa": "VisA"}
WEAK = {  # test sets made of MVTec AD's classes, without training images: number of classes, images of all of them
    "MAD-man (one person)": (15, (0, 30, 90)),
    "MAD-sys (one beta)": (5, (0, 320, 946)),
}


def check_published(counts: Mapping[str, Counts], layout: str) -> list[Finding]:
    """Hold the numbers of images of classes, by name, against those of the published data sets.

    A class whose own numbers are not published counts only where all of its data set is there.
    """
    if layout not in (MVTEC, VISA):
        return []
    sizes, found = published.sizes(), []
    total = _total(counts.values())
    for dataset, name in NAMES.items():
        if (dataset == "visa") != (layout == VISA):
            continue
        trained = [each for each in counts if counts[each][0]]
        known = [each for each in trained if (dataset, each) in sizes and each != published.ALL]
        found += [_compare(each, name, counts[each], _wanted(sizes[dataset, each])) for each in known]
        if not known and set(trained) == set(published.known_classes(dataset)):
            found.append(_compare("", name, total, _wanted(sizes[dataset, published.ALL])))
    for name, (number, wanted) in WEAK.items():
        if not total[0] and len(counts) == number and set(counts) <= set(published.known_classes("mvtec")):
            found.append(_compare("", name, total, wanted))
    return found


def _total(counts: Iterable[Counts]) -> Counts:
    train, normal, defect = (sum(column) for column in zip(*counts, strict=True))
    return train, normal, defect


def _wanted(row: Mapping[str, int]) -> Counts:
    return row["train"], row["normal"], row["defect"]


def _compare(classname: str, dataset: str, counts: Counts, wanted: Counts) -> Finding:
    """Compare train normal, test normal and test defect."""
    where = "train/test normal/test defect {}/{}/{}".format(*counts)
    if counts == wanted:
        return Finding(NOTE, classname, f"as many images as {dataset} has", (where,), "nothing: they are all there")
    where = f"{where}, published {'{}/{}/{}'.format(*wanted)}"
    advice = f"if this is {dataset}, unpack it again: results do not compare; else ignore this"
    return Finding(WARNING, classname, f"not as many images as {dataset} has", (where,), advice)
