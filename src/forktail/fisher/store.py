"""Moments as named arrays, as they are kept on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from forktail.fisher.moments import GroupedMoments, Moments
from forktail.fisher.per_image import GradientSums, NetworkSums
from forktail.theory.moments import UnitMoments

Arrays = dict[str, npt.NDArray[Any]]
FIELDS = tuple(field.name for field in dataclasses.fields(UnitMoments))
SUMS = tuple(field.name for field in dataclasses.fields(GradientSums))[2:]  # but for how many images


def packed(found: GroupedMoments) -> Arrays:
    """Name every array of some moments.

    Args:
        found: The moments.

    Returns:
        ``unit<i>.<field>`` and ``decoder<t>.<field>``, without what is missing and without a ``risk`` that is the
        curvature itself; ``gradient_norms``; and ``group<g>.unit<i>.<field>`` and the like for the sums of groups, with
        ``group<g>.images`` and ``group<g>.weight``.
    """
    arrays: Arrays = {"gradient_norms": found.whole.gradient_norms}
    for name, part in _numbered(found.whole.units, found.whole.decoders):
        named = {field: getattr(part, field) for field in FIELDS}
        if part.risk is part.curvature:
            del named["risk"]
        arrays |= {f"{name}.{field}": value for field, value in named.items() if value is not None}
    for number, sums in enumerate(found.groups):
        start = f"group{number}"
        arrays |= {f"{start}.{name}": np.array([getattr(sums.units[0], name)]) for name in ("images", "weight")}
        for name, one in _numbered(sums.units, sums.decoders):
            arrays |= {f"{start}.{name}.{field}": value.numpy() for field, value in one.tensors().items()}
    return arrays


def unpacked(arrays: Mapping[str, npt.NDArray[Any]]) -> GroupedMoments:
    """Undo `packed`.

    Args:
        arrays: What `packed` named.

    Returns:
        The moments.
    """
    units, decoders = ([_moments(arrays, name) for name in _names(arrays, kind)] for kind in ("unit", "decoder"))
    groups = [
        NetworkSums(*([_sums(arrays, start, name) for name in _names(arrays, kind)] for kind in ("unit", "decoder")))
        for start in _names(arrays, "group", "images")
    ]
    return GroupedMoments(Moments(units, decoders, arrays["gradient_norms"]), groups)


def _numbered(units: list[Any], decoders: list[Any]) -> list[tuple[str, Any]]:
    return [
        (f"{kind}{i}", part) for kind, parts in (("unit", units), ("decoder", decoders)) for i, part in enumerate(parts)
    ]


def _names(arrays: Mapping[str, npt.NDArray[Any]], kind: str, field: str = "curvature") -> list[str]:
    """List ``<kind>0``, ``<kind>1`` and so on, as far as they are there."""
    names: list[str] = []
    while (name := f"{kind}{len(names)}") + f".{field}" in arrays:
        names.append(name)
    return names


def _moments(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> UnitMoments:
    found = {field: arrays[key] for field in FIELDS if (key := f"{name}.{field}") in arrays}
    return UnitMoments(**{"risk": found["curvature"]} | found)


def _sums(arrays: Mapping[str, npt.NDArray[Any]], group: str, name: str) -> GradientSums:
    found = {field: torch.from_numpy(arrays[key]) for field in SUMS if (key := f"{group}.{name}.{field}") in arrays}
    return GradientSums(arrays[f"{group}.images"].item(), arrays[f"{group}.weight"].item(), **found)
