"""Mixup, CutMix and smoothing where a method brings its own."""

from __future__ import annotations

from forktail.errors import InputError
from forktail.training.mix import Mix


def own_mix(mixup: float, cutmix: float, smoothing: float) -> Mix:
    """Mix as a method's fields of these names say, in place of what the plan says.

    Args:
        mixup: alpha of mixup; 0 is off.
        cutmix: alpha of CutMix; 0 is off.
        smoothing: Of the labels, in [0, 1).

    Returns:
        What a plan takes as ``mix``.

    Raises:
        InputError: If a number is out of range; it speaks of the method's field.

    Example:
        >>> own_mix(0.8, 1.0, 0.1).active
        True
    """
    try:
        return Mix(mixup=mixup, cutmix=cutmix, smoothing=smoothing)
    except InputError as error:
        found = error.found.replace("plan.mix.", "method.")
        raise InputError(found, expected=error.expected, remedy=error.remedy) from None
