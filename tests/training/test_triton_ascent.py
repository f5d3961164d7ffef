"""The ascent's Triton kernels without a GPU: by Triton's interpreter, by its compiler, and by the count of launches."""

import copy
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from model import Discriminator
from tests.helpers.pretended_gpu import CUDA, PretendedGPU
from tests.helpers.pretended_step import Step, small
from tests.helpers.small_glass import SIZE
from training.ascent import Ascent, HiddenAscent, TritonAscent, start_ascent

ROOT = Path(__file__).resolve().parents[2]
KERNELS = {"_sum_rows", "_normalise", "_score", "_factors", "_gradient", "_move"}
CASES = {  # N, H, TILE, MOST_PROGRAMS, hypersphere, type of the product's factors
    "odd": (37, 45, 512, 528, False, None),
    "hypersphere": (37, 70, 1024, 528, True, None),
    "several tiles a program": (203, 45, 2048, 2, False, None),
    "a tile is less than a row": (9, 100, 64, 4, True, None),
    "more programs than are added at a time": (43, 3, 32, 528, False, None),
    "one unit": (7, 1, 256, 528, False, None),
    "bf16": (37, 70, 1024, 528, False, "bfloat16"),
}
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="there is no Triton")


def largest(got: torch.Tensor, want: torch.Tensor) -> float:
    """Return the largest difference of any row, by the longest row."""
    return float((got - want).abs().max() / want.abs().max().clamp_min(1e-30))


def compare(rows: int, width: int, hypersphere: bool, dtype: torch.dtype | None) -> dict[str, float]:
    """Climb by both ways, with projections in between; return how far what comes out is apart."""
    torch.manual_seed(0)
    plain = Discriminator(24, 2, width).train()
    norm = plain.body[0][1]
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    ours = copy.deepcopy(plain)
    true, noise = torch.randn(rows, 24) + 1, 0.1 * torch.randn(rows, 24)
    inputs = (true, plain.first(true), noise, dtype)
    left, right = HiddenAscent(plain, *inputs), start_ascent(ours, *inputs, triton=True)
    with torch.no_grad():
        apart = {"gradient": largest(right._gradient(), left._gradient())}
    for step in range(1, 4):
        for each in (left, right):
            each.climb()
            if step == 2 and hypersphere:
                each.project_around(torch.zeros(rows, 24), torch.tensor(5.5), torch.tensor(6.5))
            elif step == 2:
                each.project_around_normal(0.49, 0.5)
    apart["rows"] = largest(right.rows(), left.rows())
    for key, value in plain.state_dict().items():
        apart[key] = largest(ours.state_dict()[key], value)
    return apart


def interpreted() -> None:
    """Print the comparison of each case; Triton's interpreter is chosen as Triton is imported."""
    from training.kernels import ascent

    found, ascent.PARTS = {}, 4
    for name, (rows, width, tile, programs, hypersphere, dtype) in CASES.items():
        ascent.TILE, ascent.MOST_PROGRAMS = tile, programs
        found[name] = compare(rows, width, hypersphere, dtype and getattr(torch, dtype))
    print(json.dumps(found))


def run(function: str, **environment: str) -> str:
    """Run a function of this file in a process of its own, and return what it prints."""
    line = [sys.executable, "-c", f"from tests.training.test_triton_ascent import {function}; {function}()"]
    done = subprocess.run(line, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def apart() -> dict[str, dict[str, float]]:
    return json.loads(run("interpreted", TRITON_INTERPRET="1"))


@needs_triton
@pytest.mark.parametrize("case", CASES)
def test_the_kernels_give_what_pytorch_gives(apart, case):
    bound = 1e-3 if CASES[case][-1] else 1e-5  # a rounded step may round the other way
    assert apart[case].pop("gradient") < 1e-5
    assert max(apart[case].values()) < bound, apart[case]


def compiled() -> None:
    """Compile each kernel for an H100, as it is launched at the paper's sizes, and print its name."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from training.kernels import ascent

    fixed = {"ROWS": 2, "WIDTH": 1024, "PARTS": ascent.PARTS, "COLUMNS": ascent.COLUMNS, "ROUNDS": True}
    kinds = dict.fromkeys(fixed, "constexpr") | {"rounded": "*bf16", "moved": "*bf16"}
    kinds |= dict.fromkeys(("rows", "width", "share", "programs"), "i32")
    kinds |= dict.fromkeys(("slope", "momentum", "eps", "rate", "epsilon"), "fp32")
    for name in sorted(KERNELS):
        names = getattr(ascent, name).arg_names
        signature = {each: kinds.get(each, "*fp32") for each in names}
        source = ASTSource(getattr(ascent, name), signature, {each: fixed[each] for each in names if each in fixed})
        code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=ascent.FUSED).asm
        print(name, len(code["cubin"]))


@needs_triton
def test_the_kernels_compile_for_a_gpu_that_is_not_there():
    with tempfile.TemporaryDirectory() as cache:
        lines = run("compiled", TRITON_CACHE_DIR=cache, TRITON_INTERPRET="0").splitlines()
    assert {name for name, size in map(str.split, lines) if int(size) > 0} == KERNELS


@pytest.fixture
def launches(monkeypatch) -> Counter:
    """Count launches; nothing is computed."""
    from training.kernels import ascent

    counts: Counter = Counter()

    class Launched:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int, ...]):
            return lambda *args, **kwargs: counts.update([self.name])

    for name in KERNELS:
        monkeypatch.setattr(ascent, name, Launched(name))
    return counts


@needs_triton
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_climb_takes_eight_launches(launches, dtype):
    with PretendedGPU() as gpu:
        discriminator = Discriminator(24, 2, 16).to(CUDA).train()
        counts = []
        for triton in (False, True):
            true, noise = torch.randn(2, 9, 24, device=CUDA)
            ascent = start_ascent(discriminator, true, discriminator.first(true), noise, dtype, triton)
            ascent.climb()
            launches.clear(), gpu.reset()
            ascent.climb()
            counts.append(gpu.kernels.total() + launches.total())
    assert counts[1] == 8 and counts[0] > 30, counts
    assert not gpu.waits and not gpu.faults, gpu.report()


@needs_triton
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_with_it_waits_for_nothing(launches, precision):
    with PretendedGPU() as gpu:
        step = Step(gpu, small(precision, triton=True), (SIZE, SIZE), 4)
        step(), launches.clear(), gpu.reset()
        step(1)
    assert launches == dict.fromkeys(KERNELS, 20)
    assert not gpu.waits and not gpu.faults, gpu.report()


def test_it_is_refused_where_it_could_do_nothing(monkeypatch):
    with PretendedGPU():
        with pytest.raises(ValueError, match="--dsc_layers 2"):
            small(triton=True, dsc_layers=3)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="package triton"):
            small(triton=True)


def test_the_cpu_does_without():
    discriminator, rows = Discriminator(24, 2, 16).train(), torch.randn(9, 24)
    assert type(start_ascent(discriminator, rows, discriminator.first(rows), rows)) is HiddenAscent
    assert issubclass(TritonAscent, HiddenAscent) and issubclass(HiddenAscent, Ascent)
