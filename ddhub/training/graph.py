"""A step as one launch: a CUDA graph of a function whose tensors stay where they are.

A step of a student launches some 330 operations, which cost the host 2.9 ms where a card needs 2.2 for them. A graph
is recorded once and replayed by one call. Nothing in it may wait for the host.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ddhub.base.log import warn

WARM_UP = 3  # calls before recording, in which libraries choose their kernels and the allocator its memory
WORTH = 12  # calls from which recording pays

Tensors = Sequence[Tensor | None]
Function = Callable[..., Any]  # of tensors; gives a tensor or a tuple of them
Recorded = tuple[Callable[[], None], Any]  # what does it again, and the results that this overwrites


class Graph:
    """Calls of a function on tensors of the same shapes; what it gives holds until the next call.

    The first calls are plain ones. Then one is recorded, and all others are copies of their inputs into its inputs and
    a replay. Calls with other shapes are plain. So is every call once a recording has failed, which is said.

    Args:
        function: of tensors or None; may read and change other tensors too, which stay the same ones.
        recorder: makes of the function and its inputs what replays it, without doing it.
    """

    def __init__(self, function: Function, recorder: "Recorder") -> None:
        self.function, self.recorder, self.calls = function, recorder, 0
        self._inputs: Tensors = ()
        self._recorded: Recorded | None = None

    def __call__(self, *inputs: Tensor | None) -> Any:
        """What the function gives of these."""
        self.calls += 1
        if self._recorded is None and self.calls == WARM_UP + 1:
            self._record(inputs)
        if self._recorded is None or _shapes(inputs) != _shapes(self._inputs):
            return self.recorder.plain(self.function, inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)
        replay, results = self._recorded
        replay()
        return results

    def _record(self, inputs: Tensors) -> None:
        self._inputs = [None if given is None else given.clone() for given in inputs]
        try:
            self._recorded = self.recorder.record(self.function, self._inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as fault:
            warn(f"CUDA graph: {' '.join(str(fault).split())[:200]}; steps are launched one by one")


class Recorder:
    """Records on a card; all of a process's work before and after is ordered with it."""

    def __init__(self, device: str) -> None:
        self.stream = torch.cuda.Stream(device)

    def plain(self, function: Function, inputs: Tensors) -> Any:
        """A call as it would be without a graph, on the stream that recording takes place on."""
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            found = function(*inputs)
        here.wait_stream(self.stream)
        return found

    def record(self, function: Function, inputs: Tensors) -> Recorded:
        """What replays a call, and its results."""
        here, graph = torch.cuda.current_stream(self.stream.device), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                results = function(*inputs)
        finally:
            torch.cuda.set_stream(here)  # which a failed recording leaves another
        return graph.replay, results


def graphed(function: Function, device: str, calls: int) -> Function:
    """A function to be called so often with tensors of the same shapes on a card, as a graph where that pays."""
    return Graph(function, Recorder(device)) if calls >= WORTH else function


def _shapes(tensors: Tensors) -> list[Any]:
    return [None if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors]
