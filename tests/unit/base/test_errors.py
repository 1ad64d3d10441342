"""The commands that messages give can be typed as they stand, whatever a path looks like."""

import re
import shlex
from pathlib import Path

import pytest

import ddhub
from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.distillation import recipes

CODE = Path(ddhub.__file__).parent
COMMAND = re.compile(r'f"[^"\n]*\b(?:rm|rm -r|ls|ls -l|ls -ld|cp -r|ddhub [a-z]+) (\{[^}]*\})')


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
    found = [each for each in COMMAND.findall(path.read_text()) if not each.startswith(("{quoted(", "{checkpoints}"))]
    assert found == [] or path.name == "first_recipe.py"  # a name of a recipe there
