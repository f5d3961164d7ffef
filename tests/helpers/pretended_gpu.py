"""A pretended GPU: real code runs on the CPU with real values, while every storage carries a device.

    with PretendedGPU() as gpu:
        ...
    gpu.waits, gpu.faults, gpu.kernels

It reports where the host would wait for the device, what would fail as tensors of two devices meet, operations without
a CUDA kernel, and it counts kernels, bytes and FLOPs. It does not see what happens inside kernels, drivers and threads.

A TorchFunctionMode answers `.device`, `.to` and factories with the pretended device, and takes it away before the call.
A TorchDispatchMode sees every operation, those of autograd and optimisers included, and passes devices on. The devices
are kept by storage, so that views, parameters and `.data` have them.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
import torch._dynamo  # noqa: F401 - PyTorch imports it at the first optimiser, which under the modes would be seen
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

ROOT = Path(__file__).resolve().parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
FREE, TOTAL = 60 << 30, 80 << 30  # bytes of memory
Tensor, RealGenerator, RealAutocast, real_to = torch.Tensor, torch.Generator, torch.autocast, torch.Tensor.to

COPIES = {"aten.copy_.default", "aten._to_copy.default"}
ASSERTION = "aten._assert_tensor_metadata.default"  # of exported programs
INDEXING = {"aten.index.Tensor", "aten.index_put_.default", "aten._index_put_impl_.default"}
WAITS = {  # operations whose answer's value or size the host needs
    "aten._local_scalar_dense.default": "item()",
    "aten.nonzero.default": "nonzero",
    "aten.masked_select.default": "masked_select",
    "aten.equal.default": "equal",
    "aten.is_nonzero.default": "bool()",
    "aten._unique2.default": "unique",
    "aten.repeat_interleave.Tensor": "repeat_interleave",
}
VIEWS = {  # and what else launches no kernel
    "alias", "_unsafe_view", "_reshape_alias", "as_strided", "chunk", "detach", "diagonal", "empty", "empty_like",
    "empty_strided", "expand", "is_same_size", "lift_fresh", "narrow", "new_empty", "new_empty_strided", "permute",
    "reshape", "resize_", "select", "set_", "slice", "split", "split_with_sizes", "squeeze", "squeeze_", "t",
    "transpose", "unbind", "unflatten", "unsqueeze", "unsqueeze_", "view",
}  # fmt: skip
NO_SCALARS = {"mm", "addmm", "bmm", "cat", "stack", "convolution", "native_batch_norm", "gather", "scatter"}
WITH_KERNEL = (
    "CUDA",
    "CompositeExplicitAutograd",
    "CompositeImplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
)
FACTORIES = ("arange", "zeros", "ones", "empty", "full", "tensor", "scalar_tensor")


def as_device(device: torch.device | str | int | None) -> torch.device | None:
    """Return a device with its number."""
    if device is None:
        return None
    device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return CUDA if device == torch.device("cuda") else device


class PretendedGenerator(RealGenerator):
    """A generator that says it is on the pretended device."""

    pretended = CPU

    def __new__(cls, device: torch.device | str = CPU) -> Self:
        made = RealGenerator.__new__(cls, "cpu")
        made.pretended = as_device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.pretended


class PretendedAutocast(RealAutocast):
    """Autocast on the CPU in place of the device."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


class PretendedGPU:
    """A machine with CUDA devices, for as long as the context lasts.

    Attributes:
        waits: how often the host waits for a device, by what and where.
        faults: what fails on a real one, by what and where.
        kernels, bytes, flops: by operation; bytes are those of all inputs and outputs.
    """

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.waits: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.following: torch.device | None = None  # where a factory inside an operation puts its tensor
        self._places: dict[int, tuple[StorageWeakRef, torch.device]] = {}
        self._pinned: dict[int, StorageWeakRef] = {}
        self._on_the_way: set[int] = set()  # pinned storages that the device writes to

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._patch()
        self._stack.enter_context(_Operations(self))
        self._stack.enter_context(_Functions(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reset(self) -> None:
        """Count from zero."""
        for counter in (self.waits, self.faults, self.kernels, self.bytes, self.flops):
            counter.clear()

    def report(self) -> str:
        """Return the waits, the faults and the sums."""
        lines = [f"{n} x wait: {what}" for what, n in self.waits.items()]
        lines += [f"{n} x fault: {what}" for what, n in self.faults.items()]
        sums = f"{self.waits.total()} waits, {self.kernels.total()} kernels, {self.bytes.total() / 1e9:.1f} GB moved"
        return "\n".join([*lines, f"{sums}, {self.flops.total() / 1e9:.0f} GFLOP"])

    def pinned(self, tensor: Tensor) -> Tensor:
        """Return a tensor in pinned memory, as a loader's thread gives it."""
        if self.device_of(tensor) != CPU or self.is_pinned(tensor):
            return tensor
        with torch._C.DisableTorchFunction():
            copy = tensor.clone()
            storage = copy.untyped_storage()
            self._pinned[storage._cdata] = StorageWeakRef(storage)
        return copy

    # --- what the modes ask for -----------------------------------------------------------------------------

    def device_of(self, tensor: Tensor) -> torch.device:
        with torch._C.DisableTorchFunction():
            found = self._places.get(tensor.untyped_storage()._cdata)
        return found[1] if found is not None and not found[0].expired() else CPU

    def put(self, tensor: Any, device: torch.device | None) -> Any:
        if isinstance(tensor, Tensor):
            with torch._C.DisableTorchFunction():
                storage = tensor.untyped_storage()
            self._places.pop(storage._cdata, None)
            if device is not None and device.type == "cuda":
                self._places[storage._cdata] = (StorageWeakRef(storage), device)
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        with torch._C.DisableTorchFunction():
            found = self._pinned.get(tensor.untyped_storage()._cdata)
        return found is not None and not found.expired()

    def wait(self, what: str) -> None:
        self.waits[f"{what}  @ {_place()}"] += 1

    def fault(self, what: str) -> None:
        self.faults[f"{what}  @ {_place()}"] += 1

    def transfer(
        self, tensor: Tensor, target: torch.device, non_blocking: bool, dtype: torch.dtype, into: Tensor | None = None
    ) -> None:  # fmt: skip
        """Note a copy between devices, into a tensor that is there or a new one."""
        source = self.device_of(tensor)
        if source == target:
            return
        self.kernels["memcpy"] += 1
        self.bytes["memcpy"] += tensor.numel() * tensor.element_size()
        if target == CPU and non_blocking and into is not None and self.is_pinned(into):
            self._on_the_way.add(into.untyped_storage()._cdata)
        elif target == CPU:
            self.wait("copy to the host")
            if non_blocking:
                self.fault("copy to the host with non_blocking=True: its values may be read before they are there")
        elif source == CPU and dtype != tensor.dtype:
            self.wait("copy to the device with another dtype, which is made on the host in pageable memory")
        elif source == CPU and not (non_blocking and self.is_pinned(tensor)):
            self.wait(f"{'blocking copy' if self.is_pinned(tensor) else 'copy of pageable memory'} to the device")

    def waited(self, device: torch.device | None = None) -> None:
        """Note that the host waits until the device has done all it was asked to."""
        self.wait("synchronize")
        self._on_the_way.clear()

    def read(self, tensor: Tensor, how: str) -> None:
        """Note that the host looks at the values of a tensor."""
        if self.device_of(tensor) != CPU:
            self.fault(f"{how} on a tensor of the GPU")
        with torch._C.DisableTorchFunction():
            if tensor.untyped_storage()._cdata in self._on_the_way:
                self.fault(f"{how} before the copy to the host is done")

    def made(self, func: Any, args: tuple, kwargs: dict, device: torch.device) -> Any:
        """Let a factory make its tensor, and put that on a device."""
        out = func(*args, **{**kwargs, "device": CPU})
        if func.__name__ in ("tensor", "as_tensor"):
            self.wait("copy of pageable memory to the device")
        elif not func.__name__.endswith(("empty", "empty_like", "empty_strided")):
            self.kernels[func.__name__] += 1
        for each in tree_leaves(out):
            self.put(each, device)
        return out

    def _patch(self) -> None:
        """Answer for torch.cuda; factories inside torch's own functions, where the function mode is off, too."""

        def set_to(owner: object, name: str, value: object) -> None:
            self._stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        for name in FACTORIES:
            set_to(torch, name, self._nested(getattr(torch, name)))
        for name, get in (
            ("device", self.device_of),
            ("is_cuda", lambda tensor: self.device_of(tensor).type == "cuda"),
            ("is_cpu", lambda tensor: self.device_of(tensor).type == "cpu"),
        ):
            setattr(Tensor, name, property(get))
            self._stack.callback(delattr, Tensor, name)
        set_to(torch, "Generator", PretendedGenerator)
        set_to(torch, "autocast", PretendedAutocast)
        set_to(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda _: None)
        event = SimpleNamespace(synchronize=self.waited)
        answers = {
            "is_available": lambda: True,
            "device_count": lambda: self.devices,
            "set_device": lambda _: None,
            "synchronize": self.waited,
            "current_stream": lambda device=None: SimpleNamespace(record_event=lambda: event),
            "mem_get_info": lambda device=None: (FREE, TOTAL),
            "get_device_name": lambda device=None: "pretended GPU",
            "get_device_capability": lambda device=None: (9, 0),
            "manual_seed_all": lambda seed: None,
            "empty_cache": lambda: None,
            "set_sync_debug_mode": lambda mode: None,
            "reset_peak_memory_stats": lambda device=None: None,
            "max_memory_allocated": lambda device=None: 0,
        }
        for name, answer in answers.items():
            set_to(torch.cuda, name, answer)

    def _nested(self, real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make(*args: Any, **kwargs: Any) -> Tensor:
            device = as_device(kwargs.get("device"))
            if device is None or device.type != "cuda" or torch._C._len_torch_function_stack() > 0:
                return real(*args, **kwargs)
            return self.made(real, args, kwargs, device)

        return make


class _Operations(TorchDispatchMode):
    """Sees operations below autograd."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        gpu, name, kwargs = self.gpu, str(func), kwargs or {}
        if name == ASSERTION:
            found, wanted = gpu.device_of(args[0]), as_device(kwargs.pop("device"))
            if wanted not in (None, found):
                gpu.fault(f"{name}: a tensor of {found}, not of {wanted}")
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        devices = [gpu.device_of(tensor) for tensor in tensors]
        on_gpu = [device for device in devices if device.type == "cuda"]
        if on_gpu:
            self._check(func, name, args, kwargs, tensors, devices)
        out = func(*args, **kwargs)
        outputs = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        if not on_gpu:
            known = {tensor.untyped_storage()._cdata for tensor in tensors}
            follow = gpu.following if not tensors and kwargs.get("pin_memory") is not True else None
            for each in outputs:
                if each.untyped_storage()._cdata not in known:
                    gpu.put(each, follow)
            return out
        target = gpu.device_of(args[0]) if name in COPIES | INDEXING else on_gpu[0]
        for each in outputs:
            gpu.put(each, target)
        self._count(func, name, args, kwargs, tensors, outputs, out)
        return out

    def _check(self, func: Any, name: str, args: tuple, kwargs: dict, tensors: list, devices: list) -> None:
        """Note what fails or waits."""
        gpu, base = self.gpu, _base(func)
        if len({device for device in devices if device.type == "cuda"}) > 1:
            gpu.fault(f"{name}: tensors of two devices")
        if name in WAITS:
            gpu.wait(WAITS[name])
        if name in INDEXING:
            self._check_indices(name, args)
        elif name in COPIES:
            if len(tensors) == 2 and devices[0] != devices[1]:
                quick = bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
                gpu.transfer(args[1], devices[0], quick, args[0].dtype, into=args[0])
        elif CPU in devices:
            strangers = [each for each, device in zip(tensors, devices, strict=True) if device == CPU]
            if any(each.ndim > 0 or base in NO_SCALARS for each in strangers):
                gpu.fault(f"{name}: tensors of CPU and GPU")
        found = torch._C._dispatch_has_kernel_for_dispatch_key
        if not any(found(func.name(), key) for key in WITH_KERNEL):
            gpu.fault(f"{name} has no CUDA kernel")

    def _check_indices(self, name: str, args: tuple) -> None:
        gpu, device = self.gpu, self.gpu.device_of(args[0])
        for index in (each for each in args[1] if each is not None):
            if index.dtype in (torch.bool, torch.uint8):
                gpu.wait("indexing by a mask")
            if device == CPU and gpu.device_of(index) != CPU:
                gpu.fault(f"{name}: CPU tensor with an index of the GPU")
            elif gpu.device_of(index) != device:
                gpu.wait("indexing by a tensor of the host")

    def _count(
        self, func: Any, name: str, args: tuple, kwargs: dict, tensors: list, outputs: list, out: Any
    ) -> None:  # fmt: skip
        gpu = self.gpu
        if _base(func) in VIEWS:
            return
        gpu.kernels[name] += 1
        touched = {(each.data_ptr(), tuple(each.shape)): each for each in tensors + outputs}
        gpu.bytes[name] += sum(each.numel() * each.element_size() for each in touched.values())
        if _base(func).endswith("_"):  # read and written
            gpu.bytes[name] += sum(each.numel() * each.element_size() for each in outputs)
        if func._overloadpacket in flop_registry:
            gpu.flops[name] += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)


class _Functions(TorchFunctionMode):
    """Sees what Python calls."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        gpu_is = {"cuda": True, "cpu": False}
        self.gpu = gpu
        self.answers = {
            Tensor.device.__get__: gpu.device_of,
            Tensor.is_cuda.__get__: lambda tensor: gpu_is[gpu.device_of(tensor).type],
            Tensor.is_cpu.__get__: lambda tensor: not gpu_is[gpu.device_of(tensor).type],
            Tensor.pin_memory: lambda tensor, *_: gpu.pinned(tensor),
            Tensor.is_pinned: lambda tensor, *_: gpu.is_pinned(tensor),
            Tensor.cpu: lambda tensor: self._moved(tensor, CPU, False),
        }

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        gpu, kwargs = self.gpu, dict(kwargs or {})
        if func in self.answers:
            return self.answers[func](*args)
        if func in (Tensor.to, Tensor.cuda):
            return self._move(func, *args, **kwargs)
        if func in (Tensor.numpy, Tensor.__array__):
            gpu.read(args[0], f"{func.__name__}()")
        if kwargs.pop("pin_memory", False):
            return gpu.pinned(func(*args, **kwargs))
        if func is Tensor.tolist and gpu.device_of(args[0]) != CPU:
            gpu.wait("tolist()")
        if func in (torch.as_tensor, torch.asarray) and isinstance(args[0], Tensor):
            device = as_device(kwargs.pop("device", None))
            args = (args[0] if device is None else self._moved(args[0], device, False), *args[1:])
        device, generator = as_device(kwargs.get("device")), kwargs.get("generator")
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if isinstance(generator, PretendedGenerator):
            where = device or next(map(gpu.device_of, tensors), CPU)
            if generator.pretended != where:
                gpu.fault(f"{func.__name__}: generator on {generator.pretended}, tensor on {where}")
        if device is not None and device.type == "cuda" and str(func) != ASSERTION:
            return gpu.made(func, args, kwargs, device)
        before = gpu.following
        if device is not None or (func.__name__ in FACTORIES and not tensors):
            gpu.following = None
        elif tensors:
            gpu.following = next((each for each in map(gpu.device_of, tensors) if each != CPU), None)
        try:
            return func(*args, **kwargs)
        finally:
            gpu.following = before

    def _move(
        self, func: Any, tensor: Tensor, *rest: Any, device: Any = None, dtype: torch.dtype | None = None,
        non_blocking: bool = False, copy: bool = False, memory_format: torch.memory_format | None = None,
    ) -> Tensor:  # fmt: skip
        """Answer for Tensor.to and Tensor.cuda."""
        flags: Iterator[bool] = (each for each in rest if isinstance(each, bool))
        non_blocking, copy = next(flags, non_blocking), next(flags, copy)
        for each in rest:
            if isinstance(each, Tensor):
                device, dtype = self.gpu.device_of(each), each.dtype
            elif isinstance(each, torch.dtype):
                dtype = each
            elif each is not None and not isinstance(each, bool):
                device = each
        if func is Tensor.cuda and device is None:
            device = CUDA
        target = as_device(device) or self.gpu.device_of(tensor)
        return self._moved(tensor, target, non_blocking, dtype, copy, memory_format)

    def _moved(
        self, tensor: Tensor, target: torch.device, non_blocking: bool, dtype: torch.dtype | None = None,
        copy: bool = False, memory_format: torch.memory_format | None = None,
    ) -> Tensor:  # fmt: skip
        if isinstance(tensor, FakeTensor):  # of an exported program, which tells shapes by them
            return tensor
        gpu, away = self.gpu, self.gpu.device_of(tensor) != target
        gpu.transfer(tensor, target, non_blocking, dtype or tensor.dtype)
        layout = {} if memory_format is None else {"memory_format": memory_format}
        with torch._C.DisableTorchFunctionSubclass():
            out = real_to(tensor, dtype or tensor.dtype, copy=away or copy, **layout)
        return gpu.put(out, target) if away else out


def _base(func: Any) -> str:
    return func._schema.name.split("::")[1]


def _place() -> str:
    """Return the innermost line of the project that is running: "glass.py:70 masked_quantile"."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        ours = path.is_relative_to(ROOT) and not path.is_relative_to(sys.prefix)  # an environment may lie in ROOT
        if ours and path != Path(__file__).resolve():
            return f"{path.name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "autograd"
