"""The named set ``fashion-mnist``: 70,000 pictures of clothing, 28 x 28, ten classes (Xiao et al. 2017)."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forktail.data.images import ArrayPictures, Images
from forktail.data.splits import Splits
from forktail.errors import InputError
from forktail.files import reason

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
INSTALL = (
    "run `apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion` (Debian, no root) "
    "and add `--set data.root=fashion/usr/share/datasets/fashion-mnist`"
)
AGAIN = "fetch the file again, it is damaged"


def open_fashion_mnist(root: Path | None = None) -> Splits:
    """Read the four idx files, compressed or not.

    Args:
        root: Their folder; if None, ``$FORKTAIL_DATA/fashion-mnist``, then where Debian's package puts them.

    Returns:
        60,000 training and 10,000 test pictures.

    Raises:
        InputError: If a file is missing or damaged.
    """
    folder = root or _folder()
    train, test = _part(folder, "train"), _part(folder, "t10k")
    return Splits("fashion-mnist", train, test, augment="shift-flip")


def _folder() -> Path:
    data = os.environ.get("FORKTAIL_DATA")
    places = [Path(data) / "fashion-mnist", DEBIAN] if data else [DEBIAN]
    found = next((place for place in places if os.path.isdir(place)), None)
    if found is None:
        missing = " and no ".join(map(str, places))
        raise InputError(f"fashion-mnist: no {missing}", expected="the folder of its four files", remedy=INSTALL)
    return found


def _part(folder: Path, prefix: str) -> Images:
    pictures = _idx(folder, f"{prefix}-images-idx3-ubyte", 3)
    labels = _idx(folder, f"{prefix}-labels-idx1-ubyte", 1)
    if len(pictures) != len(labels) or (len(labels) and labels.max() >= len(CLASSES)):
        found = f"{folder}: {len(pictures)} pictures and {len(labels)} labels up to {labels.max(initial=0)} in {prefix}"
        raise InputError(found, expected="as many labels as pictures, 0 to 9", remedy=AGAIN)
    return Images.ordered(ArrayPictures(pictures, prefix), labels, CLASSES)


def _idx(folder: Path, name: str, ndim: int) -> npt.NDArray[np.uint8]:
    """Read an array of bytes: two zeros, type 8, the number of axes, each length as big-endian int32, the bytes."""
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise InputError(
            f"fashion-mnist: no {name} or {name}.gz in {folder}", expected="its four idx files", remedy=INSTALL
        )
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: {reason(error)}", expected="a whole idx file, or one compressed with gzip", remedy=AGAIN
        ) from None
    start = 4 + 4 * ndim
    if content[:4] != bytes([0, 0, 8, ndim]) or len(content) < start:
        raise InputError(
            f"{path} begins with {content[:4].hex() or 'nothing'}",
            expected=f"an idx file of bytes with {ndim} axes",
            remedy=AGAIN,
        )
    shape = tuple(np.frombuffer(content, ">i4", ndim, offset=4).tolist())
    if min(shape) < 1 or len(content) - start != math.prod(shape):
        raise InputError(
            f"{path} holds {len(content) - start} bytes", expected=" x ".join(map(str, shape)), remedy=AGAIN
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
