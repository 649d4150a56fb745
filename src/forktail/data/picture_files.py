"""Pictures that stand in files: every format becomes RGB, and what cannot be read is found before training."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from forktail.data.images import Images, IntArray
from forktail.errors import InputError
from forktail.files import reason

ENDINGS = frozenset(
    {
        *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
        *(".tga", ".tif", ".tiff", ".webp"),
    }
)


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Picture files under one folder.

    Args:
        root: The folder.
        paths: The files, relative to it or absolute.
    """

    root: Path
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, position: int) -> Image.Image:
        """Decode one file as RGB; one that could be read before and no longer can is an `InputError`."""
        path = self.root / self.paths[position]
        try:
            return open_picture(path)
        except Exception as error:  # a decoder may raise anything on a broken file
            self._vanished(position, undecodable(path, error))

    def name(self, position: int) -> str:
        """Give the path of one file."""
        return str(self.root / self.paths[position])

    def digest(self, positions: IntArray) -> str:
        """Hash names, sizes and times of change: the content would take as long to read as to train on."""
        content = hashlib.sha256()
        for position in positions:
            path = self.paths[position]
            try:
                status = os.stat(self.root / path)
            except OSError as error:
                self._vanished(position, reason(error))
            content.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return content.hexdigest()

    def _vanished(self, position: int, why: str) -> NoReturn:
        raise InputError(
            f"{self.name(position)}: {why}",
            expected="the picture that was there when the data were opened",
            remedy="bring it back and give the same command again: what is finished is kept",
        ) from None


def open_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Decode a picture of any kind as upright 8-bit RGB.

    Transparency is laid on white, 16-bit grey keeps its upper 8 bits, CMYK and palettes are converted, the EXIF
    orientation is applied, and of an animation the first picture is taken.

    Args:
        path: The file.

    Returns:
        The picture in mode RGB.

    Raises:
        OSError: If the file is missing, truncated or no picture, or its levels have no stated range (32-bit). Other
            exceptions come from decoders of damaged files.
    """
    with _quiet_decoders():
        return _decoded(path)


def _decoded(path: str | os.PathLike[str]) -> Image.Image:
    with Image.open(path) as file:
        file.load()
        return as_rgb(file)


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Pass over what decoders say of odd metadata, and refuse what would fill the memory; not for use in a thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def undecodable(path: str | os.PathLike[str], error: Exception) -> str:
    """Say why a picture could not be decoded.

    Args:
        path: The file.
        error: What `open_picture` raised.

    Returns:
        One phrase.
    """
    if isinstance(error, UnidentifiedImageError):
        return "not a picture" if os.path.getsize(path) else "an empty file"
    return reason(error)


def as_rgb(picture: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to upright 8-bit RGB, as `open_picture` says.

    Args:
        picture: The picture.

    Returns:
        The picture in mode RGB.

    Raises:
        OSError: If its levels have no stated range (32-bit).
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        levels = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in {"I", "F"}:
        raise OSError(f"mode {picture.mode} has no range of grey levels")
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        white = Image.new("RGBA", shown.size, "white")
        return Image.alpha_composite(white, shown).convert("RGB")
    return picture.convert("RGB")


def unreadable(images: Images, workers: int) -> dict[int, str]:
    """Decode every picture once and say which cannot be.

    Args:
        images: Pictures that stand in files.
        workers: Threads that decode.

    Returns:
        Index in ``images`` and the reason, for each picture that failed.
    """

    def problem(index: int) -> str | None:
        path = images.name(index)
        try:
            _decoded(path)
        except Exception as error:  # a decoder may raise anything on a broken file
            return undecodable(path, error)
        return None

    with _quiet_decoders(), ThreadPoolExecutor(max_workers=workers) as pool:
        found = pool.map(problem, range(len(images)))
        return {index: reason for index, reason in enumerate(found) if reason is not None}
