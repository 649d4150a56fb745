"""Pictures without labels, as a user hands them over to be classified."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from forktail.data.files_below import files_below
from forktail.data.natural_order import natural_key
from forktail.data.picture_files import ENDINGS, open_picture, undecodable
from forktail.errors import InputError


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """List picture files, those of folders in natural order.

    Args:
        paths: Files, which are taken whatever their ending, and folders, of which the pictures that are not hidden are
            taken.

    Returns:
        The files.

    Raises:
        InputError: If a path does not exist, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        if os.path.isdir(path):
            inside = [file for file in files_below(path) if file.suffix.lower() in ENDINGS]
            if not inside:
                raise InputError(
                    f"{path}: no picture in this folder",
                    expected="a file or a folder of pictures",
                    remedy=f"their names end in {', '.join(sorted(ENDINGS))}",
                )
            found += sorted(inside, key=lambda file: natural_key(file.as_posix()))
        elif os.path.isfile(path):
            found.append(path)
        else:
            raise InputError(f"{path}: no such file", expected="a picture or a folder of pictures")
    return found


def open_loose_picture(file: Path) -> Image.Image:
    """Decode a picture file that a user named.

    Args:
        file: The file.

    Returns:
        The picture in mode RGB.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return open_picture(file)
    except Exception as error:  # a decoder may raise anything on a broken file
        why = undecodable(file, error)
        raise InputError(f"{file}: cannot be read as a picture ({why})", remedy="mend it or leave it out") from None
