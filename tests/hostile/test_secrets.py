"""A token is in no log, error, artifact, card, row, or argument of a process: a full run is searched for it."""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from hub_http import Answer, as_error
from hub_server import Fault, HubServer
from hub_store import HubError
from strangers import refused

from ddhub import api
from ddhub.base import hub_client, redact
from ddhub.base.errors import UserError

ID = "alice/digits"


@dataclass(frozen=True)
class Echo(Fault):
    """An answer that says back what it was asked with, as careless servers and proxies do."""

    status: int
    pad: int = 0  # characters before the token: where a message is cut off matters

    def before(self, hub: HubServer) -> Answer:
        sent = hub.requests[-1].headers
        given = next((value for name, value in sent.items() if name.lower() == "authorization"), "nothing")
        error = HubError(self.status, "x" * self.pad + f" you sent Authorization: {given} and {given.split()[-1]}")
        error.headers["Retry-After"] = given
        return as_error(error)


# Runs commands one after the other, and meanwhile looks at the arguments of every process on this machine.
DRIVER = """
import json, pathlib, sys, threading
secret, commands = pathlib.Path(sys.argv[1]).read_text(), json.loads(sys.argv[2])
seen, done = [], threading.Event()

def watch():
    while not done.wait(0.25):
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.extend([str(entry)] if secret.encode() in entry.read_bytes() else [])
            except OSError:
                pass

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
from ddhub.cli.app import main
codes = []
for words in commands:
    try:
        codes.append(main(words, standalone_mode=False) or 0)
    except SystemExit as end:
        codes.append(end.code)
    except BaseException as fault:
        codes.append(getattr(fault, "exit_code", repr(fault)))
done.set()
watcher.join()
print(json.dumps({"codes": codes, "seen": seen}))
"""


def holding(root: Path, token: str, but: list[Path]) -> list[Path]:
    """The files under a folder that hold a token, or a part of one that is long enough to be guessed from."""
    files = [path for path in root.rglob("*") if path.is_file() and not any(path.is_relative_to(each) for each in but)]
    return [path for path in files if token[:20].encode() in path.read_bytes() or token[:20] in str(path)]


def test_a_full_run_leaves_no_token_behind(tmp_path):
    """Distill, evaluate in two processes, three pushes that fail and say the token back, push, pull, report."""
    with HubServer(tmp_path / "hub") as server:
        token = server.add_user("alice")
        home = tmp_path / "huggingface"
        home.mkdir()
        (home / "token").write_text(token)  # as `hf auth login` leaves it
        environment = {**server.client_env(home), "DDHUB_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        for kind, status, first in (("create", 401, 1), ("commit", 403, 1), ("commit", 500, 2)):
            server.fail(kind, Echo(status), after=first)
        quick = [word for text in QUICK for word in ("--set", text)]
        commands = [
            ["distill", "digits_ipc1", "--out", "set", "--threads", "1", *quick],
            [
                "evaluate",
                "set",
                "--archs",
                "convnet2_w8",
                "--seeds",
                "2",
                "--workers",
                "2",
                "--baselines",
                "none",
                "--no-probe",
            ],
            *[["push", "set", ID]] * 3,
            ["push", "set", ID],
            ["pull", ID, "pulled"],
            ["evaluate", ID, "--archs", "convnet2_w16", "--seeds", "1", "--baselines", "none", "--no-probe"],
            ["report", ID, "--html", "report.html", "--push"],
        ]
        command = [sys.executable, "-c", DRIVER, str(home / "token"), json.dumps(commands)]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["codes"] == [0, 0, 1, 1, 1, 0, 0, 0, 0], done.stderr
        assert told["seen"] == []
        assert token[:20] not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        asked = [each for each in server.requests if each.authorized]
        assert len(asked) > 10 and not [each for each in server.requests if token in each.path]
    assert (tmp_path / "pulled" / "ddhub.json").is_file() and (tmp_path / "report.html").is_file()
    assert holding(tmp_path, token, [home / "token", tmp_path / "hub"]) == []


@pytest.mark.parametrize("status", [400, 401, 403, 409, 429, 500])
def test_an_answer_that_says_the_token_back_is_not_repeated(server, folder, status, capsys):
    """Wherever a message is cut off, no part of the token is left in it."""
    for pad in (0, 185):
        server.heal()
        server.fail("create", Echo(status, pad), times=math.inf)
        message = refused(lambda: api.push(folder, ID))
        assert not any(server.token[start : start + 8] in message for start in range(len(server.token) - 8))
    assert server.token[:12] not in "".join(capsys.readouterr())


def test_what_is_shown_holds_no_token_wherever_it_comes_from(monkeypatch, tmp_path, capsys):
    """From the environment, from the file of `hf auth login`, or from anywhere by its form."""
    from ddhub.base.log import say

    monkeypatch.setenv("HF_TOKEN", "a-token-of-no-usual-form")
    assert redact.shown("<a-token-of-no-usual-form>") == "<***>"
    assert "usual" not in str(UserError("x", next="HF_TOKEN=a-token-of-no-usual-form ddhub push"))
    say("with a-token-of-no-usual-form")
    assert "usual" not in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("stored-token-of-no-form\n")
    assert redact.shown("a stored-token-of-no-form") == "a ***"
    for text in ("hf_abcdefghijklmnopqrstuvwxyz", "Authorization: Bearer abc.def", "authorization: bearer abc.def"):
        assert "abc" not in redact.shown(text)
    assert redact.one_line(ValueError("x" * 290 + " hf_" + "a" * 40)).count("a") == 0
    assert redact.shown("hf_hub_download and HF_TOKEN are words") == "hf_hub_download and HF_TOKEN are words"


def test_a_fault_of_ours_shows_no_token_either(monkeypatch):
    """A traceback repeats the words of what went wrong."""
    from click.testing import CliRunner

    from ddhub.cli import app

    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("Authorization: Bearer secret-of-mine, hf_" + "b" * 30)

    monkeypatch.setattr(api, "recipes", broken)
    result = CliRunner().invoke(app.main, ["recipes"])
    assert result.exit_code == 1 and "LookupError" in result.output
    assert "secret-of-mine" not in result.output and "b" * 9 not in result.output


def test_this_process_holds_no_token_of_ours():
    """What the tests above search for is theirs alone."""
    assert "HF_TOKEN" not in os.environ and hub_client.REPO_ID.fullmatch(ID)
