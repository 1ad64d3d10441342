"""Randomness derived from (seed, purpose, step). A resumed run needs no saved state to draw the same numbers."""

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, independent of other purposes of the same `seed`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose. Draws are made on the CPU, so that all devices see the same ones."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
