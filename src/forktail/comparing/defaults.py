"""What a comparison takes where nothing is said: a file of its own, since the command's help imports no torch."""

from __future__ import annotations

from typing import Final

METHODS: Final = ("osdtw", "logit_adjustment", "ce")
SEEDS: Final = (0, 1, 2)
BUDGET: Final = "epochs"
