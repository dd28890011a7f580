"""Randomness as an argument: every stream is a function of (seed, names)."""

import hashlib

import torch


def stream_seed(seed: int, *names) -> int:
    """A 63-bit integer that depends on the seed and every name, the same on every machine.

    Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    digest = hashlib.blake2b(repr((int(seed), *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *names) -> torch.Generator:
    """A torch generator for one named stream: batch t is `generator(seed, "train", t)`, chain k
    is `generator(seed, "chain", k)`, so any of them can be made again without the others. It is
    on the CPU, whatever computes: every device gets the same numbers."""
    return torch.Generator().manual_seed(stream_seed(seed, *names))
