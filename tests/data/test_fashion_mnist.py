from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forktail.data import fashion_mnist
from forktail.data.fashion_mnist import open_fashion_mnist
from forktail.errors import InputError


@pytest.mark.parametrize("compressed", [True, False])
def test_four_files(tmp_path: Path, write_fashion_mnist: Callable[..., np.ndarray], compressed: bool) -> None:
    pixels = write_fashion_mnist(tmp_path, per_class=2, compressed=compressed)
    splits = open_fashion_mnist(tmp_path)
    assert splits.test is not None
    assert splits.train.classes[0] == "T-shirt/top"
    assert splits.train.classes[9] == "Ankle boot"
    np.testing.assert_array_equal(splits.train.class_counts(), np.full(10, 2))
    np.testing.assert_array_equal(splits.test.class_counts(), np.full(10, 2))
    np.testing.assert_array_equal(np.asarray(splits.train.read(0))[:, :, 0], pixels[0])
    assert splits.augment == "shift-flip"


def test_environment_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_fashion_mnist: Callable[..., np.ndarray]
) -> None:
    write_fashion_mnist(tmp_path / "fashion-mnist", per_class=1)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere"):
        open_fashion_mnist()
    monkeypatch.setenv("FORKTAIL_DATA", str(tmp_path))
    assert len(open_fashion_mnist().train) == 10
    monkeypatch.delenv("FORKTAIL_DATA")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "fashion-mnist")
    assert len(open_fashion_mnist().train) == 10


def test_missing_files_explain_the_package(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no train-images-idx3-ubyte") as caught:
        open_fashion_mnist(tmp_path)
    assert "apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion" in str(caught.value)
    assert "--set data.root=fashion/usr/share/datasets/fashion-mnist" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", b"no gzip", "expected a whole idx file, or one compressed"),
        (
            "train-images-idx3-ubyte.gz",
            gzip.compress(bytes(100), mtime=0)[:-12],
            "expected a whole idx file, or one compressed",
        ),
        ("train-images-idx3-ubyte", bytes([0, 0, 8, 1, 0, 0, 0, 0]), "begins with 00000801"),
        (
            "train-images-idx3-ubyte",
            bytes([0, 0, 8, 3, 0, 0, 0, 2] + [0, 0, 0, 1] * 2 + [7]),
            "holds 1 bytes; .*2 x 1 x 1",
        ),
        ("train-labels-idx1-ubyte", bytes([0, 0, 8, 1, 0, 0, 0, 1, 3]), "10 pictures and 1 labels up to 3"),
        ("train-labels-idx1-ubyte", bytes([0, 0, 8, 1, 0, 0, 0, 10] + [11] * 10), "10 pictures and 10 labels up to 11"),
    ],
)
def test_damaged_files(
    tmp_path: Path, write_fashion_mnist: Callable[..., np.ndarray], name: str, content: bytes, message: str
) -> None:
    write_fashion_mnist(tmp_path, per_class=1, compressed=name.endswith("gz"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_fashion_mnist(tmp_path)
