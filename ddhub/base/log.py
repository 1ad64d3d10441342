"""What people read while a command works, by the standard `logging`; what scripts read afterwards, as JSON lines.

Every module's messages go to the logger of its own name, below `ddhub`. A library attaches no handler and sets no
level, so a program that uses ddhub hears warnings alone until it says more: `logging.basicConfig(level="INFO")`.
The command line attaches `Stderr`.
"""

import contextlib
import functools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddhub.base.files import disk_errors, make_parent, open_own, write_bytes
from ddhub.base.redact import shown

ROOT = logging.getLogger("ddhub")
CLIENTS = ("huggingface_hub", "datasets")  # libraries that print what they log


def say(text: str, level: int = logging.INFO) -> None:
    """Log a message for people under the name of the calling module, without tokens.

    Args:
        level: of logging; a warning is what people should act on, or know when they look at the result.
    """
    logger = _logger(sys._getframe(1).f_globals["__name__"])
    if logger.isEnabledFor(level):
        logger.log(level, "%s", shown(text), stacklevel=2)


def warn(text: str) -> None:
    """Log a warning under the name of the calling module, without tokens."""
    logger = _logger(sys._getframe(1).f_globals["__name__"])
    logger.warning("%s", shown(text), stacklevel=2)


def _logger(module: str) -> logging.Logger:
    """A module's logger; a plug-in's, which lies elsewhere, is below `ddhub` too."""
    return logging.getLogger(module if module.split(".")[0] == ROOT.name else f"{ROOT.name}.{module}")


class Stderr(logging.Handler):
    """One line a message on stderr, at once; warnings are yellow on a terminal, unless NO_COLOR is set.

    That nobody can read it any more, or that its disk is full, ends no run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message; with times and loggers' names where details are asked for."""
        text = record.getMessage()
        if ROOT.level <= logging.DEBUG:
            text = f"{logging.Formatter().formatTime(record, '%H:%M:%S')} {record.name}: {text}"
        with contextlib.suppress(OSError, ValueError):  # a closed stream is a ValueError
            if record.levelno >= logging.WARNING and sys.stderr.isatty():
                from rich.console import Console

                terminal = Console(stderr=True, markup=False, emoji=False, highlight=False)
                with terminal.capture() as written:
                    terminal.print(text, style="yellow", soft_wrap=True)
                print(written.get(), end="", file=sys.stderr, flush=True)  # above a bar, where there is one
            else:
                print(text, file=sys.stderr, flush=True)


class Sender(logging.Handler):
    """Gives messages to another process, whose handlers show them."""

    def __init__(self, send: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a message; its text is all that it carries, so that it can be pickled."""
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        with contextlib.suppress(OSError, ValueError):
            self.send(record)


def to_stderr(level: int = logging.INFO) -> None:
    """Print messages of this level and above on stderr, as the command line does; once, however often it is called."""
    ROOT.setLevel(level)
    if not any(isinstance(handler, Stderr) for handler in ROOT.handlers):
        ROOT.addHandler(Stderr())


class _Scrub(logging.Filter):
    """Takes tokens and signed addresses out of what other libraries log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a message into its text as it may be shown; all are let through."""
        if record.exc_info:
            record.exc_text = shown(logging.Formatter().formatException(record.exc_info))
        record.msg, record.args = shown(record.getMessage()), None
        return True


SCRUB = _Scrub()


def scrub_libraries() -> None:
    """Let what the Hub's clients print by handlers of their own, or by none, be scrubbed as ddhub's messages are."""
    printing = [logging.lastResort, *(each for name in CLIENTS for each in logging.getLogger(name).handlers)]
    for handler in printing:
        if handler is not None:
            handler.addFilter(SCRUB)  # once, however often it is called


def through(send: Callable[[logging.LogRecord], None], level: int) -> None:
    """Give messages of this level and above to another process instead of showing them here."""
    ROOT.setLevel(level)
    ROOT.handlers, ROOT.propagate = [Sender(send)], False


def receive(record: logging.LogRecord) -> None:
    """Show a message of another process as one of this."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


@functools.cache
def warn_once(text: str) -> None:
    """Warn of what may make a result worthless; of one process, once."""
    warn(text)


class Metrics:
    """A metrics.jsonl file: one JSON object per line, cut back to the checkpoint when a run resumes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, **values: Any) -> None:
        """Add one line."""
        with disk_errors(self.path, "logging"):
            make_parent(self.path)
            with open_own(self.path, "a+b") as file:
                file.write((json.dumps(values) + "\n").encode())

    def rewind(self, phase: str, step: int) -> None:
        """Drop the lines of `phase` past `step`, and a last line torn by a kill: they will be written again."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry.get("phase") != phase or entry["step"] <= step:
                kept.append(line + "\n")
        write_bytes(self.path, "".join(kept).encode())
