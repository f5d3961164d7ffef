"""The gradients of a step as one CUDA graph: recorded once and replayed, so that the host launches them in one call.

A graph knows addresses, not tensors: inputs are copied into the memory it was recorded with, and outputs lie where
they lay. Other shapes run call by call. So do the first steps, in which libraries choose their ways, and what
optimisers do with the gradients: it depends on learning rates and counters, which the host has.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Protocol

import torch

WARM_UP = 3  # calls before recording

Outputs = list[torch.Tensor | None]
Step = Callable[[], Outputs]


class Recorder(Protocol):
    """What records; CudaGraphs does."""

    def run(self, step: Step) -> Outputs:
        """Run a step without recording it."""

    def record(self, step: Step) -> tuple[Callable[[], None], Outputs]:
        """Return what replays a step, which has not run, and the memory of its outputs."""


class CudaGraphs:
    """Records and warms up on a stream of its own, as PyTorch asks for."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def run(self, step: Step) -> Outputs:
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            outputs = step()
        current.wait_stream(self.stream)
        return outputs

    def record(self, step: Step) -> tuple[Callable[[], None], Outputs]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            outputs = step()
        return graph.replay, outputs


class Replayed:
    """A function of tensors that changes tensors in place: the same effects and values, replayed once it is known.

    Args:
        function: of the inputs.
        recorder: of its calls.
    """

    def __init__(self, function: Callable[..., Outputs], recorder: Recorder) -> None:
        self.function, self.recorder = function, recorder
        self.seen: Counter[Hashable] = Counter()
        self.key: Hashable = None  # of the recorded call
        self.inputs: list[torch.Tensor] = []
        self.outputs: Outputs = []
        self.replay: Callable[[], None] | None = None

    def __call__(self, *inputs: torch.Tensor) -> Outputs:
        """Call the function; the next call may overwrite what it returns."""
        key = tuple((each.shape, each.dtype) for each in inputs)
        if self.replay is None:
            self.seen[key] += 1
            if self.seen[key] > WARM_UP:
                self.key, self.inputs = key, [each.clone() for each in inputs]
                self.replay, self.outputs = self.recorder.record(lambda: self.function(*self.inputs))
        if key != self.key:
            return self.recorder.run(lambda: self.function(*inputs))
        torch._foreach_copy_(self.inputs, list(inputs))
        self.replay()
        return self.outputs
