"""The criterion table of 10^8 parameters: one pass into fine bins, then any number of weights.

For two tasks everything that the weight does to one parameter, it does through the ratio r of the two (damped)
curvatures. So sums of a few multipliers in fine bins of r say all: docs/theory.md, section 13, whose equation numbers
the code cites. `forktail.theory.criterion` is the reference that this is held to; the error is bounded, not assumed.

Legend: a, b curvatures of the two tasks, damping added; p = a / (a + b), q = 1 - p; D = w p + v q; weights w + v = 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.criterion import CriterionTable, Question, assembled, own_variance, ratio, shared_terms
from forktail.theory.moments import FloatArray, UnitMoments
from forktail.theory.pieces import PIECE, Piece, Pieces, pieces

_OCTAVES = 64  # bins hold ratios from 2^-64 to 2^63; what lies beyond is computed exactly, one by one
_PER_OCTAVE = 1024  # bins, of equal width within an octave: the leading ten bits of the mantissa
_COARSE = 128  # bins share one bound on their curvature
_NODES = 12  # Chebyshev nodes to which the bins of an octave are reduced: to 1e-14
_WEIGHTS_AT_ONCE = 1024
_REST = 52 - 10  # bits of the mantissa below the bin's
_FIRST_BIN = (1023 - _OCTAVES) * _PER_OCTAVE  # the leading bits of the smallest ratio
_LOWEST, _HIGHEST = 2.0**-_OCTAVES, 2.0 ** (_OCTAVES - 1)
_HALVES = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])


def binned_table(
    units: Sequence[Pieces],
    decoders: Sequence[Pieces],
    *,
    weights: npt.ArrayLike,
    n: npt.ArrayLike,
    reading: str = "general",
    debiased: bool = True,
    damping: float = 0.0,
    own_group_n: npt.ArrayLike | None = None,
    threads: int = 2,
) -> CriterionTable:
    """Predict the excess risk of every depth and every weight, at a price that hardly depends on how many weights.

    What :func:`forktail.theory.criterion_table` gives, with every reading and option, to the error that the table's
    ``bound`` reports. For a number of tasks other than two there are no bins: the reference itself runs over the
    pieces, exactly, at a price per weight.

    Args:
        units: The stem and units 1..L; each as a whole, or as pieces of coordinates in any order, which are read
            once and never held together (`forktail.theory.StoredUnit` reads them from a file).
        decoders: For each task what is never shared, with one task each.
        weights: (W, K) candidate weights, each row >= 0 and summing to 1.
        n: (K,) images that each task was trained on.
        reading: One of :data:`READINGS`.
        debiased: Subtract the sampling noise of the measured positions (eq. 7).
        damping: lambda >= 0.
        own_group_n: (K,) images of each task's own classes, for ``unequal`` alone.
        threads: Pieces worked on at once. The result does not depend on it.

    Returns:
        The table, with its bound.

    Raises:
        InputError: As the reference does.

    Example:
        >>> fisher = np.array([[4.0], [1.0]])
        >>> unit = UnitMoments(fisher, fisher, fisher, position=np.array([[0.0], [0.1]]))
        >>> decoder = UnitMoments(*[np.ones((1, 1))] * 3, position=np.zeros((1, 1)))
        >>> table = binned_table([unit, unit], [decoder] * 2, weights=[[0.5, 0.5]], n=[100, 100], debiased=False)
        >>> table.total.round(4), bool(table.bound.max() < 1e-8)
        (array([[0.03 ],
               [0.028]]), True)
    """
    asked = Question.checked(weights, n, reading, debiased, damping, own_group_n)
    if not units:
        raise InputError("no units", expected="the stem and the units after it")
    if len(decoders) != asked.num_tasks:
        raise InputError(f"{len(decoders)} decoders", expected=f"{asked.num_tasks} decoders with one task each")
    rows = _rows(asked)
    sums = [_Sums.nothing(asked, rows) for _ in units]
    waiting = pieces(units, asked.num_tasks, "unit")
    with ThreadPoolExecutor(threads) as pool:
        while batch := list(islice(waiting, threads)):  # no more is read ahead than is worked on
            for piece, found in zip(batch, pool.map(lambda piece: _summed(piece, asked, rows), batch), strict=True):
                sums[piece.number] += found
    readout, flat = 0.0, sum(unit.flat for unit in sums)
    for piece in pieces(decoders, 1, "decoder"):
        kept, silent = _kept(piece, asked)
        readout, flat = readout + kept, flat + silent
    own = np.array([unit.own for unit in sums])
    variance, bias, bounds = _evaluated(sums, asked, rows)
    return assembled(variance, bias, own, readout, asked, flat, bounds)


@dataclass(frozen=True)
class _Row:
    """A multiplier, the function of ratio and weight that it goes with (:func:`_shape`), and where the sum goes."""

    multiplier: int
    shape: str
    to_variance: float
    to_bias: float


def _rows(asked: Question) -> list[_Row]:
    if asked.num_tasks != 2 or asked.reading == "average":  # `average` is a square in the weights: no bins
        return []
    if _one_fisher(asked):  # multipliers: 1, mismatch; eq. 22
        half = 0.5 / asked.n[0]
        noise = -half if asked.debiased else 0.0
        if asked.reading == "naive":
            return [_Row(0, "1/D", half, 0.0), _Row(0, "pq/D2", 0.0, noise), _Row(1, "pq/D2", 0.0, 0.5)]
        return [_Row(0, "pq/D2", half, noise), _Row(1, "pq/D2", 0.0, 0.5)]
    noise = -1.0 if asked.debiased else 0.0  # eqs. 20 and 21
    return [
        _Row(0, "away", 1.0, 0.0),
        _Row(1, "away2", 1.0, noise),
        _Row(2, "away", 0.0, 1.0),
        _Row(3, "away2", 0.0, 1.0),
    ]


def _one_fisher(asked: Question) -> bool:
    """Whether curvature and distance alone are needed, as the variance is a function of the ratio (eq. 22)."""
    return asked.reading in {"sandwich", "naive"} and asked.damping == 0


@dataclass
class _Sums:
    """What one pass over some coordinates of a unit leaves.

    Args:
        variance: (W,) shared variance as far as it needs no bins.
        bias: (W,) shared bias, likewise.
        own: Own variance.
        flat: Pairs (task, coordinate) without curvature.
        nodes: (multipliers, octaves, nodes) sums of multipliers, carried over to the nodes.
        sizes: (multipliers, bins / _COARSE) sums of absolute multipliers.
    """

    variance: FloatArray
    bias: FloatArray
    own: float
    flat: int
    nodes: FloatArray
    sizes: FloatArray

    @classmethod
    def nothing(cls, asked: Question, rows: Sequence[_Row]) -> _Sums:
        zeros, multipliers = np.zeros(len(asked.weights)), len({row.multiplier for row in rows})
        nodes = np.zeros((multipliers, 2 * _OCTAVES, _NODES))
        sizes = np.zeros((multipliers, 2 * _OCTAVES * _PER_OCTAVE // _COARSE))
        return cls(zeros, zeros.copy(), 0.0, 0, nodes, sizes)

    def __iadd__(self, other: _Sums) -> _Sums:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self


def _kept(piece: Piece, asked: Question) -> tuple[float, int]:
    """Own variance of a piece of a decoder, and its coordinates without curvature."""
    own, flat = 0.0, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for block in dataclasses.replace(piece, moments=asked.read(piece.moments)).blocks():
            own += own_variance(block, asked, [piece.number])
            flat += int(np.count_nonzero(block.curvature == 0))
    return own, flat


def _summed(piece: Piece, asked: Question, rows: Sequence[_Row]) -> _Sums:
    """Go once through the coordinates of a piece."""
    sums = _Sums.nothing(asked, rows)
    asked.check_cross(piece.moments)
    piece = dataclasses.replace(piece, moments=asked.read(piece.moments))
    bins = _Bins(len(sums.nodes))
    with np.errstate(all="ignore"):  # what overflows is reported of the table as a whole, with a remedy
        for block in piece.blocks():
            if asked.num_tasks == 2:
                _add_block(sums, bins, block, asked)
            else:
                sums.flat += int(np.count_nonzero(block.curvature == 0))
                _add_exactly(sums, block, asked)
    if rows and bins.low <= bins.high:
        if _one_fisher(asked):
            _add_constants(sums, bins, asked)
        sums.nodes, sums.sizes = bins.reduced()
    return sums


def _add_block(sums: _Sums, bins: _Bins, block: UnitMoments, asked: Question) -> None:
    a, b = block.curvature + asked.damping if asked.damping else block.curvature
    r = a / b
    low, high = r.min(), r.max()
    if not (low >= _LOWEST and high < _HIGHEST):  # not a number where both are 0
        inside = (r >= _LOWEST) & (r < _HIGHEST)
        _add_apart(sums, block.part(~inside), asked)
        block, r = block.part(inside), r[inside]
        low, high = r.min(initial=_HIGHEST), r.max(initial=_LOWEST)
    bins.low, bins.high = min(bins.low, float(low)), max(bins.high, float(high))
    if asked.damping and block.curvature.min(initial=1.0) == 0:
        sums.flat += int(np.count_nonzero(block.curvature == 0))
    if not r.size:
        return
    if asked.reading == "average":
        _add_average(sums, block, asked)
    elif _one_fisher(asked):
        _add_one_fisher(bins, r, block)
    else:
        _add_general(sums, bins, r, block, asked)


class _Bins:
    """Sums over fine bins of the ratio: the adjoint of linear interpolation within each bin.

    The bin is read off the bits of the ratio: exponent and ten bits of the mantissa. A multiplier leaves its sum and
    that of its product with the ratio, which say where in the bin it lies.
    """

    def __init__(self, multipliers: int) -> None:
        bins = 2 * _OCTAVES * _PER_OCTAVE
        # Indexed by the leading bits as they are; what stands before the first bin is never touched, and takes no room.
        self.raw_ones = np.zeros(_FIRST_BIN + bins, dtype=np.int64)
        self.raw_sums, self.raw_products = np.zeros((2, multipliers, _FIRST_BIN + bins))
        self.ones = self.raw_ones[_FIRST_BIN:]  # sum of 2^40 + the leading bits up to 2^-18 of a bin: below 2^63
        self.sums = self.raw_sums[:, _FIRST_BIN:]  # of the multiplier
        self.products = self.raw_products[:, _FIRST_BIN:]  # of the multiplier times the ratio
        self.sizes = np.zeros((multipliers, bins // _COARSE))
        self.low, self.high = _HIGHEST, _LOWEST  # ratios met

    def add(self, r: FloatArray, multipliers: Sequence[FloatArray | None], signed: Sequence[int] = ()) -> None:
        """Add one block; None stands for a multiplier of 1. Multipliers are used up, so that less memory is touched."""
        bits = r.view(np.int64)
        index = bits >> _REST
        coarse = (index - _FIRST_BIN) >> (_COARSE.bit_length() - 1) if signed else index
        for number, multiplier in enumerate(multipliers):
            if multiplier is None:
                count_and_place = bits >> (_REST - 18)
                count_and_place += 1 << 40
                np.add.at(self.raw_ones, index, count_and_place)
                continue
            np.add.at(self.raw_sums[number], index, multiplier)
            if number in signed:
                np.add.at(self.sizes[number], coarse, np.abs(multiplier))
            multiplier *= r
            np.add.at(self.raw_products[number], index, multiplier)

    def met(self) -> slice:
        """The octaves of the ratios that were met, and the one above, to whose edge the last bin leans."""
        return slice(
            *(int(np.frexp(ratio)[1]) - 1 + _OCTAVES + more for ratio, more in ((self.low, 0), (self.high, 2)))
        )

    def unpack(self) -> None:
        """Turn the packed counts into the first multiplier's sums."""
        met = slice(self.met().start * _PER_OCTAVE, self.met().stop * _PER_OCTAVE)
        first = ((_FIRST_BIN + np.arange(met.start, met.stop)) << 18) + (1 << 40)  # what one at the bin's edge leaves
        count = self.ones[met] // first
        places = self.ones[met] - count * first + count / 2  # a place was cut off, on average by half a unit
        edge, width = _edges(met)
        self.sums[0, met], self.products[0, met] = count, count * edge + places * (2.0**-18 * width)

    def reduced(self) -> tuple[FloatArray, FloatArray]:
        """Carry the bins' edges over to the Chebyshev nodes of their octaves, and sizes to coarse bins."""
        met, octaves = self.met(), 2 * _OCTAVES
        of_bins = slice(met.start * _PER_OCTAVE, met.stop * _PER_OCTAVE)
        edge, width = _edges(of_bins)
        sums = self.sums[:, of_bins]
        upper = (self.products[:, of_bins] - sums * edge) / width  # what the upper edge of each bin gets
        edges = sums - upper
        edges[:, 1:] += upper[:, :-1]
        nodes = np.zeros((len(sums), octaves, _NODES))
        nodes[:, met] = edges.reshape(len(sums), -1, _PER_OCTAVE) @ _CARDINAL
        sizes = self.sizes.reshape(len(sums), octaves, -1)
        coarse = sums.reshape(*sizes[:, met].shape, _COARSE).sum(axis=-1)
        sizes[:, met] = np.maximum(sizes[:, met], np.abs(coarse))
        return nodes, self.sizes


def _edges(bins: slice) -> tuple[FloatArray, FloatArray]:
    """Lower edges and widths of some bins, both exact."""
    octave, within = np.divmod(np.arange(bins.start, bins.stop), _PER_OCTAVE)
    width = np.ldexp(1.0 / _PER_OCTAVE, octave - _OCTAVES)
    return (_PER_OCTAVE + within) * width, width


def _add_one_fisher(bins: _Bins, r: FloatArray, block: UnitMoments) -> None:
    """Eq. 22: variance 1/2n [1 + (w - v)^2 pq / D^2], bias half the same factor of ab / (a + b) (u_B - u_A)^2."""
    a, _ = block.curvature
    mismatch = r + 1
    np.divide(a, mismatch, out=mismatch)
    distance = block.position[1] - block.position[0]
    distance *= distance
    mismatch *= distance
    bins.add(r, [None, mismatch])


def _add_constants(sums: _Sums, bins: _Bins, asked: Question) -> None:
    """Add the terms of eq. 22 that are the same at every weight."""
    bins.unpack()
    met = bins.met()
    half, mismatch = bins.sums.reshape(2, 2 * _OCTAVES, -1)[:, met].sum(axis=(1, 2)) / [2 * asked.n[0], 2]
    sums.own += 2 * half
    sums.bias += mismatch - asked.debiased * half
    if asked.reading != "naive":
        sums.variance += half


@dataclass(frozen=True)
class _Squares:
    """Coefficients in the influences o_A, o_B of one block (eq. 18).

    variance = aa o_A^2 + 2 ab o_A o_B + bb o_B^2; bias = bias_aa o_A^2 + bias_bb o_B^2 + bias_a o_A + bias_b o_B.
    """

    aa: FloatArray
    ab: FloatArray | float
    bb: FloatArray
    bias_aa: FloatArray
    bias_bb: FloatArray
    bias_a: FloatArray | float
    bias_b: FloatArray | float
    own: float


def _squares(block: UnitMoments, asked: Question) -> _Squares:
    damped = block.curvature + asked.damping
    V_a, V_b = block.scores / damped / damped / asked.n[:, None]
    V_ab = 0.0 if block.cross is None else block.cross[0, 1] / damped[0] / damped[1] / asked.n[0]
    M_a, M_b = np.where(block.curvature > 0, block.risk, 0.0) if asked.damping else block.risk
    u_a, u_b = block.position
    distance = u_b - u_a
    squared = distance**2
    if asked.debiased:
        squared = squared - (V_a + V_b - 2 * V_ab)
    bias_a: FloatArray | float = 0.0
    bias_b: FloatArray | float = 0.0
    if asked.damping:
        slope_a, slope_b = asked.damping * ratio(np.stack([M_a, M_b]), block.curvature)
        bias_a = slope_b * (distance * u_b + asked.debiased * (V_ab - V_b))
        bias_b = slope_a * (-distance * u_a + asked.debiased * (V_ab - V_a))
    M = (M_a + M_b) / 2
    own = float(M_a @ V_a + M_b @ V_b) / 2
    return _Squares(M * V_a, M * V_ab, M * V_b, M_b * squared / 2, M_a * squared / 2, bias_a, bias_b, own)


def _add_general(sums: _Sums, bins: _Bins, r: FloatArray, block: UnitMoments, asked: Question) -> None:
    """Eqs. 20 and 21: with o_A = p + pq (w - v) / D, a constant, and multipliers of (w - v) / D and its square."""
    damped = block.curvature + asked.damping
    p, q = damped / (damped[0] + damped[1])
    pq = p * q
    c = _squares(block, asked)
    sums.own += c.own
    variance_a, variance_b = p * c.aa + q * c.ab, p * c.ab + q * c.bb
    bias_a, bias_b = p * c.bias_aa, q * c.bias_bb
    sums.variance += p @ variance_a + q @ variance_b
    sums.bias += p @ (bias_a + c.bias_a) + q @ (bias_b + c.bias_b)
    squared = pq * pq
    spread = squared * (c.aa - 2 * c.ab + c.bb)
    both = squared * (c.bias_aa + c.bias_bb)
    multipliers = [
        2 * pq * (variance_a - variance_b),
        spread,
        pq * (2 * (bias_a - bias_b) + c.bias_a - c.bias_b),
        both + spread if asked.debiased else both,
    ]
    bins.add(r, multipliers, signed=(0, 2) if block.cross is None else (0, 1, 2))


def _add_average(sums: _Sums, block: UnitMoments, asked: Question) -> None:
    """Eq. 12: the influences are the weights themselves, so seven sums say all."""
    w, v = asked.weights.T
    c = _squares(block, asked)
    sums.own += c.own
    sums.variance += w * w * c.aa.sum() + 2 * w * v * np.sum(c.ab) + v * v * c.bb.sum()
    sums.bias += w * w * c.bias_aa.sum() + v * v * c.bias_bb.sum() + w * np.sum(c.bias_a) + v * np.sum(c.bias_b)


def _add_apart(sums: _Sums, block: UnitMoments, asked: Question) -> None:
    """Add coordinates whose ratio no bin holds: those that a task does not see by eq. 9, others by the reference."""
    w, v = asked.weights.T
    sums.flat += int(np.count_nonzero(block.curvature == 0))
    if asked.reading == "average":
        through = np.stack([v * (v - w), 4 * w * v, w * (w - v)])  # the parabola through three points
        _add_exactly(sums, block, asked, through, through)
        return
    seen = block.curvature + asked.damping > 0
    _add_exactly(sums, block.part(np.flatnonzero(seen.all(axis=0))), asked)
    at = np.stack([w == 0, (w > 0) & (v > 0), v == 0]).astype(np.float64)
    for task, weight in enumerate((w, v)):  # seen by one task alone: the shared value is its own at any inner weight
        scaled = at * ratio(0.5, weight) if asked.reading == "naive" else at
        scaled[[0, 2]] = at[[0, 2]]
        alone = np.flatnonzero(seen[task] & ~seen[1 - task])
        _add_exactly(sums, block.part(alone), asked, scaled, at)


def _add_exactly(
    sums: _Sums,
    block: UnitMoments,
    asked: Question,
    variance_from: FloatArray | None = None,
    bias_from: FloatArray | None = None,
) -> None:
    """Add what the reference says; given (3, W) shares, from what it says at the weights 0, 1/2 and 1."""
    if not block.num_coordinates:
        return
    if variance_from is None or bias_from is None:
        variance, bias = shared_terms(block, asked)
    else:
        terms = shared_terms(block, dataclasses.replace(asked, weights=_HALVES))
        variance, bias = terms[0] @ variance_from, terms[1] @ bias_from
    sums.variance += variance
    sums.bias += bias
    sums.own += own_variance(block, asked, range(asked.num_tasks))


def _cardinal() -> FloatArray:
    """(bins of an octave, nodes): how much of a node's value the interpolant in log r takes at each bin's edge."""
    nodes = _places()
    edges = np.log2(1 + np.arange(_PER_OCTAVE) / _PER_OCTAVE)
    columns = []
    for node in range(_NODES):
        others = np.delete(nodes, node)
        columns.append(np.prod((edges[:, None] - others) / (nodes[node] - others), axis=1))
    return np.stack(columns, axis=1)


def _places() -> FloatArray:
    """Chebyshev nodes on (0, 1)."""
    return (1 - np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)) / 2


_CARDINAL = _cardinal()


def _evaluated(
    sums: Sequence[_Sums], asked: Question, rows: Sequence[_Row]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Read variance, bias (L+1, W) and the bounds of total and terms (2, L+1, W) of every unit off its sums."""
    variance, bias = np.stack([unit.variance for unit in sums]), np.stack([unit.bias for unit in sums])
    bounds = np.zeros((2, *variance.shape))
    if not rows:
        return variance, bias, bounds
    nodes, sizes = np.stack([unit.nodes for unit in sums]), np.stack([unit.sizes for unit in sums])
    touched = np.flatnonzero(nodes.any(axis=(0, 1, 3)))
    if not touched.size:
        return variance, bias, bounds
    octaves = slice(touched[0], touched[-1] + 1)
    first = np.arange(2 * _OCTAVES)[octaves, None] - _OCTAVES
    nodes = nodes[:, :, octaves].reshape(*nodes.shape[:2], -1)
    sizes = sizes.reshape(*sizes.shape[:2], 2 * _OCTAVES, -1)[:, :, octaves]
    parts = np.arange(sizes.shape[-1] + 1) / sizes.shape[-1]
    r = 2.0 ** (first + _places()).reshape(-1, 1)
    low, high = ((2.0**first * (1 + edges)).reshape(-1, 1) for edges in (parts[:-1], parts[1:]))
    sizes = sizes.reshape(*sizes.shape[:2], -1)
    for start in range(0, len(asked.weights), _WEIGHTS_AT_ONCE):
        columns = slice(start, start + _WEIGHTS_AT_ONCE)
        w, v = asked.weights[columns].T
        shapes = {row.shape: _shape(row.shape, r, w, v) for row in rows}
        errors = {row.shape: _largest_error(row.shape, low, high, w, v) for row in rows}
        for row in rows:
            found = nodes[:, row.multiplier] @ shapes[row.shape]
            variance[:, columns] += row.to_variance * found
            bias[:, columns] += row.to_bias * found
            off = sizes[:, row.multiplier] @ errors[row.shape]
            bounds[0][:, columns] += abs(row.to_variance + row.to_bias) * off
            bounds[1][:, columns] += max(abs(row.to_variance), abs(row.to_bias)) * off
    return variance, bias, bounds


def _shape(name: str, r: FloatArray, w: FloatArray, v: FloatArray) -> FloatArray:
    """The functions of ratio and weight: (w - v) / D and its square, pq times the square, and 1 / D for ``naive``.

    In r they are, with D = (w r + v) / (1 + r) and pq = r / (1 + r)^2:
    """
    pull = w * r + v
    if name == "1/D":
        return (1 + r) / pull
    if name == "pq/D2":
        return (w - v) ** 2 * (r / pull**2)
    away = (w - v) * ((1 + r) / pull)
    return away if name == "away" else away**2


def _largest_error(name: str, low: FloatArray, high: FloatArray, w: FloatArray, v: FloatArray) -> FloatArray:
    """Bound what interpolation in a bin between two ratios can be off, per unit of multiplier (eq. 23).

    Linear interpolation is off by at most width^2 / 8 times the largest second derivative. Rounding is added: of the
    sums over a piece, that of products with r and that of multipliers times the edge at slopes |r f'| <= 2 |f|; and of
    places to 2^-18 of a bin.
    """
    apart, pull = np.abs(w - v), 1 / (w * low + v)
    inverse = (1 + high) * pull  # of D, at most
    if name == "pq/D2":
        square = (apart * pull) ** 2
        second, largest = square * (2 * w * pull) * ((w * high + 2 * v) * pull), square * high
    elif name == "away2":
        square = (apart * pull) ** 2
        second, largest = square * apart * (2 * apart * pull + 4 * w * inverse) * pull, (apart * inverse) ** 2
    else:
        scale = apart if name == "away" else 1.0
        second, largest = 2 * scale * apart * w * pull * pull * pull, scale * inverse
    width = high / _PER_OCTAVE  # no bin between the two is wider
    return width * width / 8 * second + (6 * PIECE * 2.0**-53 + 2.0**-28) * largest
