"""Kills, full disks, missing permission and two processes at once: nothing is lost, and what is said is one sentence.

The whole table of faults by commands is benchmarks/faults.py's; here are its most telling trials, and one test for each
fault that it found. Commands run in processes forked from one that has loaded the libraries.
"""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import faulty
import processes
import pytest
import torch
from click.testing import CliRunner
from conftest import QUICK

from ddhub import api
from ddhub.artifact import manifest
from ddhub.base import errors, files, hub_client, jobs, log, new_folder
from ddhub.base.errors import UserError
from ddhub.base.jobs import claims
from ddhub.cli import app
from ddhub.reports import verify
from ddhub.training.image_store import Store
from ddhub.training.loop import Run

DISTILL = ["distill", "digits_ipc1", "--out=set", "--threads=1", *(f"--set={text}" for text in QUICK)]
MERGE = ["merge", "one", "two", "--out=set"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two sets of one source and one teacher, to be merged."""
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDHUB_HOME", str(folder / "home"))
        for seed, name in enumerate(("one", "two")):
            told = [*QUICK, f"seed={seed}"]
            api.distill("digits_ipc1", out=folder / name, overrides=told, threads=1)
    return folder


@pytest.fixture
def place(parts, tmp_path):
    """A working folder with both parts in it, and their teacher in the cache."""
    for name in ("one", "two"):
        shutil.copytree(parts / name, tmp_path / "work" / name)
    shutil.copytree(parts / "home", tmp_path / "ddhub-home", dirs_exist_ok=True)
    return tmp_path / "work"


def run(words, place, *given, **named):
    """A command in a process of its own, to its end: its exit code."""
    process = processes.command(words, place, *given, **named)
    process.join()
    return process.exitcode


def said(place):
    """What the commands said in all."""
    return (place.parent / "said.txt").read_text()


def payload(folder):
    """Name and hash of everything that a set ships."""
    assert verify.faults(folder) == []
    return {name: record.sha256 for name, record in manifest.read(folder).files.items()}


def renames(place):
    """How many files and folders the last command that counted renamed."""
    counts = dict(map(str.split, (place.parent / "counts").read_text().splitlines()))
    return int(counts["replace"])


def hidden(folder):
    """What no user asked for."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_killed_packaging_ends_as_an_undisturbed_one(place):
    """Before the manifest and before every file of the payload; what is there in between is no set."""
    assert run(DISTILL, place, faulty.Chosen(counts=place.parent / "counts")) == 0
    whole, total = payload(place / "set"), renames(place)
    # Teacher, manifest, picture, report and card are the last to take their places.
    for number in (total - 4, total - 3, total):
        shutil.rmtree(place / "set")
        assert run(DISTILL, place, faulty.Chosen("before a rename", number)) == -signal.SIGKILL
        assert verify.faults(place / "set") != []
        assert run(DISTILL, place) == 0 and payload(place / "set") == whole


def test_a_killed_merge_leaves_nothing_that_stays(place):
    """All of it or nothing; the folder that it was filling goes with the next attempt."""
    assert run(MERGE, place, faulty.Chosen("before a rename", 3)) == -signal.SIGKILL
    assert not (place / "set").exists() and len(hidden(place)) == 1
    assert run(MERGE, place) == 0
    assert payload(place / "set") and hidden(place) == []


def test_a_killed_import_can_be_made_again(place):
    """It used to say that the folder holds something already: its own half."""
    api.export(place / "one", "mtt", place / "files")
    words = ["import", "files", "--source=digits", "--layout=mtt", "--lr=0.02", "--mean=0.3", "--std=0.4"]
    words += ["--no-zca", "--order=source", "--out=set"]
    for number in (2, 4):
        assert run(words, place, faulty.Chosen("before a rename", number)) == -signal.SIGKILL
        assert not (place / "set").exists()
    assert run(words, place) == 0 and payload(place / "set") and hidden(place) == []
    assert run(words, place) == 1 and "set: is there already" in said(place)


def limited(words, place):
    """A command in a process whose files may not grow beyond 3 kB: a parquet file does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    faulty.command(words, place, place.parent / "ddhub-home", place.parent / "said.txt")


def test_no_room_in_a_parquet_file_is_said_and_mended(place):
    """Arrow, not Python, meets the end of the room."""
    process = processes.CONTEXT.Process(target=limited, args=(MERGE, place))
    process.start()
    process.join()
    told = said(place)
    assert process.exitcode == 1 and "Traceback" not in told and "error: set: a file may not grow" in told
    assert "run the same command again" in told and not (place / "set").exists() and hidden(place) == []
    assert run(MERGE, place) == 0 and payload(place / "set")


@pytest.mark.parametrize("words", [DISTILL, MERGE, ["export", "one", "--layout=mtt", "--out=set"]], ids=lambda w: w[0])
def test_without_permission_nothing_is_written_and_one_sentence_says_so(place, words):
    """As root without its right to write everywhere; with permission the same command works."""
    before = sorted(path.name for path in place.iterdir())
    place.chmod(0o555)
    assert run(words, place, powerless=True) == 1
    place.chmod(0o755)
    told = said(place)
    assert "Traceback" not in told and "no permission" in told and "next: ls -ld" in told
    assert sorted(path.name for path in place.iterdir()) == before
    assert run(words, place) == 0


@pytest.mark.parametrize("words", [DISTILL, MERGE], ids=lambda w: w[0])
def test_of_two_at_once_one_makes_the_set(place, words):
    """The other finds it made, or is told who is at it; never a traceback, never two halves."""
    both = [processes.command(words, place) for _ in range(2)]
    for process in both:
        process.join()
    assert min(process.exitcode for process in both) == 0 and max(process.exitcode for process in both) <= 1
    told = said(place)
    assert "Traceback" not in told and payload(place / "set") and hidden(place) == []
    if any(process.exitcode for process in both):
        assert "another ddhub is working" in told or "is there already" in told


def test_rows_that_were_written_before_sigterm_are_kept(place):
    """And the same command makes the others."""
    words = ["evaluate", "one", "--archs=convnet2_w8", "--seeds=4", "--threads=1", "--set=epochs=40"]
    rows = place / "one" / "evaluation"
    second = faulty.Chosen("after a rename", 2, named="convnet2_w8-*.json", by=signal.SIGTERM)
    assert run(words, place, second) == 128 + signal.SIGTERM
    kept = {path: path.read_bytes() for path in rows.glob("*.json")}
    assert len(kept) == 2 and said(place).endswith("stopped; the same command goes on with what is left\n")
    assert [path.name for path in rows.iterdir() if path.name.endswith(".claim")] == []
    assert run(words, place) == 0
    assert len(list(rows.glob("*.json"))) == 8 and all(path.read_bytes() == was for path, was in kept.items())


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    """Temporary files of checkpoints grow as large as these; a run takes them away when it goes on."""

    def write(file):
        file.write(b"mine")
        file.flush()
        files.sweep(tmp_path)

    (tmp_path / ".work-00000003.pt.abc.tmp").write_bytes(b"half")
    files.write_atomic(tmp_path / "mine", write)
    assert sorted(os.listdir(tmp_path)) == ["mine"] and (tmp_path / "mine").read_bytes() == b"mine"
    (tmp_path / ".work-00000003.pt.abc.tmp").write_bytes(b"half")
    list(Run(tmp_path, "work").steps(1, {"x": torch.ones(1)}))
    assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl", "mine", "work-00000001.pt"]


def test_a_folder_that_is_being_filled_is_not_swept(tmp_path):
    """Two processes may fill one name; the second to end finds it taken, and a third's leavings go."""
    (tmp_path / ".set[1].dead.partial").mkdir()
    (tmp_path / ".set[1].dead.partial" / "half").touch()
    with (
        pytest.raises(UserError, match="made by another process meanwhile"),
        new_folder.whole(tmp_path / "set[1]") as a,
    ):
        with new_folder.whole(tmp_path / "set[1]") as b:
            (b / "second").touch()
        (a / "first").touch()
    assert os.listdir(tmp_path) == ["set[1]"] and os.listdir(tmp_path / "set[1]") == ["second"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "x/f: the disk is full"),
        (errno.EDQUOT, "x/f: the quota of the disk is used up"),
        (errno.EFBIG, "x/f: a file may not grow so large"),
        (errno.EACCES, "x/f: no permission"),
        (errno.EROFS, "x/f: no permission"),
        (errno.ENAMETOOLONG, "x/f: is longer than the name of a file can be"),
        (errno.EMFILE, "too many files are open (ulimit -n)"),
    ],
)
def test_a_fault_of_the_disk_is_one_sentence_wherever_it_happens(monkeypatch, number, message):
    """Also where no code of ours stands around it: the command line words it."""

    def refuse(*args, **named):
        raise OSError(number, os.strerror(number), "x/f")

    monkeypatch.setattr(api, "recipes", refuse)
    result = CliRunner().invoke(app.main, ["recipes"])
    assert result.exit_code == 1 and result.stderr.startswith(f"error: {message}")
    assert "Traceback" not in result.stderr and "next: " in result.stderr


def test_other_faults_of_the_system_keep_their_traceback():
    """A broken disk, or a socket that refuses, is not told to be something else."""
    assert errors.as_user_error(OSError(errno.EIO, "broken", "f")) is None
    assert errors.as_user_error(PermissionError(errno.EACCES, "a socket")) is None


def test_the_advice_on_a_full_disk_names_a_folder_that_stays(tmp_path, monkeypatch):
    """The new folder goes with the fault; `df` of it said that there is no such folder."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full") as caught, new_folder.whole(tmp_path / "set") as staging:
        files.write_bytes(staging / "inner" / "first", b"1")
    assert f"{tmp_path}/set/inner/first" in caught.value.args[0]
    named = Path(re.search(r"\(df -h (.+)\)", caught.value.next)[1])
    assert named.is_mount() and named in tmp_path.resolve().parents


def test_a_full_cache_is_not_called_a_failed_connection():
    """The Hub's client writes files too."""
    with (
        pytest.raises(UserError, match=r"^fetching a/b: the disk is full") as caught,
        hub_client.errors("fetching a/b", "a/b"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "df -h" in str(caught.value)


def test_a_reader_that_has_gone_ends_a_command_silently():
    """As in `ddhub distill digits_ipc1 --dry-run | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "ddhub.cli.app", "distill", "digits_ipc1", "--dry-run"],
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    told = re.sub(rb"[^\n]+ \.\.\.( [\dms]+)?\n", b"", ended.stderr)  # without what a slow machine is doing
    assert ended.returncode == 1 and told == b""


def test_a_line_that_nobody_can_read_ends_no_run(monkeypatch):
    """Standard error on a full disk, or of a terminal that has gone."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        log.say("a long run goes on")
        monkeypatch.undo()
        with pytest.raises(OSError):
            full.flush()
        full.buffer.raw.close()


@pytest.fixture
def no_room(monkeypatch):
    """Claims can be made, and not signed."""

    def sign(self, file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(claims.Claims, "_sign", sign)
    return monkeypatch


def test_a_claim_that_could_not_be_signed_is_nobodys(tmp_path, no_room):
    """It made everybody wait for two minutes once there was room again."""
    with pytest.raises(UserError, match="the disk is full"):
        jobs.run_all({tmp_path / "a": lambda path: files.write_bytes(path, b"")})
    assert os.listdir(tmp_path) == []


def test_a_claim_of_a_process_killed_before_it_signed_expires_soon(tmp_path):
    """Signing takes no time, so an empty claim is old after seconds."""
    path = claims.path_of(tmp_path / "a")
    path.touch()
    assert not claims.expired(path)
    os.utime(path, (0, time.time() - claims.UNSIGNED - 1))
    assert claims.expired(path)


def test_a_checkpoint_without_its_images_is_refused(tmp_path):
    """Zeros in their place would be gone on with."""
    fill = lambda rows: {"images": torch.ones(len(rows), 1, 2, 2)}  # noqa: E731
    store = Store(tmp_path / "images", (3, 1, 2, 2), fill)
    store.rewind(0)
    store.mark(5, 0)
    (tmp_path / "images" / "images.f32").unlink()
    with pytest.raises(UserError, match="checkpoint of step 5 counts on are gone") as caught:
        Store(tmp_path / "images", (3, 1, 2, 2), fill).rewind(5)
    assert "rm " in caught.value.next


def test_a_push_that_cannot_note_its_place_says_that_it_was_published(folder, server, monkeypatch):
    """And the same command does so once it may."""
    write = files.write_bytes

    def refuse(path, content):
        if path.name == "ddhub.json" and path.parent == folder:
            raise UserError(f"{path}: no permission (writing)", next="ls -ld")
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", refuse)
        with pytest.raises(UserError, match=r"published; but here .*no permission"):
            api.push(folder, "alice/set")
    assert not api.push(folder, "alice/set").to_dict()["changed"]
    assert json.loads((folder / "ddhub.json").read_text())["repo_id"] == "alice/set"
