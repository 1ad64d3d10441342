"""Jobs and claims for tests of engines: functions of a module, as other processes need them; jobs note their start."""

import json
import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

from ddhub.base import files, jobs, log
from ddhub.base.errors import UserError
from ddhub.base.jobs import claims


def note(notes: Path, path: Path) -> None:
    """Add a line to the log: which job, in which process."""
    with notes.open("a") as file:
        file.write(f"{path.name} {os.getpid()}\n")


def noted(log: Path) -> list[str]:
    """The jobs that began, in order."""
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def write(log: Path, path: Path, seconds: float = 0) -> None:
    """Write the output."""
    note(log, path)
    time.sleep(seconds)
    files.write_bytes(path, path.name.encode())


def fail(log: Path, path: Path) -> None:
    """Fail by the user's fault."""
    note(log, path)
    raise UserError(f"{path.name}: no luck", next="try again")


def break_(log: Path, path: Path) -> None:
    """Fail by ours."""
    note(log, path)
    raise ValueError("a fault of ours")


def die(log: Path, path: Path, times: int = 1) -> None:
    """Die without a word, so many times."""
    note(log, path)
    if noted(log).count(path.name) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    files.write_bytes(path, path.name.encode())


def hold(log: Path, go: Path, path: Path) -> None:
    """Write the output once the file `go` is there."""
    note(log, path)
    while not go.exists():
        time.sleep(0.02)
    files.write_bytes(path, path.name.encode())


def run_eight(folder: str, log: str, workers: str, kind: str) -> None:
    """Run eight jobs, as one of several processes may."""
    job = partial(hold, Path(log), Path(folder) / "go") if kind == "hold" else partial(write, Path(log), seconds=0.1)
    jobs.run_all({Path(folder) / f"{index}.json": job for index in range(8)}, jobs.Engine(workers=int(workers)))


def long(path: Path) -> None:
    """Take steps for ever, in a run beside the output."""
    from ddhub.training.loop import Run

    for _ in Run(path.with_suffix(".run"), "work", report_seconds=0.1, checkpoint_seconds=1e9).steps(10**6, {}):
        time.sleep(0.1)


def speaking(path: Path) -> None:
    """Write the output, and say so."""
    log.say(f"{path.name} spoke")
    files.write_bytes(path, b"")


def finding(path: Path) -> None:
    """Write the output, and say what every process of a command finds."""
    log.warn_once("a doubt that hf_secretsecretsecret is told of")
    log.warn_once(f"a doubt of {path.parent} that the command has told")
    log.say(f"a fact of {path.parent} that the command has told", once=True)
    log.say("a step")
    time.sleep(0.5)
    files.write_bytes(path, b"")


def signed(path, **changes):
    """A claim of this process, changed."""
    content = {**claims._machine(), "pid": os.getpid(), "began": claims._began(os.getpid()), "token": "x", **changes}
    claims.path_of(path).write_text(json.dumps(content))
    return claims.path_of(path)


def lost(folder: Path, how: str) -> None:
    """What people do to a folder while a command works in it."""
    if how in ("renamed", "replaced"):
        folder.rename(folder.with_name("renamed"))
    else:
        shutil.rmtree(folder)
    if how in ("replaced", "made again"):
        folder.mkdir()
        (folder / "theirs.txt").write_text("theirs")


def loses(how: str, path: Path) -> None:
    """Write the output after its folder was lost, by the job of `a.json`."""
    done = path.parent.with_name("lost")
    if path.name == "a.json":
        lost(path.parent, how)
        done.touch()
    while not done.exists():
        time.sleep(0.02)
    files.write_bytes(path, b"")
