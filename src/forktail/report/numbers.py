"""Numbers as people read them; what is not known is "n/a"."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "n/a"
NONE = "–"  # there is nothing to know
SPACE = "\u00a0"  # keeps a number and its unit on one line
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def points(share: float | None) -> str:
    """Write a share in points, a hundredth each.

    Args:
        share: 1 is all.

    Returns:
        One decimal.

    Example:
        >>> points(0.6556), points(None)
        ('65.6', 'n/a')
    """
    return UNKNOWN if share is None else fixed(100 * share, 1)


def percent(share: float | None) -> str:
    """Write a share in per cent.

    Args:
        share: 1 is all.

    Returns:
        One decimal and the sign.

    Example:
        >>> percent(0.6556).replace(SPACE, " ")
        '65.6 %'
    """
    return UNKNOWN if share is None else f"{points(share)}{SPACE}%"


def signed(value: float | None, decimals: int = 1) -> str:
    """Write a difference with its sign.

    Args:
        value: The difference.
        decimals: Digits after the point.

    Returns:
        A number that starts with + or −, but for one that rounds to nothing.

    Example:
        >>> signed(3.21), signed(-0.5), signed(-0.01)
        ('+3.2', '−0.5', '0.0')
    """
    text = fixed(value, decimals)
    return f"+{text}" if value is not None and value > 0 and float(text.replace(",", "")) > 0 else text


def fixed(value: float | None, decimals: int) -> str:
    """Write a number with a fixed number of decimals.

    Args:
        value: The number.
        decimals: Digits after the point.

    Returns:
        Thousands are separated by commas, and nothing is less than 0 that rounds to it.

    Example:
        >>> fixed(1234.5, 1), fixed(-0.001, 2), fixed(-2, 0)
        ('1,234.5', '0.00', '−2')
    """
    if value is None:
        return UNKNOWN
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def whole(value: float | None) -> str:
    """Write a count.

    Args:
        value: The count.

    Returns:
        Thousands are separated by commas.

    Example:
        >>> whole(1228)
        '1,228'
    """
    return fixed(value, 0)


def significant(value: float | None, digits: int = 3) -> str:
    """Write a quantity of any size.

    Args:
        value: The quantity.
        digits: Digits that count.

    Returns:
        A plain number between a thousandth and a million, a power of ten beyond.

    Example:
        >>> significant(0.026163), significant(1395.25), significant(4.2e-5), significant(0)
        ('0.0262', '1,395', '4.2 · 10⁻⁵', '0')
    """
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -4 < exponent < 6:
        return fixed(value, max(0, digits - 1 - exponent))
    mantissa = f"{value:.{digits - 1}e}".partition("e")[0].rstrip("0").rstrip(".")
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return (power if mantissa == "1" else f"{mantissa} · {power}").replace("-", "−")


def with_prefix(value: float | None, unit: str) -> str:
    """Write a quantity of zero or more with a decimal prefix.

    Args:
        value: The quantity in the plain unit.
        unit: The unit.

    Returns:
        Three digits that count, prefix and unit.

    Example:
        >>> with_prefix(2.607e12, "FLOP").replace(SPACE, " "), with_prefix(4096, "B").replace(SPACE, " ")
        ('2.61 TFLOP', '4.1 kB')
    """
    if value is None:
        return UNKNOWN
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{significant(value, 2 if value < 10 and unit == 'B' else 3)}{SPACE}{_PREFIXES[power]}{unit}"


def duration(seconds: float | None) -> str:
    """Write a time.

    Args:
        seconds: The time in seconds.

    Returns:
        Its two largest units.

    Example:
        >>> [duration(s).replace(SPACE, " ") for s in (8.12, 64, 8000)]
        ['8.1 s', '1 min 4 s', '2 h 13 min']
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:
        return f"{fixed(seconds, 1)}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest}{SPACE}s"
    return f"{whole(minutes // 60)}{SPACE}h {minutes % 60}{SPACE}min"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun.

    Args:
        number: The count.
        one: The noun for 1.
        many: The noun for any other count; by default ``one`` and an s.

    Returns:
        Number and noun.

    Example:
        >>> counted(1, "class", "classes"), counted(1228, "image")
        ('1 class', '1,228 images')
    """
    return f"{whole(number)} {one if number == 1 else many or one + 's'}"


def listed(words: list[str]) -> str:
    """Join words as a sentence does.

    Args:
        words: At least one.

    Returns:
        The words with commas and a last "and".

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plain(value: float) -> str:
    """Write a round number.

    Args:
        value: The number.

    Returns:
        As short as it can be.

    Example:
        >>> plain(0.25), plain(-1000.0), plain(2e-5)
        ('0.25', '−1,000', '2 · 10⁻⁵')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.10g}".replace("-", "−")
    return significant(value, 6)


def side_by_side(values: Sequence[float]) -> list[str]:
    """Write round numbers that are compared with one another: all with the same power of ten.

    Args:
        values: The numbers.

    Returns:
        One text for each.

    Example:
        >>> side_by_side([0, 5e-6, 1e-5]), side_by_side([0, 0.5, 1])
        (['0', '0.5 · 10⁻⁵', '1 · 10⁻⁵'], ['0', '0.5', '1'])
    """
    largest = max((abs(value) for value in values), default=0)
    if largest == 0 or 1e-2 <= largest < 1e6:
        return [plain(value) for value in values]
    exponent = math.floor(math.log10(largest) + 1e-9)
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return [f"{plain(float(f'{value / 10.0**exponent:.6g}'))} · {power}" if value else "0" for value in values]


def weight(value: float) -> str:
    """Write a task's weight.

    Args:
        value: A share.

    Returns:
        Two decimals where they are enough.

    Example:
        >>> weight(0.5), weight(1 / 3)
        ('0.50', '0.333')
    """
    return fixed(value, 2) if abs(value - round(value, 2)) < 1e-9 else significant(value)
