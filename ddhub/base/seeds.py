"""Randomness derived from (seed, purpose, step). A resumed run needs no saved state to draw the same numbers."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence

import torch

_turn = threading.RLock()  # of torch's global generator


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, independent of other purposes of the same `seed`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose. Draws are made on the CPU, so that all devices see the same ones."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextlib.contextmanager
def global_draws(seed: int | None = None, devices: Sequence[str] = ()) -> Iterator[None]:
    """Let code of others draw from torch's global generator in this block. Its state is restored.

    Threads take turns. Without that, one would draw what another has seeded.

    Args:
        seed: the seed of the block; None goes on from the present state.
        devices: the GPUs whose generators are restored too.
    """
    with _turn, torch.random.fork_rng(devices=list(devices)):
        if seed is not None:
            torch.manual_seed(seed)
        yield
