"""From values to pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SMALLEST = 1e-280  # what is smaller is 0: its parts would underflow
LOGARITHMIC_FROM = 30.0  # largest over smallest value, from which a linear axis hides the small ones


@dataclass(frozen=True)
class Scale:
    """An axis: values from low to high lie between two pixels.

    Args:
        low: Value at the start, above 0 on a logarithmic axis.
        high: Value at the end, above ``low``.
        start: Pixel of ``low``.
        end: Pixel of ``high``; it may be less than ``start``.
        logarithmic: Equal ratios, not equal differences, are equally far apart.

    Example:
        >>> scale = Scale(1, 100, 0, 200, logarithmic=True)
        >>> scale(10), scale.ticks(4)
        (100.0, [1.0, 10.0, 100.0])
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, here = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (here - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 8, *, whole: bool = False) -> list[float]:
        """Return round values to write beside the axis.

        Args:
            most: About how many.
            whole: Whole numbers alone.

        Returns:
            Values in ascending order, inside the axis.
        """
        found = self._decades(most) if self.logarithmic else _multiples(self.low, self.high, most, whole)
        return [value for value in found if not whole or value == round(value)]

    def _decades(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for mantissas in ((1, 2, 5), (1, 3), (1,)):
            inside = [
                float(f"{m}e{power}")
                for power in range(first, last + 1)
                for m in mantissas
                if self.low * (1 - 1e-9) <= float(f"{m}e{power}") <= self.high * (1 + 1e-9)
            ]
            if len(inside) <= most:
                return inside
        return inside[:: -(-len(inside) // most)]


def linear(values: Iterable[float], start: float, end: float, *, zero: bool = False, round_off: bool = True) -> Scale:
    """Fit a linear axis to values.

    Args:
        values: At least one value.
        start: Pixel of the low end.
        end: Pixel of the high end.
        zero: The axis holds 0.
        round_off: The axis ends at round values.

    Returns:
        The axis; values that are all equal lie in its middle, or beside 0 if that has to be there.

    Example:
        >>> linear([3, 97], 0, 100)
        Scale(low=0.0, high=100.0, start=0, end=100, logarithmic=False)
    """
    known = list(values) + ([0.0] if zero else [])
    low, high = min(known), max(known)
    largest = max(abs(low), abs(high))
    if high - low <= max(1e-12 * largest, SMALLEST):
        reach = largest / 2 if largest > SMALLEST else 1.0
        low, high = (0.0 if zero else low - reach), high + reach
    if round_off:
        step = _step(low, high, 6)
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, start, end)


def logarithmic(values: Iterable[float], start: float, end: float, *, room: bool = False) -> Scale:
    """Fit a logarithmic axis to values.

    Args:
        values: At least one value, all above 0.
        start: Pixel of the low end.
        end: Pixel of the high end.
        room: Leave room below the smallest value, so that its bar is seen.

    Returns:
        The axis; it ends at 1, 2 or 5 times a power of ten.

    Example:
        >>> logarithmic([3, 700], 0, 100)
        Scale(low=2.0, high=1000.0, start=0, end=100, logarithmic=True)
    """
    known = list(values)
    smallest, largest = min(known), max(known)
    low = _round_down(smallest / 1.25 if room else smallest)
    high = _round_up(largest)
    return Scale(low, high if high > low else _round_up(1.01 * high), start, end, logarithmic=True)


def asks_for_logarithm(values: Iterable[float]) -> bool:
    """Tell whether a linear axis would hide the small values.

    Args:
        values: Any values.

    Returns:
        True if all are above 0 and the largest is at least 30 times the smallest.

    Example:
        >>> asks_for_logarithm([1, 100]), asks_for_logarithm([0, 100]), asks_for_logarithm([])
        (True, False, False)
    """
    known = list(values)
    return bool(known) and min(known) > 0 and max(known) >= LOGARITHMIC_FROM * min(known)


def _multiples(low: float, high: float, most: int, whole: bool) -> list[float]:
    step = _step(low, high, most)
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _step(low: float, high: float, most: int) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that divides the axis into few enough parts."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _round_down(value: float) -> float:
    power = math.floor(math.log10(value))
    candidates = [float(f"{m}e{p}") for p in (power - 1, power, power + 1) for m in (1, 2, 5)]
    return max(candidate for candidate in candidates if candidate <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    power = math.floor(math.log10(value))
    candidates = [float(f"{m}e{p}") for p in (power - 1, power, power + 1) for m in (1, 2, 5)]
    return min(candidate for candidate in candidates if candidate >= value * (1 - 1e-9))
