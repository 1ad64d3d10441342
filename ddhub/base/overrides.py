"""`--set KEY=VALUE`: read from text, applied to nested keys, and recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ddhub.base.errors import UserError
from ddhub.base.plugins import public_name
from ddhub.base.strict_yaml import parse_yaml

Overrides = Sequence[str] | Mapping[str, Any]  # `["ipc=5"]` or `{"ipc": 5}`; dots separate nested keys


@dataclass(frozen=True)
class Setting:
    """One `KEY=VALUE`."""

    text: str  # as typed
    key: str  # as `method.iterations`
    value: str  # YAML

    def parsed(self) -> Any:
        """The value read as YAML.

        Raises:
            UserError: if it is not YAML.
        """
        return parse_yaml(self.value, f"--set {self.text}")


def setting(text: str, example: str = "method.iterations=10") -> Setting:
    """Read one `KEY=VALUE`.

    Args:
        example: the example in the error message, or two: `A or B`.

    Raises:
        UserError: without `=` or without a key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip().rpartition(".")[2]:
        raise UserError(
            f"--set {text}: expected KEY=VALUE, as in {example}", next=f"--set {example.partition(' or ')[0]}"
        )
    return Setting(text, key.strip(), value)


def override(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply `a.b=value` strings to nested keys, in place.

    A changed `method.name` starts from that method's defaults. Its other keys are set after it, whatever their order.
    `publish` and `expected` of a recipe hold only for its own source and method. Another source or method drops them,
    unless they are set too.

    Raises:
        UserError: for a string without `=`, or a path through a value without keys.
    """
    settings = _names_first([setting(text) for text in overrides])
    for each in settings:
        *parents, last = each.key.split(".")
        target: Any = data
        for depth, parent in enumerate(parents, 1):
            if target.get(parent) is None:
                target[parent] = {}
            target = target[parent]
            if not isinstance(target, dict):
                raise UserError(
                    f"--set {each.text}: '{'.'.join(parents[:depth])}' has no keys below it",
                    next="ddhub recipes --keys",
                )
        parsed = each.parsed()
        if parents == ["method"] and last == "name" and target.get("name") != parsed:
            target.clear()
        target[last] = parsed
    changed = {each.key for each in settings}
    if changed & {"source", "source.dataset", "method", "method.name"}:
        data["expected"] = {}
        if "publish" in data and not any(key.split(".")[0] == "publish" for key in changed):
            # The licence belongs to the source. The pretty name mentions source and method.
            kept = {} if changed & {"source", "source.dataset"} else {"license": (data["publish"] or {}).get("license")}
            data["publish"] = kept


def _names_first(settings: Sequence[Setting]) -> list[Setting]:
    """The settings with every `method.name` before the other keys of its method.

    A key that the named method lacks is then a fault, in place of dropped with the old method. A whole `method`
    replaces all that stands before it.
    """
    ordered: list[Setting] = []
    first = 0
    for each in settings:
        ordered.insert(first if each.key == "method.name" else len(ordered), each)
        if each.key == "method":
            first = len(ordered)
        elif each.key == "method.name":
            first += 1
    return ordered


def public_override(text: str) -> str:
    """An override as an artifact records it. A local folder is private, so `(a local copy)` replaces it."""
    each = setting(text)
    if each.key == "source.path":
        return "source.path=(a local copy)"
    parsed = each.parsed()
    if each.key == "method.name" and isinstance(parsed, str):
        return f"method.name={public_name(parsed)}"
    if not isinstance(parsed, dict):
        return text
    shown = parsed
    if each.key == "source" and parsed.get("path"):
        shown = {**parsed, "path": "(a local copy)"}
    elif each.key == "method" and isinstance(parsed.get("name"), str):
        shown = {**parsed, "name": public_name(parsed["name"])}
    if shown == parsed:
        return text
    return f"{each.key}={yaml.safe_dump(shown, default_flow_style=True, width=1000, sort_keys=False).strip()}"


def texts(overrides: Overrides) -> list[str]:
    """Overrides as `KEY=VALUE` strings. The values of a mapping become YAML."""
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{key}={_yaml(key, value)}" for key, value in overrides.items()]


def _yaml(key: str, value: Any) -> str:
    try:
        plain = yaml.safe_dump(value, default_flow_style=True, width=2**31, sort_keys=False)
    except yaml.YAMLError as fault:  # an array, a path, a number of numpy
        raise UserError(
            f"overrides: {key}={value!r}: no value that a YAML file can hold",
            next="a text, number, list or dict of Python",
        ) from fault
    return plain.removesuffix("\n").removesuffix("\n...")
