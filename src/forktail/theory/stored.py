"""Moments in a file, read piece by piece: 10^9 parameters are never in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open

from forktail.errors import InputError
from forktail.theory.moments import UnitMoments
from forktail.theory.pieces import PIECE


@dataclass(frozen=True)
class StoredUnit:
    """One unit of a safetensors file with tensors ``<name>.curvature`` and the like, for each field of the moments.

    The file is mapped, not read; each walk through the unit reads it again. ``scores`` and ``risk`` may be missing
    where one Fisher stands for all (docs/theory.md, section 6): the curvature is then taken for them.

    Args:
        path: The file.
        name: The unit's, such as ``unit3``.
        size: Coordinates of a piece.

    Example:
        >>> import numpy as np
        >>> from safetensors.numpy import save_file
        >>> path = folder / "moments.safetensors"
        >>> save_file({"unit0.curvature": np.ones((2, 5)), "unit0.position": np.zeros((2, 5))}, path)
        >>> [piece.num_coordinates for piece in StoredUnit(path, "unit0", size=3)]
        [3, 2]
    """

    path: str | Path
    name: str
    size: int = PIECE

    def __iter__(self) -> Iterator[UnitMoments]:
        try:
            opened = safe_open(str(self.path), framework="numpy")
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path}: {error}", expected="a safetensors file of moments") from None
        with opened as file:
            stored = set(file.keys())
            names = {field.name: f"{self.name}.{field.name}" for field in fields(UnitMoments)}
            for needed in ("curvature", "position"):
                if names[needed] not in stored:
                    raise InputError(f"{self.path}: no tensor {names[needed]}", expected="moments of this unit")
            found = {field: file.get_slice(name) for field, name in names.items() if name in stored}
            coordinates = found["curvature"].get_shape()[-1]
            for start in range(0, coordinates, self.size):
                stop = min(start + self.size, coordinates)
                piece = {
                    field: part[:, :, start:stop] if field == "cross" else part[:, start:stop]
                    for field, part in found.items()
                }
                yield UnitMoments(**{"scores": piece["curvature"], "risk": piece["curvature"]} | piece)
