"""The rooms of the house: which package may import which, and some doors that open from one side only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ddhub"
ABOVE = ["base", "data", "training", "artifact"]
MAY_IMPORT = {
    "base": [],
    "data": ["base"],
    "training": ["base", "data"],
    "artifact": ["base", "data", "training"],
    "distillation": ABOVE,
    "interop": ABOVE,
    "evaluation": [*ABOVE, "interop"],
    "reports": [*ABOVE, "evaluation"],
    "outcomes": ["base", "artifact", "distillation", "reports"],
    "api": [*ABOVE, "distillation", "interop", "evaluation", "reports", "outcomes"],
    "dataset": [*ABOVE, "outcomes"],
    "cli": ["api", "base", "distillation", "reports"],
}
FACE = {"__init__", "__main__"}  # the public names, and `python -m ddhub`: doors into everything
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The package that a file lies in, or the name of a file that lies in none."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The modules of ddhub that a file imports, wherever in it, without `ddhub.`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ddhub":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("ddhub.")}
    return {name.removeprefix("ddhub.") for name in found}


def rooms(path: Path) -> set[str]:
    """The packages that a file imports from."""
    return {name.split(".")[0] for name in imports(path)} - {"__version__", "ddhub"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_what_its_package_may(path):
    """The table above is the picture of the house."""
    if room(path) not in FACE:
        assert rooms(path) - {room(path), *MAY_IMPORT[room(path)]} == set()


def test_every_package_says_what_it_is_for():
    """Folder names are the documentation, and the first sentence of each is the rest of it."""
    folders = {path.parent for path in FILES if path.parent != PACKAGE}
    assert all(ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) for folder in folders)


METHODS = PACKAGE / "distillation" / "methods"


@pytest.mark.parametrize("path", sorted(METHODS.rglob("*.py")), ids=lambda path: path.relative_to(METHODS).as_posix())
def test_a_method_imports_no_other_method(path):
    """A method is a file, or a folder."""
    own = f"distillation.methods.{path.relative_to(METHODS).parts[0]}."
    assert not {name for name in imports(path) if name.startswith("distillation.methods") and not name.startswith(own)}


def test_only_the_evaluator_opens_the_test_split():
    """`load_test` is named where it is defined and in the evaluator's files, nowhere else; `spec.test` likewise."""
    named = {path.stem for path in FILES for node in ast.walk(ast.parse(path.read_text())) if _opens_test(node)}
    assert named == {"source", "workbench", "grid", "row_names"}


def _opens_test(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        fingerprint = isinstance(node.value, ast.Name) and node.value.id == "row"  # `row.test` opens nothing
        return node.attr == "load_test" or (node.attr == "test" and not fingerprint)
    return isinstance(node, ast.FunctionDef) and node.name == "load_test"


def test_help_needs_no_heavy_library():
    """`ddhub --help` answers at once: neither torch nor datasets nor timm is imported for it."""
    code = "import sys, ddhub.cli.app; sys.exit(any(name in sys.modules for name in ('torch', 'datasets', 'timm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_is_too_long():
    """A file is read in one sitting."""
    assert {path.name for path in FILES if len(path.read_text().splitlines()) > 350} == set()
