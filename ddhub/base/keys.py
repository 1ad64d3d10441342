"""The keys of a model for help and errors: path, values, default and description, from its JSON schema."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
EMPTY: dict[str | None, Any] = {"array": [], "object": {}}  # defaults that a schema leaves out
Schema = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """One key of a YAML or JSON document."""

    key: str  # path from the top, such as `source.validation`
    values: str  # type, range and choices, such as `number > 0 and < 0.9`; `section` where keys are below it
    required: bool
    default: Any
    description: str

    @property
    def otherwise(self) -> str:
        """The default as YAML, `required`, or nothing for a section."""
        if self.required:
            return "required"
        return "" if self.values == "section" else json.dumps(self.default).strip('"')


def keys(model: type[BaseModel], prefix: str = "") -> list[Key]:
    """Every key of a model in its order, those of nested models included.

    Args:
        prefix: goes before every path, as in `method.`.
    """
    schema = model.model_json_schema()
    return list(_walk(schema, schema.get("$defs", {}), prefix))


def sections(model: type[BaseModel]) -> dict[str, tuple[str, list[Key]]]:
    """A model and all models in it: the docstring and the own keys of each, by name."""
    schema = model.model_json_schema()
    every = {model.__name__: schema, **schema.get("$defs", {})}
    return {name: (each.get("description", ""), [key for _, key in _fields(each)]) for name, each in every.items()}


@dataclass(frozen=True)
class Spot:
    """A position in a document."""

    path: list[Any]  # keys, and positions in lists, as the document has them
    values: str  # the allowed values; empty if the model has no such key
    beside: list[str]  # the allowed keys at that position


def at(schema: Schema, location: Sequence[Any]) -> Spot:
    """The position behind the location of a pydantic fault. Such a location also names branches of unions."""
    models = schema.get("$defs", {})
    here, path, beside = [schema], [], list[str]()
    for part in location:
        here = [models[_name(each)] if "$ref" in each else each for each in here]
        options = [option for each in here for option in each.get("anyOf", [])]
        if options:
            here = [models[_name(each)] if "$ref" in each else each for each in options]
            if sum(each.get("type") != "null" for each in here) > 1:
                continue  # the part is the name of a branch
        path.append(part)
        beside = [name for each in here for name in each.get("properties", {})]
        here = [below for each in here for below in _below(each, part)]
    return Spot(path, " or ".join(dict.fromkeys(_values(each, "section") for each in here)), beside)


def _below(schema: Schema, part: Any) -> list[Schema]:
    """The schemas that a key or list position leads to."""
    if isinstance(part, int):
        fixed = schema.get("prefixItems", [])
        return [fixed[part]] if part < len(fixed) else [schema["items"]] if "items" in schema else []
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    return [known[part]] if part in known else [others] if isinstance(others, dict) else []


def _walk(schema: Schema, models: dict[str, Schema], prefix: str) -> Iterator[Key]:
    for field, key in _fields(schema, prefix, "section"):
        yield key
        for model, path in _nested(field, models, key.key):
            yield from _walk(model, models, path)


def _fields(schema: Schema, prefix: str = "", section: str | None = None) -> Iterator[tuple[Schema, Key]]:
    """The fields of a model with their keys. A nested model is called `section`, or by its name."""
    for name, field in schema.get("properties", {}).items():
        required = name in schema.get("required", [])
        default = field.get("default", EMPTY.get(field.get("type")))
        if isinstance(default, dict) and "$ref" in field:
            default = None  # its keys show their defaults
        yield field, Key(prefix + name, _values(field, section), required, default, field.get("description", ""))


def _nested(field: Schema, models: dict[str, Schema], path: str) -> Iterator[tuple[Schema, str]]:
    """The models that a field holds, with the path of their keys."""
    if "$ref" in field:
        yield models[_name(field)], f"{path}."
    for option in field.get("anyOf", []):
        yield from _nested(option, models, path)
    if "items" in field:
        yield from _nested(field["items"], models, f"{path}[]")
    if isinstance(field.get("additionalProperties"), dict):
        yield from _nested(field["additionalProperties"], models, f"{path}.NAME")


def _number(bound: float) -> str:
    """A bound as people write it: `0.9`, `1,000,000`."""
    return f"{int(bound):,}" if bound == int(bound) and abs(bound) < 1e15 else f"{bound:g}"


def _name(field: Schema) -> str:
    return str(field["$ref"].rpartition("/")[2])


def _values(field: Schema, section: str | None) -> str:
    """The allowed values of a key, in words."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_values(option, section) for option in field["anyOf"]))
    if "enum" in field or "const" in field:
        return " or ".join(map(str, field.get("enum", [field.get("const")])))
    if "$ref" in field:
        return section or _name(field)
    if field.get("type") == "array":
        parts = [_values(item, section) for item in field.get("prefixItems", [])]
        return f"list of {_values(field['items'], section)}" if "items" in field else f"list of {', '.join(parts)}"
    if field.get("type") == "object":
        below = field.get("additionalProperties")
        return f"names, each with {_values(below, section)}" if isinstance(below, dict) else "names with values"
    bounds = [f"{sign} {_number(field[bound])}" for bound, sign in BOUNDS.items() if bound in field]
    return " ".join([KINDS.get(field.get("type", ""), "any value"), " and ".join(bounds)]).strip()
