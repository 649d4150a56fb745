"""Moments as named arrays, as they are kept on disk, and tasks that were measured apart put side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from forktail.fisher.moments import Moments
from forktail.theory.moments import UnitMoments

Arrays = dict[str, npt.NDArray[np.float64]]
FIELDS = tuple(field.name for field in dataclasses.fields(UnitMoments))


def packed(found: Moments) -> Arrays:
    """Name every array of some moments.

    Args:
        found: The moments.

    Returns:
        ``unit<i>.<field>`` and ``decoder<t>.<field>``, a missing ``cross`` left out, and ``gradient_norms``.
    """
    arrays = {"gradient_norms": found.gradient_norms}
    for kind, parts in (("unit", found.units), ("decoder", found.decoders)):
        for number, part in enumerate(parts):
            named = {field: getattr(part, field) for field in FIELDS}
            arrays |= {f"{kind}{number}.{field}": value for field, value in named.items() if value is not None}
    return arrays


def unpacked(arrays: Mapping[str, npt.NDArray[np.float64]]) -> Moments:
    """Undo `packed`.

    Args:
        arrays: What `packed` named.

    Returns:
        The moments.
    """

    def parts(kind: str) -> list[UnitMoments]:
        number, found = 0, []
        while f"{kind}{number}.curvature" in arrays:
            found.append(UnitMoments(**{field: arrays.get(f"{kind}{number}.{field}") for field in FIELDS}))  # type: ignore[arg-type]
            number += 1
        return found

    return Moments(parts("unit"), parts("decoder"), arrays["gradient_norms"])


def side_by_side(tasks: Sequence[Moments]) -> Moments:
    """Join tasks that were measured one by one, each on images of its own: no image has scores of two tasks.

    Args:
        tasks: K moments of one task each, of networks with the same backbone.

    Returns:
        Moments of K tasks without cross terms.
    """
    units = [
        UnitMoments(
            **{
                field: np.concatenate([getattr(task.units[number], field) for task in tasks])
                for field in FIELDS
                if field != "cross"
            }
        )
        for number in range(len(tasks[0].units))
    ]
    decoders = [decoder for task in tasks for decoder in task.decoders]
    return Moments(units, decoders, np.concatenate([task.gradient_norms for task in tasks]))
