"""Messages: the standard logging, silent in libraries, plain lines from the command line."""

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import some_jobs
from click.testing import CliRunner

from ddhub import api
from ddhub.base import jobs, log
from ddhub.base.errors import UserError
from ddhub.base.jobs import Engine
from ddhub.cli import app

SAY = "from ddhub.base import log; log.say('progress'); log.warn('trouble')"


def errors(code: str) -> str:
    """What a fresh interpreter prints on stderr."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr


def test_a_library_is_silent_but_for_warnings():
    """No handler is attached, no level set; the program that uses it decides."""
    assert errors(SAY) == "trouble\n"
    assert errors(f"import logging; logging.basicConfig(level='INFO', format='%(message)s'); {SAY}") == (
        "progress\ntrouble\n"
    )
    assert errors(f"import logging; logging.getLogger('ddhub').setLevel('ERROR'); {SAY}") == ""


@pytest.mark.parametrize(("function", "first"), [("distill", "recipe_file"), ("evaluate", "choices")])
@pytest.mark.parametrize("configured", ["nothing", "all loggers", "level", "handler"])
def test_long_functions_say_what_goes_on_unless_logging_is_configured(function, first, configured, monkeypatch, capsys):
    """As the command line does. Afterwards logging is as it was."""

    def work(*_, **__):
        log.say("progress")
        raise UserError("the end")

    handlers = [logging.NullHandler()]
    home = api.judge if first == "choices" else api.make
    monkeypatch.setattr(home, first, SimpleNamespace(check=work) if first == "choices" else work)
    monkeypatch.setattr(log.ROOT, "handlers", handlers if configured == "handler" else [])
    monkeypatch.setattr(logging.root, "handlers", handlers if configured == "all loggers" else [])
    monkeypatch.setattr(log.ROOT, "level", logging.WARNING if configured == "level" else logging.NOTSET)
    before = list(log.ROOT.handlers), log.ROOT.level
    with pytest.raises(UserError, match="the end"):
        getattr(api, function)("x")
    assert capsys.readouterr().err == ("progress\n" if configured == "nothing" else "")
    assert (log.ROOT.handlers, log.ROOT.level) == before


def test_a_message_has_the_name_of_its_module(caplog):
    """So that a part of ddhub can be listened to, or silenced, alone."""
    from ddhub.training.loop import say

    caplog.set_level("INFO", logger="ddhub")
    log.say("from here")
    assert say is log.say and caplog.records[-1].name == f"ddhub.{__name__}"


def test_tokens_are_in_no_message(caplog, monkeypatch):
    """Whatever handler is attached."""
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    log.warn("sent hf_secretsecretsecret")
    assert caplog.messages == ["sent ***"]


@pytest.mark.parametrize(("options", "said"), [([], True), (["-q"], False), (["--quiet"], False), (["-v"], True)])
def test_quiet_leaves_the_result_alone(options, said, tmp_path, finished):
    """`-q` hides what is progress; `-v` adds times and names."""
    found = CliRunner().invoke(app.main, ["evaluate", str(finished), "--out", str(tmp_path), "--archs", "convnet2_w8",
                                          "--seeds", "1", "--threads", "1", "--no-probe", *options])  # fmt: skip
    assert found.exit_code == 0
    assert ("rows, 0 done already" in found.stderr) == said
    assert ("ddhub.evaluation.grid: " in found.stderr) == (options == ["-v"])
    assert "test accuracy in per cent" in found.stdout


def test_no_colour_reaches_a_pipe(capsys):
    """Nor anything but the text."""
    log.warn("trouble")
    assert capsys.readouterr().err == "trouble\n"


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_warnings_are_coloured_on_a_terminal(environment, coloured, monkeypatch, capsys):
    """Unless NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log.warn("trouble")
    log.say("progress")
    written = capsys.readouterr().err
    assert "trouble" in written and written.endswith("progress\n")
    assert ("\x1b[33m" in written) == coloured


def test_messages_of_worker_processes_arrive(tmp_path, caplog):
    """Under their own names, in the handlers of the process that started them."""
    caplog.set_level("INFO", logger="ddhub")
    paths = [tmp_path / name for name in "ab"]
    jobs.run_all({path: some_jobs.speaking for path in paths}, Engine(workers=2))
    told = [record for record in caplog.records if "spoke" in record.message]
    assert sorted(record.message for record in told) == ["a spoke", "b spoke"]
    assert {record.name for record in told} == {"ddhub.some_jobs"}  # as a plug-in's, below ddhub


def test_what_every_worker_finds_is_shown_once(tmp_path, caplog, monkeypatch):
    """Warnings and facts of several workers, or of workers and the command; other messages are shown each time."""
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    caplog.set_level("INFO", logger="ddhub")
    for _ in range(2):  # the command repeats a fact, and no warning
        log.warn_once(f"a doubt of {tmp_path} that the command has told")
        log.say(f"a fact of {tmp_path} that the command has told", once=True)
    jobs.run_all({tmp_path / name: some_jobs.finding for name in "abcd"}, Engine(workers=2))
    told = [record.message for record in caplog.records]
    assert told.count("a doubt that *** is told of") == 1 and told.count("a step") == 4
    assert told.count(f"a doubt of {tmp_path} that the command has told") == 1
    assert told.count(f"a fact of {tmp_path} that the command has told") == 2
    assert {record.name for record in caplog.records if "hat the command" in record.message} == {f"ddhub.{__name__}"}


def test_quiet_workers_are_quiet(tmp_path, capsys):
    """The level of the command is theirs."""
    log.to_stderr(logging.WARNING)
    jobs.run_all({Path(tmp_path / "a"): some_jobs.speaking}, Engine(workers=2))
    assert "spoke" not in capsys.readouterr().err
