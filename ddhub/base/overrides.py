"""`--set KEY=VALUE`: changes to nested keys, applied and recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ddhub.base.errors import UserError
from ddhub.base.strict_yaml import parse_yaml

Overrides = Sequence[str] | Mapping[str, Any]  # `["ipc=5"]` or `{"ipc": 5}`; dots lead to inner keys


def override(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply `a.b=value` strings to nested keys in place.

    A changed `method.name` starts from that method's defaults. What a recipe says for its card and expects holds for
    its own source and method, so another source or method drops it unless it is set too.

    Raises:
        UserError: for a string without `=`, or a path through something that has no keys.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {text}: expected KEY=VALUE, as in --set method.iterations=10")
        *parents, last = key.strip().split(".")
        target: Any = data
        for depth, parent in enumerate(parents, 1):
            if target.get(parent) is None:
                target[parent] = {}
            target = target[parent]
            if not isinstance(target, dict):
                raise UserError(f"--set {text}: '{'.'.join(parents[:depth])}' has no keys below it")
        parsed = parse_yaml(value, f"--set {text}")
        if parents == ["method"] and last == "name" and target.get("name") != parsed:
            target.clear()
        target[last] = parsed
    changed = {text.partition("=")[0].strip() for text in overrides}
    if changed & {"source", "source.dataset", "method", "method.name"}:
        data["expected"] = {}
        if "publish" in data and not any(key.split(".")[0] == "publish" for key in changed):
            # The licence is the source's; the pretty name speaks of source and method.
            kept = {} if changed & {"source", "source.dataset"} else {"license": (data["publish"] or {}).get("license")}
            data["publish"] = kept


def public_override(text: str) -> str:
    """An override as an artifact records it: a local path is nobody else's business, that a copy was read is."""
    key, _, value = text.partition("=")
    if key.strip() == "source.path":
        return "source.path=(a local copy)"
    parsed = parse_yaml(value, text)
    if key.strip() == "source" and isinstance(parsed, dict) and parsed.get("path"):
        shown = yaml.safe_dump({**parsed, "path": "(a local copy)"}, default_flow_style=True, width=1000).strip()
        return f"source={shown}"
    return text


def texts(overrides: Overrides) -> list[str]:
    """Changes as `KEY=VALUE` strings; those of a mapping have their values as YAML."""
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{key}={_yaml(value)}" for key, value in overrides.items()]


def _yaml(value: Any) -> str:
    plain = yaml.safe_dump(value, default_flow_style=True, width=2**31, sort_keys=False)
    return plain.removesuffix("\n").removesuffix("\n...")
