"""Strict models of YAML and JSON files. All faults are reported at once, with key path and suggestion."""

import difflib
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ddhub.base import keys, limits

Model = TypeVar("Model", bound=BaseModel)
LONGEST, MOST = 100, 5000  # limits of a suggestion: characters of the word, number of choices
SHOWN = 20  # faults listed for one file
Count = Annotated[int, Field(gt=0, le=limits.COUNT)]
CountOrZero = Annotated[int, Field(ge=0, le=limits.COUNT)]
Networks = Annotated[int, Field(gt=0, le=limits.NETWORKS)]
Batch = Annotated[int, Field(gt=1, le=limits.COUNT)]  # of a training step; batch norm needs two images
Factor = Annotated[int, Field(ge=1, le=limits.TILES)]
Rate = Annotated[float, Field(gt=0, le=limits.FACTOR)]
Temperature = Annotated[float, Field(ge=1 / limits.FACTOR, le=limits.FACTOR)]
Weight = Annotated[float, Field(ge=0, le=limits.FACTOR)]
BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number", "literal_error")
OF_UNIONS = ("literal_error", "int_type", "float_type", "string_type", "list_type", "none_required")
WORDS = {  # plain words for pydantic's faults
    "dict_type": "expected keys and values",
    "model_type": "expected keys and values",
    "model_attributes_type": "expected keys and values",
    "string_type": "expected text",
    "list_type": "expected a list",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
}


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def did_you_mean(word: str, choices: list[str]) -> str:
    """`; did you mean 'x'?` if a choice is near; otherwise the list of choices, unless it is too long."""
    if near := nearest(word, choices):
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; choose from: {', '.join(sorted(choices))}" if 0 < len(choices) <= 40 else ""


def nearest(word: str, choices: list[str]) -> list[str]:
    """The choices that a misspelt or truncated word may mean."""
    # Comparing takes quadratic time, and a stranger may have chosen the word.
    alike = [choice for choice in choices if len(choice) <= LONGEST]
    if len(word) > LONGEST or len(alike) > MOST:
        return []
    longer = [choice for choice in alike if word and choice.startswith(word)][:3]
    return longer or difflib.get_close_matches(word, alike, n=1, cutoff=0.6)


def check(model: type[Model], data: Any, prefix: str = "") -> tuple[Model | None, list[str]]:
    """Validate `data`. Return the model and no faults, or None and a line per fault that opens with its key path."""
    if not isinstance(data, dict):
        where = prefix.rstrip(".") or "the whole file"
        return None, [f"{where}: expected keys and values, got {_short(data)}"]
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        whats: dict[str, dict[str, None]] = {}  # faults by position; the branches of a union share one line
        for problem in error.errors(include_url=False)[:1000]:
            where, what = _fault(model, problem, prefix)
            whats.setdefault(where, {})[what] = None
        told = [f"{where}: {', or '.join(each)}".removeprefix(": ") for where, each in whats.items()]
        return None, told[:SHOWN] + ([f"and {len(told) - SHOWN} faults more"] if len(told) > SHOWN else [])


def _fault(model: type[BaseModel], problem: Any, prefix: str) -> tuple[str, str]:
    """One pydantic fault as its key path and a description."""
    spot = keys.at(_schema(model), problem["loc"])
    where = prefix + ".".join(str(part)[:LONGEST] or "''" for part in spot.path)
    if problem["type"] == "extra_forbidden":
        return where, f"unknown key{did_you_mean(str(spot.path[-1]), spot.beside)}"
    if problem["type"] == "value_error":  # a check of ddhub, whose message names the keys
        return where, str(problem["ctx"]["error"])
    if problem["type"] == "missing":
        return where, "missing"
    if problem["input"] is None:
        return where, "missing a value"
    message = WORDS.get(problem["type"], f"{problem['msg'][0].lower()}{problem['msg'][1:]}")
    of_union = problem["type"] in OF_UNIONS and " or " in spot.values  # the branches of a union share one message
    if spot.values and (problem["type"] in BOUNDS or of_union):
        message = f"expected {spot.values}"
    return where, f"{message}, got {_short(problem['input'])}"


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _short(value: Any) -> str:
    if isinstance(value, dict | list) and len(value) > 60:
        return f"{len(value)} entries"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
