from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_pictures(tmp_path: Path) -> Callable[[Path | str, int], list[Path]]:
    """Write ``count`` different small PNG files into a folder below tmp_path."""

    def make(folder: Path | str, count: int, side: int = 6) -> list[Path]:
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(sum(str(folder).encode())).randint(0, 256, (count, side, side, 3), np.uint8)
        paths = [place / f"{i:03d}.png" for i in range(count)]
        for path, picture in zip(paths, pixels, strict=True):
            Image.fromarray(picture).save(path)
        return paths

    return make


@pytest.fixture
def write_fashion_mnist() -> Callable[..., np.ndarray]:
    """Write the four idx files with a few random pictures; give the training pictures back."""

    def write(folder: Path, per_class: int, compressed: bool = False) -> np.ndarray:
        folder.mkdir(parents=True, exist_ok=True)
        labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
        pixels = {prefix: _noise(seed, len(labels)) for seed, prefix in enumerate(("train", "t10k"))}
        for prefix, pictures in pixels.items():
            for name, array in ((f"{prefix}-images-idx3-ubyte", pictures), (f"{prefix}-labels-idx1-ubyte", labels)):
                content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
                if compressed:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(content))
                else:
                    (folder / name).write_bytes(content)
        return pixels["train"]

    return write


def _noise(seed: int, count: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, 28, 28), np.uint8)
