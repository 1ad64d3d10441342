"""A machine that gives little: no address space, no place for folders, folders that vanish. One sentence each."""

import contextlib
import functools
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import some_jobs
from click.testing import CliRunner
from conftest import QUICK
from some_jobs import lost
from strangers import refused

from ddhub import api
from ddhub.base import files, free_space, jobs, new_folder, same_folder
from ddhub.base.errors import UserError
from ddhub.cli import app
from ddhub.distillation import packaging
from ddhub.reports import charts
from ddhub.training.loop import Run


def test_caches_that_have_no_place_are_said(folder, monkeypatch):
    """Under /proc, by DDHUB_HOME and by HOME; for a user without a home."""
    how = {"archs": ["convnet2_w8"], "seeds": 1, "baselines": [], "threads": 1, "probe": False}
    for name, value in (("DDHUB_HOME", "/proc/x"), ("XDG_CACHE_HOME", "/proc/x")):
        monkeypatch.delenv("DDHUB_HOME", raising=False)
        monkeypatch.setenv(name, value)
        refused(lambda: files.write_json(files.home() / "a" / "b.json", {}), "/proc/x", "nothing can be made there")
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
    ran = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, timeout=600, check=False)
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

    refused(work, f"{folder}: was deleted or renamed during the work")
    assert not (tmp_path / "set").exists()


def test_rows_whose_folder_is_deleted_end_and_make_none(tmp_path):
    """Neither by the row that is written, nor by the claim of the next."""
    out = tmp_path / "evaluation"

    def job(path: Path) -> None:
        shutil.rmtree(out)
        files.write_json(path, {})

    refused(lambda: jobs.run_all({out / "a.json": job, out / "b.json": job}), f"{out}: was deleted")
    assert not out.exists()


OTHER = ["deleted", "renamed", "replaced", "made again"]


def is_as_left(folder: Path, how: str) -> None:
    """Nothing was written where the folder was, nor into what is there now."""
    assert sorted(map(str, folder.rglob("*"))) == ([str(folder / "theirs.txt")] if how in OTHER[2:] else [])
    assert folder.exists() == (how in OTHER[2:])


@pytest.mark.parametrize("how", OTHER)
def test_a_set_whose_folder_is_lost_while_it_is_distilled_is_not_written_elsewhere(how, tmp_path, monkeypatch):
    """Before packaging, which would fill any folder of that name."""
    out, package = tmp_path / "set", packaging.package

    def late(*given: Any) -> None:
        lost(out, how)
        package(*given)

    monkeypatch.setattr(packaging, "package", late)
    refused(lambda: api.distill("digits_ipc1", out=out, overrides=QUICK, threads=1), f"{out}: was ", "same command")
    is_as_left(out, how)


@pytest.mark.parametrize("how", OTHER)
def test_a_set_whose_folder_is_lost_gets_no_rows_and_no_card(how, folder, monkeypatch):
    """In the middle of an evaluation, and of writing a card; the renamed set keeps what it had."""
    before, write = sorted(map(str, folder.rglob("*"))), charts.save

    def late(*given: Any) -> Any:
        lost(folder, how)
        return write(*given)

    monkeypatch.setattr(charts, "save", late)
    refused(lambda: api.card(folder), f"{folder}: was ")
    is_as_left(folder, how)
    renamed = folder.with_name("renamed")
    assert not renamed.exists() or sorted(map(str, renamed.rglob("*"))) == [
        path.replace(str(folder), str(renamed)) for path in before
    ]


@pytest.mark.parametrize("how", OTHER)
@pytest.mark.parametrize("workers", [1, 2])
def test_rows_of_a_folder_that_is_lost_are_refused_in_every_process(how, workers, tmp_path):
    """The job that loses it, and the next one."""
    out = tmp_path / "evaluation"
    todo = {out / name: functools.partial(some_jobs.loses, how) for name in ("a.json", "b.json", "c.json")}
    refused(lambda: jobs.run_all(todo, jobs.Engine(workers=workers)), f"{out}: was ")
    is_as_left(out, how)


def test_a_new_folder_whose_parent_is_renamed_is_not_begun_again(tmp_path):
    """It would hold the second half of a set alone."""
    out = tmp_path / "sets" / "one"

    def fill() -> None:
        with new_folder.whole(out) as staging:
            files.write_bytes(staging / "first", b"1")
            (tmp_path / "sets").rename(tmp_path / "renamed")
            files.write_bytes(staging / "second", b"2")

    refused(fill, "was deleted or renamed")
    assert not (tmp_path / "sets").exists()


def test_a_folder_is_told_from_its_successor_of_the_same_number(tmp_path):
    """File systems give the number of a deleted folder to the next one; one that is open keeps it."""
    out = tmp_path / "set"
    with same_folder.kept(out):
        files.write_bytes(out / "first", b"1")
        for _ in range(3):
            files.write_bytes(out / "inner" / "more", b"2")
        shutil.rmtree(out)
        out.mkdir()
        refused(lambda: files.write_bytes(out / "inner" / "late", b"3"), f"{out}: was replaced by another folder")
    files.write_bytes(out / "inner" / "late", b"3")  # nobody works in it any more


def test_threads_share_a_folder_until_the_last_has_left(tmp_path):
    """Whoever came first may leave first; and none of many comers and goers closes it for another."""
    out = tmp_path / "set"
    out.mkdir()
    with contextlib.ExitStack() as later:
        with same_folder.kept(out):
            later.enter_context(same_folder.kept(out))
        out.rename(tmp_path / "renamed")
        refused(lambda: files.write_bytes(out / "late", b"1"), f"{out}: was deleted or renamed")
    files.write_bytes(out / "late", b"1")

    def come_and_go(_: int) -> None:
        with same_folder.kept(out):
            files.write_bytes(out / "inner" / "row", b"2")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(come_and_go, range(400)))


def test_a_folder_that_the_shell_stands_in_no_more_is_said(tmp_path):
    """Relative paths lead nowhere then."""
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"rmdir {gone}; {sys.executable} -m ddhub card set"
    ran = subprocess.run(words, shell=True, cwd=gone, capture_output=True, text=True, timeout=600, check=False)
    assert "Traceback" not in ran.stderr and "next: " in ran.stderr and ran.returncode == 1


@pytest.mark.parametrize("out", ["/proc/set", "/proc/1/set", "/proc/self/fd/set", "/sys/set"])
def test_places_that_hold_no_folders_are_said(out, folder):
    """By every command that makes a new folder or file."""
    for call in (
        lambda: api.export(folder, "mtt", out=out),
        lambda: api.merge(folder, folder, out=out),
        lambda: files.write_bytes(Path(f"{out}.html"), b""),
        lambda: api.distill("digits_ipc1", out=out, overrides=QUICK, threads=1),
    ):
        refused(call, out.rpartition("/")[0])


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
