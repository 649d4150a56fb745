"""Each source against gradients that are written out."""

from __future__ import annotations

import pytest
import torch

from forktail.fisher.sources import Computed, Dense, Outer, Rows, Total, matrix_shape, whole_rows

EVERY = slice(0, 3), slice(0, 4)
SOME = slice(1, 3, 2), slice(1, 3)


def outer():
    outputs, inputs = torch.randn(3, 5, 4), torch.randn(3, 5, 2)
    return Outer(outputs, inputs), torch.einsum("bto,bti->boi", outputs, inputs)


def looked_up(padding=None):
    """Rows 6, 0 and 3 of seven; the first image looks row 6 up twice."""
    index, outputs = torch.tensor([[6, 0, 6], [3, 0, 0], [3, 3, 3]]), torch.randn(3, 3, 2)
    expected = torch.zeros(3, 7, 2)
    for image in range(3):
        for token in range(3):
            if index[image, token] != padding:
                expected[image, index[image, token]] += outputs[image, token]
    return Rows(outputs, index, padding), expected


@pytest.mark.parametrize(("images", "rows"), [EVERY, SOME])
def test_outer_products(images, rows):
    source, expected = outer()
    assert source.shape == (4, 2)
    torch.testing.assert_close(source.gradients(images, rows), expected[images, rows])


@pytest.mark.parametrize("padding", [None, 0])
def test_looked_up_rows(padding):
    source, expected = looked_up(padding)
    assert source.support.tolist() == [0, 3, 6]
    torch.testing.assert_close(source.gradients(slice(0, 3), slice(1, 3)), expected[:, [3, 6]])
    torch.testing.assert_close(whole_rows(source, 7, slice(1, 3), slice(0, 4)), expected[1:, :4])


def test_held_and_computed_gradients():
    values = torch.randn(3, 4, 2, 5)
    for source in (Dense(values), Computed(values.shape[1:], lambda images: values[images])):
        assert source.shape == (4, 10)
        torch.testing.assert_close(source.gradients(*SOME), values.flatten(2)[SOME])


def test_uses_are_added():
    (one, expected), (other, more) = looked_up(), (Dense(torch.ones(3, 7, 2)), torch.ones(3, 7, 2))
    total = Total([one, other], torch.Size([7, 2]))
    torch.testing.assert_close(total.gradients(slice(0, 2), slice(2, 7)), (expected + more)[:2, 2:7])


@pytest.mark.parametrize(("shape", "matrix"), [((), (1, 1)), ((4,), (4, 1)), ((4, 3), (4, 3)), ((4, 3, 2), (4, 6))])
def test_tensors_are_matrices_of_their_rows(shape, matrix):
    assert matrix_shape(torch.Size(shape), batched=False) == matrix
    assert matrix_shape(torch.Size((9, *shape)), batched=True) == (9, *matrix)
