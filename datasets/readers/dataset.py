"""Samples of a public benchmark, whichever catalogue.py knows."""

from functools import cached_property

from datasets.base import AnomalyDataset, DatasetSplit
from datasets.listing import Entry
from datasets.readers.benchmark import Benchmark
from datasets.readers.catalogue import BENCHMARKS

__all__ = ["BenchmarkDataset", "DatasetSplit"]


class BenchmarkDataset(AnomalyDataset):
    """A class of the benchmark that `dataset_name` names, in its official split.

    A defect whose list names no mask counts for the image metrics alone.
    """

    splits = tuple(DatasetSplit)

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark."""
        if self.dataset_name not in BENCHMARKS:
            raise ValueError(f"{self.dataset_name!r} is no benchmark: give one of {', '.join(BENCHMARKS)}.")
        return BENCHMARKS[self.dataset_name]

    @property
    def labels_masks(self) -> bool:
        return self.benchmark.any_value

    def _list_entries(self) -> list[Entry]:
        classes = self.benchmark.classes(self.source)
        if self.classname not in classes:
            there = ", ".join(classes) or f"none in the layout of {self.benchmark.title}"
            raise ValueError(f"{self.source} has no class {self.classname!r}: it has {there}.")
        listed = self.benchmark.listed(self.source, self.classname).entries
        entries = [entry for entry in listed if entry.split == self.split.value]
        if not entries:
            raise ValueError(f"{self.source} has no {self.split.value} images of {self.classname}: restore them.")
        for entry in entries:
            if not entry.image.is_file():
                raise FileNotFoundError(f"{entry.image} is missing: restore it.")
            if entry.mask is None and entry.wanted is not None:
                raise FileNotFoundError(f"{entry.wanted} is missing: add the mask of {entry.image}.")
        return entries
