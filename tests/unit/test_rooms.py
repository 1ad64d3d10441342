"""The layers of the house: a file imports its own layer or below, and some doors open from one side only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ddhub"
LAYERS = [
    {"errors", "files", "limits", "log", "mapped", "redact", "schema", "seeds", "strictjson", "strictyaml"},
    {"recipe", "plugins", "jobs", "manifest", "hubclient"},
    {"rows", "statistics", "protocols", "verdict"},
    {"sources", "columns", "datafile", "decoding", "nets", "augment", "preprocess", "synset", "parquet", "artifact"},
    {"foreign", "families", "classorder", "inputspace", "spaces", "baselines", "winograd"},
    {"fast", "memory", "store", "run", "losses", "train", "teachers", "task", "workload", "costs"},
    {"methods", "layouts"},
    {"distill", "groups", "packaging", "memorisation", "origins", "bench", "plan", "history"},
    {"tuning", "calibrate", "evaluate", "importing", "merging", "exporting"},
    {"report", "tables", "charts", "sidebyside", "page", "snippet", "card"},
    {"verify", "hub"},
    {"loading", "collect", "anyset", "referee", "probe"},
    {"places"},
    {"api"},
    {"options"},
    {"commands"},
    {"cli", "__init__"},
]
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The name under which LAYERS knows a file: its own, or its folder's."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The ddhub modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ddhub":
            found |= {alias.name for alias in node.names if alias.name in LAYER}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ddhub."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ddhub.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_file_imports_its_own_layer_or_below(path):
    """The table above is the picture of the house."""
    assert {name for name in imports(path) if LAYER[name] > LAYER[room(path)]} == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "methods").glob("*.py")), ids=lambda p: p.name)
def test_a_method_imports_no_other_method(path):
    """A method is a file."""
    assert "methods" not in imports(path)


def test_evaluate_and_distill_know_nothing_of_each_other():
    """The evaluator scores sets that it knows nothing about."""
    for name in ("evaluate.py", "bench.py", "baselines.py"):
        assert not imports(PACKAGE / name) & {"methods", "distill", "packaging", "task", "plugins"}
    assert not imports(PACKAGE / "distill.py") & {"evaluate", "bench"}


def test_only_the_evaluator_opens_the_test_split():
    """`load_test` is named where it is defined and in the evaluator's two files, nowhere else; `spec.test` likewise."""
    named = {room(path) for path in FILES for node in ast.walk(ast.parse(path.read_text())) if _opens_test(node)}
    assert named == {"sources", "bench", "evaluate"}


def _opens_test(node: ast.AST) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr in ("load_test", "test")) or (
        isinstance(node, ast.FunctionDef) and node.name == "load_test"
    )


def test_help_needs_no_heavy_library():
    """`ddhub --help` answers at once: neither torch nor datasets nor timm is imported for it."""
    code = "import sys, ddhub.cli; sys.exit(any(name in sys.modules for name in ('torch', 'datasets', 'timm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_is_too_long():
    """A file is read in one sitting."""
    assert {path.name for path in FILES if len(path.read_text().splitlines()) > 350} == set()
