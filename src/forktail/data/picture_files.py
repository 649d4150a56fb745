"""Pictures that stand in files: every format becomes RGB, and what cannot be read is found before training."""

from __future__ import annotations

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from forktail.data.images import Images, IntArray

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
        """Decode one file as RGB."""
        return open_picture(self.root / self.paths[position])

    def name(self, position: int) -> str:
        """Give the path of one file."""
        return str(self.root / self.paths[position])

    def digest(self, positions: IntArray) -> str:
        """Hash names, sizes and times of change: the content would take as long to read as to train on."""
        content = hashlib.sha256()
        for position in positions:
            path = self.paths[position]
            status = os.stat(self.root / path)
            content.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return content.hexdigest()


def open_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Decode a picture of any kind as upright 8-bit RGB.

    Transparency is laid on white, 16-bit grey keeps its upper 8 bits, CMYK and palettes are converted, the EXIF
    orientation is applied, and of an animation the first picture is taken.

    Args:
        path: The file.

    Returns:
        The picture in mode RGB.

    Raises:
        OSError: If the file is missing, truncated or no picture, or its levels have no stated range (32-bit).
    """
    with Image.open(path) as file:
        file.load()
        return as_rgb(file)


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
        images: The pictures.
        workers: Threads that decode.

    Returns:
        Index in ``images`` and the reason, for each picture that failed.
    """

    def problem(index: int) -> str | None:
        try:
            images.read(index)
        except UnidentifiedImageError:
            return "not a picture"
        except Exception as error:  # a decoder may raise anything on a broken file
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=workers) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        found = pool.map(problem, range(len(images)))
        return {index: reason for index, reason in enumerate(found) if reason is not None}
