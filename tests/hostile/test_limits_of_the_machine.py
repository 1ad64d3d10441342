"""A machine that gives little: no address space, no place for folders, folders that vanish. One sentence each."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from strangers import refused

from ddhub import api
from ddhub.base import files, free_space, jobs
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.training.loop import Run


def test_caches_that_have_no_place_are_said(folder, monkeypatch):
    """Under /proc, by DDHUB_HOME and by HOME; for a user without a home."""
    how = {"archs": ["convnet2_w8"], "seeds": 1, "baselines": [], "threads": 1, "probe": False}
    for name, value in (("DDHUB_HOME", "/proc/x"), ("XDG_CACHE_HOME", "/proc/x")):
        monkeypatch.delenv("DDHUB_HOME", raising=False)
        monkeypatch.setenv(name, value)
        refused(lambda: files.write_json(files.home() / "a" / "b.json", {}), "/proc/x", "no folder can be made there")
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    refused(files.home, "no home folder is known", "DDHUB_HOME=FOLDER")
    monkeypatch.setenv("DDHUB_HOME", "/proc/x")
    refused(lambda: api.distill("digits_ipc1", out="/proc/x/set", threads=1), "/proc")
    assert len(api.evaluate(str(folder), **how).rows) == 1  # which needs no cache


def test_a_limit_of_address_space_is_said_before_and_after(tmp_path):
    """torch cannot be loaded: the reason and the command that helps."""
    limit = 10**9

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [sys.executable, "-m", "ddhub", "distill", "digits_ipc1", "--out", str(tmp_path / "set")]
    ran = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, timeout=60, check=False)
    assert "ulimit -v allows 1.0 GB of address space" in ran.stderr
    assert "Traceback" not in ran.stderr and ran.returncode == 1


@pytest.mark.parametrize("kind", [ImportError, MemoryError, RuntimeError])
def test_what_a_limit_of_address_space_breaks_is_a_sentence(kind, monkeypatch):
    """Without a limit the same is a fault of ours."""

    def broken() -> None:
        raise kind("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.setattr(api, "recipes", broken)
    assert "Traceback" in CliRunner().invoke(app.main, ["recipes"]).output
    monkeypatch.setattr(free_space, "address_space", lambda: 10**9)
    told = CliRunner().invoke(app.main, ["recipes"])
    assert "Traceback" not in told.output and "ulimit -v unlimited" in told.output and told.exit_code == 1


def test_a_run_whose_folder_is_deleted_ends_and_makes_none(tmp_path):
    """The next line of metrics, or the next checkpoint, is refused."""
    folder = tmp_path / "set" / ".ddhub"
    run = Run(folder, "distill", report_seconds=0, checkpoint_seconds=0)

    def work() -> None:
        for step in run.steps(10, {"value": 1}):
            run.log(loss=1.0)
            if step == 3:
                shutil.rmtree(tmp_path / "set")

    refused(work, f"{folder}: was deleted in the middle of the work")
    assert not (tmp_path / "set").exists()


def test_rows_whose_folder_is_deleted_end_and_make_none(tmp_path):
    """Neither by the row that is written, nor by the claim of the next."""
    out = tmp_path / "evaluation"

    def job(path: Path) -> None:
        shutil.rmtree(out)
        files.refuse_gone(path.parent)  # as the grid does before it writes a row

    refused(lambda: jobs.run_all({out / "a.json": job, out / "b.json": job}), f"{out}: was deleted")
    assert not out.exists()


def test_faults_of_several_jobs_are_told_one_by_one(monkeypatch):
    """The user's as sentences, the first of ours as its traceback, the others as a number."""

    def raised(text: str) -> LookupError:
        try:
            raise LookupError(text)
        except LookupError as fault:
            return fault

    def broken() -> None:
        ours = [raised("first"), raised("second")]
        raise ExceptionGroup("3 of 3 jobs failed", [UserError("mine", next="mend it"), *ours])

    monkeypatch.setattr(api, "recipes", broken)
    told = CliRunner().invoke(app.main, ["recipes"]).output
    assert "error: mine\n  next: mend it" in told and "LookupError: first" in told and "... and 1 more" in told
    assert "ExceptionGroup" not in told and told.count("Traceback") == 1
