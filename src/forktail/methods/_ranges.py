"""What a method's ``__post_init__`` asks of its fields. None passes where it is a field's default."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from forktail.errors import InputError
from forktail.methods._method import Method


def check_choices(method: Method) -> None:
    """Refuse a word that is none of those which a field's type lists.

    Args:
        method: Its fields of a type `Literal`, or of one and numbers, are looked at.

    Raises:
        InputError: If one holds another value.
    """
    hints = get_type_hints(type(method))
    for field in dataclasses.fields(method):
        kind, value = hints[field.name], getattr(method, field.name)
        parts = [kind] if get_origin(kind) is Literal else get_args(kind)
        choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
        if choices and value not in choices and (isinstance(value, str) or len(parts) == 1):
            others = "a number or " if len(parts) > 1 else ""
            raise InputError(f"method.{field.name} = {value!r}", expected=others + " or ".join(map(repr, choices)))


def check_positive(method: Method, *names: str) -> None:
    """Refuse a hyper-parameter that must be above 0.

    Args:
        method: The method.
        names: Its fields.

    Raises:
        InputError: If one is not above 0, or not finite.
    """
    _check(method, names, lambda value: 0 < value < math.inf, "a number > 0")


def check_not_negative(method: Method, *names: str) -> None:
    """Refuse a hyper-parameter below 0.

    Args:
        method: The method.
        names: Its fields.

    Raises:
        InputError: If one is negative or not finite.
    """
    _check(method, names, lambda value: 0 <= value < math.inf, "a number >= 0")


def check_not_positive(method: Method, *names: str) -> None:
    """Refuse a hyper-parameter above 0.

    Args:
        method: The method.
        names: Its fields.

    Raises:
        InputError: If one is above 0 or not finite.
    """
    _check(method, names, lambda value: -math.inf < value <= 0, "a number <= 0")


def check_fraction(method: Method, *names: str, zero: bool = True, one: bool = True) -> None:
    """Refuse a hyper-parameter outside the unit interval.

    Args:
        method: The method.
        names: Its fields.
        zero: Whether 0 is allowed.
        one: Whether 1 is allowed.

    Raises:
        InputError: If one is outside, or an end that is not allowed.
    """

    def inside(value: Any) -> bool:
        return 0 < value < 1 or (zero and value == 0) or (one and value == 1)

    _check(method, names, inside, f"a number in {'[' if zero else '('}0, 1{']' if one else ')'}")


def check_whole(method: Method, *names: str, least: int = 0) -> None:
    """Refuse a hyper-parameter that is no whole number, or a smaller one than it may be.

    Args:
        method: The method.
        names: Its fields.
        least: The smallest that is allowed.

    Raises:
        InputError: If one is none, or smaller.
    """
    _check(method, names, lambda value: value >= least, f"a whole number >= {least}", Integral)


def _check(
    method: Method, names: tuple[str, ...], holds: Callable[[Any], bool], expected: str, kind: type = Real
) -> None:
    for name in names:
        value = getattr(method, name)
        if value is None and getattr(type(method), name) is None:
            continue
        if not isinstance(value, kind) or not holds(value):
            raise InputError(f"method.{name} = {value!r}", expected=expected)
