"""The arguments of the Python functions, checked against their type hints before a function runs.

The command line has click for that. A wrong argument of Python was a TypeError from somewhere inside.
"""

import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from ddhub.base.errors import UserError, as_user_error

Given = ParamSpec("Given")
Answer = TypeVar("Answer")
Hints = dict[str, Any]
LONGEST = 60  # characters of a value in a message
KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),  # none of numpy's: no file of JSON holds one
    float: (int | float, "a number"),
    str: (str, "a text"),
    bool: (bool, "True or False"),
    Path: (os.PathLike, "a path"),
    NoneType: (NoneType, "None"),
}


def checked(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """A function of the Python interface. Faults of its arguments, of the disk and of odd paths are UserErrors."""
    several = [
        name for name, each in inspect.signature(function).parameters.items() if each.kind is each.VAR_POSITIONAL
    ]

    @wraps(function)
    def asked(*given: Given.args, **named: Given.kwargs) -> Answer:
        hints = _hints(function)
        for name, value in _bound(function, hints, given, named).items():
            for each in value if name in several else [value]:
                _check(function, name, each, hints.get(name, Any), name in several)
        try:
            return function(*given, **named)
        except OSError as fault:
            known = as_user_error(fault)
            if known is None:
                raise
            raise known from fault

    return asked


@cache  # not when the function is defined: a hint may name a class that is not yet
def _hints(function: Callable[..., Any]) -> Hints:
    """The type hints of all arguments, by name. Those of `**resources: Unpack[ResourceOptions]` are its keys'."""
    hints = get_type_hints(function)
    for name, each in inspect.signature(function).parameters.items():
        if each.kind is each.VAR_KEYWORD:
            hints |= get_type_hints(get_args(hints.pop(name))[0])
    return hints


def _bound(function: Callable[..., Any], hints: Hints, given: Sequence[Any], named: Mapping[str, Any]) -> Hints:
    """All values by the names of their arguments.

    Raises:
        UserError: for a name that the function lacks, and for an argument that is missing or given twice.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    gathered = [name for name, each in parameters.items() if each.kind is each.VAR_KEYWORD]
    known = [name for name in [*parameters, *hints] if name not in ("self", "return", *gathered)]
    for name in named:
        if name not in known:
            _refuse_name(name, known, _call(function), f"help({_called(function)})")
    try:
        bound = signature.bind(*given, **named).arguments
    except TypeError as fault:
        next = f"help({_called(function)})" if "too many" in str(fault) else _call(function)
        raise UserError(f"{_called(function)}: {fault}", next=next) from fault
    for name in gathered:
        bound |= bound.pop(name, {})
    return bound


def _refuse_name(name: str, known: Sequence[str], call: str, help: str) -> None:
    from ddhub.base import schema  # imports pydantic, which takes time

    near = schema.nearest(name, list(dict.fromkeys(known)))
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise UserError(
        f"{name}: {call.partition('(')[0]} has no such argument{meant}", next=f"{near[0]}=..." if near else help
    )


def _called(function: Callable[..., Any]) -> str:
    return f"ddhub.{function.__qualname__}"


def _call(function: Callable[..., Any]) -> str:
    """A call with the arguments that have no default, such as `ddhub.import_set(path, source=..., out=...)`."""
    needed = []
    for name, each in inspect.signature(function).parameters.items():
        if each.kind is each.VAR_POSITIONAL:
            needed.append(f"*{name}")
        elif each.default is each.empty and each.kind is not each.VAR_KEYWORD and name != "self":
            needed.append(f"{name}=..." if each.kind is each.KEYWORD_ONLY else name)
    return f"{_called(function)}({', '.join(needed)})"


def _check(function: Callable[..., Any], name: str, value: Any, hint: Any, several: bool) -> None:
    """Refuse a value of another kind than its hint, and a NUL in a text.

    Args:
        several: whether the argument is one of `*sets`.
    """
    if isinstance(value, str | Path) and "\0" in str(value):
        raise UserError(f"{value}: holds a NUL, which no path and no name does", next="give it without the NUL")
    keyed = [each for each in _choices(hint) if is_typeddict(each)]
    if keyed and isinstance(value, Mapping):
        hints = get_type_hints(keyed[0])
        for key, each in value.items():
            if key not in hints:
                _refuse_name(str(key), list(hints), name, f"help({_called(function)})")
            _check(function, key, each, hints[key], several=False)
    elif not _fits(value, hint):
        shown = repr(value) if len(repr(value)) <= LONGEST else f"{repr(value)[:LONGEST]}..."
        listed = several and isinstance(value, list | tuple | set)
        meant = f"{_called(function)}(*{name})" if listed else _instead(name, value, hint)
        raise UserError(f"{name}={shown}: {_words(hint)} belongs here", next=meant or f"help({_called(function)})")


def _choices(hint: Any) -> Sequence[Any]:
    """The branches of a union; of another hint, itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return any(isinstance(value, type(each)) and value == each for each in get_args(hint))
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if origin is not None and issubclass(origin, Collection):  # a generator would be used up by the check
        listed = plain(value)  # an array fits if its list does; one of no dimension is no list
        several = isinstance(listed, Collection) and not isinstance(listed, str | bytes | Mapping)
        return several and all(_fits(each, get_args(hint)[0]) for each in cast(Collection[Any], listed))
    if hint in KINDS:
        return isinstance(value, KINDS[hint][0]) and (hint is bool or not isinstance(value, bool))
    return hint is Any or (isinstance(hint, type) and not is_typeddict(hint) and isinstance(value, hint))


def _words(hint: Any) -> str:
    """What fits, in words: `a, b or c`."""
    words = list(_kinds(hint))
    return " or ".join([*filter(None, [", ".join(words[:-1])]), words[-1]])


def _kinds(hint: Any) -> Iterator[str]:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        for each in get_args(hint):
            yield from _kinds(each)
    elif origin is Literal:
        yield from map(repr, get_args(hint))
    elif is_typeddict(hint) or (origin is not None and issubclass(origin, Mapping)):
        yield "a dict"
    elif origin is not None:
        yield f"a list of {_words(get_args(hint)[0]).removeprefix('a ')}s"
    else:
        yield KINDS[hint][1] if hint in KINDS else f"a {hint.__name__}"


def _instead(name: str, value: Any, hint: Any) -> str | None:
    """What to type in place of a value, if that can be told."""
    return next((f"{name}={each!r}" for each in _alike(value, hint) if _fits(each, hint)), None)


def _alike(value: Any, hint: Any) -> Iterator[Any]:
    """Values that may be meant: of the texts `2`, `a,b` and `a=[1,2]`, of 2.5, of arrays, of an item without a list."""
    if isinstance(value, str):
        yield [value] if "=" in value else value.split(",")
    yield from ([value], [plain(value)])
    if isinstance(value, list | tuple):
        yield [plain(each) for each in value]
    if isinstance(value, os.PathLike):
        yield str(value)
    yield from _numbers(value)
    yield plain(value)
    for choice in _choices(hint):
        yield from get_args(choice) if get_origin(choice) is Literal else [True] * (choice is bool)


def plain(value: Any) -> Any:
    """An array or a scalar of numpy or torch as a list or a number of Python; else the value."""
    with suppress(AttributeError, TypeError, RuntimeError):  # torch cannot list what is sparse or on no device
        return value.tolist()
    return value


def _numbers(value: Any) -> Sequence[float]:
    """The number that a value is, a whole one as an int first; its whole part, for a hint of int, last."""
    found: list[float] = []
    for read in (int, float, lambda each: float(str(each))):  # 0.1 of float32 is 0.10000000149011612 if not by its text
        with suppress(TypeError, ValueError, OverflowError, RuntimeError):  # torch's, of what holds no single number
            found.append(read(value))
    return sorted(found, key=lambda each: each != found[-1])
