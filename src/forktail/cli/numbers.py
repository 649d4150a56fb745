"""Whole numbers on the command line."""

from __future__ import annotations

from forktail.errors import InputError


def numbers(flag: str, text: str, *, separator: str = ",", expected: str | None = None) -> list[int]:
    """Read whole numbers.

    Args:
        flag: The option, for the message.
        text: What was given.
        separator: What stands between them.
        expected: What the message asks for.

    Returns:
        The numbers.

    Raises:
        InputError: If one is none.

    Example:
        >>> numbers("--seeds", "0,1")
        [0, 1]
    """
    try:
        return [int(number) for number in text.split(separator)]
    except ValueError:
        said = expected or "numbers, separated by commas, such as 0,1,2"
        raise InputError(f'{flag} "{text}"', expected=said) from None
