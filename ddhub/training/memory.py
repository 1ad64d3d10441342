"""Keeping to a memory budget: rehearsals find how many images fit into a step at once.

Only the run's own memory counts: what torch reserved on a GPU, otherwise the process's anonymous memory. Pages of
files (libraries, real images, the store of synthetic ones) do not count, because the system can drop them.
"""

import contextlib
import ctypes
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ddhub.base.errors import UserError
from ddhub.base.log import say
from ddhub.training import architectures
from ddhub.training import device as devices
from ddhub.training.device import Decisions

SIZES = (1, 2, 5, 10, 25, 50, 100, 150, 200, 250, 350, 500, 750, 1000)
RESERVE = 0.9  # share of a budget for a rehearsal; batches, checkpoints and the store need the rest
SAMPLE_SECONDS = 0.005
USUAL = 2 * 10**9  # default budget of an evaluation's batches on a CPU, in bytes
SCORED = 500  # images scored at once without a budget
# Memory of a pass relative to the layers' outputs, measured on ConvNets at 32 and 224 px: 2.4 and 2.5 times the
# largest layer in scoring, 1.5 and 1.7 times all layers in training.
SCORING, LEARNING = 3, 2


class Peak:
    """Measures the peak memory of a block, in bytes: `with Peak(device) as peak: ...; peak.bytes`.

    Args:
        every: seconds between two samples, if the system keeps no peak.
    """

    def __init__(self, device: str, every: float = SAMPLE_SECONDS) -> None:
        self.device, self.bytes, self.every = device, 0, every
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        if devices.is_gpu(self.device):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            give_back()
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if devices.is_gpu(self.device):
            self.bytes = int(torch.cuda.max_memory_reserved(self.device))
        else:
            self._end.set()
            self._watcher.join()

    def _watch(self) -> None:
        done = False
        while not done:
            done = self._end.wait(self.every)
            self.bytes = max(self.bytes, anonymous_bytes())


def anonymous_bytes() -> int:
    """This process's anonymous memory; its peak memory if the system does not report it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return devices.peak_bytes("cpu")
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def give_back() -> None:
    """Return freed memory to the system, so that it does not count again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def fitted(
    budget: int, device: str, works: Mapping[str, Callable[[int], object]], most: Mapping[str, int]
) -> dict[str, int]:
    """Find the largest number of images at once that keeps within a budget, for each kind of work.

    Args:
        budget: the budget in bytes.
        works: the rehearsals by the name of their decision. Each does a step on so many images.
        most: the largest useful number of images, by the same names.

    Raises:
        UserError: if one image at a time takes too much, with the needed budget.
    """
    found = {}
    for name, work in works.items():
        with _all_there(f"{name} of one image", device):
            found[name], peak = _largest(int(budget * RESERVE), device, work, most[name])
        if peak > budget * RESERVE:
            raise _too_small(f"{name} of one image takes", peak)
        say(f"memory: {name} {found[name]}, {peak / 1e9:.2f} GB of {budget / 1e9:.2f} GB", once=True)
    return found


def check(budget: int, device: str, name: str, work: Callable[[], object]) -> None:
    """Refuse a budget that is too small for work that cannot be divided.

    Raises:
        UserError: with the needed budget; `name` is the work.
    """
    with Peak(device) as peak, _all_there(name, device):
        work()
    if peak.bytes > budget * RESERVE:
        raise _too_small(f"{name}, which are not cut into pieces, take", peak.bytes)


def foretold(budget: int, name: str, most: int, bytes_of: Callable[[int], float]) -> int:
    """What `fitted` would find for the decision `name`, if `bytes_of` gives the memory for a number of images.

    Raises:
        UserError: as for `fitted`.
    """
    fitting = [size for size in _ladder(most) if bytes_of(size) <= budget * RESERVE]
    if not fitting:
        raise _too_small(f"{name} of one image takes", bytes_of(1))
    return max(fitting)


def fit_to_budget(
    decisions: Decisions, arch: str, channels: int, side: int, batch: int, budget: int | None
) -> Decisions:
    """Decisions with which training and scoring keep to a budget, estimated from the layers' outputs per image.

    Scores do not depend on the number of images scored at once. Gradients do not either, up to rounding, except with
    batch norm or dropout. Steps of such networks are divided only for a requested budget.

    Args:
        batch: the images of a training step.
        budget: bytes; None takes USUAL on a CPU, and no limit on a GPU.

    Raises:
        UserError: if one image exceeds the requested budget, with the needed budget.
    """
    put_out = architectures.activation_bytes(arch, channels, side)
    every, largest = put_out.every, put_out.largest
    allowed = budget or (USUAL if decisions.device.startswith("cpu") else None)
    if allowed is None or not every:
        return decisions
    scored, learnt = allowed // (SCORING * largest), allowed // (LEARNING * every)
    if budget is not None and min(scored, learnt) < 1:
        raise _too_small(
            f"{arch} for one image of {side}x{side} takes", RESERVE * max(SCORING * largest, LEARNING * every)
        )
    found = replace(decisions, chunk=max(1, scored)) if scored < SCORED else decisions
    if learnt >= batch or (budget is None and architectures.mixes(arch, channels, side)):
        return found
    return replace(found, micro_batch=max(1, learnt))


def _too_small(what: str, peak: float) -> UserError:
    needed = f"{math.ceil(peak / RESERVE / 1e7) / 100:.2f}GB"
    return UserError(f"memory: {what} more than the budget", next=f"--memory {needed}")


def _largest(allowed: int, device: str, work: Callable[[int], object], most: int) -> tuple[int, int]:
    """The largest size within `allowed` bytes and its peak; the smallest size if none fits.

    Sizes grow. A size is skipped if the last two predict that it is too large, because trying it could end the process.
    """
    tried: list[tuple[int, int]] = []
    for size in _ladder(most):
        if len(tried) > 1:
            (small, less), (large, more) = tried[-2:]
            if more + max(0, more - less) * (size - large) / (large - small) > allowed:
                break
        try:
            with Peak(device) as peak:
                work(size)
        except (torch.OutOfMemoryError, MemoryError):
            if not tried:
                raise
            break  # the machine has less memory than the budget
        tried.append((size, peak.bytes))
        if peak.bytes > allowed:
            break
    fitting = [each for each in tried if each[1] <= allowed]
    return fitting[-1] if fitting else tried[0]


@contextlib.contextmanager
def _all_there(what: str, device: str) -> Iterator[None]:
    """Report a device with less memory than the smallest rehearsal takes."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as fault:
        taken = f"memory: {what}: more than {devices.hardware(device)} has free"
        raise UserError(taken, next="a smaller network (teachers.arch), or --device cpu") from fault


def _ladder(most: int) -> Iterator[int]:
    yield from (size for size in SIZES if size < most)
    yield most
