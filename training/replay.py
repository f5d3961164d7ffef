"""A training step as one CUDA graph: recorded once and replayed, so that the host launches it in a single call.

A graph knows addresses, not tensors: inputs are copied into the memory it was recorded with. What would change in it,
a shape or a learning rate, runs call by call. So do the first steps, in which libraries choose their ways.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

import torch

WARM_UP = 3  # calls before recording
CAPTURABLE = {"fused": True, "capturable": True}  # options of Adam and AdamW whose step waits for nothing

Step = Callable[[], torch.Tensor]


class Recorder(Protocol):
    """What records; CudaGraphs does."""

    def run(self, step: Step) -> torch.Tensor:
        """Run a step without recording it."""

    def record(self, step: Step) -> tuple[Callable[[], None], torch.Tensor]:
        """Return what replays a step, which has not run, and the memory of its output."""


class CudaGraphs:
    """Records and warms up on a stream of its own, as PyTorch asks for."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def run(self, step: Step) -> torch.Tensor:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            output = step()
        current.wait_stream(self.stream)
        return output

    def record(self, step: Step) -> tuple[Callable[[], None], torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            output = step()
        return graph.replay, output


class Replayed:
    """A function of tensors that changes tensors in place: the same effects and values, replayed once it is known.

    Args:
        function: of the inputs; it returns a tensor.
        recorder: of its calls.
    """

    def __init__(self, function: Callable[..., torch.Tensor], recorder: Recorder) -> None:
        self.function, self.recorder = function, recorder
        self.seen: Counter[Hashable] = Counter()
        self.key: Hashable = None  # of the recorded call
        self.inputs: list[torch.Tensor] = []
        self.replay: Callable[[], None] | None = None

    def __call__(self, *inputs: torch.Tensor, settings: Hashable = None) -> torch.Tensor:
        """Call the function; settings are values that a recorded call would not see change."""
        key = (settings, *((each.shape, each.dtype) for each in inputs))
        if self.replay is None:
            self.seen[key] += 1
            if self.seen[key] > WARM_UP:
                self.key, self.inputs = key, [each.clone() for each in inputs]
                self.replay, self.output = self.recorder.record(lambda: self.function(*self.inputs))
        if key != self.key:
            return self.recorder.run(lambda: self.function(*inputs))
        torch._foreach_copy_(self.inputs, list(inputs))
        self.replay()
        return self.output.clone()  # the next replay overwrites it


def make_capturable(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Let optimisers be recorded, also with a state that was saved without."""

    def keep(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return state | {"param_groups": [group | CAPTURABLE for group in state["param_groups"]]}

    for optimizer in optimizers:
        if "capturable" not in optimizer.defaults:
            continue
        for group in optimizer.param_groups:
            group.update(CAPTURABLE)
        optimizer.register_load_state_dict_pre_hook(keep)
