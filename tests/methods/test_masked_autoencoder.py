import dataclasses

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from forktail.backbones.adapters import adapt
from forktail.backbones.layered import Layered
from forktail.backbones.tiny import tiny
from forktail.errors import InputError
from forktail.methods._masked_autoencoder import MaskedAutoencoder, normalised, patches_of, removed_patch_error
from forktail.training.objective import Batch


def plain():
    """Patches by one linear map, a class token and a register, pooled by the class token."""
    return adapt(
        VisionTransformer(img_size=28, patch_size=7, embed_dim=24, depth=2, num_heads=3, num_classes=0, reg_tokens=1)
    )


BACKBONES = {"convolutional": lambda: adapt(tiny()), "plain": plain}


@pytest.fixture(params=BACKBONES)
def autoencoder(request):
    return MaskedAutoencoder(BACKBONES[request.param](), image_side=28, seed=0).eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(inputs, seed=0):
    count = len(inputs)
    return Batch(inputs, torch.zeros(count, dtype=torch.int64), torch.arange(count), 0.0, generator(seed))


def test_patches_lie_row_by_row_and_pixels_row_column_channel():
    images = torch.randn(2, 3, 6, 8)
    patches = patches_of(images, 2)
    assert patches.shape == (2, 12, 12)
    for image in range(2):
        for row in range(3):
            for column in range(4):
                expected = [
                    images[image, channel, 2 * row + y, 2 * column + x].item()
                    for y in range(2)
                    for x in range(2)
                    for channel in range(3)
                ]
                assert patches[image, 4 * row + column].tolist() == expected


def test_targets_have_no_mean_and_unit_unbiased_variance():
    patches = 40 * torch.rand(2, 5, 12, dtype=torch.float64) + 7
    found = normalised(patches).numpy()
    for image, target in zip(patches.numpy(), found, strict=True):
        for patch, values in zip(image, target, strict=True):
            variance = sum((patch - patch.mean()) ** 2) / (len(patch) - 1)
            np.testing.assert_allclose(values, (patch - patch.mean()) / np.sqrt(variance + 1e-6), rtol=1e-12)


def test_a_patch_without_contrast_stays_finite():
    torch.testing.assert_close(normalised(torch.full((1, 1, 12), 3.0)), torch.zeros(1, 1, 12), rtol=0, atol=0)


def test_the_error_is_the_mean_over_removed_patches_of_each_image():
    predicted, target = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    removed = torch.tensor([[True, False, True, False], [False, False, False, True]])
    expected = [
        np.mean([((predicted[i, t] - target[i, t]) ** 2).mean().item() for t in range(4) if removed[i, t]])
        for i in range(2)
    ]
    np.testing.assert_allclose(removed_patch_error(predicted, target, removed), expected, rtol=1e-6)


def test_a_perfect_prediction_of_what_was_removed_costs_nothing():
    target, removed = torch.randn(2, 4, 3), torch.tensor([[True, False, True, False]] * 2)
    predicted = torch.where(removed.unsqueeze(-1), target, torch.tensor(1e3))
    torch.testing.assert_close(removed_patch_error(predicted, target, removed), torch.zeros(2), rtol=0, atol=0)


def test_visible_patches_get_no_gradient():
    predicted = torch.randn(2, 4, 3, requires_grad=True)
    removed = torch.tensor([[True, False, True, False], [False, True, True, False]])
    removed_patch_error(predicted, torch.randn(2, 4, 3), removed).sum().backward()
    at_patch = predicted.grad.abs().sum(-1)
    assert (at_patch[~removed] == 0).all()
    assert (at_patch[removed] > 0).all()


def test_the_same_number_of_patches_is_removed_from_every_image_and_not_the_same_ones(autoencoder):
    tokens = autoencoder.backbone.stem.num_patches
    removed = autoencoder.draw(64, generator())
    assert removed.dtype == torch.bool
    assert removed.shape == (64, tokens)
    assert set(removed.sum(1).tolist()) == {round(0.75 * tokens)}
    assert len({tuple(row.tolist()) for row in removed}) > 50
    assert removed.any(0).all()  # no patch is safe


def test_the_generator_alone_decides_what_is_removed(autoencoder):
    first = autoencoder.draw(5, generator(3))
    torch.manual_seed(99)
    torch.testing.assert_close(autoencoder.draw(5, generator(3)), first)
    assert not torch.equal(autoencoder.draw(5, generator(4)), first)


def pixels_of(removed, side):
    """(B, 1, H, W) bool, True where a pixel belongs to a removed patch, by loops."""
    count, tokens = removed.shape
    grid = int(tokens**0.5)
    mask = torch.zeros(count, 1, grid * side, grid * side, dtype=torch.bool)
    for image in range(count):
        for token in range(tokens):
            row, column = divmod(token, grid)
            mask[image, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = removed[image, token]
    return mask


def test_removed_pixels_do_not_leak_into_the_reconstruction(autoencoder):
    inputs, removed = torch.randn(3, 3, 28, 28), autoencoder.draw(3, generator())
    hole = pixels_of(removed, autoencoder.side)
    with torch.no_grad():
        first = autoencoder.reconstruct(inputs, removed)
        other = autoencoder.reconstruct(torch.where(hole, 100 * torch.randn(3, 3, 28, 28), inputs), removed)
    torch.testing.assert_close(other, first, rtol=0, atol=0)


def test_every_visible_patch_reaches_the_reconstruction(autoencoder):
    inputs = torch.randn(1, 3, 28, 28, requires_grad=True)
    removed = autoencoder.draw(1, generator())
    autoencoder.reconstruct(inputs, removed).square().sum().backward()
    hole = pixels_of(removed, autoencoder.side)[:, 0]
    reached = inputs.grad.abs().sum(1)
    assert (reached[hole] == 0).all()
    assert (patches_of(inputs.grad, autoencoder.side).abs().sum(-1)[~removed] > 0).all()


def test_a_visible_patch_is_put_back_in_its_own_place(autoencoder):
    """With a decoder that passes tokens on, the place of a visible patch depends on that patch's embedding alone."""
    autoencoder.backbone.units = nn.ModuleList()
    autoencoder.decoder, autoencoder.pixels = nn.Identity(), nn.Identity()
    inputs, removed = torch.randn(2, 3, 28, 28), autoencoder.draw(2, generator())
    with torch.no_grad():
        autoencoder.position.zero_()
        found = autoencoder.reconstruct(inputs, removed)
        hidden = autoencoder.backbone.stem(inputs.masked_fill(pixels_of(removed, autoencoder.side), 0.0))
        expected = autoencoder.embed(autoencoder.norm(hidden))[:, autoencoder.prefix :]
    torch.testing.assert_close(found[~removed], expected[~removed])
    torch.testing.assert_close(found[removed], autoencoder.mask_token.expand_as(found[removed]), rtol=0, atol=0)


def test_the_loss_is_that_of_its_parts(autoencoder):
    inputs = torch.randn(4, 3, 28, 28)
    removed = autoencoder.draw(4, generator(7))
    with torch.no_grad():
        found = autoencoder(batch(inputs, seed=7))
        predicted = autoencoder.reconstruct(inputs, removed)
    target = normalised(patches_of(inputs, autoencoder.side))
    torch.testing.assert_close(found, removed_patch_error(predicted, target, removed))
    assert found.shape == (4,)


def test_labels_do_not_matter(autoencoder):
    inputs = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        found = autoencoder(dataclasses.replace(batch(inputs), targets=torch.tensor([4, 1])))
        torch.testing.assert_close(found, autoencoder(batch(inputs)), rtol=0, atol=0)


def test_every_part_of_the_encoder_is_trained(autoencoder):
    autoencoder(batch(torch.randn(2, 3, 28, 28))).sum().backward()
    untouched = {name for name, parameter in autoencoder.named_parameters() if parameter.grad is None}
    assert all(".fc_norm." in name or ".attn_pool." in name for name in untouched), untouched


def test_the_seed_decides_the_decoder_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    backbone = plain()
    torch.manual_seed(1)
    first, again, other = (MaskedAutoencoder(backbone, image_side=28, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(torch.rand(1), expected, rtol=0, atol=0)
    torch.testing.assert_close(first.pixels.weight, again.pixels.weight, rtol=0, atol=0)
    assert not torch.equal(first.pixels.weight, other.pixels.weight)


def test_the_fingerprint_sees_mask_and_patch_side(autoencoder):
    assert "mask=0.75, side=" in repr(autoencoder)


def test_another_family_is_refused():
    chain = Layered(nn.Flatten(), [nn.Linear(4, 4)], nn.LayerNorm(4), num_features=4)
    with pytest.raises(InputError, match="expected a plain vision transformer"):
        MaskedAutoencoder(chain, image_side=2)
