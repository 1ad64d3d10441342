"""An accelerator that is none: tensors that say they are on it, hold true values, and are counted as they come and go.

The device is called `meta`. Operations are computed on the CPU, so results can be compared. What makes a host wait for
its device is noted: a value that is read, and a copy from memory that is not sent ahead.
"""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("meta")
aten = torch.ops.aten
# Operations that cannot go on before the host knows a value, be it the size of their result.
READS = (
    *(aten._local_scalar_dense, aten.is_nonzero, aten.item, aten.equal, aten.nonzero, aten.masked_select),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.bincount, aten.allclose),
)
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)


class OnGpu(torch.Tensor):
    """A tensor on the device; its values are in `held`."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held):
        sizes = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), device=DEVICE, **sizes)
        made.held = held
        return made

    def __repr__(self):
        return f"OnGpu({self.held})"

    def tolist(self):
        """Its values; torch refuses this of subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), given=None):
        return done(function, arguments, given or {}, Counter())


class FakeGpu(TorchDispatchMode):
    """While it is entered, the device is there. `seen` counts `read`, `copied` (the host waits) and `sent` (it does
    not: `non_blocking`, as from pinned memory)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), given=None):
        return done(function, arguments, given or {}, self.seen)


def done(function: Any, arguments: Any, given: dict[str, Any], seen: Counter[str]) -> Any:
    """Do an operation with the values, note what the host had to wait for, and say where the result is."""
    leaves = tree_flatten((arguments, given))[0]
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    assert not any(type(tensor) is torch.Tensor and tensor.device == DEVICE for tensor in tensors), (
        f"{function}: a tensor was made on the device out of Python's numbers, which copies them while the host waits"
    )
    here = any(isinstance(tensor, OnGpu) for tensor in tensors)
    packet, target = function.overloadpacket, given.get("device")
    there = here if target is None else torch.device(target) == DEVICE
    if packet is aten._to_copy and here != there:
        seen["read" if here else "sent" if given.get("non_blocking") else "copied"] += 1
    elif packet is aten.copy_:
        into, source = (isinstance(each, OnGpu) for each in arguments[:2])
        there = into
        if into != source:
            ahead = bool(arguments[2]) if len(arguments) > 2 else bool(given.get("non_blocking"))
            seen["read" if source else "sent" if ahead else "copied"] += 1
    elif here:
        _check(function, packet, arguments, tensors, seen)
    plain = {**given, "device": torch.device("cpu")} if target is not None else given
    inner_arguments, inner_given = tree_map_only(OnGpu, lambda tensor: tensor.held, (arguments, plain))
    found = function(*inner_arguments, **inner_given)
    if not (there and (here or target is not None)):
        return found
    wrapped = tree_map_only(torch.Tensor, OnGpu, found)
    return return_and_correct_aliasing(function, arguments, given, wrapped) if here else wrapped


def _check(function: Any, packet: Any, arguments: Any, tensors: list[Any], seen: Counter[str]) -> None:
    """Note a read; refuse tensors of two devices where a real one would."""
    hosts = [tensor for tensor in tensors if not isinstance(tensor, OnGpu) and tensor.ndim]
    if packet in READS:
        seen["read"] += 1
    elif packet in INDEXED:
        rows = [tensor for tensor in arguments[1] if tensor is not None]
        seen["read"] += sum(row.dtype in (torch.bool, torch.uint8) for row in rows)
        seen["copied"] += len(hosts)
    elif hosts:
        raise RuntimeError(f"{function}: tensors of two devices")
