"""Paths that a missing one may mean, in folders of any kind."""

from pathlib import Path

import pytest

from ddhub.base import near_paths


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder `sets` with sets of odd names, and a link that leads to itself."""
    for name in ("first", "it's a set"):
        (tmp_path / "sets" / name).mkdir(parents=True)
    (tmp_path / "around").symlink_to("around")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", ["", ".", "~/x", "a/b/c", "around", "around/x", "y" * 300 + "/x", "/proc/1/root/x"])
def test_a_path_like_no_other_means_none(path):
    """Folders that cannot be looked into, and names that no system allows, raise nothing."""
    assert near_paths.near(Path(path)) == []


def test_the_next_command_can_be_typed():
    """Names are quoted, and no folder is listed that does not exist."""
    assert near_paths.next_command(Path("sets/its a set"), "") == """the same command with 'sets/it'"'"'s a set'"""
    assert near_paths.no_set(Path("set/frist")).next == "the same command with sets/first"
    assert near_paths.no_set(Path("a/b/c")).next == f"ls {Path().absolute()}"
