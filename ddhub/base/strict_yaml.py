"""Strict YAML for recipes: no duplicate keys, no aliases or tags, and `3e-4` is a number."""

import re
from pathlib import Path
from typing import Any

import yaml

from ddhub.base import files, limits, redact
from ddhub.base.errors import UserError


class _Loader(yaml.SafeLoader):
    """A loader that refuses duplicate keys, aliases and tags, and reads `3e-4` as a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        tagged = getattr(event, "tag", None) not in (None, "!")
        if tagged or isinstance(event, yaml.AliasEvent):
            what = f"tags ({event.tag})" if tagged else "aliases (*name)"
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: {what} are not used here")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        value.encode()  # fails for a lone surrogate such as "\ud800", which no file can hold
        return value

    def construct_yaml_int(self, node: Any) -> int:
        value = super().construct_yaml_int(node)
        if not -limits.INTEGER <= value < limits.INTEGER:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a number beyond 64 bits")
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} is not a plain word")
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key '{key}' is there twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes texts which `_Loader` would read as numbers, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _yaml in (_Loader, _Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)$"),
        list("-+.0123456789"),
    )


def to_yaml(content: dict[str, Any]) -> str:
    """Write plain values as YAML that `parse_yaml` reads back unchanged."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def parse_yaml(text: str, where: str, next: str | None = None) -> Any:
    """Read one YAML document strictly.

    Raises:
        UserError: naming `where` and the line, for malformed YAML, duplicate keys, aliases and tags.
    """
    if len(text) > limits.YAML_BYTES:
        raise UserError(f"{where}: not readable as YAML: more than {limits.YAML_BYTES} characters", next=next)
    try:
        found = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ArithmeticError, LookupError, ValueError, RecursionError) as fault:
        raise UserError(f"{where}: not readable as YAML: {_parser_message(fault)}", next=next) from fault
    if _depth(found) > limits.DEPTH:
        raise UserError(f"{where}: not readable as YAML: more than {limits.DEPTH} levels deep", next=next)
    return found


def _parser_message(fault: Exception) -> str:
    """The parser's message without its name for the text."""
    return redact.one_line(fault).replace('in "<unicode string>", ', "")


def _depth(found: Any) -> int:
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def read(path: Path, next: str | None = None) -> Any:
    """Read a YAML file strictly.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    try:
        with files.regular(path) as file:
            text = file.read(limits.YAML_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{path}: cannot be read: {redact.one_line(fault)}", next=next) from fault
    return parse_yaml(text, str(path), next)
