"""Keys of models as people are shown them: whatever a recipe or manifest may say is explained where it is defined."""

import json
from typing import Annotated, Literal

import pytest
from click.testing import CliRunner
from pydantic import Field

from ddhub import outcomes
from ddhub.artifact.manifest import Manifest
from ddhub.artifact.recipe import Recipe
from ddhub.base import plugins
from ddhub.base.keys import keys, sections
from ddhub.base.schema import Strict
from ddhub.cli.app import main
from ddhub.distillation import method, recipes
from ddhub.distillation.plan.document import Plan
from ddhub.reports.documents import Report


class Inner(Strict):
    """The inner one."""

    size: int = Field(default=3, ge=1, lt=9, description="How large.")


class Outer(Strict):
    """The outer one."""

    kind: Literal["a", "b"] = Field(description="Which.")
    share: Annotated[float, Field(gt=0)] | None = Field(default=None, description="How much.")
    inner: Inner = Field(default=Inner(), description="What is in it.")
    named: dict[str, Inner] = Field(default_factory=dict, description="More.")
    several: list[Inner] = Field(default_factory=list, description="Many.")


def test_keys_say_path_values_default_and_meaning():
    found = {key.key: key for key in keys(Outer, "top.")}
    assert list(found) == [
        *("top.kind", "top.share", "top.inner", "top.inner.size"),
        *("top.named", "top.named.NAME.size", "top.several", "top.several[].size"),
    ]
    assert (found["top.kind"].values, found["top.kind"].otherwise) == ("a or b", "required")
    assert (found["top.share"].values, found["top.share"].otherwise) == ("number > 0 or null", "null")
    assert (found["top.inner"].values, found["top.inner"].otherwise) == ("section", "")
    assert found["top.inner.size"].values == "whole number >= 1 and < 9"
    assert (found["top.inner.size"].default, found["top.inner.size"].description) == (3, "How large.")
    assert (found["top.several"].values, found["top.several"].otherwise) == ("list of section", "[]")


def test_sections_tell_each_model_once_and_name_the_others():
    found = sections(Outer)
    assert list(found) == ["Outer", "Inner"]
    assert found["Inner"][0] == "The inner one."
    assert [key.values for key in found["Outer"][1]][2:] == ["Inner", "names, each with Inner", "list of Inner"]


FILES = [Recipe, Manifest, *(method.load(name).config for name in plugins.METHODS.names())]
OUTCOMES = ("Made", "Pull", "Verification", "Export", "RecipeInfo", "Start")
DOCUMENTS = [Plan, Report, *(getattr(outcomes, name) for name in OUTCOMES)]


@pytest.mark.parametrize("model", [*FILES, *DOCUMENTS], ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_every_key_is_explained_where_it_is_defined(model):
    assert [key.key for key in keys(model) if not key.description.endswith(".")] == []


def test_the_keys_of_recipes_are_printed_with_those_of_every_method():
    """A key that a recipe may hold, its range, choices and default, without reading the code."""
    text = CliRunner().invoke(main, ["recipes", "--keys"]).stdout
    assert (
        "  source.validation  number > 0 and < 0.9  [default: 0.1]\n      Share of each class of `train` held out"
        in text
    )
    assert "\n  method.name  apm or dm or random" in text
    assert text.index("Method apm") < text.index("method.student.epochs") < text.index("Method dm")
    told = json.loads(CliRunner().invoke(main, ["recipes", "--keys", "--json"]).stdout)
    assert list(told) == ["recipe", *plugins.METHODS.names()]
    assert {name: value for name, value in told["recipe"][1].items() if name != "description"} == {
        "key": "seed",
        "values": "whole number >= 0",
        "required": False,
        "default": 0,
    }


def test_a_shipped_recipe_says_nothing_that_is_not_among_the_keys():
    """The keys are all there are: those of a resolved recipe are explained."""
    recipe = recipes.read("cifar10_ipc10_small")
    told = {key.key for key in [*recipes.keys()["recipe"], *recipes.keys()[recipe.method["name"]]]}

    def paths(value, prefix=""):
        for name, below in value.items():
            yield prefix + name
            if isinstance(below, dict) and prefix + name != "expected":
                yield from paths(below, f"{prefix}{name}.")

    assert set(paths(recipe.content())) - told == set()
