"""Names from outside, made fit to be shown: class names, paths and labels may hold anything."""

from __future__ import annotations

import unicodedata

from markupsafe import Markup

_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_KEPT_IN_TEXT = "\n\t"


def visible(name: str) -> str:
    r"""Replace what is not seen, or what changes how its surroundings are seen, by something visible.

    Control characters become their pictures; line separators, direction marks and halves of surrogate pairs become
    their code points. Letters of every script stay, and so does the order in which they are read.

    Args:
        name: Any text, one line.

    Returns:
        Text that stays on one line and cannot turn round what stands beside it.

    Example:
        >>> visible("a\nb"), visible("cat\u202egnp")
        ('a␊b', 'cat⟨U+202E⟩gnp')
    """
    return "".join(map(_shown, name))


def visible_text(text: str) -> str:
    r"""Do the same to a text of several lines, whose line breaks and tabs stay.

    Args:
        text: Any text.

    Returns:
        The same text without anything unseen.

    Example:
        >>> visible_text("a\n\x1b[2Jb")
        'a\n␛[2Jb'
    """
    return "".join(character if character in _KEPT_IN_TEXT else _shown(character) for character in text)


def shortened(name: str, limit: int = 64) -> str:
    """Leave out the middle of a long name, since its ends tell more.

    Args:
        name: A visible name.
        limit: Most characters, at least 3.

    Returns:
        The name, or its two ends round an ellipsis.

    Example:
        >>> shortened("abcdefghij", 5)
        'ab…ij'
    """
    if len(name) <= limit:
        return name
    head = limit // 2
    return f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"


def isolated(name: str, limit: int = 64) -> Markup:
    """Put a name into a sentence without letting its direction reach out of it.

    Args:
        name: A visible name; markup, which holds isolated names already, stays as it is.
        limit: Most characters that are shown.

    Returns:
        Escaped markup.

    Example:
        >>> isolated("<b>")
        Markup('<bdi>&lt;b&gt;</bdi>')
    """
    if isinstance(name, Markup):
        return name
    return Markup("<bdi>{}</bdi>").format(shortened(name, limit))


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in _DIRECTION or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
        return f"⟨U+{code:04X}⟩"
    return character
