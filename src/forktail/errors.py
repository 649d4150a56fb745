"""What a user is told when the input is at fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Input from outside that cannot be used; shown as one line, without a traceback, exit code 2.

    Args:
        found: What was found, and where (file, line, class).
        expected: What would have been right.
        remedy: What the user can do about it.

    Example:
        >>> print(InputError("run/: no model", expected="a finished run", remedy="run `forktail fit` first"))
        run/: no model; expected a finished run; run `forktail fit` first
    """

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(one_line("; ".join(filter(None, [found, expected and f"expected {expected}", remedy]))))


def one_line(text: str) -> str:
    r"""Keep a text on one line and inert, whatever a path or class name in it contains.

    Args:
        text: The text.

    Returns:
        The same with line ends, control characters, lone surrogates and marks of writing direction escaped.

    Example:
        >>> print(one_line("two\nlines, \u202eturned"))
        two\nlines, \u202eturned
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that looks most like ``name``, or list them all.

    Args:
        name: What the user wrote.
        known: The names that exist.

    Returns:
        ``did you mean "crt"?`` or ``one of: a, b``; where nothing is known, to leave it out.

    Example:
        >>> nearest("osdwt", ["ce", "osdtw"])
        'did you mean "osdtw"?'
        >>> nearest("xyz", ["ce", "osdtw"])
        'one of: ce, osdtw'
    """
    names = sorted(known)
    if not names:
        return "leave it out"
    close = difflib.get_close_matches(name, names, n=1)
    return f'did you mean "{close[0]}"?' if close else "one of: " + ", ".join(names)
