"""The benchmark scripts name what is there: a move in the package that breaks one is seen at once."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


def missing(tree: ast.Module) -> list[str]:
    """The names of ddhub that a script uses and that are not there."""
    modules: dict[str, ModuleType] = {}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "ddhub":
            continue
        for alias in node.names:
            value = _part(node.module or "", alias.name)
            if value is None:
                found.append(f"{node.module}.{alias.name}")
            elif isinstance(value, ModuleType):
                modules[alias.asname or alias.name] = value
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            module = modules[node.value.id]
            found += [] if hasattr(module, node.attr) else [f"{module.__name__}.{node.attr}"]
    return found


def _part(module: str, name: str) -> object:
    """A module of a package, or what a module defines; None where there is neither."""
    whole = importlib.import_module(module)
    if not hasattr(whole, name):
        try:
            return importlib.import_module(f"{module}.{name}")
        except ModuleNotFoundError:
            return None
    return getattr(whole, name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_benchmark_names_what_is_there(path):
    assert missing(ast.parse(path.read_text())) == []
