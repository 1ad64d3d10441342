"""A command that names no set: the one that is meant is found, asked about, or listed."""

import shutil

import click
import pytest
from click.testing import CliRunner

from ddhub.base.errors import UserError
from ddhub.cli import which
from ddhub.cli.app import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def made(here, *names: str) -> None:
    for name in names:
        (here / "distilled" / name).mkdir(parents=True)
        (here / "distilled" / name / "ddhub.json").write_text("{}")


def answered(monkeypatch, text: str) -> str:
    """The set that is meant, where somebody sits at the terminal and types this."""
    monkeypatch.setattr(which, "asks", lambda: True)
    found = []
    command = click.Command("x", callback=lambda: found.append(which.standing("ddhub evaluate")))
    result = CliRunner().invoke(command, input=text)
    assert result.exit_code == 0, result.output
    return found[0]


def test_the_set_that_one_stands_in_is_meant(here):
    """Whatever else was made there."""
    made(here, "a", "b")
    (here / "ddhub.json").write_text("{}")
    assert which.standing("ddhub evaluate") == "."


def test_the_only_set_made_here_is_meant(here):
    """Folders without a set do not count."""
    made(here, "photos")
    (here / "distilled" / "begun").mkdir()
    assert which.standing("ddhub evaluate") == "distilled/photos"


def test_of_several_sets_the_answer_decides(here, monkeypatch):
    """By its number in the list; a number that is not there is asked about again."""
    made(here, "b", "a")
    assert answered(monkeypatch, "3\n2\n") == "distilled/b"


def test_without_a_terminal_the_sets_are_listed(here):
    """Nobody can answer: the error names all, and a whole command."""
    made(here, "b", "a")
    with pytest.raises(UserError) as caught:
        which.standing("ddhub evaluate")
    assert "which of distilled/a, distilled/b?" in str(caught.value)
    assert caught.value.next == "ddhub evaluate distilled/a"


@pytest.mark.parametrize("command", ["evaluate", "push"])
def test_where_there_is_no_set_the_command_says_so(command, here):
    """Exit code 1, one sentence, and how to make one."""
    result = CliRunner().invoke(main, [command])
    assert result.exit_code == 1
    assert "holds none" in result.stderr and "ddhub distill ./photos" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_push_without_a_name_offers_one_and_asks(folder, server, monkeypatch):
    """USER/NAME of who is logged in; nothing is pushed without an answer, without a terminal, or after a no."""
    monkeypatch.chdir(folder)
    alone = CliRunner().invoke(main, ["push"])
    assert alone.exit_code == 1
    assert "push . to alice/digits_ipc1 in one commit" in alone.stderr
    assert "next: ddhub push . alice/digits_ipc1" in alone.stderr
    monkeypatch.setattr(which, "asks", lambda: True)
    assert CliRunner().invoke(main, ["push"], input="n\n").exit_code == 1
    assert not server.seen("create") and not server.seen("commit")
    agreed = CliRunner().invoke(main, ["push"], input="y\n")
    assert agreed.exit_code == 0, agreed.output
    assert 'load_dataset("alice/digits_ipc1")' in agreed.stdout


def test_yes_pushes_without_asking(folder, server, monkeypatch, tmp_path):
    """A script need not answer; what is done is said all the same."""
    shutil.copytree(folder, tmp_path / "work" / "distilled" / "digits")
    monkeypatch.chdir(tmp_path / "work")
    done = CliRunner().invoke(main, ["push", "--yes", "--private"])
    assert done.exit_code == 0, done.output
    assert "to alice/digits_ipc1 in one commit; a missing dataset is created as a private one" in done.stderr
