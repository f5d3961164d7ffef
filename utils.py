"""Seeds, devices, and the choice between the two hypotheses (paper App. B).

The paper assumes that normal features lie on a manifold or inside a hypersphere. Which of the two a class
follows stands in a table, or is judged here from the spectrum of its mean image.
"""

import hashlib
import logging
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

from system.files import atomic_write

LOGGER = logging.getLogger(__name__)


# The judge, as released.
JUDGE_SIDE = 289  # pixels; odd, so that the spectrum has a centre pixel
JUDGE_BLUR = 39  # pixels, side of the box filter
JUDGE_MAGNITUDE = 170  # of 20 ln|F|
JUDGE_DENSITY = 0.21
JUDGE_RADIUS = 12  # pixels
JUDGE_COUNT = 60  # points


def derive_seed(*parts: int | str) -> int:
    """Map a tuple of numbers and words to a seed in [0, 2**63): the same on every machine, apart for every tuple."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fix_seeds(seed: int, with_torch: bool = True, with_cuda: bool = True) -> None:
    """Seed every global random source.

    Args:
        seed: any integer; NumPy takes it modulo 2**32.
        with_torch: seed PyTorch's CPU generator too.
        with_cuda: seed PyTorch's CUDA generators too.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if with_torch:
        torch.manual_seed(seed)
    if with_cuda:
        torch.cuda.manual_seed_all(seed)


def torch_device(gpu_ids: list[int]) -> torch.device:
    """Return the first of the wanted CUDA devices; the CPU for an empty list, or, with a line, where CUDA is absent.

    Raises:
        ValueError: CUDA is there, but not that device.
    """
    if not gpu_ids:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        LOGGER.warning("CUDA is not available: running on the CPU.")
        return torch.device("cpu")
    if not 0 <= gpu_ids[0] < torch.cuda.device_count():
        raise ValueError(f"--gpu {gpu_ids[0]} does not exist: choose from 0 to {torch.cuda.device_count() - 1}.")
    return torch.device(f"cuda:{gpu_ids[0]}")


def pick_device(name: str) -> torch.device:
    """Return the device of a name: "cpu", "cuda", "cuda:<i>", or "auto", which is CUDA where there is one.

    Raises:
        ValueError: it is unknown, or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ValueError(f"--device {name} is unknown: give auto, cpu, cuda or cuda:<number>.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name} is not there: PyTorch finds {torch.cuda.device_count()} CUDA devices.")
    return torch.device(name)


def set_torch_device(gpu_ids: list[int]) -> torch.device:
    """Return what torch_device does, and make it this process's: what names no GPU would open a context on the first.

    Raises:
        ValueError: CUDA is there, but not that device.
    """
    device = torch_device(gpu_ids)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the host on a device; the host goes on at once, as its memory is pinned where that is CUDA."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def fetch(tensors: Sequence[torch.Tensor]) -> Callable[[], tuple[np.ndarray, ...]]:
    """Begin to copy tensors to the host, through pinned memory where they are on a GPU, which the host does not await.

    Args:
        tensors: of one device.

    Returns:
        what waits for the copies and gives them.
    """
    device = tensors[0].device
    if device.type != "cuda":
        return lambda: tuple(tensor.cpu().numpy() for tensor in tensors)
    pinned = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in tensors]
    for copy, tensor in zip(pinned, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    done = torch.cuda.current_stream(device).record_event()

    def finish() -> tuple[np.ndarray, ...]:
        done.synchronize()
        return tuple(copy.numpy().copy() for copy in pinned)  # pinned memory is scarce, and is given back

    return finish


def fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 matrices itself: CUDA since Ampere, CPUs with AVX512-bf16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def check_device(device: torch.device) -> None:
    """Make sure that a device still works after an error.

    Raises:
        RuntimeError: it is lost to this process.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Name a device for people: the GPU's model, or the CPU with its threads."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{device.type}, {torch.get_num_threads()} threads"


def memory(device: torch.device) -> int:
    """Return the bytes of memory of a device, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def set_precision(precision: str) -> None:
    """Choose how CUDA multiplies float32 matrices and convolves, for the whole process.

    Args:
        precision: "tf32" lets tensor cores round the factors to 10 bits of mantissa; all others do not. But for
            "fp32", cuDNN tries out which of its ways to convolve is the fastest.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if hasattr(torch.backends.cudnn, "conv"):  # since PyTorch 2.9, where torch.backends.fp32_precision else counts
        for part in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
            part.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        torch.backends.mkldnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = precision != "fp32" and not torch.are_deterministic_algorithms_enabled()


def set_deterministic() -> None:
    """Make CUDA repeat results bit by bit, for the whole process; what cannot is named in a warning when it runs."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def distribution_judge(image: np.ndarray, name: str, judge_path: Path | None = None) -> int:
    """Judge from the mean image of a class whether its features follow the hypersphere (paper App. B).

    The low frequencies of a centred, single object gather densely around the spectrum's centre; those of a
    texture do not.

    Args:
        image: mean training image, uint8 BGR [H, W, 3].
        name: "<dataset>_<class>", names the pictures.
        judge_path: where the mean image and the binarised spectrum are kept; None keeps neither.

    Returns:
        1 for the hypersphere, 0 for the manifold.
    """
    gray = cv2.cvtColor(cv2.resize(image, (JUDGE_SIDE, JUDGE_SIDE)), cv2.COLOR_BGR2GRAY)
    spectrum = np.fft.fftshift(np.fft.fft2(cv2.blur(gray, (JUDGE_BLUR, JUDGE_BLUR))))
    with np.errstate(divide="ignore"):  # a zero coefficient has magnitude -inf, which is below the threshold
        bright = 20 * np.log(np.abs(spectrum)) > JUDGE_MAGNITUDE
    flag = _is_hypersphere(bright)
    if judge_path is not None:
        for kind, picture in (("avg", image), ("fft", np.uint8(255) * bright.astype(np.uint8))):
            path = Path(judge_path) / kind / str(flag) / f"{name}.png"
            atomic_write(path, cv2.imencode(".png", picture)[1].tobytes())
    return flag


def _is_hypersphere(bright: np.ndarray) -> int:
    """Apply the density rule of SPEC's judge to the bright points of a centred spectrum, bool [S, S]."""
    points = np.argwhere(bright)
    if len(points) == 0:
        return 0
    center = JUDGE_SIDE // 2
    dy, dx = np.abs(points - center).T
    radius = np.hypot(dy, dx).max()
    axis = (np.arange(2 * JUDGE_SIDE) - center) ** 2  # as released: the disc is counted on 0..577, not on the image
    disc = np.count_nonzero(axis[:, None] + axis[None, :] <= radius**2 + 1e-9)
    l1_density = len(points) / (4 * max(dx.max(), 1) * max(dy.max(), 1))
    l2_density = len(points) / (disc + 1e-10)
    dense = l1_density > JUDGE_DENSITY or l2_density > JUDGE_DENSITY
    return int(dense and radius > JUDGE_RADIUS and len(points) > JUDGE_COUNT)


# PyTorch reads it at its first tensor: large ones then lie on pages of 2 MB where Linux has them on request. Mapping a
# fresh tensor in pages of 4 KB takes about as long as a pass over it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
