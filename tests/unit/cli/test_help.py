"""What the top of the command line says: commands in the order of work, an example, completion, versions."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from ddhub import __version__
from ddhub.cli.app import main
from ddhub.reports import tables


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_commands_are_in_the_order_of_work():
    """A recipe comes before its set, a set before its numbers, and those before others see them."""
    lines = shown("--help").partition("Commands:")[2].splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha()]
    first = [names.index(name) for name in ("init", "plan", "distill", "evaluate", "report", "push", "pull", "merge")]
    assert first == sorted(first)
    assert set(main.commands) <= set(names)


def test_every_command_is_summed_up_in_a_line():
    """No summary is cut at the width of a usual terminal."""
    lines = shown("--help").partition("Commands:")[2].partition("Example:")[0].split("\n\n")[0].strip().splitlines()
    assert len(lines) == len(main.commands)
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


def test_the_top_help_has_an_example_and_completion():
    """Each command of the example is one of ours."""
    text = shown("--help")
    commands = [line.split()[1] for line in text.partition("Example:")[2].splitlines() if line.startswith("    ddhub ")]
    assert len(commands) >= 3 and set(commands) <= set(main.commands)
    assert 'eval "$(_DDHUB_COMPLETE=bash_source ddhub)"' in text


def test_completion_as_documented_knows_the_commands():
    """What a shell asks for when somebody types `ddhub ev` and a tab."""
    code = "from ddhub.cli.app import main; main(prog_name='ddhub')"
    asked = {"_DDHUB_COMPLETE": "bash_complete", "COMP_WORDS": "ddhub ev", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env={**_environment(), **asked}, capture_output=True, text=True)
    assert "evaluate" in done.stdout


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def test_versions_are_told_without_torch():
    """torch's version and the device, and no second of its start."""
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom ddhub.cli.app import main\n"
        "print(CliRunner().invoke(main, ['--version']).stdout)\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"ddhub {__version__}" in done.stdout
    assert f"torch {torch.__version__.partition('+')[0]}" in done.stdout
    assert "device:" in done.stdout


@pytest.mark.parametrize("columns", [60, 200])
def test_tables_are_as_wide_as_columns_says(columns, monkeypatch, capsys):
    """Also into a pipe: columns that do not fit go into a table of their own, below."""
    monkeypatch.setenv("COLUMNS", str(columns))
    heads = ["name", *(f"column {number}" for number in range(8))]
    tables.show([tables.Table("title", heads, 1, [[tables.TableCell("x" * 10)] * 9])], ["word " * 60])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert max(map(len, lines)) > columns - 30


def test_a_plan_ends_with_the_command_that_it_is_of():
    """With the settings that it was made with."""
    result = CliRunner().invoke(main, ["plan", "digits_ipc1", "--threads", "1", "--set", "method.iterations=3"])
    assert result.stdout.endswith("next: ddhub distill digits_ipc1 --set method.iterations=3\n")


def test_a_plan_as_json_is_all_that_is_printed():
    """Neither table nor sentence beside it."""
    result = CliRunner().invoke(main, ["plan", "digits_ipc1", "--threads", "1", "--json"])
    assert json.loads(result.stdout)["recipe"] == "digits_ipc1"
    assert result.stderr == ""
