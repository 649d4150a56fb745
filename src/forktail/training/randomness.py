"""Randomness as an argument: a seed for every purpose, and global generators that are always given back.

timm and torchvision draw from the global generators of `random`, `numpy` and `torch`. Those are set for each example
from (seed, stage, epoch, index) and for each step from (seed, stage, step), and restored. So the number of workers,
skipped stages and a resumed run cannot change a result.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*parts: object) -> int:
    """Derive an independent 63-bit seed from what it is for.

    Args:
        parts: Anything whose ``repr`` says what the numbers are for, such as ``(seed, "stage1", epoch, index)``.

    Returns:
        A seed in [0, 2^63).

    Example:
        >>> seed_of(0, "stage1", 3) == seed_of(0, "stage1", 3) != seed_of(0, "stage1", 4)
        True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def set_generators(seed: int) -> None:
    """Set the global generators of `random`, `numpy` and `torch` (CPU).

    Args:
        seed: A seed in [0, 2^63).
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 - timm draws from the legacy generator
    torch.default_generator.manual_seed(seed)


@contextmanager
def restored_generators(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Give the global generators back as they were found, whatever happens inside.

    Args:
        seed: Set them to this seed first; None leaves them as they are.
        device: A GPU whose generator is set and restored, too.

    Yields:
        Nothing.
    """
    python, numpy, torch_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    gpu = torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None
    try:
        if seed is not None:
            set_generators(seed)
            if gpu is not None:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(torch_cpu)
        if gpu is not None and device is not None:
            torch.cuda.set_rng_state(gpu, device)
