"""Pickles of strangers, simulated before they are loaded: each step runs on stand-ins.

No object of the pickle is created. Names in the pickle must be on a list, and the claimed storages are reported.
torch's own `weights_only` loader calls every function on its list. `torch.Tensor(10**9)` alone would allocate memory
without bound.
"""

import io
import pickletools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ddhub.base import limits

ITEM_BYTES = {
    **dict.fromkeys(("Double", "Long"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Char", "Byte", "Bool"), 1),
}
STORAGES = {f"torch.{kind}Storage": length for kind, length in ITEM_BYTES.items()}
SCALARS = tuple(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core"))
DTYPE = re.compile(r"[<>=|]?(\?|b1|[iu][1248]|f[248])")
PLAIN = (str, bytes, int, float, bool, type(None))
KEYS = 2**63  # larger integers can be made to share one hash


class Refused(Exception):
    """A pickle asks for something that is not data. The text names it."""


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle names."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The values of one or more tensors, as a pickle claims them."""

    key: str
    count: int
    bytes: int


class _Thing:
    """A stand-in for an object. `kind` is tensor, dict, ordered, dtype or mark."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Walked(NamedTuple):
    """The result of a pickle: its stand-in object, and its storages by key."""

    value: Any
    storages: dict[str, Storage]


def walk(content: io.BytesIO) -> Walked:
    """Simulate one pickle, and stop after it.

    Raises:
        Refused: if the pickle asks for something that is not data.
    """
    return _Walk().through(content)


class _Walk:
    """The pickle machine, with the steps that torch's `weights_only` loader knows."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def through(self, content: io.BytesIO) -> Walked:
        """Simulate all steps. Their number is limited, because each can create an object."""
        for number, (code, argument, _) in enumerate(pickletools.genops(content)):
            if number > limits.PICKLE_STEPS:
                raise Refused(f"its pickle has more than {limits.PICKLE_STEPS} steps")
            if code.name == "STOP":
                break
            step = STEPS.get(code.name)
            if step is None:
                raise Refused(f"its pickle takes the step {code.name}, which is not data's")
            step(self, argument)
        return Walked(self.stack.pop(), self.storages)

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def name(self, argument: str) -> None:
        """Push a function or class, which must be on the list."""
        name = ".".join(argument.split(" ", 1))
        if name not in NAMES:
            raise Refused(f"asks for '{name}', which is not data")
        self.push(_Name(name))

    def call(self, _: Any) -> None:
        """Call a function with a tuple of arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        make = CALLS.get(function.name) if isinstance(function, _Name) else None
        if make is None or not isinstance(arguments, tuple):
            named = function.name if isinstance(function, _Name) else "something that was made"
            raise Refused(f"calls '{named}', which is not data")
        self.push(make(arguments))

    def persistent(self, _: Any) -> None:
        """Push a storage: ("storage", its type, key, device, number of values), and None in old files."""
        told = self.stack.pop()
        if (
            not isinstance(told, tuple)
            or len(told) not in (5, 6)
            or told[0] != "storage"
            or told[5:] not in ((), (None,))
        ):
            raise Refused("names a storage as torch does not")
        kind, key, count = told[1], told[2], told[4]
        known = isinstance(kind, _Name) and kind.name in STORAGES and isinstance(key, str)
        if not known or type(count) is not int or count < 0:
            raise Refused("names a storage as torch does not")
        storage = Storage(key, count, count * STORAGES[kind.name])
        if self.storages.setdefault(key, storage) != storage:
            raise Refused(f"names its storage {key[:60]!r} in two ways")
        self.push(storage)

    def build(self, _: Any) -> None:
        """Set the state of an object: a dtype's byte order, or an ordered dict's module versions."""
        state, thing = self.stack.pop(), self.stack[-1]
        kind = thing.kind if isinstance(thing, _Thing) else None
        order = (
            isinstance(state, tuple) and len(state) == 8 and type(state[0]) is int and state[1] in ("<", ">", "|", "=")
        )
        if kind == "dtype" and order and state[2:7] == (None, None, None, -1, -1) and type(state[7]) is int:
            return
        if kind == "ordered" and isinstance(state, _Dict) and state.keys <= {"_metadata"}:
            return
        raise Refused("changes what it made in a way that is not data's")

    def since_mark(self) -> list[Any]:
        """Pop everything since the last mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise Refused("its pickle is none")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def append(self, items: Sequence[Any]) -> None:
        """Extend the list on the stack."""
        if not isinstance(self.stack[-1], list):
            raise Refused("adds to something that is no list")
        self.stack[-1].extend(items)

    def put(self, items: Sequence[Any]) -> None:
        """Set keys of the dict on the stack. Keys and values alternate in `items`."""
        if not isinstance(self.stack[-1], _Dict):
            raise Refused("sets keys of something that is no dict")
        for key in items[::2]:
            _check_key(key)
            self.stack[-1].keys.add(key)


class _Dict(_Thing):
    """A stand-in for a plain or ordered dict that remembers its keys."""

    def __init__(self, kind: str = "dict") -> None:
        super().__init__(kind)
        self.keys: set[Any] = set()


def _check_key(key: Any) -> None:
    """Refuse keys other than texts and numbers. Hashing a tuple of tuples can take forever."""
    if type(key) not in PLAIN or (type(key) is int and not -KEYS <= key < KEYS):
        raise Refused("has a dict with keys that are neither texts nor numbers")


def _tensor(arguments: tuple[Any, ...]) -> _Thing:
    """_rebuild_tensor(storage, offset, size, stride) and _v2, with requires_grad, hooks and metadata."""
    if not 4 <= len(arguments) <= 6:
        raise Refused("makes a tensor as torch does not")
    storage, offset, *shape = arguments[:4]
    whole = all(isinstance(part, tuple) and len(part) <= 16 for part in shape)
    numbers = [offset, *(number for part in shape for number in part)] if whole else [None]
    if not isinstance(storage, Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise Refused("makes a tensor as torch does not")
    lengths, strides = shape
    last = offset + sum((length - 1) * stride for length, stride in zip(lengths, strides, strict=True))
    if 0 not in lengths and last >= storage.count:  # torch would enlarge the storage with uninitialised memory
        raise Refused(f"has a tensor that reaches beyond the {storage.count} numbers that are there")
    if arguments[5:] and not ((isinstance(arguments[5], _Dict) and not arguments[5].keys) or arguments[5] is None):
        raise Refused("has a tensor with hooks")
    return _Thing("tensor")


def _parameter(arguments: tuple[Any, ...]) -> _Thing:
    if not arguments or not isinstance(arguments[0], _Thing) or arguments[0].kind != "tensor":
        raise Refused("makes a parameter of something that is no tensor")
    return _Thing("tensor")


def _ordered(arguments: tuple[Any, ...]) -> _Dict:
    """OrderedDict(), or OrderedDict([[key, value], ...])."""
    found, pairs = _Dict("ordered"), arguments[0] if arguments else []
    if len(arguments) > 1 or not isinstance(pairs, list):
        raise Refused("makes an ordered dict of something else than pairs")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Refused("makes an ordered dict of something else than pairs")
        _check_key(pair[0])
        found.keys.add(pair[0])
    return found


def _dtype(arguments: tuple[Any, ...]) -> _Thing:
    if not arguments or not isinstance(arguments[0], str) or not DTYPE.fullmatch(arguments[0]):
        raise Refused("names a numpy dtype that is not a number's")
    return _Thing("dtype")


def _scalar(arguments: tuple[Any, ...]) -> float:
    kind, content = arguments if len(arguments) == 2 else (None, None)
    if not isinstance(kind, _Thing) or kind.kind != "dtype" or not isinstance(content, bytes):
        raise Refused("makes a numpy number of something else")
    return 0.0


def _encoded(arguments: tuple[Any, ...]) -> bytes:
    text, *encoding = arguments if arguments else (None,)
    if not isinstance(text, str) or encoding not in ([], ["latin1"]):
        raise Refused("encodes something that is no text")
    return text.encode("latin1")


CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _ordered,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encoded,
    **dict.fromkeys(SCALARS, _scalar),
}
NAMES = {*CALLS, *STORAGES}
MARK = _Thing("mark")


def _tuple(length: int) -> Callable[[_Walk, Any], None]:
    def step(walk: _Walk, _: Any) -> None:
        walk.stack[-length:] = [tuple(walk.stack[-length:])]

    return step


def _constant(make: Callable[[], Any]) -> Callable[[_Walk, Any], None]:
    return lambda walk, _: walk.push(make())


def _remember(walk: _Walk, place: int) -> None:
    walk.memo[place] = walk.stack[-1]


def _set_one(walk: _Walk, _: Any) -> None:
    value, key = walk.stack.pop(), walk.stack.pop()
    walk.put([key, value])


STEPS: dict[str, Callable[[_Walk, Any], None]] = {
    "PROTO": lambda walk, _: None,
    "GLOBAL": _Walk.name,
    "REDUCE": _Walk.call,
    "BUILD": _Walk.build,
    "BINPERSID": _Walk.persistent,
    "MARK": _constant(lambda: MARK),
    "TUPLE": lambda walk, _: walk.push(tuple(walk.since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_LIST": _constant(list),
    "EMPTY_DICT": _constant(_Dict),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "APPEND": lambda walk, _: walk.append([walk.stack.pop()]),
    "APPENDS": lambda walk, _: walk.append(walk.since_mark()),
    "SETITEM": _set_one,
    "SETITEMS": lambda walk, _: walk.put(walk.since_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda walk, place: walk.push(walk.memo[place])),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"), _Walk.push),
}
