"""Moments as named arrays, as they are kept on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from forktail.fisher.moments import FloatArray, Moments
from forktail.theory.moments import UnitMoments

Arrays = dict[str, FloatArray]
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


def unpacked(arrays: Mapping[str, FloatArray]) -> Moments:
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
