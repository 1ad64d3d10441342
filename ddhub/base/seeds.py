"""Randomness made from (seed, purpose, step): a resumed run draws what an unbroken one would, with no state to save."""

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, independent of every other purpose of the same `seed`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose; draws are made on the CPU so that every device sees the same ones."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
