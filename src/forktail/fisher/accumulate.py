"""Sums over images of squares and products of per-image gradients, tile by tile.

Legend: B images, K tasks, (R, W) a tensor as a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forktail.fisher.sources import Outer, Source, whole_rows

# Entries of gradients that are held at once: what a processor's cache takes, or what keeps an accelerator busy. A tile
# of one image is added in one pass; only where it is small, several images together are faster.
TILE_CPU, TILE_ACCELERATOR = 2**20, 2**26
SMALL = 16


@dataclass(frozen=True, eq=False)
class Totals:
    """Where the sums of one tensor of K networks go: matrices ``(R, W)``, mostly float64, added to in place.

    Args:
        products: ``sum_i g_t g_u`` by ``(t, u)``, t <= u; the pairs that are not there are not computed.
        first: K times ``sum_i g_t``; None is not computed.
        weighted: K times ``sum_i r_i g_t^2``; None is not computed.
    """

    products: dict[tuple[int, int], Tensor]
    first: list[Tensor] | None = None
    weighted: list[Tensor] | None = None

    @property
    def num_rows(self) -> int:
        """R."""
        return len(next(iter([*self.products.values(), *(self.weighted or [])])))


def accumulate(
    sources: Sequence[Source], weights: Tensor | None, totals: Totals, images: range, tile: int | None = None
) -> None:
    """Add what some images contribute.

    A tile of one image's gradient (or of a few, if they are small) is formed, multiplied and added while it is in the
    cache; images are added in the gradients' own precision, and every call's result in the totals'.

    Args:
        sources: K sources of the same tensor.
        weights: ``(B,)``, r_i, better not on an accelerator; needed for ``totals.weighted`` alone.
        totals: Are added to.
        images: Which of the B.
        tile: Entries that are held at once; the result does not depend on it, up to rounding.
    """
    if not images:
        return
    supports = [source.support for source in sources]
    support = supports[0]
    if any(not _same(support, other) for other in supports):
        support = None
    num_rows = totals.num_rows if support is None else len(support)
    if all(isinstance(source, Outer) and source.is_rank_one for source in sources):
        _add(totals, _rank_one(sources, weights, totals, _slice(images)), slice(0, num_rows), support)  # type: ignore[arg-type]
        return
    for rows, parts in _tiles(sources, num_rows, support, len(images), tile):
        sums = _Sums.empty(totals)
        for first in range(0, len(images), parts):
            part = _slice(images[first : first + parts])
            known = None if weights is None else weights[part]
            if support is None:
                gradients = [whole_rows(source, num_rows, part, rows) for source in sources]
            else:
                gradients = [source.gradients(part, rows) for source in sources]
            sums.add(gradients, known, totals)
        _add(totals, sums, rows, support)


class _Sums:
    """The sums of one tile, in the gradients' own precision."""

    def __init__(
        self,
        products: dict[tuple[int, int], Tensor | None],
        first: list[Tensor | None],
        weighted: list[Tensor | None],
    ) -> None:
        self.products, self.first, self.weighted = products, first, weighted

    @classmethod
    def empty(cls, totals: Totals) -> _Sums:
        return cls(
            dict.fromkeys(totals.products),
            [None] * len(totals.first or []),
            [None] * len(totals.weighted or []),
        )

    def add(self, gradients: list[Tensor], weights: Tensor | None, totals: Totals) -> None:
        for t, u in totals.products:
            self.products[t, u] = _add_products(self.products[t, u], gradients[t], gradients[u], None)
        for task in range(len(self.first)):
            total, gradient = self.first[task], gradients[task]
            self.first[task] = gradient.sum(0) if total is None else total.add_(gradient.sum(0))
        for task in range(len(self.weighted)):
            self.weighted[task] = _add_products(self.weighted[task], gradients[task], gradients[task], weights)


def _add_products(total: Tensor | None, one: Tensor, other: Tensor, weights: Tensor | None) -> Tensor:
    if len(one) == 1:  # one pass over the tile
        total = torch.zeros_like(one[0]) if total is None else total
        return total.addcmul_(one[0], other[0], value=1.0 if weights is None else float(weights[0]))
    if weights is not None:
        one = one * weights.to(one)[:, None, None]
    products = (one * other).sum(0)
    return products if total is None else total.add_(products)


def _rank_one(sources: Sequence[Outer], weights: Tensor | None, totals: Totals, images: slice) -> _Sums:
    """Factorise: ``sum_i (g_t a_t')(g_u a_u')``, entry by entry, is ``(g_t g_u)' (a_t a_u)`` over the images."""
    outputs = [source.outputs[images, 0] for source in sources]
    inputs = [source.inputs[images, 0] for source in sources]
    tasks = range(len(sources))
    known = None if weights is None else weights[images].to(outputs[0])[:, None]
    sums = _Sums.empty(totals)
    for t, u in totals.products:
        sums.products[t, u] = (outputs[t] * outputs[u]).T @ (inputs[t] * inputs[u])
    if totals.first is not None:
        sums.first = [outputs[task].T @ inputs[task] for task in tasks]
    if totals.weighted is not None and known is not None:
        sums.weighted = [(known * outputs[task].square()).T @ inputs[task].square() for task in tasks]
    return sums


def _add(totals: Totals, sums: _Sums, rows: slice, support: Tensor | None) -> None:
    pairs = [(totals.products[pair], found) for pair, found in sums.products.items()]
    pairs += zip(totals.first or [], sums.first, strict=True)
    pairs += zip(totals.weighted or [], sums.weighted, strict=True)
    for total, found in pairs:
        assert found is not None
        if support is None:
            total[rows] += found
        else:
            total.index_add_(0, support[rows], found.to(total.dtype))


def _tiles(
    sources: Sequence[Source], num_rows: int, support: Tensor | None, num_images: int, tile: int | None
) -> list[tuple[slice, int]]:
    """Say which rows are formed together, and of how many images."""
    width = sources[0].shape[1]
    bound = tile or _default_tile(sources)
    together = num_rows
    if all(source.splits and (support is not None or source.support is None) for source in sources):
        together = min(num_rows, max(1, bound // width))
    images = min(num_images, max(1, bound // SMALL // max(1, together * width)))
    return [(slice(first, min(first + together, num_rows)), images) for first in range(0, num_rows, together)]


def _default_tile(sources: Sequence[Source]) -> int:
    on_cpu = all(not isinstance(source, Outer) or source.inputs.device.type == "cpu" for source in sources)
    return TILE_CPU if on_cpu else TILE_ACCELERATOR


def _slice(images: range) -> slice:
    return slice(images.start, images.stop, images.step)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
