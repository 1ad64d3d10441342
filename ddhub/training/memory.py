"""A run's memory as a setting: how many images may be worked on at once, found by rehearsing a step or two.

What counts is what a run takes for itself. Of a GPU, that is what torch reserved. Otherwise it is the process's
anonymous memory. Pages of files are left out, because the system may drop them: libraries, real images, the store of
synthetic ones.
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
RESERVE = 0.9  # share of a budget that a rehearsal may take: batches, checkpoints and the store's pieces need some too
SAMPLE_SECONDS = 0.005
USUAL = 2 * 10**9  # bytes that an evaluation's batches may take on a CPU where nobody says
SCORED = 500  # images that are scored at once where memory is no matter
# What a pass takes of what layers put out, measured on ConvNets at 32 and 224 px: 2.4 and 2.5 of the largest layer in
# scoring, 1.5 and 1.7 of all layers in training.
SCORING, LEARNING = 3, 2


class Peak:
    """The most memory held while the block runs, in bytes: `with Peak(device) as peak: ...; peak.bytes`.

    Args:
        every: seconds between two looks, where nobody keeps count.
    """

    def __init__(self, device: str, every: float = SAMPLE_SECONDS) -> None:
        self.device, self.bytes, self.every = device, 0, every
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            give_back()
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.startswith("cuda"):
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
    """This process's memory that no file stands behind; where the system does not tell, all that it ever had."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return devices.peak_bytes("cpu")
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def give_back() -> None:
    """Hand freed memory back to the system, so that what was held before does not count again."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def fitted(
    budget: int, device: str, works: Mapping[str, Callable[[int], object]], most: Mapping[str, int]
) -> dict[str, int]:
    """For each kind of work the most images at once that keep within a budget.

    Args:
        budget: bytes.
        works: by the name of a decision, a rehearsal of a step on so many images.
        most: by the same names, beyond how many it makes no difference.

    Raises:
        UserError: when one image at a time is too many; says what is needed.
    """
    found = {}
    for name, work in works.items():
        with _all_there(f"{name} of one image", device):
            found[name], peak = _largest(int(budget * RESERVE), device, work, most[name])
        if peak > budget * RESERVE:
            raise _too_small(f"{name} of one image takes", peak)
        say(f"memory: {name} {found[name]}, {peak / 1e9:.2f} GB of {budget / 1e9:.2f} GB")
    return found


def check(budget: int, device: str, name: str, work: Callable[[], object]) -> None:
    """Refuse a budget that is too small for a rehearsal that no decision cuts into pieces.

    Raises:
        UserError: saying what is needed; `name` says for what.
    """
    with Peak(device) as peak, _all_there(name, device):
        work()
    if peak.bytes > budget * RESERVE:
        raise _too_small(f"{name}, which are not cut into pieces, take", peak.bytes)


def foretold(budget: int, name: str, most: int, bytes_of: Callable[[int], float]) -> int:
    """What `fitted` would find for the decision `name` where so many images take `bytes_of` them.

    Raises:
        UserError: as `fitted` does.
    """
    fitting = [size for size in _ladder(most) if bytes_of(size) <= budget * RESERVE]
    if not fitting:
        raise _too_small(f"{name} of one image takes", bytes_of(1))
    return max(fitting)


def cut(decisions: Decisions, arch: str, channels: int, side: int, batch: int, budget: int | None) -> Decisions:
    """Decisions by which training and scoring keep to a budget, about, by what the layers put out of each image.

    Scores do not hang on how many images are looked at together. Nor does a step's gradient, up to rounding, but for
    networks with batch norm or dropout: their steps are cut only where a budget is asked for.

    Args:
        batch: images of a training step.
        budget: bytes; None takes USUAL on a CPU, and cuts nothing on a GPU.

    Raises:
        UserError: where one image takes more than the budget that is asked for; says what is needed.
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
    """The largest size that stays within `allowed` bytes, and its peak; that of the smallest where none does.

    Sizes are tried upwards, and none that the last two foretell to be too large: a step that is, can end the process.
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
            break  # the budget is more than there is
        tried.append((size, peak.bytes))
        if peak.bytes > allowed:
            break
    fitting = [each for each in tried if each[1] <= allowed]
    return fitting[-1] if fitting else tried[0]


@contextlib.contextmanager
def _all_there(what: str, device: str) -> Iterator[None]:
    """Say it where a device has less memory than the smallest rehearsal takes."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as fault:
        taken = f"memory: {what}: more than {devices.hardware(device)} has free"
        raise UserError(taken, next="a smaller network (teachers.arch), or --device cpu") from fault


def _ladder(most: int) -> Iterator[int]:
    yield from (size for size in SIZES if size < most)
    yield most
