"""The criterion's readings that a grid holds against what was measured, each a few options of ``osdtw``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from forktail.errors import InputError, nearest
from forktail.methods.osdtw import OSDTW

PLAIN = {"fisher_at": "stage1", "debiased": False, "damping": 0.0, "evaluation_prior": "train", "fisher": "empirical"}
_DEBIASED = {"debiased": True}
_DAMPED = {"damping": "movement"}

# Powers of ten between none and what `movement` finds.
_LIGHTLY = {f"damped-1e-{power}": {"damping": 10.0**-power} for power in (4, 3, 2)}

# What differs from PLAIN. ``refined`` and ``raw`` multiply gradients of pairs of images, the others take a pass or two.
READINGS: Mapping[str, Mapping[str, Any]] = {
    "sandwich": {"reading": "sandwich"},
    "sandwich-debiased": {"reading": "sandwich", **_DEBIASED},
    "sandwich-damped": {"reading": "sandwich", **_DAMPED},
    "sandwich-damped-debiased": {"reading": "sandwich", **_DAMPED, **_DEBIASED},
    **{f"sandwich-{name}": {"reading": "sandwich", **options} for name, options in _LIGHTLY.items()},
    "sandwich-midpoint": {"reading": "sandwich", "fisher_at": "midpoint"},
    "sandwich-stage2": {"reading": "sandwich", "fisher_at": "stage2"},
    "naive": {"reading": "naive"},
    "naive-debiased": {"reading": "naive", **_DEBIASED},
    "average": {"reading": "average"},
    "unequal": {"reading": "unequal"},
    "general": {"reading": "general"},
    "general-debiased": {"reading": "general", **_DEBIASED},
    "general-damped": {"reading": "general", **_DAMPED},
    "general-damped-debiased": {"reading": "general", **_DAMPED, **_DEBIASED},
    **{f"general-{name}": {"reading": "general", **options} for name, options in _LIGHTLY.items()},
    "general-midpoint": {"reading": "general", "fisher_at": "midpoint"},
    "general-stage2": {"reading": "general", "fisher_at": "stage2"},
    "general-uniform": {"reading": "general", "evaluation_prior": "uniform"},
    "general-monte-carlo": {"reading": "general", "fisher": "monte_carlo"},
    "general-ggn": {"reading": "general", "fisher": "ggn"},
    "refined": {"reading": "refined", **_DAMPED},
    "raw": {"reading": "raw", **_DAMPED},
}

PER_CLASS = ("general-ggn",)  # a backward pass per class


def chosen_readings(names: str | Sequence[str]) -> tuple[str, ...]:
    """Read which readings are asked for.

    Args:
        names: ``usual``, which leaves out those that take a backward pass per class; ``all``; or names, separated by
            commas or as a sequence.

    Returns:
        Their names, in the order of `READINGS`.

    Raises:
        InputError: If one is unknown, or none is named.

    Example:
        >>> chosen_readings("general,sandwich")
        ('sandwich', 'general')
    """
    asked = names.split(",") if isinstance(names, str) else list(names)
    if asked == ["all"]:
        return tuple(READINGS)
    if asked == ["usual"]:
        return tuple(name for name in READINGS if name not in PER_CLASS)
    for name in asked:
        if name not in READINGS:
            raise InputError(f'--readings "{name}"', remedy=nearest(name, ["all", "usual", *READINGS]))
    return tuple(name for name in READINGS if name in asked)


def default_reading() -> str:
    """Name the reading by which `osdtw` selects where nobody says otherwise.

    Returns:
        One of `READINGS`.

    Raises:
        LookupError: If the defaults of ``osdtw`` are none of them, which a test forbids.
    """
    method = OSDTW()
    for name, options in READINGS.items():
        if all(getattr(method, key) == value for key, value in {**PLAIN, **options}.items()):
            return name
    raise LookupError("the default of osdtw is none of the grid's readings")


def risk_of(name: str) -> str:
    """Say which measured risk a reading predicts.

    Args:
        name: One of `READINGS`; any other name, as a file of an older version may hold, is one of the training prior.

    Returns:
        ``risk`` under the training prior, or ``risk_uniform``.

    Example:
        >>> risk_of("sandwich"), risk_of("general-uniform")
        ('risk', 'risk_uniform')
    """
    return "risk_uniform" if READINGS.get(name, {}).get("evaluation_prior") == "uniform" else "risk"


def as_read(method: OSDTW, name: str) -> OSDTW:
    """Give a method the options of a reading, without groups of images: a grid has seeds for its errors.

    Where Stage 1 was held back by ``stage1_decay``, a reading that says nothing of damping has that precision, but
    for ``naive``, which has no damped form.

    Args:
        method: Whose other options stay.
        name: One of `READINGS`.

    Returns:
        The method with that reading.
    """
    options = {**PLAIN, **READINGS[name]}
    if options["damping"] == 0 and options["reading"] != "naive":
        options["damping"] = method.stage1_decay
    return dataclasses.replace(method, **options, groups=0)
