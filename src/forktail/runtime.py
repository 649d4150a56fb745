"""Which device the work runs on; the only file that may come to know of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from forktail.errors import InputError, nearest

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Runtime:
    """One process on one device.

    Args:
        device: Where parameters and batches live.
        rank: Number of this process among ``world``.
        world: Number of processes.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @staticmethod
    def open(name: str = "auto") -> Runtime:
        """Choose the device by name.

        Args:
            name: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.

        Returns:
            The runtime.

        Raises:
            InputError: If the name is unknown or the device is missing.

        Example:
            >>> Runtime.open("cpu").device
            device(type='cpu')
        """
        if name not in DEVICES:
            raise InputError(f'device "{name}" is unknown', remedy=nearest(name, DEVICES))
        has_gpu = torch.cuda.is_available()
        if name == "cuda" and not has_gpu:
            raise InputError('device "cuda": torch finds no GPU', remedy='use "cpu" or "auto"')
        return Runtime(torch.device("cuda" if has_gpu and name != "cpu" else "cpu"))

    @contextmanager
    def reproducible(self) -> Iterator[None]:
        """Make every operation inside deterministic (on a CPU ours are; a GPU has to be told)."""
        if self.device.type == "cpu":
            yield
            return
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
