"""The command line: exit codes, clean stdout under --json, errors that end in a next command, never a traceback."""

import json
import signal
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ddhub import __version__
from ddhub.base import stopping
from ddhub.base.errors import UserError
from ddhub.cli.app import CommandGroup, main


def run(*arguments: str):
    """Invoke ddhub as a process would."""
    return CliRunner().invoke(main, list(arguments))


def test_recipes_lists_every_shipped_recipe():
    """As people read it, and as JSON."""
    listing = json.loads(run("recipes", "--json").stdout)
    names = {entry["name"] for entry in listing}
    assert {f"cifar10_ipc{n}" for n in (50, 500, 1000)} <= names
    assert {f"{data}_ipc{n}" for data in ("cifar100", "tinyimagenet", "imagenet") for n in (10, 50, 100)} <= names
    assert {"digits_ipc1", "digits_ipc10", "cifar10_ipc10_small"} <= names
    assert all(name in run("recipes").stdout for name in names)


def test_dry_run_prints_a_recipe_that_reads_back(tmp_path):
    """Its output is itself a recipe with the same hash, and no data was touched."""
    shown = run("distill", "cifar10_ipc50", "--dry-run", "--set", "method.lr_images=3e-1")
    assert shown.exit_code == 0
    copy = tmp_path / "copy.yaml"
    copy.write_text(shown.stdout)
    again = run("distill", str(copy), "--dry-run")
    assert again.stdout == shown.stdout
    assert "lr_images: 0.3" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["distill", "nothing.yaml"], 1, "no such file, and no shipped recipe"),
        (["distill", "digits_ipc2"], 1, "did you mean 'digits_ipc1'"),
        (["distill", "digits_ipc1", "--set", "ipc=-1", "--dry-run"], 1, "ipc: expected whole number > 0"),
        (["distill", "digits_ipc1", "--set", "method.lrimages=1", "--dry-run"], 1, "did you mean 'lr_images'"),
        (["distill", "digits_ipc1", "--set", "teachers.arch=convnt3"], 1, "did you mean 'convnet3'"),
        (["distill", "digits_ipc1", "--device", "cuda:9"], 1, "--device cuda:9: not available here"),
        (["distill"], 2, "missing argument 'RECIPE'\n  next: ddhub distill ./photos"),
        (["distill", "digits_ipc1", "--dryrun"], 2, "did you mean --dry-run?\n  next: main distill --help"),
        (["evaluate", ".", "--seeds", "x"], 2, "'x' is no whole number\n  next: main evaluate --help"),
        (["evaluate", "--archs"], 2, "main evaluate: option '--archs' requires an argument\n  next: main evaluate"),
        (["evaluate", ".", "more"], 2, "got unexpected extra argument (more)\n  next: main evaluate --help"),
        (["distil", "digits_ipc1"], 2, "no command 'distil'; did you mean 'distill'?\n  next: main distill --help"),
        (["--verison"], 2, "did you mean --version?\n  next: main --help"),
        (["distilled"], 2, "it is a folder\n  next: main distill distilled"),
        (["plan", "distilled"], 1, "is a folder, not a recipe\n  next: ddhub init distilled"),
        (["evaluate", "nowhere"], 1, "nowhere: no such folder"),
        (["evaluate", "."], 1, "no ddhub artifact"),
        (["evaluate", ".", "--protocols", "nativ"], 1, "did you mean 'native'"),
        (["evaluate", ".", "--baselines", "rnd"], 1, "baseline 'rnd': unknown"),
        (
            ["evaluate", ".", "--protocols", ""],
            1,
            "names no protocol, so nothing would be trained\n  next: --protocols native",
        ),
        (["plan", "digits_ipc1_dm", "--protocols", ","], 1, "names no protocol, so nothing would be trained"),
        (
            ["evaluate", ".", "--set", "full.epochs=1"],
            1,
            "full data is not trained here\n  next: --baselines random,full",
        ),
        (["evaluate", ".", "--set", "hard.lr=1"], 1, "hard is not run here\n  next: --protocols native,hard"),
        (
            ["evaluate", ".", "--set", "frozen.lr=1"],
            1,
            "frozen is not run here\n  next: ddhub evaluate SET --archs frozen:NAME",
        ),
        (["evaluate", ".", "--seeds", "0"], 2, "--seeds"),
        (["evaluate", ".", "--set", "source.train=x"], 1, "of the source, only source.test, "),
    ],
)
def test_a_bad_input_gets_a_clear_error(arguments, code, said, tmp_path, monkeypatch):
    """One sentence, the right exit code, no traceback, nothing written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distilled").mkdir()
    result = run(*arguments)
    assert result.exit_code == code
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not [path for path in tmp_path.iterdir() if path.name != "distilled"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("- 1\n- 2\n", "expected keys and values"),
        ("name: [", "not readable as YAML"),
        ("name: x\nname: y\n", "key 'name' is there twice"),
        ("name: x\n", "ipc: missing"),
    ],
)
def test_a_bad_recipe_file_is_named(text, said, tmp_path):
    """The message opens with the file."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    result = run("distill", str(path), "--dry-run")
    assert result.exit_code == 1
    assert f"error: {path}: " in result.stderr
    assert said in result.stderr


@pytest.mark.slow
def test_json_is_alone_on_stdout(tmp_path):
    """`--json` prints one document; progress goes to stderr."""
    settings = [
        "teachers.count=1",
        "teachers.epochs=1",
        "teachers.arch=convnet2_w8",
        "evaluate.epochs=1",
        "evaluate.packaging_seeds=1",
        "method={name: random}",
    ]
    chosen = [part for setting in settings for part in ("--set", setting)]
    out = str(tmp_path / "set")
    made = run("distill", "digits_ipc1", "--out", out, "--threads", "1", "--json", *chosen)
    assert json.loads(made.stdout)["folder"] == out
    assert "validation" in made.stderr
    scored = run("evaluate", out, "--archs", "convnet2_w8", "--seeds", "2", "--threads", "1", "--json")
    document = json.loads(scored.stdout)
    assert {row["data"] for row in document["rows"]} == {"distilled", "random"}
    assert {entry["n"] for entry in document["summary"]} == {2}
    unknown = run("evaluate", out, "--archs", "resnet19")
    assert unknown.exit_code == 1
    assert "did you mean 'resnet18'" in unknown.stderr
    too_big = run("evaluate", out, "--archs", "timm:inception_v3")
    assert too_big.exit_code == 1
    assert "cannot run on 8x8 images" in too_big.stderr
    gone = run("evaluate", out, "--test", "/nowhere/at/all")
    assert gone.exit_code == 1
    assert "/nowhere/at/all: no such folder" in gone.stderr


def test_every_option_is_shown_in_a_section_with_a_whole_phrase():
    """A verb or a noun begins it and a full stop or a default ends it; `evaluate` has its options in four groups."""
    for command in main.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                with click.Context(command) as context:
                    text = option.get_help_record(context)[1]
                assert len(text.split()) > 3 and text[0].isupper() and text.rstrip()[-1] in ".])", (command.name, text)
    shown = run("evaluate", "--help").stdout
    sections = ["What to train:", "Where it runs:", "Sets in other tools' layouts:", "Output:"]
    assert [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "] == sections
    assert "dc-bench" in shown and "kcenter" in shown and "eccv24" in shown  # from the plug-ins


@pytest.mark.parametrize("module", ["ddhub", "ddhub.cli"])
def test_it_runs_as_a_module(module):
    """`python -m ddhub` is the command."""
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"ddhub {__version__}\n")


def test_ctrl_c_before_a_command_begins_ends_the_process_without_a_traceback():
    """Libraries load at that time; a shell calls it 130."""
    code = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, *rest):\n"
        "        if name == 'ddhub.cli.app':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "runpy.run_module('ddhub', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=_heeds)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_stop_that_replaces_an_error_tells_the_error_first():
    """The command ends by the signal, and its next start would meet the error again."""
    group = CommandGroup("main")

    @group.command()
    def fail():
        with stopping.held_back():
            signal.raise_signal(signal.SIGTERM)
            raise UserError("the disk is full")

    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stderr) == (143, "error: the disk is full\nstopped\n")


def _heeds():
    """A shell starts what runs in its background deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
