"""The commands that messages give can be typed as they stand, whatever a path looks like."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import ddhub
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.distillation import recipes

CODE = Path(ddhub.__file__).parent
COMMAND = re.compile(r"(?<![\w/.-])(?:rm|mv|ls|cp|cd|cat|df|mkdir|unzip|ddhub [a-z]+)(?: -[a-z]+)* [^\n]*\Z")
NO_PATHS = {  # what may follow a command as it stands
    "distillation/first_recipe.py": {"name"},  # of a recipe, checked
    "evaluation/choices.py": {"FROZEN"},  # a prefix of ours
    "training/image_store.py": {"checkpoints"},  # a quoted folder and a pattern
}


def unquoted(code: str) -> list[str]:
    """The placeholders that follow a command in the f-strings of some code, without those in `quoted(...)`."""
    found = []
    for node in ast.walk(ast.parse(code)):
        said = ""
        for part in node.values if isinstance(node, ast.JoinedStr) else []:
            if isinstance(part, ast.Constant):
                said += part.value
                continue
            held = part.value
            safe = isinstance(held, ast.Call) and ast.unparse(held.func) == "quoted"
            if COMMAND.search(said) and not safe:
                found.append(ast.unparse(held))
            said += "..."
    return found


def pictures(folder):
    folder.mkdir()
    return lambda: recipes.read(str(folder))


def manifest(folder):
    folder.mkdir()
    (folder / "ddhub.json").write_text("{}")
    return lambda: recipes.read(str(folder / "ddhub.json"))


def a_link(folder):
    folder.mkdir()
    (folder / "link").symlink_to("nowhere")
    return lambda: files.refuse_link(folder / "link")


def a_file(folder):
    folder.mkdir()
    (folder / "set").touch()
    return lambda: ddhub.load(folder / "set")


@pytest.mark.parametrize("spoil", [pictures, manifest, a_link, a_file])
def test_a_path_with_a_space_is_one_word_of_the_command(spoil, tmp_path):
    """Else `rm -r` would remove what the first half of the path names."""
    folder = tmp_path / "it's my set"
    with pytest.raises(UserError) as caught:
        spoil(folder)()
    words = shlex.split(caught.value.next)
    assert [word for word in words if word.startswith(str(folder))] and "my" not in words


@pytest.mark.parametrize("path", sorted(CODE.rglob("*.py")), ids=lambda path: path.relative_to(CODE).as_posix())
def test_no_command_holds_a_path_that_is_not_quoted(path):
    """A place is quoted, a word of ours is not."""
    assert set(unquoted(path.read_text())) <= NO_PATHS.get(path.relative_to(CODE).as_posix(), set())


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('f"cp -r {quoted(a)} {b}"', ["b"]),
        ('f"ddhub distill RECIPE --out {place}"', ["place"]),
        ('f"{a}: lies there" f"; rm -r {quoted(b)}" f" and ls {c}"', ["c"]),
        ("f'mkdir x; mv {a} x'", ["a"]),
        ('f"ls -ld {quoted(a)} {quoted(b)}"', []),
        ('f"# ddhub distill {quoted(a)}\\n{b}"', []),
        ('f"{a} holds no set, and its models/ {b}"', []),
    ],
)
def test_every_place_after_a_command_is_looked_at(code, found):
    """The first alone was, and of strings in double quotes alone."""
    assert unquoted(code) == found
