"""What benchmarks/gpu.py measures on a GPU: a stage a question, each a function of the rig to named values.

Weights are random and pictures are noise, both from fixed seeds. Times are milliseconds: "single" is the median of
calls that are waited for one by one, "queued" the mean of calls of which only the last is waited for. Where queued is
much less than single, the GPU waits for the host.
"""

import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch.export.passes import move_to_device_pass
from torch.profiler import profile as record
from torch.profiler import supported_activities
from torch.utils.data import DataLoader

import backbones
import utils
from artifacts import checkpoint, layout, model_card
from benchmarks.cases import LAYERS, Sizes, Workbench
from benchmarks.timing import Benchmark
from datasets.base import DatasetSplit
from datasets.sampler import EpochSampler
from glass import GLASS, build
from images.geometry import CROP, LETTERBOX, Geometry
from inference.exporting import LEAST_OPSET, PT2, export
from inference.predictor import Predictor
from inference.torch_engine import TorchEngine, paper_card
from system.processes import usable_cores
from training.ascent import Ascent, start_ascent
from training.feature_cache import FeatureCache

PRECISIONS = ("fp32", "tf32", "bf16")
HYPOTHESES = {"manifold": False, "hypersphere": True}
ASCENT_STEPS = 20
LARGEST_GROUP = 16  # channels, above which box sums by shifts take too many passes
PROFILED = 3  # steps
COMPARED = 6  # steps, of which a graph replays the last ones
RATIOS = ("embed", "ascent", "step", "evaluate", "predict", "epoch")  # rows of benchmark.py

Found = dict[str, Any]


@dataclass
class Rig:
    """What is measured, where, and how often.

    Attributes:
        sizes: of networks and pictures.
        device: where they run.
        folder: for files.
        repeat: calls that are timed.
        batches: of predictions.
        workers: processes that load images.
        picture: side of the pictures that a predictor is given, in pixels.
    """

    sizes: Sizes
    device: torch.device
    folder: Path
    repeat: int = 30
    batches: tuple[int, ...] = (1, 8, 64)
    workers: tuple[int, ...] = (4, 8, 16)
    picture: int = 1024

    @property
    def side(self) -> int:
        """Side of the network's images in pixels."""
        return self.sizes.imagesize

    def wait(self) -> None:
        """Wait until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def clock(self, work: Callable[[], object], repeat: int | None = None) -> Found:
        """Time a call."""
        repeat, times = repeat or self.repeat, []
        for _ in range(min(3, repeat)):
            work()
        for _ in range(repeat):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        self.wait()
        return {"single": 1e3 * median(times), "queued": 1e3 * (time.perf_counter() - start) / repeat}

    def peak(self, work: Callable[[], object]) -> float:
        """Return the GB of device memory that a call takes at most; 0 on the CPU."""
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) / 1e9

    def glass(self, precision: str = "fp32", backbone: str | None = None, **options: bool) -> GLASS:
        """Build the networks, in training mode."""
        utils.set_precision(precision)
        torch.manual_seed(0)
        sizes, shape = self.sizes, (3, self.side, self.side)
        wide = {"pretrain_embed_dimension": sizes.width, "target_embed_dimension": sizes.width}
        glass, _ = build(
            backbone or sizes.backbone, LAYERS, backbones.RANDOM, self.device, shape, **wide, dsc_hidden=sizes.hidden,
            seed=0, precision=precision, **options,
        )  # fmt: skip
        glass.set_training(True)
        return glass

    def images(self, count: int) -> torch.Tensor:
        """Draw normalised images [B, 3, H, W], on the host."""
        return torch.randn(count, 3, self.side, self.side, generator=torch.Generator().manual_seed(0))

    def batch(self, glass: GLASS) -> dict:
        """Draw a training batch as a loader's thread hands it over, pinned where there is a GPU."""
        count, generator = self.sizes.batch_size, torch.Generator().manual_seed(1)
        mask = (torch.rand((count, *glass.grid), generator=generator) < 0.1).float()
        batch = {"image": self.images(count), "aug": self.images(count) + 0.1, "mask_s": mask}
        batch |= {"mask_gt": torch.zeros(count, 1, self.side, self.side), "is_anomaly": torch.zeros(count).long()}
        batch["index"] = torch.arange(count)
        return {key: value.pin_memory() if self.device.type == "cuda" else value for key, value in batch.items()}

    def step(self, glass: GLASS) -> Callable[[], torch.Tensor]:
        """Return a training step, the normal features in the cache."""
        batch, cache = self.batch(glass), FeatureCache("training images", self.sizes.batch_size, self.device, "device")
        with torch.no_grad():
            pooled = glass.pooled(batch["image"])
            cache.put(batch, pooled)
            center = glass.adapt(glass.patch_embedding.merge([each.mean(0, keepdim=True) for each in pooled]))
        noise = torch.Generator(self.device).manual_seed(0)
        return lambda: glass.train_step(batch, center, noise, cache)

    def pictures(self, count: int) -> list[Path]:
        """Draw picture files, between smooth and noise."""
        paths, rng = [self.folder / "pictures" / f"{k:03d}.png" for k in range(count)], np.random.default_rng(0)
        side = self.picture
        paths[0].parent.mkdir(exist_ok=True)
        for path in paths:
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((side, side))
            grain = rng.integers(-3, 4, (side, side, 3))
            Image.fromarray((np.asarray(coarse, np.int16) + grain).clip(0, 255).astype(np.uint8)).save(path)
        return paths


def environment(rig: Rig) -> Found:
    """Machine, versions, and what the device does at most: memory and matrix products of the ascent's size."""
    found: Found = {"torch": torch.__version__, "CUDA": torch.version.cuda, "cores": usable_cores()}
    found["device"] = utils.device_name(rig.device)
    if rig.device.type == "cuda":
        found |= {"capability": torch.cuda.get_device_capability(rig.device), "driver": _driver()}
    size = 2**22 if rig.repeat < 10 else 2**29
    source = torch.zeros(size, device=rig.device)
    target = torch.empty_like(source)
    found["copy GB/s"] = 8e-6 * size / rig.clock(lambda: target.copy_(source))["queued"]
    rows, hidden = rig.sizes.batch_size * (rig.side // 8) ** 2, rig.sizes.hidden
    for precision in PRECISIONS:
        utils.set_precision(precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.randn(n, hidden, device=rig.device).to(dtype) for n in (rows, hidden))
        taken = rig.clock(partial(torch.mm, a, b))["queued"]
        found[f"product [{rows}, {hidden}] x [{hidden}, {hidden}] {precision} TFLOP/s"] = (
            2e-9 * rows * hidden**2 / taken
        )
    return found


def waits(rig: Rig) -> Found:
    """Where the host waits for the device in a step: PyTorch's own warnings."""
    step = rig.step(rig.glass("tf32"))
    step()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step()
        torch.cuda.set_sync_debug_mode("default")
    places = [f"{Path(each.filename).name}:{each.lineno}" for each in seen if "synchron" in str(each.message)]
    return {"host waits in a step": len(places), "places": places}


def steps(rig: Rig) -> Found:
    """A training step by precision and hypothesis, and the peak of device memory."""
    found: Found = {}
    for precision, (name, hypersphere) in product(PRECISIONS, HYPOTHESES.items()):
        glass = rig.glass(precision)
        glass.hypersphere = hypersphere
        step = rig.step(glass)
        found[f"{precision} {name}"] = rig.clock(step) | {"peak GB": rig.peak(step)}
    found["tf32 manifold, resnet18"] = rig.clock(rig.step(rig.glass("tf32", "resnet18")))
    return found


def profile(rig: Rig) -> Found:
    """Kernels of a step: how many, how long, and which take longest; the whole table is in kernels.txt."""
    step = rig.step(rig.glass("tf32"))
    step()
    rig.wait()
    with record(activities=supported_activities()) as seen:
        for _ in range(PROFILED):
            step()
        rig.wait()
    events = seen.key_averages()
    table = events.table(sort_by="self_device_time_total", row_limit=80, max_name_column_width=90)
    (rig.folder / "kernels.txt").write_text(table, encoding="utf-8")
    kernels = sorted(
        (each for each in events if str(each.device_type).endswith("CUDA")),
        key=lambda each: -each.self_device_time_total,
    )
    longest = {each.key[:90]: each.self_device_time_total / 1e3 / PROFILED for each in kernels[:15]}
    total = sum(each.self_device_time_total for each in kernels) / 1e3 / PROFILED
    return {"kernels in a step": sum(each.count for each in kernels) / PROFILED, "GPU ms": total, "longest ms": longest}


def parts(rig: Rig) -> Found:
    """The parts of a step; the patch embedding's grouped convolutions beside box sums by shifts."""
    return _by_precision(_parts, rig)


def graph(rig: Rig) -> Found:
    """A step, and its ascent alone, launched kernel by kernel and as one CUDA graph; do their values agree?"""
    return _by_precision(_graph, rig)


def triton(rig: Rig) -> Found:
    """A climb, and a step as a CUDA graph, by PyTorch and by Triton kernels; do their values agree?"""
    return _by_precision(_triton, rig)


def predictions(rig: Rig) -> Found:
    """Images on the device to scores and maps on the host, by batch; how far other precisions are from fp32."""
    found: Found = {}
    exact: tuple[np.ndarray, ...] | None = None
    for precision in PRECISIONS:
        glass = rig.glass(precision)
        for count in rig.batches:
            batch = {"image": rig.images(count).to(rig.device)}

            def predict(glass: GLASS = glass, batch: dict = batch) -> tuple[np.ndarray, ...]:
                _, scores, maps = next(glass.scored([batch]))
                return utils.fetch([scores, maps])()

            taken = rig.clock(predict, max(rig.repeat // 3, 2))
            name = f"{precision} batch {count}"
            found[name] = taken | {"images/s": 1e3 * count / taken["queued"], "peak GB": rig.peak(predict)}
        answer = predict()
        exact = exact or answer
        apart = [float(np.abs(a - b).max()) for a, b in zip(exact, answer, strict=True)]
        found[f"{precision} against fp32"] = dict(zip(("score", "map"), apart, strict=True))
    return found


def predictor(rig: Rig) -> Found:
    """Picture files to verdicts, with and without their maps, by threads."""
    paths, folder, found = rig.pictures(2 * max(rig.batches)), _class_folder(rig, CROP), {}
    for threads in sorted({1, 2, usable_cores()}):
        model = Predictor(folder, device=str(rig.device), batch_size=max(rig.batches), threads=threads)
        model.predict(paths[: max(rig.batches)])
        for wanted, use in (("scores", lambda each: each.score), ("scores and maps", lambda each: each.map.shape)):
            start = time.perf_counter()
            for each in model.stream(paths):
                use(each)
            found[f"{wanted}, {threads} threads, pictures/s"] = len(paths) / (time.perf_counter() - start)
    return found


def evaluation(rig: Rig) -> Found:
    """The evaluation after an epoch, from the cache, and what of it are scores and maps."""
    glass, count, batch_size = rig.glass("tf32"), rig.sizes.test_images, rig.sizes.batch_size
    images, labels = rig.images(batch_size), torch.arange(batch_size) % 2
    truth = labels[:, None, None, None].float() * torch.ones(1, 1, rig.side, rig.side)
    truth[:, :, rig.side // 2 :] = 0
    loader = [
        {"image": images, "index": torch.arange(k, k + batch_size), "is_anomaly": labels, "mask_gt": truth}
        for k in range(0, count, batch_size)
    ]
    cache = FeatureCache("test images", count, rig.device, "device")
    glass.evaluate(loader, cache)
    repeat = max(rig.repeat // 10, 1)
    whole = rig.clock(lambda: glass.evaluate(loader, cache), repeat)
    scored = rig.clock(lambda: [scores.cpu() for _, scores, _ in glass.scored(loader, cache)], repeat)
    return {f"{count} images": whole, "scores and maps alone": scored}


def loading(rig: Rig) -> Found:
    """Training samples by worker processes: how long an epoch waits for its first batch, and the pace after it."""
    found: Found = {}
    folder = rig.folder / "drawn"
    bench = Workbench(replace(rig.sizes, batch_size=8 * rig.sizes.batch_size), torch.device("cpu"), folder)
    train_set = bench.dataset(DatasetSplit.TRAIN)
    with train_set.kept_pixels():
        for workers in rig.workers:
            sampler = EpochSampler(len(train_set), rig.sizes.batch_size, 0, "drawn")
            pinned = rig.device.type == "cuda"
            loader = DataLoader(
                train_set, batch_sampler=sampler, num_workers=workers, persistent_workers=workers > 0, pin_memory=pinned
            )
            for epoch in range(3):
                sampler.set_epoch(epoch, "train", 0)
                start, stamps = time.perf_counter(), []
                for batch in loader:
                    utils.send(batch["aug"], rig.device)
                    stamps.append(time.perf_counter() - start)
            pace = (len(stamps) - 1) / max(stamps[-1] - stamps[0], 1e-9)
            found[f"{workers} workers"] = {"first batch ms": 1e3 * stamps[0], "then batches/s": pace}
    return found


def exported(rig: Rig) -> Found:
    """A .pt2 file, cropped and letterboxed, moved to the device: its pace, and how far from PyTorch's answers."""
    return {f"{mode} {key}": value for mode in (CROP, LETTERBOX) for key, value in _exported(rig, mode).items()}


def ratios(rig: Rig) -> Found:
    """benchmark.py's rows on the device: the release's way against this program's, with a check of the answers."""
    utils.set_precision("fp32")
    with Workbench(rig.sizes, rig.device, rig.folder / "rows") as bench:
        benchmark = Benchmark(bench)
        rows = [benchmark.row(name) for name in RATIOS]
    return {row.name: row.to_json() | {"notes": row.notes} for row in rows}


def _by_precision(work: Callable[[Rig, str], Found], rig: Rig) -> Found:
    """Run a stage with every precision."""
    return {f"{key}, {name}": value for name in PRECISIONS for key, value in work(rig, name).items()}


def _parts(rig: Rig, precision: str) -> Found:
    glass = rig.glass(precision)
    embedding, aug = glass.patch_embedding, rig.batch(glass)["aug"]
    images = aug.to(rig.device)
    with torch.no_grad():
        found = {"batch to the device": rig.clock(lambda: utils.send(aug, rig.device))}
        found["backbone and pooling"] = rig.clock(lambda: glass.pooled(images))
        for i, plane in enumerate(glass.aggregator(images).values()):
            found |= _pooling(rig, glass, i, plane.float())
        pooled = glass.pooled(images)
        found["merge"] = rig.clock(lambda: embedding.merge(pooled))
    return found | {"climb": rig.clock(_start(rig, glass, precision).climb)}


def _graph(rig: Rig, precision: str) -> Found:
    climb = _start(rig, rig.glass(precision), precision).climb

    def ascend() -> None:
        for _ in range(ASCENT_STEPS):
            climb()

    found = {f"{ASCENT_STEPS} climbs": rig.clock(ascend)}
    stream, captured = torch.cuda.Stream(rig.device), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream(rig.device))
    with torch.cuda.stream(stream):
        ascend()
    rig.wait()
    with torch.cuda.graph(captured):
        ascend()
    found |= {f"{ASCENT_STEPS} climbs as a graph": rig.clock(captured.replay)}
    plain, replayed = (rig.step(rig.glass(precision, cuda_graph=wanted)) for wanted in (False, True))
    apart = max(float((plain() - replayed()).abs().nan_to_num().max()) for _ in range(COMPARED))
    found |= {
        "step": rig.clock(plain),
        "step as a graph": rig.clock(replayed) | {"largest difference of a curve": apart},
    }
    return found


def _triton(rig: Rig, precision: str) -> Found:
    glass = rig.glass(precision)
    plain, ours = (_start(rig, glass, precision, triton=wanted) for wanted in (False, True))
    for each in (plain, ours):
        each.climb()
    apart = (ours.way - plain.way).norm(dim=1) / plain.way.norm(dim=1)
    found: Found = {
        "climb": rig.clock(plain.climb),
        "climb by Triton": rig.clock(ours.climb) | {"largest difference": float(apart.max())},
    }
    plain, ours = (rig.step(rig.glass(precision, cuda_graph=True, triton=wanted)) for wanted in (False, True))
    apart = max(float((plain() - ours()).abs().nan_to_num().max()) for _ in range(COMPARED))
    return found | {
        "step as a graph": rig.clock(plain),
        "step as a graph by Triton": rig.clock(ours) | {"largest difference of a curve": apart},
    }


def _exported(rig: Rig, mode: str) -> Found:
    folder, out, count = _class_folder(rig, mode), rig.folder / f"{mode}.pt2", max(rig.batches)
    if not export(TorchEngine(folder, None, None, "cpu"), PT2, out, LEAST_OPSET):
        raise ValueError(f"{out} was not kept.")
    pixels = np.random.default_rng(0).integers(0, 256, (count, rig.side, rig.side, 3), dtype=np.uint8)
    valid = np.ones(pixels.shape[:3], dtype=bool)
    valid[:, rig.side * 3 // 4 :] = mode != LETTERBOX
    module = move_to_device_pass(torch.export.load(out), str(rig.device)).module()
    given = [torch.from_numpy(each).to(rig.device) for each in (pixels, valid)][: 1 + (mode == LETTERBOX)]
    with torch.no_grad():
        taken = rig.clock(lambda: module(*given), max(rig.repeat // 3, 2))
        answer = [each.cpu().numpy() for each in module(*given)]
    wanted = TorchEngine(folder, None, None, str(rig.device))(pixels, valid)
    apart = [float(np.nanmax(np.abs(a - b))) for a, b in zip(wanted, answer, strict=True)]
    return {
        f"batch {count}": taken | {"images/s": 1e3 * count / taken["queued"]},
        "against PyTorch": dict(zip(("score", "map"), apart, strict=True)),
    }


def _start(rig: Rig, glass: GLASS, precision: str, triton: bool = False) -> Ascent:
    """Begin an ascent."""
    with torch.no_grad():
        rows = glass.adapt(glass.patch_embedding.merge(glass.pooled(rig.images(rig.sizes.batch_size))))
        noise = torch.randn(rows.shape, generator=torch.Generator(rows.device).manual_seed(0), device=rows.device)
        dtype = torch.bfloat16 if precision == "bf16" and utils.fast_bfloat16(rig.device) else None
        true_z = glass.discriminator.first(rows)
    return start_ascent(glass.discriminator, rows, true_z, noise * glass.noise, dtype, triton)


def _pooling(rig: Rig, glass: GLASS, i: int, plane: torch.Tensor) -> Found:
    """Time both ways to pool layer i."""
    embedding = glass.patch_embedding
    weight, groups = getattr(embedding, f"weight{i}"), embedding.groups[i]
    name = f"layer {i} {list(plane.shape)}"
    found = {f"grouped convolution, {name}, {groups} groups": rig.clock(lambda: embedding.pool(i, plane))}
    if weight.shape[1] > LARGEST_GROUP:
        return found
    shifts = BoxSums(weight, groups)
    apart = float((shifts(plane) - embedding.pool(i, plane)).abs().max() / plane.abs().max())
    return found | {f"box sums by shifts, {name}": rig.clock(lambda: shifts(plane)) | {"difference": apart}}


class BoxSums:
    """A grouped convolution as sums of shifted planes, one pass for each tap that is not zero.

    Args:
        weight: [outputs, c / groups, p, p].
        groups: of channels and outputs.
    """

    def __init__(self, weight: torch.Tensor, groups: int) -> None:
        self.groups, self.padding = groups, weight.shape[-1] // 2
        self.weight = weight.unflatten(0, (groups, -1))  # [groups, outputs of one, c / groups, p, p]
        self.taps = self.weight.ne(0).any(0).nonzero().tolist()  # (output, channel, y, x)

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        """Map [B, c, h, w] to [B, outputs, h, w]."""
        h, w = planes.shape[2:]
        padded = F.pad(planes, (self.padding,) * 4).unflatten(1, (self.groups, -1))  # [B, groups, c / groups, ., .]
        sums = planes.new_zeros(len(planes), *self.weight.shape[:2], h, w)
        for output, channel, y, x in self.taps:
            factor = self.weight[:, output, channel, y, x, None, None]
            sums[:, :, output].addcmul_(padded[:, :, channel, y : y + h, x : x + w], factor)
        return sums.flatten(1, 2)


def _class_folder(rig: Rig, mode: str) -> Path:
    """Write a class folder with random weights, whose pictures are cropped, or letterboxed."""
    folder = layout.class_folder(rig.folder / mode, 0, "random")
    folder.mkdir(parents=True, exist_ok=True)
    size, sizes = (rig.side, rig.side), rig.sizes
    torch.manual_seed(0)
    loaded = backbones.load(sizes.backbone, backbones.RANDOM, size).state_dict()
    save_file({key: value.contiguous() for key, value in loaded.items()}, folder / layout.KEPT_BACKBONE)
    weights = folder / "ckpt_best_0.pth"
    checkpoint.save_tensors(weights, rig.glass().weights())
    wide = {"pretrain_embed_dimension": sizes.width, "target_embed_dimension": sizes.width}
    card = paper_card(folder, weights)
    card = replace(
        card,
        backbone=replace(card.backbone, name=sizes.backbone, layers=LAYERS),
        network=replace(card.network, input_shape=[3, *size], dsc_hidden=sizes.hidden, **wide),
        geometry=Geometry(rig.side if mode == CROP else None, size, mode).to_dict(),
    )
    (folder / model_card.FILE).write_text(card.to_json(), encoding="utf-8")
    return folder


def _driver() -> str:
    """Return the driver's version, empty where nvidia-smi is not there."""
    line = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""
