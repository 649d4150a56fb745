"""Formulas against autograd, image by image, for any shape."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from forktail.fisher.rules import rule_of
from forktail.fisher.sources import whole_rows


def assert_rule(module, inputs):
    """inputs: (B, m, ...), m rows of the module's input per image."""
    module = module.double().eval()
    outputs = module(inputs.flatten(0, 1))
    outputs = outputs.detach().unflatten(0, inputs.shape[:2])
    gradients = torch.randn_like(outputs)
    sources = rule_of(module)(module, inputs, gradients)
    assert sources.keys() == dict(module.named_parameters()).keys()
    for name, parameter in module.named_parameters():
        rows = parameter.shape[0]
        found = whole_rows(sources[name], rows, slice(0, len(inputs)), slice(0, rows))
        for image in range(len(inputs)):
            (expected,) = torch.autograd.grad((module(inputs[image]) * gradients[image]).sum(), parameter)
            torch.testing.assert_close(found[image].view_as(expected), expected, rtol=1e-10, atol=1e-12)


SIZES = st.integers(1, 4)


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(SIZES, min_size=2, max_size=5), width=SIZES, bias=st.booleans())
def test_linear(shape, width, bias):
    assert_rule(nn.Linear(shape[-1], width, bias=bias), torch.randn(2, *shape, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(SIZES, min_size=3, max_size=5), bias=st.booleans())
def test_layer_norm(shape, bias):
    images = torch.randn(2, *shape, dtype=torch.float64)
    assert_rule(nn.LayerNorm(shape[2:], bias=bias), images)


@settings(max_examples=60, deadline=None)
@given(
    dimensions=st.integers(1, 3),
    groups=st.integers(1, 2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    size=st.integers(3, 6),
    rows=st.integers(1, 2),
    bias=st.booleans(),
)
def test_convolution(dimensions, groups, kernel, stride, padding, size, rows, bias):
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    module = kind(2, 4, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
    assert_rule(module, torch.randn(2, rows, 2, *[size] * dimensions, dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.GroupNorm(2, 4), (4, 3, 2)),
        (nn.GroupNorm(1, 4), (4, 5)),
        (nn.BatchNorm1d(4), (4,)),
        (nn.BatchNorm2d(4), (4, 3, 2)),
        (nn.BatchNorm3d(4), (4, 2, 1, 2)),
    ],
)
def test_norms_over_channels(module, shape, rows):
    with torch.no_grad():
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    assert_rule(module, torch.randn(3, rows, *shape, dtype=torch.float64))


@pytest.mark.parametrize("padding", [None, 2])
def test_embedding(padding):
    index = torch.tensor([[[0, 2, 2]], [[4, 4, 4]], [[1, 2, 4]]])
    assert_rule(nn.Embedding(5, 3, padding_idx=padding), index)


class Doubled(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


@pytest.mark.parametrize(
    "module",
    [
        Doubled(2, 2), nn.PReLU(), nn.Conv2d(1, 1, 3, padding="same"), nn.Conv2d(1, 1, 3, padding_mode="circular"),
        nn.Embedding(3, 2, max_norm=1.0), nn.BatchNorm2d(2, track_running_stats=False), nn.ConvTranspose2d(1, 1, 2),
    ],
)  # fmt: skip
def test_no_formula_where_none_is_known_to_hold(module):
    assert rule_of(module) is None
