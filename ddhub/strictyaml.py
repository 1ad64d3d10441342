"""YAML as recipes are written: no key twice, no aliases, and numbers such as 3e-4 read as what they are."""

import re
from typing import Any

import yaml

from ddhub.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML with duplicate keys and aliases refused, and `3e-4` read as the number it is."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1}: aliases (*name) are not used here")
        return super().compose_node(parent, index)

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
    """YAML that quotes the texts which `_Loader` would read as numbers, and spells repeated values out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _yaml in (_Loader, _Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)$"),
        list("-+.0123456789"),
    )


def to_yaml(content: dict[str, Any]) -> str:
    """Plain values as YAML that `parse_yaml` reads back as they are."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def parse_yaml(text: str, where: str) -> Any:
    """Read one YAML document strictly.

    Raises:
        UserError: naming `where` and the line, for malformed YAML, duplicate keys and aliases.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise UserError(f"{where}: not readable as YAML: {' '.join(str(fault).split())}") from fault
