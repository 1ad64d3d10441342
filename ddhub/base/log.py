"""Messages of commands for people, by the standard `logging`, and metrics for scripts, as JSON lines.

Each module logs to the logger of its own name, below `ddhub`. The command line attaches `Stderr`. The long functions
`ddhub.distill` and `ddhub.evaluate` do so too while they run, unless the program has configured logging: a handler of
all loggers or of `ddhub`, or a level of `ddhub`. Nothing else attaches a handler or sets a level.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ddhub.base.files import disk_errors, make_parent, open_own, write_bytes
from ddhub.base.redact import shown

ROOT = logging.getLogger("ddhub")
# What people read of the keys of metrics.jsonl that do not say it themselves: in short, and in full.
TITLES = {
    "disagreement": ("disagreement", "disagreement of students\nand teachers (L1 of logits)"),
    "largest": ("largest |pixel|", "largest absolute pixel\nof the synthetic images,\nin normalised units"),
    "lr": ("lr", "learning rate"),
}
CLIENTS = ("huggingface_hub", "datasets")  # libraries that print what they log


def say(text: str, level: int = logging.INFO, *, once: bool = False) -> None:
    """Log a message under the name of the calling module, with tokens removed.

    Args:
        level: a level of logging. A warning asks people to act, or to doubt the result.
        once: show the same message of worker processes only if it was not shown before.
    """
    _log(text, level, once, sys._getframe(1))


def warn(text: str) -> None:
    """Log a warning under the name of the calling module, with tokens removed."""
    _log(text, logging.WARNING, False, sys._getframe(1))


def warn_once(text: str) -> None:
    """Warn, once, of something that may spoil a result. Worker processes that find the same do not repeat it."""
    if shown(text) not in _shown_once:
        _log(text, logging.WARNING, True, sys._getframe(1))


def _log(text: str, level: int, once: bool, caller: FrameType) -> None:
    logger, text = _logger(caller.f_globals["__name__"]), shown(text)
    if once:
        _shown_once.add(text)
    if logger.isEnabledFor(level):
        logger.log(level, "%s", text, stacklevel=3, extra={"once": once})


_shown_once: set[str] = set()  # messages that worker processes do not repeat


def _logger(module: str) -> logging.Logger:
    """The logger of a module. The logger of a plug-in lies below `ddhub` too."""
    return logging.getLogger(module if module.split(".")[0] == ROOT.name else f"{ROOT.name}.{module}")


class Stderr(logging.Handler):
    """Prints one line per message on stderr at once. Warnings are yellow on a terminal, unless NO_COLOR is set.

    A closed or full stderr does not end a run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message; in verbose mode with time and logger name."""
        text = record.getMessage()
        if ROOT.level <= logging.DEBUG:
            text = f"{logging.Formatter().formatTime(record, '%H:%M:%S')} {record.name}: {text}"
        with contextlib.suppress(OSError, ValueError):  # a closed stream is a ValueError
            if record.levelno >= logging.WARNING and sys.stderr.isatty():
                from rich.console import Console

                terminal = Console(stderr=True, markup=False, emoji=False, highlight=False)
                with terminal.capture() as written:
                    terminal.print(text, style="yellow", soft_wrap=True)
                print(written.get(), end="", file=sys.stderr, flush=True)  # above a progress bar, if there is one
            else:
                print(text, file=sys.stderr, flush=True)


class Sender(logging.Handler):
    """Sends messages to another process, whose handlers show them."""

    def __init__(self, send: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a message as plain text, so that it can be pickled."""
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        with contextlib.suppress(OSError, ValueError):
            self.send(record)


def to_stderr(level: int = logging.INFO) -> Stderr | None:
    """Print messages of this level and above on stderr, as the command line does. Return the handler, if it is new."""
    ROOT.setLevel(level)
    if any(isinstance(handler, Stderr) for handler in ROOT.handlers):
        return None
    handler = Stderr()
    ROOT.addHandler(handler)
    return handler


@contextlib.contextmanager
def on_stderr() -> Iterator[None]:
    """Print messages on stderr in this block, and leave logging as it was."""
    level, added = ROOT.level, to_stderr()
    try:
        yield
    finally:
        ROOT.setLevel(level)
        if added is not None:
            ROOT.removeHandler(added)


def configured() -> bool:
    """Whether the program or the command line has configured logging, for `ddhub` or for all loggers."""
    return bool(ROOT.handlers or logging.root.handlers) or ROOT.level != logging.NOTSET


class _Scrub(logging.Filter):
    """Removes tokens and signed addresses from messages of other libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message by its scrubbed text. No message is dropped."""
        if record.exc_info:
            record.exc_text = shown(logging.Formatter().formatException(record.exc_info))
        record.msg, record.args = shown(record.getMessage()), None
        return True


SCRUB = _Scrub()


def scrub_libraries() -> None:
    """Scrub the messages of the Hub's clients, which have handlers of their own."""
    printing = [logging.lastResort, *(each for name in CLIENTS for each in logging.getLogger(name).handlers)]
    for handler in printing:
        if handler is not None:
            handler.addFilter(SCRUB)  # once, however often it is called


def through(send: Callable[[logging.LogRecord], None], level: int) -> None:
    """Send messages of this level and above to another process, and show none here."""
    ROOT.setLevel(level)
    ROOT.handlers, ROOT.propagate = [Sender(send)], False


def receive(record: logging.LogRecord) -> None:
    """Show a message of another process here, unless it is one of those that are shown once."""
    if getattr(record, "once", False):
        if record.getMessage() in _shown_once:
            return
        _shown_once.add(record.getMessage())
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


class Metrics:
    """A metrics.jsonl file with one JSON object per line. A resumed run cuts it back to its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, **values: Any) -> None:
        """Add one line."""
        with disk_errors(self.path, "logging"):
            make_parent(self.path)
            with open_own(self.path, "a+b") as file:
                file.write((json.dumps(values) + "\n").encode())

    def rewind(self, phase: str, step: int) -> None:
        """Drop the lines of `phase` after `step`, and a torn last line. The resumed run writes them again."""
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
