"""One `ddhub` command in a process of its own that meets a fault, and the kinds of fault.

ddhub's own code is unchanged. The process itself counts renames and flushes, and drops capabilities.
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
# Capabilities by which root ignores permissions: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER.
OVERRIDES = 1 << 1 | 1 << 2 | 1 << 3
VERSION_3 = 0x20080522  # the version of the structures of capset(2)


@dataclass(frozen=True)
class Chosen:
    """A signal at the n-th call of a kind, counted from 1. Without a kind, calls are counted and written to `counts`.

    Args:
        named: a pattern such as `teacher_*-*05.pt`. Only renames to such names count.
        by: the signal, kill -9 unless told otherwise.
    """

    where: Where | None = None
    number: int = 0
    counts: Path | None = None
    named: str = "*"
    by: int = signal.SIGKILL


def command(
    words: list[str], folder: Path, home: Path, said: Path, chosen: Chosen | None = None, powerless: bool = False
) -> None:
    """Run `ddhub WORDS...` in a folder. The other arguments are those of `trouble`."""
    with trouble(folder, home, said, chosen, powerless):
        from ddhub.cli import app

        app.main(words)


@contextmanager
def trouble(
    folder: Path, home: Path, said: Path, chosen: Chosen | None = None, powerless: bool = False
) -> Iterator[None]:
    """Work in a folder, with a fault in this process.

    Args:
        home: DDHUB_HOME.
        said: the file for the output. It lies outside of a disk that gets full.
        powerless: take root's right to write into folders without write permission.
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
    """A function of `os` that sends the process its signal at the chosen call."""

    def calling(*args: Any, **named: Any) -> Any:
        if name == "replace" and not fnmatch(Path(args[1]).name, chosen.named):
            return call(*args, **named)
        after = chosen.where == "after a rename"
        done = call(*args, **named) if after else None  # first, because one that fails does not count
        counts[name] += 1
        if chosen.where is not None and CALLS[chosen.where] == name and counts[name] == chosen.number:
            os.kill(os.getpid(), chosen.by)
        return done if after else call(*args, **named)

    return calling


def drop_overrides() -> None:
    """Give up root's capabilities to ignore permissions, in this process alone."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, words) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words[0] &= ~OVERRIDES & 0xFFFFFFFF  # words 0 to 2 are the first 32 capabilities: effective, permitted, inheritable
    words[1] &= ~OVERRIDES & 0xFFFFFFFF
    if libc.capset(header, words) != 0:
        raise OSError(ctypes.get_errno(), "capset")
