"""The loop of a long run: it resumes, saves checkpoints, reports progress, and stops on a non-finite value.

    state = {"images": images}
    for step in run.steps(1000, state):
        ...
        run.log(loss=loss)

The iterator fills `state` from the newest intact checkpoint, saves it early and then every few minutes, writes metrics
as JSON lines, and shows progress. Randomness comes from (seed, purpose, step). A resumed run therefore ends with the
bits of an unbroken one. State holds tensors, numbers, strings, None, and lists and dicts of them. A true `stop` in it
ends the loop early. A Store keeps what is too large for checkpoints, and is restored with them.
"""

import io
import math
import pickle
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddhub.base import files, progress, same_folder, stopping
from ddhub.base.errors import UserError
from ddhub.base.log import TITLES, Metrics, say, warn
from ddhub.base.units import duration
from ddhub.training.image_store import Store

State = dict[str, Any]
SOON = 5.0  # seconds from the start of a process to its first checkpoint
LONG = 5.0  # seconds; a longer step is saved each time,
COST = 0.02  # if saving takes at most this share of the time
METRICS = 500  # lines of metrics.jsonl per phase, about; a shorter run has one per step


class Diverged(UserError):
    """A training whose loss is no longer finite."""


class Run:
    """One resumable phase (`teacher`, `distill`) with its files in one folder.

    Args:
        unit: the word for a step.
        beside: more text for the first message, such as `2 teachers from the cache`.
        brief: one of many phases, most of them brief. It writes neither metrics nor a last checkpoint, and says nothing
            of its start and end. Its first checkpoint comes after `checkpoint_seconds`. It goes on without checkpoints
            if one cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        phase: str,
        *,
        device: str = "cpu",
        checkpoint_seconds: float = 120,
        report_seconds: float = progress.LINE,
        unit: str = "step",
        beside: str = "",
        brief: bool = False,
    ) -> None:
        self.folder, self.phase, self.device = folder, phase, device
        self.checkpoint_seconds, self.report_seconds = checkpoint_seconds, report_seconds
        self.unit, self.beside, self.title, self.brief = unit, beside, phase.replace("_", " "), brief
        self.metrics = Metrics(folder / "metrics.jsonl")
        self.seconds = 0.0  # time spent in this phase, with all earlier processes
        self.earlier = 0.0  # time that earlier processes spent
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._values: dict[str, float] = {}
        self._step = 0
        self._saved: float | None = None  # when the newest checkpoint was written, by time.monotonic
        self._saving: float | None = None  # how long this process took for that
        self._keeps = True  # False once a brief phase cannot write a checkpoint; it goes on without

    def log(self, **values: Tensor | float) -> None:
        """Note values of the current step. Tensors are read only when a line is due, so that the device never waits."""
        detached = {k: v.detach() if isinstance(v, Tensor) else v for k, v in values.items()}
        self._pending.append((self._step, detached))

    def steps(self, n: int, state: State, store: Store | None = None) -> Iterator[int]:
        """Yield the remaining steps of 0 to n - 1, after filling `state` from the newest checkpoint.

        A signal ends the loop after the current step, with a checkpoint; see ddhub/base/stopping.py.

        Args:
            n: the number of all steps.
            state: the content of a checkpoint. A function in it is called for its value when one is saved.
            store: restored to the same step as `state`, or filled with initial values at step 0.

        Raises:
            Diverged: naming the step with non-finite values. The last checkpoint is kept.
            Stopped: after a signal.
        """
        self._step = self._restore(state)
        if store is not None:
            store.rewind(self._step)
        ended = self._step >= n or bool(state.get("stop"))
        self._announce(n, ended)
        if ended:
            return
        clock = _Clock(self._step, n, self.seconds, self.report_seconds)
        told = partial(self._status, clock)
        shown = progress.Bar(self.title, n, told)
        with same_folder.kept(self.folder), stopping.Gate() as gate, progress.busy(self.title), shown as bar:
            while not ended:
                gate.close(clock.pace.seconds)  # until the next step closes it: what a step notes and saves is held too
                yield self._step
                gate.waits()
                self._step += 1
                self.seconds = clock.ticked(self._step)
                ended = self._step >= n or bool(state.get("stop"))
                line = clock.line_due(ended and not self.brief)
                self._look(clock, line, bar.live)
                saved = (ended and not self.brief) or gate.waits() or self._save_due(clock)
                if saved:
                    self._save(state, store)
                self._show(bar, clock, line, ended)
                if (signal := gate.heard()) is not None:
                    if not saved:
                        self._save(state, store)
                    if self._keeps:
                        say(f"{self.title}: saved at {self.unit} {self._step} of {n}")
                    raise stopping.Stopped(signal)

    def _announce(self, n: int, ended: bool) -> None:
        """Report the first step and what is done already."""
        if self.brief and not self._step:
            return
        where = f"resuming at {self.unit} {self._step + 1} of {n}" if self._step else f"{n} {self._units(n)}"
        if ended:
            where = f"all of {self._step} {self._units(self._step)} done before"
        say(f"{self.title}: {where}{', ' if self.beside else ''}{self.beside}")

    def _units(self, count: int) -> str:
        return self.unit + "s" * (count != 1)

    def _look(self, clock: "_Clock", line: bool, live: bool) -> None:
        """Read values and write metrics when a line is due. A live display reads them more often."""
        if line or (clock.metrics_due(self._step) and not self.brief):
            self._flush()
            if not self.brief:
                values = {**self._values, "seconds": round(self.seconds, 1)}
                self.metrics.append(phase=self.phase, step=self._step, **values)
        elif live and clock.redraw_due():
            self._flush()

    def _show(self, bar: progress.Bar, clock: "_Clock", line: bool, ended: bool) -> None:
        bar.at(self._step)
        if line and (ended or not bar.live):
            so_far = f"{self.unit} {self._step}/{clock.n} {100 * self._step // clock.n}%"
            say(f"{self.title}: {so_far} | {self._status(clock)}")

    def _status(self, clock: "_Clock") -> str:
        """Current values, pace, age of the newest checkpoint, and time left."""
        saved = "not saved yet" if self._saved is None else f"saved {duration(time.monotonic() - self._saved)} ago"
        values = [f"{TITLES.get(name, (name,))[0]} {value:.4g}" for name, value in dict(self._values).items()]
        each = f"{'an' if self.unit[0] in 'aeiou' else 'a'} {self.unit}"
        pace = f"{duration_ms(clock.pace.seconds)} {each}" if clock.pace.known else ""
        return " | ".join(filter(None, [*values, pace, saved, clock.pace.left(clock.n)]))

    def _save_due(self, clock: "_Clock") -> bool:
        """Save once early, then every few minutes, and after every long step if saving is cheap."""
        if not self._keeps:
            return False
        now = time.monotonic()
        if self._saving is None or self._saved is None:
            soon = self.checkpoint_seconds if self.brief else min(SOON, self.checkpoint_seconds)
            return now - clock.begun >= soon
        since = now - self._saved
        return since >= self.checkpoint_seconds or (clock.pace.seconds >= LONG and COST * since >= self._saving)

    def _flush(self) -> None:
        """Read the pending values, keep the newest of each, and check that all are finite."""
        for step, values in self._pending:
            for name, value in values.items():
                number = float(value)
                if not math.isfinite(number):
                    self._pending.clear()
                    raise Diverged(
                        f"{self.title}: step {step}: {name} is {number}; the last good state is kept in {self.folder}",
                        next="lower its learning rate with --set, and use another --out",
                    )
                self._values[name] = number
        self._pending.clear()

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.phase}-*.pt"))

    def _save(self, state: State, store: Store | None) -> None:
        """Write a checkpoint atomically and keep the newest two."""
        self._flush()  # what is not finite is not saved
        begun = time.monotonic()
        if store is not None:
            store.flush()
        now = {name: value() if callable(value) else value for name, value in state.items()}
        content = {"step": self._step, "seconds": self.seconds, "state": now}
        path = self.folder / f"{self.phase}-{self._step:08d}.pt"
        buffer = io.BytesIO()  # torch's own writer misreports a full disk
        torch.save(content, buffer)
        try:
            files.write_atomic(path, lambda file: file.write(buffer.getbuffer()))
        except UserError as fault:
            if not self.brief:
                raise
            self._keeps = False  # its result takes less space, and may be written
            warn(f"{self.title}: goes on without checkpoints: {fault.args[0]}")
            return
        kept = self._checkpoints()[-2:]
        for old in self._checkpoints()[:-2]:
            old.unlink()
        if store is not None:
            store.mark(self._step, _step(kept[0]) if len(kept) == 2 else 0)
        stopping.goes_on("from the last checkpoint")
        self._saved = time.monotonic()
        self._saving = self._saved - begun

    def _restore(self, state: State) -> int:
        """Fill `state` from the newest readable checkpoint and return its step; 0 if there is none."""
        files.sweep(self.folder)
        for path in reversed(self._checkpoints()):
            try:
                content = torch.load(path, map_location=self._place, weights_only=True)
            except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as fault:
                warn(f"{path}: damaged ({type(fault).__name__}), going back to the checkpoint before it")
                path.rename(path.with_suffix(".damaged"))
                continue
            if not self._is_ours(content, state, path):
                warn(f"{path}: is of another {self.phase}, going back to the checkpoint before it")
                path.rename(path.with_suffix(".damaged"))
                continue
            state.clear()
            state.update(content["state"])
            self.seconds = self.earlier = content["seconds"]
            self.metrics.rewind(self.phase, content["step"])
            stopping.goes_on("from the last checkpoint")
            self._saved = time.monotonic() - max(0.0, time.time() - path.stat().st_mtime)
            return int(content["step"])
        self.metrics.rewind(self.phase, 0)
        return 0

    def _is_ours(self, content: Any, state: State, path: Path) -> bool:
        """Whether a file's content is a checkpoint of this run, and not of a network whose code has changed since."""
        known = isinstance(content, dict) and {"step", "seconds", "state"} <= content.keys()
        known = known and content["step"] == _step(path)
        return known and (not self.brief or _alike(content["state"], state))

    def _place(self, storage: Any, location: str) -> Any:
        """Put a checkpoint's tensors on the CPU, or on this run's device, as they were."""
        return storage if location == "cpu" else storage.to(device=torch.device(self.device))

    def forget(self) -> None:
        """Remove the phase's checkpoints and stores, once its result is kept elsewhere. Metrics stay."""
        for path in self.folder.glob(f"{self.phase}-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the phase's folder, once its result is a file elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Clock:
    """The pace of a process's steps, and the times at which reports are due."""

    def __init__(self, first: int, n: int, before: float, report_seconds: float) -> None:
        self.n, self.begun, self.pace = n, time.monotonic(), progress.Pace(first)
        self._before, self._every = before, report_seconds
        self._lined = self.begun + min(0.0, progress.SILENCE - report_seconds)  # the first line is early
        self._drawn = self.begun

    def ticked(self, step: int) -> float:
        """Note the end of a step. Return the seconds of the phase so far."""
        self.pace.at(step)
        return self._before + time.monotonic() - self.begun

    def line_due(self, ended: bool) -> bool:
        """Whether a progress line is due. If so, its interval starts again."""
        due = ended or time.monotonic() - self._lined >= self._every
        self._lined = time.monotonic() if due else self._lined
        return due

    def metrics_due(self, step: int) -> bool:
        """Whether a metrics line is due in addition to progress lines."""
        return step % -(-self.n // METRICS) == 0

    def redraw_due(self) -> bool:
        """Whether a live display needs new values."""
        due = time.monotonic() - self._drawn >= progress.REDRAW
        self._drawn = time.monotonic() if due else self._drawn
        return due


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.rpartition("-")[2])


def _alike(found: Any, initial: Any) -> bool:
    """Whether a restored value has the tensors of an initial one, by name and shape. Other values may change."""
    if isinstance(initial, Tensor):
        return isinstance(found, Tensor) and found.shape == initial.shape
    if isinstance(initial, dict):
        return isinstance(found, dict) and all(name in found and _alike(found[name], initial[name]) for name in initial)
    return True


def duration_ms(seconds: float) -> str:
    """Milliseconds below one second, otherwise seconds."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
