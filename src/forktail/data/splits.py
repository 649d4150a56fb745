"""What a source of pictures gives, before anything is checked, carved or held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forktail.data.augment import AugmentKind
from forktail.data.images import Images
from forktail.errors import one_line


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts that a folder, a file or a named set holds.

    Args:
        name: What the set is called in reports.
        train: Images to learn from.
        test: Images to measure on, or None if the source has none.
        val: Images for choices, or None if the source has none.
        augment: Kind of augmentation, or None where the size of the pictures decides.
        notes: Sentences that a user should read.
    """

    name: str
    train: Images
    test: Images | None = None
    val: Images | None = None
    augment: AugmentKind | None = None
    notes: tuple[str, ...] = ()


def some(names: Sequence[str], limit: int = 5) -> str:
    """Quote the first few names and count the others; nothing in a name breaks the line.

    Args:
        names: The names.
        limit: How many are written out.

    Returns:
        A phrase for a message.

    Example:
        >>> some(["cat", "dog", "emu"], limit=2)
        '"cat", "dog" and 1 more'
    """
    quoted = ", ".join(f'"{one_line(name)}"' for name in names[:limit])
    return quoted if len(names) <= limit else f"{quoted} and {len(names) - limit} more"
