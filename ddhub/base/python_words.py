"""Messages of the Python functions: `--device cpu` of the command line becomes `device='cpu'`.

Commands in a message, such as `ddhub evaluate SET --seeds 5`, stay as they are.
"""

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, get_args, get_origin, is_typeddict

from ddhub.base.errors import UserError

_running: ContextVar[Mapping[str, Any] | None] = ContextVar("_running", default=None)
NAMES = {"from": "rows_from", "max-bytes": "limit", "set": "overrides"}  # the others are named alike
SHORT = {"skip-damaged": "source.skip_damaged=true"}  # options that are short for a key of the recipe
FIRST = r"(?:^|(?<=[\s(:]))"  # where a word of a message begins
COMMAND = re.compile(rf"{FIRST}(?:ddhub|torchrun|pip|hf) [^;,(]*")
VALUE = r"'[^']*'|(?:[^\s;:),]|[:,](?=\S))+"
OPTION = re.compile(rf"(?P<before>\w+ )?{FIRST}--(?P<name>[a-z]+(?:-[a-z]+)*)(?: (?P<value>{VALUE}))?")
ASIDE = re.compile(r"(\b[a-z_]+=(?:\[[^]]*\]|\{[^}]*\}|'[^']*'|[\w.-]+)) (?=[a-z_]+=)")
BARE = ("another", "fewer", "leave", "smaller", "without")  # words before an option that is named, not set
PLAIN = re.compile(r"[A-Z_]+|-?[0-9.]+(e-?[0-9]+)?")  # placeholders and numbers
PROSE = re.compile(  # words after an option that are no value of it
    "allows|and|as|at|both|forecast|for|go|has|have|here|holds|if|in|is|makes?|of|or|out|reads|says?|spreads|shares|"
    "takes?|to|too|trains|tries|use|which|with|without|writes"
)


def said(text: str) -> str:
    """A message in the words of the Python function that runs, if one does."""
    hints = _running.get()
    return text if hints is None else translated(text, hints)


@contextlib.contextmanager
def speaking(hints: Mapping[str, Any]) -> Iterator[None]:
    """Run a Python function with these type hints: its messages and UserErrors name its arguments."""
    former = _running.set(hints)
    try:
        yield
    except UserError as fault:
        fault.args = (translated(fault.args[0], hints),)
        fault.next = fault.next and translated(fault.next, hints)
        raise
    finally:
        _running.reset(former)


def translated(text: str, hints: Mapping[str, Any]) -> str:
    """The message with options of the command line as arguments of a function with these type hints."""
    if text.startswith("ddhub "):  # a command to type
        return text
    parts, end = [], 0
    for command in COMMAND.finditer(text):
        parts += [_translated(text[end : command.start()], hints), command.group()]
        end = command.end()
    return "".join([*parts, _translated(text[end:], hints)])


def _translated(text: str, hints: Mapping[str, Any]) -> str:
    """A part of a message without commands. Arguments side by side are joined."""
    text = OPTION.sub(lambda found: _argument(found, hints), text).replace("the same command", "the same call")
    listed = ASIDE.sub(r"\1, ", text)
    return listed.replace("], overrides=[", ", ").replace("}, importing={", ", ")


def _argument(found: re.Match[str], hints: Mapping[str, Any]) -> str:
    before, option, value = found["before"] or "", found["name"], found["value"]
    inner = next((get for each in _choices(hints.get("importing")) if (get := _keys(each))), {})
    negated = option.startswith("no-")
    name = NAMES.get(option, option.removeprefix("no-").replace("-", "_"))
    hint = hints.get(name, inner.get(name))
    if option in SHORT and "overrides" in hints:
        return f"{before}overrides=[{SHORT[option]!r}]"
    if hint is None:
        return found.group()
    flag = bool in _choices(hint)
    rest = "" if value is None else f" {value}"
    if before.strip() in BARE or (flag and found.string[found.end("name") :].startswith((":", " and --"))):
        return f"{before}{name}{rest}"
    if flag:
        return f"{before}{_set(name, str(not negated), hints)}{rest}"
    if value is None or PROSE.fullmatch(value) or value.startswith("--"):
        return f"{before}{name}{_translated(rest, hints)}"
    return before + (_setting(value, hints) if option == "set" else _set(name, _literal(value, hint), hints))


def _keys(hint: Any) -> Mapping[str, Any]:
    return hint.__annotations__ if is_typeddict(hint) else {}


def _choices(hint: Any) -> Sequence[Any]:
    return get_args(hint) if get_origin(hint) is not None and not _listed(hint) else [hint]


def _listed(hint: Any) -> bool:
    return get_origin(hint) is Sequence or getattr(get_origin(hint), "__name__", "") == "Sequence"


def _set(name: str, value: str, hints: Mapping[str, Any]) -> str:
    return f"{name}={value}" if name in hints else f"importing={{{name!r}: {value}}}"


def _setting(value: str, hints: Mapping[str, Any]) -> str:
    """A `KEY=VALUE`, by the argument that takes it: `evaluate` has arguments of its own for the source."""
    text = _word(value)
    if "test_settings" in hints and text.startswith("source."):
        key, _, told = text.partition("=")
        return f"source_path={told!r}" if key == "source.path" else f"test_settings={[text]!r}"
    return f"overrides={[text]!r}"


def _literal(value: str, hint: Any) -> str:
    """A value of the command line in Python: numbers and placeholders such as RATE as they are, texts in quotes."""
    numbers = any(each in (int, float) for each in _choices(hint))

    def literal(each: str) -> str:
        return each if numbers or PLAIN.fullmatch(each) else repr(_word(each))

    if any(_listed(each) for each in _choices(hint)):
        return f"[{', '.join(map(literal, value.split(',')))}]"
    return literal(value)


def _word(value: str) -> str:
    """A word of a shell command without its quotes."""
    try:
        return "".join(shlex.split(value))
    except ValueError:
        return value
