"""Processes of ddhub that are killed, stopped or starved. They are forked from one that has loaded the libraries.

What is killed is a process of its own, with a cache of its own; its imports alone are shared.
"""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import faulty
from faulty import Chosen

CONTEXT: Any = multiprocessing.get_context("forkserver")
LOADED = """
faulty processes ddhub.api ddhub.cli.app ddhub.distillation.checks ddhub.distillation.groups
ddhub.distillation.methods.apm.loop ddhub.distillation.methods.dm.loop ddhub.evaluation.grid ddhub.reports.refresh
datasets jinja2 matplotlib.pyplot scipy.stats torch._dynamo
"""
CONTEXT.set_forkserver_preload(LOADED.split())


def command(words: list[str], place: Path, chosen: Chosen | None = None, powerless: bool = False) -> Any:
    """Start `ddhub WORDS...` in a folder; its cache and what it says (said.txt) lie beside that."""
    home, said = place.parent / "ddhub-home", place.parent / "said.txt"
    return _start(faulty.command, words, place, home, said, chosen, powerless)


def distill(out: Path, overrides: list[str], home: Path, chosen: Chosen | None = None) -> int:
    """Distill digits_ipc1 with a checkpoint after every step; the exit code, -9 if it was killed."""
    process = _start(_distill, out, overrides, home, chosen)
    process.join()
    return process.exitcode


def stopped(words: list[str], home: Path, said: Path, number: int, phase: str, step: int) -> int:
    """Run `ddhub WORDS...`, which gets a signal in a step of a phase; the exit code."""
    process = _start(_stopped, words, home, said, number, phase, step)
    process.join()
    return process.exitcode


def _start(target: Any, *given: Any) -> Any:
    process = CONTEXT.Process(target=target, args=given)
    process.start()
    return process


def _distill(out: Path, overrides: list[str], home: Path, chosen: Chosen | None) -> None:
    from ddhub import api

    with faulty.trouble(home.parent, home, home.parent / "said.txt", chosen):
        api.distill("digits_ipc1", out=out, overrides=overrides, threads=1, checkpoint_seconds=0)


def _stopped(words: list[str], home: Path, said: Path, number: int, phase: str, step: int) -> None:
    from ddhub.training.loop import Run

    log = Run.log

    def noted(run: Run, **values: Any) -> None:
        if (run.phase, run._step) == (phase, step):
            os.kill(os.getpid(), number)
        log(run, **values)

    Run.log = noted  # type: ignore[method-assign]
    faulty.command(words, home.parent, home, said)
