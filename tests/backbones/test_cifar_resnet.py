from __future__ import annotations

from dataclasses import replace

import pytest
import safetensors.torch
import timm
import torch
from torch.nn import functional as F

from forktail.backbones.cifar_resnet import NUM_LAYERS, CifarResNet, cifar_resnet
from forktail.backbones.open import BackboneSpec, architecture, input_facts, open_backbone, save_backbone
from forktail.errors import InputError

SPEC = BackboneSpec("resnet8", weights="random")


def normed(state, name, hidden):
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (hidden - mean) / (var + 1e-5).sqrt() * weight + bias


def by_hand(state, blocks, hidden):
    """He et al. 2016, section 4.2, written out in float64 from the names of the parameters."""
    hidden = normed(state, "bn1", F.conv2d(hidden, state["conv1.weight"], padding=1)).clamp(min=0)
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            first = stage > 1 and block == 0
            inner = F.conv2d(hidden, state[f"{name}.conv1.weight"], stride=2 if first else 1, padding=1)
            inner = normed(state, f"{name}.bn1", inner).clamp(min=0)
            inner = normed(state, f"{name}.bn2", F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1))
            if first:
                zeros = torch.zeros(len(hidden), width // 4, *inner.shape[2:], dtype=hidden.dtype)
                hidden = torch.cat([zeros, hidden[:, :, ::2, ::2], zeros], dim=1)
            hidden = (inner + hidden).clamp(min=0)
    return hidden.mean((2, 3))


@pytest.mark.parametrize(("name", "size"), [("resnet8", 28), ("resnet8", 33), ("resnet14", 32)])
def test_features_are_those_of_the_definition(name, size):
    backbone = open_backbone(BackboneSpec(name, weights="random"), seed=1).double().eval()
    model = cifar_resnet(name)
    state = model.double().state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var", "bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias")):
            value.uniform_(0.5, 1.5)
    for mine, theirs in zip(backbone.state_dict().values(), state.values(), strict=True):
        mine.copy_(theirs)
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    expected = by_hand(state, (NUM_LAYERS[name] - 2) // 6, images)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)]
)
def test_sizes_are_those_of_the_paper(name, millions):
    """He et al. 2016, table 6; the classifier of ten classes counts there."""
    parameters = sum(p.numel() for p in cifar_resnet(name).parameters()) + 10 * 65
    assert round(parameters / 1e6, 2) == millions


@pytest.mark.parametrize("name", NUM_LAYERS)
def test_weighted_layers_are_counted_by_the_name(name):
    backbone = open_backbone(BackboneSpec(name, weights="random"))
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) + 1 == int(name.removeprefix("resnet")) == 2 + 2 * backbone.depth
    assert backbone.num_features == 64


@pytest.mark.parametrize("layers", [2, 7, 33])
def test_another_number_of_layers_is_refused(layers):
    with pytest.raises(ValueError, match=r"expected 6n \+ 2"):
        CifarResNet(layers)


def test_first_weights_keep_the_scale_of_the_signal():
    """He et al. 2015: a standard deviation of sqrt(2 / fan_in)."""
    for name, weight in open_backbone(BackboneSpec("resnet56", weights="random")).named_parameters():
        if weight.ndim == 4:
            fan_in = weight[0].numel()
            assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.15), name


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    first, again, other = (open_backbone(SPEC, seed=seed) for seed in (3, 3, 4))
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    torch.testing.assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.stem.conv1.weight, other.stem.conv1.weight)


@pytest.mark.parametrize("size", [None, 28, 40, 224])
def test_any_input_size(size):
    facts = input_facts(replace(SPEC, input_size=size))
    assert facts["size"] == (size or 32)
    assert facts["mean"] == (0.4914, 0.4822, 0.4465)
    backbone = open_backbone(replace(SPEC, input_size=size))
    assert backbone(torch.zeros(2, 3, facts["size"], facts["size"])).shape == (2, 64)


def test_stochastic_depth_grows_to_its_rate():
    rates = [unit.drop_path.drop_prob for unit in open_backbone(replace(SPEC, drop_path=0.4)).units]
    assert rates == pytest.approx([0.0, 0.2, 0.4])


def test_a_dropped_block_passes_its_input_on():
    block = open_backbone(SPEC).units[0]
    block.drop_path.drop_prob = 0.999999
    hidden = torch.rand(4, 16, 8, 8)  # not negative, so that the last activation leaves it alone
    torch.testing.assert_close(block.train()(hidden), hidden, rtol=0, atol=0)
    assert (block.eval()(hidden) - hidden).abs().max() > 0.1


def test_saved_under_the_names_of_the_long_tail_repositories_and_loaded_again(tmp_path):
    spec = replace(SPEC, input_size=28)
    stored = open_backbone(spec, seed=7)
    for value in stored.buffers():
        value.add_(2)
    save_backbone(tmp_path / "a.safetensors", stored, spec)
    names = set(safetensors.torch.load_file(tmp_path / "a.safetensors"))
    assert {"conv1.weight", "layer1.0.bn1.running_mean", "layer3.0.conv2.weight"} < names
    opened = BackboneSpec.parse(str(tmp_path / "a.safetensors"))
    assert architecture(opened) == replace(spec, weights="random")
    torch.testing.assert_close(open_backbone(opened).state_dict(), stored.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_with_classifier_and_without_counts_is_loaded(tmp_path):
    """As the long-tail repositories and old versions of PyTorch write them."""
    state = {k: v + 1 for k, v in cifar_resnet("resnet8").state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": {**state, "linear.weight": torch.zeros(10, 64)}, "epoch": 3}, tmp_path / "a.pth")
    file = str(tmp_path / "a.pth")
    opened = open_backbone(BackboneSpec("resnet8", weights=file))
    torch.testing.assert_close(opened.stem.bn1.running_var, state["bn1.running_var"], rtol=0, atol=0)
    del state["layer1.0.bn1.running_var"]
    torch.save(state, file)
    with pytest.raises(InputError, match=r"layer1\.0\.bn1\.running_var \(16,\) is missing"):
        open_backbone(BackboneSpec("resnet8", weights=file))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (BackboneSpec("resnet32", weights="embedded"), "embedded weights for"),
        (BackboneSpec("resnet32", weights="imagenet"), "no file imagenet"),
        (BackboneSpec("resnet32.cifar100"), 'no weights "cifar100" of resnet32'),
    ],
)
def test_weights_that_nobody_publishes_are_refused_with_the_way_to_some(spec, message):
    with pytest.raises(InputError, match=f"^{message}.*`forktail pretrain DATA --backbone resnet32 --out FOLDER`$"):
        open_backbone(spec)


def test_without_a_word_about_weights_they_are_random():
    assert BackboneSpec("resnet32").has_random_weights
    expected = open_backbone(SPEC, seed=5).state_dict()
    torch.testing.assert_close(open_backbone(BackboneSpec("resnet8"), seed=5).state_dict(), expected, rtol=0, atol=0)


def test_no_name_is_one_of_timms():
    assert [name for name in NUM_LAYERS if timm.is_model(name)] == []


def test_a_typing_error_is_put_right():
    with pytest.raises(InputError, match='did you mean "resnet32"'):
        open_backbone(BackboneSpec("resnett32"))
