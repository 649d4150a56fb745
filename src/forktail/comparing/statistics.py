"""Means, standard errors and paired differences over seeds.

``S`` seeds. A missing value (a shot group without classes) is None and stays None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95

Values = Sequence[float | None]


def mean(values: Values) -> float | None:
    """Average over seeds.

    Args:
        values: (S,) one value per seed.

    Returns:
        The mean, or None if a seed has no value.

    Example:
        >>> mean([1.0, 3.0]), mean([1.0, None])
        (2.0, None)
    """
    known = _known(values)
    return None if known is None else float(known.mean())


def standard_error(values: Values) -> float | None:
    """Standard error of the mean over seeds, ``std / sqrt(S)`` with S - 1 in the standard deviation.

    Args:
        values: (S,) one value per seed.

    Returns:
        The standard error, or None for a single seed or a missing value.

    Example:
        >>> standard_error([1.0, 3.0]), standard_error([1.0])
        (1.0, None)
    """
    known = _known(values)
    return None if known is None or known.size < 2 else float(known.std(ddof=1) / np.sqrt(known.size))


def paired_difference(values: Values, reference: Values) -> dict[str, float | None]:
    """Mean difference over seeds with its 95 % interval by Student's t.

    For the same seed both methods begin with the same weights, so the difference is taken seed by seed: what the seed
    does to both drops out. The interval supposes differences that are about normal over seeds, and says nothing about
    other data. Differences that are all equal have no interval: the seed decided nothing, so it tells nothing.

    Args:
        values: (S,) one value per seed.
        reference: (S,) of the method to compare with, in the same order of seeds.

    Returns:
        ``mean``, ``low`` and ``high``; the interval is None for a single seed or equal differences, all are None for a
        missing value.

    Example:
        >>> {key: round(value, 3) for key, value in paired_difference([2.0, 4.0], [1.0, 1.0]).items()}
        {'mean': 2.0, 'low': -10.706, 'high': 14.706}
    """
    pairs = zip(values, reference, strict=True)
    differences = [None if one is None or other is None else one - other for one, other in pairs]
    center, error = mean(differences), standard_error(differences)
    if center is None or not error:
        return {"mean": center, "low": None, "high": None}
    reach = float(stdtrit(len(differences) - 1, (1 + LEVEL) / 2)) * error
    return {"mean": center, "low": center - reach, "high": center + reach}


def _known(values: Values) -> np.ndarray | None:
    known = [value for value in values if value is not None]
    return np.array(known, dtype=np.float64) if known and len(known) == len(values) else None
