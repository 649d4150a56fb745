from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from forktail.data.augment import Preprocess
from forktail.data.images import ArrayPictures, Images


@pytest.fixture
def images() -> Images:
    pixels = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
    return Images.ordered(ArrayPictures(pixels, "x_train"), [2, 0, 2, 0, 0, 2], ("a", "b", "c"))


def test_order_is_by_class_then_as_found(images: Images) -> None:
    np.testing.assert_array_equal(images.positions, [1, 3, 4, 0, 2, 5])
    np.testing.assert_array_equal(images.labels, [0, 0, 0, 2, 2, 2])
    assert images.labels.dtype == np.int64
    assert images.name(0) == "x_train[1]"


def test_counts_hold_zeros(images: Images) -> None:
    np.testing.assert_array_equal(images.class_counts(), [3, 0, 3])


def test_grey_is_read_as_rgb(images: Images) -> None:
    picture = images.read(3)
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), np.arange(16).reshape(4, 4)[:, :, None].repeat(3, 2))


def test_subset_by_indices_and_by_mask_agree(images: Images) -> None:
    mask = np.array([True, False, False, True, True, False])
    for part in (images.subset(mask), images.subset([0, 3, 4])):
        np.testing.assert_array_equal(part.positions, [1, 0, 2])
        np.testing.assert_array_equal(part.labels, [0, 2, 2])
    assert len(images.subset(np.zeros(6, bool))) == 0
    assert len(images.subset([])) == 0


def test_item_is_the_transformed_picture(images: Images) -> None:
    prepare = Preprocess(4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    torch.testing.assert_close(images.with_transform(prepare)[3][0], torch.arange(16.0).reshape(4, 4) / 255)
    with pytest.raises(TypeError, match="with_transform"):
        images[3]


def test_fingerprint_sees_pixels_labels_classes_and_transform(images: Images) -> None:
    pixels = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
    again = Images.ordered(ArrayPictures(pixels.copy()), [2, 0, 2, 0, 0, 2], ("a", "b", "c"))
    assert again.fingerprint == images.fingerprint
    pixels[5, 3, 3] += 1
    others = [
        Images.ordered(ArrayPictures(pixels), [2, 0, 2, 0, 0, 2], ("a", "b", "c")),
        dataclasses.replace(images, classes=("a", "b", "d")),
        dataclasses.replace(images, labels=images.labels[::-1].copy()),
        images.subset([0, 1, 2, 3, 4]),
        images.with_transform(Preprocess(4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        images.with_transform(Preprocess(4, (0.5, 0.0, 0.0), (1.0, 1.0, 1.0))),
    ]
    assert len({images.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_same_bytes_in_another_shape_are_other_pictures() -> None:
    flat = np.zeros((1, 2, 8), np.uint8)
    digests = {ArrayPictures(flat.reshape(shape)).digest(np.array([0])) for shape in [(1, 2, 8), (1, 4, 4)]}
    assert len(digests) == 2


@pytest.mark.parametrize("array", [np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3)), np.zeros((2, 3, 3, 4), np.uint8)])
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        ArrayPictures(array)


def test_labels_must_fit() -> None:
    pictures = ArrayPictures(np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"labels in 0\.\.1"):
        Images.ordered(pictures, [0, 2], ("a", "b"))
    with pytest.raises(ValueError, match=r"\(N,\)"):
        Images(pictures, np.arange(2), np.zeros(1, np.int64), ("a", "b"))
