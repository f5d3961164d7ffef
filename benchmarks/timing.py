"""How a case is timed: rounds in turn, medians and ratios, memory of whole processes, and the table."""

import math
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

import cv2
import psutil
import torch

from benchmarks import cases
from benchmarks.cases import CASES, Case, Sizes, Workbench
from system import memory, processes

ROWS = ["embed", "ascent", "step", "evaluate", "sample", "perlin", "auroc_ap", "pro", "predict", "epoch", "memory"]
MIN_ROUNDS, MAX_ROUNDS = 3, 9
TRAIN_IMAGES, TEST_IMAGES = 242, 115  # of a class of MVTec AD in the mean
JOB_EPOCHS = 15 * 640  # all of MVTec AD
MEMORY_LIMIT = 2.0  # GB
MAX_WORKERS = 16  # the release's --num_workers
PREDICT_BATCHES = {"cuda": (1, 8, 64), "cpu": (1, 8)}
VERDICTS = {True: "yes", False: "NO", None: "-"}  # whether answers agree
PROC_STATUS = Path("/proc/self/status")

TOLERANCES = {
    "embed": 1e-5,  # of the largest value; sums in another order
    "center": 1e-5,  # likewise
    "ascent": 0.02,  # of the way, median row: rounding flips leaky ReLUs near 0, and that turns a row's direction
    "step": 5e-3,  # of the adaptor's gradient by norm (weights shaken by 1e-6 move it by 1e-3); of the loss, 1 % of it
    "evaluate": 1e-4,  # of an AUROC: pixels with nearly equal scores change places
    "sample": 1e-3,  # share of values that differ: rounding decides single pixels at the masks' threshold
    "perlin": 1e-3,  # likewise
    "auroc_ap": 1e-9,  # rounding of long sums
    "pro": 1e-9,  # likewise
    "predict": 1e-4,  # of scores in (0, 1): rounding through the whole backbone
    "memory": 1e-5,  # as for evaluate, with maps that differ by rounding alone
}


@dataclass
class Row:
    """What is reported of a row; seconds, or GB for `memory`. The CPU seconds count all threads."""

    name: str
    plain_s: float
    ours_s: float
    difference: float
    agree: bool | None  # None: rounded otherwise, so that no tolerance is meant for it
    plain_cpu: float = math.nan
    ours_cpu: float = math.nan
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times the plain way costs ours."""
        return self.plain_s / self.ours_s

    def to_json(self) -> dict[str, str | float | bool]:
        """Return the row of the JSON file."""
        return {key: getattr(self, key) for key in ("name", "plain_s", "ours_s", "ratio", "difference", "agree")}


class Benchmark:
    """Rows by name, each measured once."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.rows: dict[str, Row] = {}

    @cached_property
    def _training(self) -> ProcessPoolExecutor:
        """The process in which this program's part of a training's rows is timed."""
        return self.bench.enter_context(fresh_process())

    def _time_in_training(self, name: str) -> tuple[float, float]:
        folder = self.bench.folder / "training"
        return self._training.submit(timed_in_training, name, self.bench.sizes, folder).result()

    def row(self, name: str) -> Row:
        """Measure a row, or return what was measured before."""
        if name not in self.rows:
            special = {"epoch": self._epoch, "memory": self._memory, "predict": self._predict}
            self.rows[name] = special[name]() if name in special else self._measure(name, CASES[name](self.bench))
        return self.rows[name]

    def _measure(self, name: str, case: Case) -> Row:
        """Run both ways once to compare the answers and warm up, then several times in turn."""
        device, notes = self.bench.device, []
        plainly, plain_peak = _peak(case.plain, device)
        ours, our_peak = _peak(case.ours, device)
        if device.type == "cuda":
            notes.append(f"peak device memory {plain_peak:.2f} GB plain, {our_peak:.2f} GB ours")
        difference = float(case.difference(plainly, ours))
        del plainly, ours
        apart = case.trains and device.type == "cpu"
        ours = partial(self._time_in_training, name) if apart else partial(timed, case.ours, device)
        medians = in_turn([partial(timed, case.plain, device), ours], self.bench.sizes.patience)
        (plain_s, plain_cpu), (ours_s, ours_cpu) = ([seconds / case.units for seconds in way] for way in medians)
        agree = difference <= TOLERANCES[name] if self.bench.sizes.precision == "fp32" else None
        return Row(name, plain_s, ours_s, difference, agree, plain_cpu, ours_cpu, notes)

    def _predict(self) -> Row:
        row = self._measure("predict", CASES["predict"](self.bench))
        for batch_size in PREDICT_BATCHES[self.bench.device.type]:
            other = self._measure("predict", cases.predict_case(self.bench, batch_size))
            ways = (("plain", other.plain_s), ("ours", other.ours_s))
            speeds = [f"{name} {1000 * seconds:.3g} ms, {batch_size / seconds:.3g} images/s" for name, seconds in ways]
            row.notes.append(f"batch of {batch_size}: {'; '.join(speeds)}")
        return row

    def _epoch(self) -> Row:
        """Compose an epoch of measured stages, one after the other."""
        batches = math.ceil(TRAIN_IMAGES / self.bench.sizes.batch_size)
        workers = min(processes.usable_cores(), MAX_WORKERS)
        parts = {name: self.row(name) for name in ("center", "sample", "step", "evaluate")}
        center, sample, step, evaluate = parts.values()
        # The pass for the center makes whole training samples and throws their defects away; ours needs no pass.
        plainly = {
            "center": center.plain_s * batches + sample.plain_s * TRAIN_IMAGES / workers,
            "samples": sample.plain_s * TRAIN_IMAGES / workers,
            "steps": step.plain_s * batches,
            "evaluation": evaluate.plain_s * TEST_IMAGES,
        }
        ours = {
            "center": center.ours_s,
            "samples": sample.ours_s * TRAIN_IMAGES / workers,
            "steps": step.ours_s * batches,
            "evaluation": evaluate.ours_s * TEST_IMAGES,
        }
        totals = sum(plainly.values()), sum(ours.values())
        hours = [total * JOB_EPOCHS / 3600 for total in totals]
        notes = [
            f"composed: {TRAIN_IMAGES} training and {TEST_IMAGES} test images, {batches} steps, {workers} workers",
            f"plain: {_shares(plainly)}",
            f"ours: {_shares(ours)}",
            f"all of MVTec AD, 15 x 640 such epochs: {hours[0]:.1f} h plain, {hours[1]:.1f} h ours",
        ]
        agree = None if any(part.agree is None for part in parts.values()) else all(p.agree for p in parts.values())
        return Row("epoch", *totals, max(part.difference for part in parts.values()), agree, notes=notes)

    def _memory(self) -> Row:
        """Evaluate generated images in processes of their own; the plain way on a few, extrapolated linearly."""
        sizes, folder = self.bench.sizes, self.bench.folder / "memory"
        folder.mkdir()
        few, many = sizes.memory_plain, sizes.memory_images
        with fresh_process(max_tasks_per_child=1) as pool:
            plainly = pool.submit(probe, cases.evaluate_generated_plainly, [few], sizes.imagesize, folder).result()
            counts = sorted({few, many // 10, many})
            ours = pool.submit(probe, cases.evaluate_generated, counts, sizes.imagesize, folder).result()
        answers = plainly.answers[few], ours.answers[few]
        difference = max(abs(answers[0][key] - answers[1][key]) for key in answers[0])
        agree = difference <= TOLERANCES["memory"] and ours.growth < MEMORY_LIMIT
        seconds = ", ".join(f"{each:.1f} s for {count} images" for count, each in ours.seconds.items())
        notes = [f"GB above the start for {many} images; the plain way's from {few}", f"ours took {seconds}"]
        return Row("memory", plainly.growth * many / few, ours.growth, difference, agree, notes=notes)


@dataclass
class Probe:
    """What a process that evaluates reports: by number of images answers and seconds, and the peak's growth in GB."""

    answers: dict[int, dict[str, float]]
    seconds: dict[int, float]
    growth: float


def probe(evaluate: Callable[[int, int, Path], dict[str, float]], counts: list[int], side: int, folder: Path) -> Probe:
    """Evaluate generated images of a side; to be run in a fresh process, whose peak is its own."""
    answers, seconds = {}, {}
    start = psutil.Process().memory_info().rss
    for count in counts:
        began = time.perf_counter()
        answers[count] = evaluate(count, side, folder)
        seconds[count] = time.perf_counter() - began
    peak = next(line.split()[1] for line in PROC_STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return Probe(answers, seconds, (int(peak) * 1024 - start) / 1e9)


def in_turn(ways: list[Callable[[], tuple[float, float]]], patience: float) -> list[tuple[float, float]]:
    """Time ways in turn, and return the medians of each: wall and CPU seconds."""
    rounds = []
    end = time.perf_counter() + patience
    while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and time.perf_counter() < end):
        rounds.append([way() for way in ways])
    return [tuple(map(median, zip(*each, strict=True))) for each in zip(*rounds, strict=True)]


def timed(way: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the wall and CPU seconds of a way."""
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    way()
    _wait(device)
    return time.perf_counter() - wall, time.process_time() - cpu


def fresh_process(**options: Any) -> ProcessPoolExecutor:
    """Return a pool of one process, with as many threads as this one; it ends with this one, however that ends."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    return ProcessPoolExecutor(1, get_context("spawn"), _begin, threads, **options)


def _begin(torch_threads: int, cv2_threads: int) -> None:
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(cv2_threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def timed_in_training(name: str, sizes: Sizes, folder: Path) -> tuple[float, float]:
    """Time this program's way of a row on the CPU, in a fresh process that keeps freed memory, as jobs.job.Job does.

    The release's way, which does not keep it, is timed in the parent.
    """
    case = _case_in_training(name, sizes, folder)
    case.ours()  # it finds what the step before has left
    return timed(case.ours, torch.device("cpu"))


@lru_cache(1)
def _case_in_training(name: str, *bench: Any) -> Case:
    return CASES[name](_bench_in_training(*bench))


@lru_cache(1)
def _bench_in_training(sizes: Sizes, folder: Path) -> Workbench:
    memory.keep_freed()
    return Workbench(sizes, torch.device("cpu"), folder)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(way: Callable[[], object], device: torch.device) -> tuple[object, float]:
    """Return an answer and the peak of device memory in GB on the way; 0 on the CPU."""
    if device.type != "cuda":
        return way(), 0.0
    torch.cuda.reset_peak_memory_stats(device)
    return way(), torch.cuda.max_memory_allocated(device) / 1e9


def _shares(stages: dict[str, float]) -> str:
    total = sum(stages.values())
    return ", ".join(f"{name} {seconds:.3g} s ({seconds / total:.0%})" for name, seconds in stages.items())


def machine(sizes: Sizes, device: torch.device) -> str:
    """Describe what was measured on, in one line."""
    cpu_file = Path("/proc/cpuinfo")
    lines = cpu_file.read_text().splitlines() if cpu_file.is_file() else []
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    what = f"{sizes.backbone}, {sizes.imagesize} px, batch {sizes.batch_size}, {sizes.precision}"
    return f"{cpu}, {torch.get_num_threads()} threads; torch {torch.__version__}; device {on}; {what}, random weights"


def table(rows: list[Row]) -> str:
    """Lay the rows out as a Markdown table, their notes below."""
    lines = [
        "| row | plain | ours | ratio | CPU plain | CPU ours | difference | agree |",
        "|---|" + "---:|" * 6 + "---|",
    ]
    for row in rows:
        values = [f"{each:.4g}" for each in (row.plain_s, row.ours_s)] + [f"{row.ratio:.2f}"]
        values += ["-" if math.isnan(each) else f"{each:.4g}" for each in (row.plain_cpu, row.ours_cpu)]
        lines.append(f"| {row.name} | {' | '.join(values)} | {row.difference:.1e} | {VERDICTS[row.agree]} |")
    return "\n".join(lines + [f"{row.name}: {note}" for row in rows for note in row.notes])
