"""Ranges of hyper-parameters."""

from __future__ import annotations

from forktail.errors import InputError


def check_share(name: str, value: float) -> None:
    """Refuse a hyper-parameter that is no share.

    Args:
        name: Its field.
        value: What was given.

    Raises:
        InputError: If it is outside [0, 1].
    """
    if not 0 <= value <= 1:
        raise InputError(f"method.{name} = {value}", expected="a number in [0, 1]")


def check_not_negative(name: str, value: float) -> None:
    """Refuse a hyper-parameter below 0.

    Args:
        name: Its field.
        value: What was given.

    Raises:
        InputError: If it is negative or not finite.
    """
    if not 0 <= value < float("inf"):
        raise InputError(f"method.{name} = {value}", expected="a number >= 0")


def check_positive(name: str, value: float) -> None:
    """Refuse a hyper-parameter that must be above 0.

    Args:
        name: Its field.
        value: What was given.

    Raises:
        InputError: If it is not above 0, or not finite.
    """
    if not 0 < value < float("inf"):
        raise InputError(f"method.{name} = {value}", expected="a number > 0")
