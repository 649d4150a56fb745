from __future__ import annotations

import pytest
import torch

from forktail.backbones.adapters import adapt
from forktail.backbones.tiny import tiny
from forktail.errors import InputError


def test_size():
    model = tiny()
    assert 0.3e6 < sum(parameter.numel() for parameter in model.parameters()) < 0.4e6
    # In two bytes per number the embedded weights stay under a megabyte.
    assert 2 * sum(parameter.numel() for parameter in model.parameters()) < 1e6


def test_a_token_for_every_four_pixels_and_no_class_token():
    backbone = adapt(tiny())
    assert (backbone.depth, backbone.num_features) == (6, 64)
    assert backbone.stem(torch.zeros(2, 3, 28, 28)).shape == (2, 49, 64)


def test_tokens_see_beyond_their_own_pixels():
    """Strides 2, 2, 1 of 3x3: a token sees 15 pixels across, where a patch sees 4."""
    images = torch.zeros(1, 3, 28, 28, requires_grad=True)
    token = tiny().patch_embed(images)[0, 24]  # row 3, column 3
    (gradient,) = torch.autograd.grad(token.square().sum() + token.sum(), images)
    seen = gradient[0].abs().sum(0).nonzero()
    assert seen.amin(0).tolist() == [5, 5]
    assert seen.amax(0).tolist() == [19, 19]


def test_features_are_normalised_after_pooling():
    features = adapt(tiny())(torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(features.mean(1), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.var(1, unbiased=False), torch.ones(4), rtol=1e-2, atol=0)


def test_other_input_sizes():
    assert adapt(tiny(input_size=40))(torch.zeros(1, 3, 40, 40)).shape == (1, 64)
    with pytest.raises(InputError, match="a multiple of 4 pixels"):
        tiny(input_size=30)


def test_drop_path_is_passed_on():
    assert tiny(drop_path=0.3).blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)
