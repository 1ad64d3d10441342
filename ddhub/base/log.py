"""What people see while a command works (stderr), and what scripts read afterwards (one JSON line per interval)."""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from ddhub.base.files import disk_errors, make_parent, open_own, write_bytes
from ddhub.base.redact import shown

last = 0.0  # when something was said last, by time.monotonic


def say(text: str) -> None:
    """One line for people, on stderr, at once; that nobody can read it any more, or its disk is full, ends no run."""
    global last
    last = time.monotonic()
    with contextlib.suppress(OSError):
        print(shown(text), file=sys.stderr, flush=True)


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
