"""Long runs: a visible loop that resumes, checkpoints, reports and stops on a non-finite value.

    state = {"images": images}
    for step in run.steps(1000, state):
        ...
        run.log(loss=loss)

The iterator fills `state` from the newest whole checkpoint, saves it every few minutes, and writes one JSON line and
one progress line per interval. Together with randomness made from (seed, purpose, step), a resumed run ends with the
bits of an unbroken one. State holds tensors, numbers, strings, None, and lists and dicts of them; a true `stop` in it
ends the loop early. What is too large for checkpoints lives in a Store, which goes back and forth with them.
"""

import io
import math
import pickle
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.base.log import Metrics, say, warn
from ddhub.base.units import duration
from ddhub.training.image_store import Store

State = dict[str, Any]


class Run:
    """One resumable phase (`teacher`, `distill`) whose files live in one folder."""

    def __init__(
        self,
        folder: Path,
        phase: str,
        *,
        device: str = "cpu",
        checkpoint_seconds: float = 120,
        report_seconds: float = 10,
    ) -> None:
        self.folder, self.phase, self.device = folder, phase, device
        self.checkpoint_seconds, self.report_seconds = checkpoint_seconds, report_seconds
        self.metrics = Metrics(folder / "metrics.jsonl")
        self.seconds = 0.0  # spent in this phase, over all of its resumptions
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._step = 0

    def log(self, **values: Tensor | float) -> None:
        """Note values of the current step; tensors are read only when a line is due, so the device is not stopped."""
        detached = {k: v.detach() if isinstance(v, Tensor) else v for k, v in values.items()}
        self._pending.append((self._step, detached))

    def steps(self, n: int, state: State, store: Store | None = None) -> Iterator[int]:
        """Yield the steps still to do, 0 to n - 1; `state` is filled from the newest checkpoint first.

        Args:
            n: steps in all.
            state: what a checkpoint holds.
            store: what is brought back to the same step as `state`; at step 0 it is filled anew.

        Raises:
            UserError: naming the step whose logged values are not finite; the last checkpoint stays.
        """
        self._step = self._restore(state)
        if store is not None:
            store.rewind(self._step)
        begun = saved = reported = time.monotonic()
        first, before = self._step, self.seconds
        while self._step < n and not state.get("stop"):
            yield self._step
            self._step += 1
            now = time.monotonic()
            self.seconds = before + now - begun
            done = self._step == n or bool(state.get("stop"))
            if done or now - reported >= self.report_seconds:
                self._report(n, (now - begun) / (self._step - first), now - saved)
                reported = now
            if done or now - saved >= self.checkpoint_seconds:
                self._flush()
                self._save(state, store)
                saved = time.monotonic()

    def _report(self, n: int, rate: float, since_saved: float) -> None:
        values = self._flush()
        shown = "".join(f" | {name} {value:.4g}" for name, value in values.items())
        self.metrics.append(phase=self.phase, step=self._step, **values, seconds=round(self.seconds, 1))
        say(
            f"{self.phase} {self._step}/{n} {100 * self._step // n}%{shown} | {duration_ms(rate)} a step"
            f" | saved {duration(since_saved)} ago | eta {duration(rate * (n - self._step))}"
        )

    def _flush(self) -> dict[str, float]:
        """Read the pending values: the newest of each, all checked to be finite."""
        newest: dict[str, float] = {}
        for step, values in self._pending:
            for name, value in values.items():
                number = float(value)
                if not math.isfinite(number):
                    self._pending.clear()
                    raise UserError(
                        f"{self.phase}: step {step}: {name} is {number}; the last good state is kept in {self.folder}",
                        next="lower its learning rate with --set, and use another --out",
                    )
                newest[name] = number
        self._pending.clear()
        return newest

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.phase}-*.pt"))

    def _save(self, state: State, store: Store | None) -> None:
        """Write a checkpoint atomically and keep the newest two."""
        if store is not None:
            store.flush()
        content = {"step": self._step, "seconds": self.seconds, "state": state}
        path = self.folder / f"{self.phase}-{self._step:08d}.pt"
        buffer = io.BytesIO()  # torch's own writer reports a full disk as something else
        torch.save(content, buffer)
        files.write_atomic(path, lambda file: file.write(buffer.getbuffer()))
        kept = self._checkpoints()[-2:]
        for old in self._checkpoints()[:-2]:
            old.unlink()
        if store is not None:
            store.mark(self._step, _step(kept[0]) if len(kept) == 2 else 0)

    def _restore(self, state: State) -> int:
        """Fill `state` from the newest checkpoint that can be read; returns its step, 0 where there is none."""
        files.sweep(self.folder)
        for path in reversed(self._checkpoints()):
            try:
                content = torch.load(path, map_location=self._place, weights_only=True)
            except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as fault:
                warn(f"{path}: damaged ({type(fault).__name__}), going back to the checkpoint before it")
                path.rename(path.with_suffix(".damaged"))
                continue
            state.clear()
            state.update(content["state"])
            self.seconds = content["seconds"]
            self.metrics.rewind(self.phase, content["step"])
            if content["step"]:
                say(f"{self.phase}: resuming at step {content['step']}")
            return int(content["step"])
        self.metrics.rewind(self.phase, 0)
        return 0

    def _place(self, storage: Any, location: str) -> Any:
        """A checkpoint's tensors where they were: on the CPU, or on the device that this run has now."""
        return storage if location == "cpu" else storage.to(device=torch.device(self.device))

    def forget(self) -> None:
        """Remove this phase's checkpoints and stores, once its result is kept elsewhere; metrics stay."""
        for path in self.folder.glob(f"{self.phase}-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove this phase's folder, once its result is a file of its own."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.rpartition("-")[2])


def duration_ms(seconds: float) -> str:
    """Milliseconds below a second, seconds above."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
