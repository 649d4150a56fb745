"""Example pictures inside the page, so that it stays one file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

LARGEST = 60_000  # bytes; a run keeps small copies, so a larger file is none of them
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Args:
        source: A data URI.
        width: Pixels.
        height: Pixels.
    """

    source: str
    width: int
    height: int


def embedded(folder: Path, name: str) -> Picture | None:
    """Read a picture of a run.

    Args:
        folder: The run directory.
        name: Path of a PNG file inside it.

    Returns:
        The picture; None if there is no such file, it lies elsewhere, or it is no small PNG.
    """
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or path.stat().st_size > LARGEST:
            return None
        content = path.read_bytes()
    except (OSError, ValueError):  # ValueError: a null character in the name
        return None
    if not content.startswith(_SIGNATURE) or len(content) < 24:
        return None
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    return Picture("data:image/png;base64," + base64.b64encode(content).decode("ascii"), width, height)
