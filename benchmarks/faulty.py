"""One `ddhub` command in a process of its own in which something goes wrong, and the ways in which it can.

The product knows nothing of it: renames and flushes are counted, and capabilities dropped, in the process itself.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

Where = Literal["before a rename", "after a rename", "before a flush"]
CALLS = {"before a rename": "replace", "after a rename": "replace", "before a flush": "fsync"}
# What lets root write where nobody may: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER.
OVERRIDES = 1 << 1 | 1 << 2 | 1 << 3
VERSION_3 = 0x20080522  # of the structures of capset(2)


@dataclass(frozen=True)
class Chosen:
    """Kill -9 at the n-th call of a kind, counted from 1; at none, calls are counted and written to `counts`.

    Args:
        named: only renames to a file of such a name count, as `teacher_*-*05.pt`.
    """

    where: Where | None = None
    number: int = 0
    counts: Path | None = None
    named: str = "*"


def command(
    words: list[str], folder: Path, home: Path, said: Path, chosen: Chosen | None = None, powerless: bool = False
) -> None:
    """Run `ddhub WORDS...` in a folder; the arguments are those of `trouble`."""
    with trouble(folder, home, said, chosen, powerless):
        from ddhub.cli import app

        app.main(words)


@contextmanager
def trouble(
    folder: Path, home: Path, said: Path, chosen: Chosen | None = None, powerless: bool = False
) -> Iterator[None]:
    """Make of this process one that works in a folder and in which something goes wrong.

    Args:
        home: DDHUB_HOME.
        said: the file that what it prints is added to; a disk that gets full would swallow its last words.
        powerless: without the right of root to write where the mode of a folder forbids it.
    """
    os.environ["DDHUB_HOME"] = str(home)
    os.chdir(folder)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    torch.set_num_threads(1)
    counts = dict.fromkeys(CALLS.values(), 0)
    if chosen is not None:
        for name in counts:
            setattr(os, name, counted(getattr(os, name), name, counts, chosen))
    if powerless:
        drop_overrides()
    try:
        yield
    finally:
        if chosen is not None and chosen.counts is not None:
            chosen.counts.write_text("\n".join(f"{name} {count}" for name, count in counts.items()))


def counted(call: Callable[..., Any], name: str, counts: dict[str, int], chosen: Chosen) -> Callable[..., Any]:
    """A function of `os` that ends the process at the chosen call."""

    def calling(*args: Any, **named: Any) -> Any:
        if name == "replace" and not fnmatch(Path(args[1]).name, chosen.named):
            return call(*args, **named)
        counts[name] += 1
        due = chosen.where is not None and CALLS[chosen.where] == name and counts[name] == chosen.number
        if due and chosen.where != "after a rename":
            os.kill(os.getpid(), signal.SIGKILL)
        done = call(*args, **named)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return calling


def drop_overrides() -> None:
    """Be root in name only; nothing happens to anybody else."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, words) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words[0] &= ~OVERRIDES & 0xFFFFFFFF  # of the first 32 capabilities: effective, permitted, inheritable
    words[1] &= ~OVERRIDES & 0xFFFFFFFF
    if libc.capset(header, words) != 0:
        raise OSError(ctypes.get_errno(), "capset")
