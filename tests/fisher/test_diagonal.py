"""The public estimator: every family of networks against the loop, every kind against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from forktail.errors import InputError
from forktail.fisher.diagonal import Fisher, fisher, fisher_by_group
from forktail.losses.balanced_bce import BalancedBCE
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
from forktail.losses.cross_entropy import CrossEntropy

BCE = BinaryCrossEntropy()


def batches(case, *sizes):
    first, parts = 0, []
    for size in sizes:
        parts.append(case.part(slice(first, first + size)))
        first += size
    return parts


def test_every_tensor_of_every_family_in_double_precision(family, loop, assert_squares):
    case = family.double()
    found = fisher(case.network, BCE, batches(case, 3, 2))
    assert found.images == found.weight == 5
    assert_squares(found.sums, loop(case.network, BCE, case.inputs, case.targets), 1e-12)


def test_every_tensor_of_every_family_in_single_precision(family, loop, assert_squares):
    found = fisher(family.network, BCE, batches(family, 1, 4)).sums
    case = family.double()
    assert_squares(found, loop(case.network, BCE, case.inputs, case.targets), 1e-5)


def test_formulas_and_the_generic_way_agree(family, squares, assert_squares):
    case = family.double()
    given_batches = batches(case, 2, 3)
    assert_squares(
        squares(case.network, BCE, given_batches, rules=False), squares(case.network, BCE, given_batches), 1e-12
    )


def test_networks_are_left_as_they_were(family):
    state = {name: value.clone() for name, value in family.network.state_dict().items()}
    frozen = next(iter(family.network.parameters())).requires_grad_(False)
    modes = [module.training for module in family.network.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in family.network.modules()]
    with torch.no_grad():
        fisher(family.network, BCE, batches(family, 5))
    torch.testing.assert_close(dict(family.network.state_dict()), state, rtol=0, atol=0)
    assert [module.training for module in family.network.modules()] == modes
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in family.network.modules()] == hooks
    assert all(p.grad is None and p.requires_grad == (p is not frozen) for p in family.network.parameters())
    assert not any("forward" in vars(m) or "weight" in vars(m) for m in family.network.modules())


def small(num_classes=3, dtype=torch.float64):
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, num_classes)).to(dtype)
    images = torch.randn(6, 4, dtype=dtype)
    return network, images, torch.eye(num_classes, dtype=dtype)[torch.arange(6) % num_classes]


def jacobians(network, images):
    """(N, C, *shape) derivatives of the outputs, one at a time."""
    found = {name: [] for name, _ in network.named_parameters()}
    for image in images:
        outputs = network(image[None])[0]
        rows = [torch.autograd.grad(output, list(network.parameters()), retain_graph=True) for output in outputs]
        for name, columns in zip(found, zip(*rows, strict=True), strict=True):
            found[name].append(torch.stack(columns))
    return {name: torch.stack(values) for name, values in found.items()}


def test_exact_gauss_newton_of_bernoulli_outputs():
    """sum_c s (1 - s) J_c^2, with s the sigmoid of the logits to which the loss adds its adjustment."""
    network, images, targets = small()
    loss = BalancedBCE([50, 20, 3]).double()
    s = torch.sigmoid(network(images) + loss.adjustment).detach()
    weights = torch.rand(6, dtype=torch.float64)
    found = fisher(network, loss, [(images, targets, weights)], kind="ggn")
    for name, j in jacobians(network, images).items():
        expected = torch.einsum("nc,nc...->...", weights[:, None] * s * (1 - s), j.square())
        torch.testing.assert_close(found.sums[name], expected, rtol=1e-12, atol=1e-14)


def test_exact_gauss_newton_of_a_softmax():
    network, images, targets = small()
    p = network(images).softmax(1).detach()
    found = fisher(network, CrossEntropy(), [(images, targets)], kind="ggn", outputs="softmax")
    for name, j in jacobians(network, images).items():
        mean = torch.einsum("nc,nc...->n...", p, j)
        expected = torch.einsum("nc,nc...->...", p, j.square()) - mean.square().sum(0)
        torch.testing.assert_close(found.sums[name], expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("loss", "outputs"), [(BCE, "bernoulli"), (CrossEntropy(), "softmax")])
def test_monte_carlo_tends_to_gauss_newton(loss, outputs):
    network, images, targets = small()
    exact = fisher(network, loss, [(images, targets)], kind="ggn", outputs=outputs).sums
    generator = torch.Generator().manual_seed(3)
    found = fisher(
        network, loss, [(images, None)], kind="monte_carlo", outputs=outputs, samples=400, generator=generator
    ).sums
    for name, values in exact.items():
        torch.testing.assert_close(found[name].sum(), values.sum(), rtol=0.15, atol=0)


def test_drawn_labels_do_not_depend_on_the_batches():
    network, images, _ = small()
    found = [
        fisher(network, BCE, parts, kind="monte_carlo", samples=2, generator=torch.Generator().manual_seed(5)).sums
        for parts in ([(images, None)], [(part, None) for part in images.split([1, 3, 2])])
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


def test_any_number_of_outputs():
    network, images, targets = small(num_classes=1)
    targets = (torch.arange(6, dtype=torch.float64) % 2)[:, None]
    s = torch.sigmoid(network(images)).detach()
    found = fisher(network, BCE, [(images, targets)], kind="ggn").sums["3.bias"]
    torch.testing.assert_close(found, (s * (1 - s)).sum(0), rtol=1e-12, atol=0)


def test_weights(loop, assert_squares):
    network, images, targets = small()
    weights = torch.tensor([0.0, 1.0, 2.5, 3.0, 0.5, 1.0])
    found = fisher(network, BCE, [(images[:4], targets[:4], weights[:4]), (images[4:], targets[4:], weights[4:])])
    assert found.weight == 8
    assert_squares(found.sums, loop(network, BCE, images, targets, weights), 1e-12)


def test_weights_by_class_are_weights():
    network, images, targets = small()
    by_class = torch.tensor([3.0, 1.0, 0.5])
    expected = fisher(network, BCE, [(images, targets, by_class[targets.argmax(1)])])
    for labels in (targets, targets.argmax(1)):
        found = fisher(network, BCE, [(images, labels)], class_weights=by_class)
        torch.testing.assert_close(found.mean(), expected.mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("sizes", [[6], [1, 1, 1, 1, 1, 1], [4, 2], [1, 5]])
def test_groups_are_every_so_many_images(sizes, loop, assert_squares):
    network, images, targets = small()
    parts = list(zip(images.split(sizes), targets.split(sizes), strict=True))
    found = fisher_by_group(network, BCE, parts, groups=4)
    assert [part.images for part in found] == [2, 2, 1, 1]
    for group, part in enumerate(found):
        assert_squares(part.sums, loop(network, BCE, images[group::4], targets[group::4]), 1e-12)
    merged = found[0].merge(found[1]).merge(found[2]).merge(found[3])
    assert_squares(merged.sums, fisher(network, BCE, parts).sums, 1e-12)


def test_mean_and_parts():
    found = Fisher(2, 4.0, {"a.weight": torch.tensor([8.0]), "ab.weight": torch.tensor([4.0])})
    torch.testing.assert_close(found.mean()["a.weight"], torch.tensor([2.0]))
    assert list(found.of("a").sums) == ["weight"]
    with pytest.raises(InputError, match='a module "b"'):
        found.of("b")
    with pytest.raises(InputError, match=r"a\.weight is in one of two"):
        found.merge(found.of("a"))
    with pytest.raises(InputError, match="add up to 0"):
        Fisher(1, 0.0, found.sums).mean()


def test_mixed_targets_are_refused():
    network, images, targets = small()
    with pytest.raises(InputError, match="targets between 0 and 1"):
        fisher(network, BCE, [(images, 0.5 * targets)])


def test_weights_below_zero_are_refused():
    network, images, targets = small()
    for bad in (-1.0, float("nan")):
        with pytest.raises(InputError, match="weights below zero"):
            fisher(network, BCE, [(images, targets, torch.full((6,), bad))])


def test_two_kinds_of_weights_are_refused():
    network, images, targets = small()
    with pytest.raises(InputError, match="one of the two"):
        fisher(network, BCE, [(images, targets, torch.ones(6))], class_weights=torch.ones(3))


def test_an_image_of_no_class_has_no_weight_by_class():
    network, images, targets = small()
    with pytest.raises(InputError, match="no single class"):
        fisher(network, BCE, [(images, 0 * targets)], class_weights=torch.ones(3))


def test_a_loss_that_does_not_fit_the_outputs_is_refused():
    network, images, targets = small()
    with pytest.raises(InputError, match="no negative log-likelihood of bernoulli"):
        fisher(network, CrossEntropy(), [(images, targets)], kind="ggn")
    with pytest.raises(InputError, match="no negative log-likelihood of softmax"):
        fisher(network, BCE, [(images, targets)], kind="ggn", outputs="softmax")


def test_labels_are_not_drawn_without_a_generator():
    network, images, targets = small()
    with pytest.raises(InputError, match="no generator"):
        fisher(network, BCE, [(images, targets)], kind="monte_carlo")


def test_too_few_images_are_refused():
    network, images, targets = small()
    with pytest.raises(InputError, match="0 images; expected at least 1"):
        fisher(network, BCE, [])
    with pytest.raises(InputError, match="6 images; expected at least 7"):
        fisher_by_group(network, BCE, [(images, targets)], groups=7)


def test_a_frozen_network_is_refused():
    network, images, targets = small()
    with pytest.raises(InputError, match="without trainable parameters"):
        fisher(network.requires_grad_(False), BCE, [(images, targets)])


def test_an_unused_parameter_is_named():
    network, images, targets = small()
    network.spare = nn.Identity()
    network.spare.extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"spare\.extra gets no gradient"):
        fisher(network, BCE, [(images, targets)])
    network.spare.extra.requires_grad_(False)
    assert "spare.extra" not in fisher(network, BCE, [(images, targets)]).sums


@settings(max_examples=25, deadline=None)
@given(
    num_images=st.integers(1, 5),
    tokens=st.integers(1, 4),
    width=st.integers(1, 5),
    cut=st.integers(1, 5),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_shapes_and_uneven_batches(num_images, tokens, width, cut, dtype):
    # Two features normalise to +-1, whatever they are: what is left of their gradient is rounding in single precision.
    assume(dtype == torch.float64 or width > 2)
    torch.manual_seed(width)
    network = nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Flatten(), nn.Linear(tokens * width, 2))
    network = network.to(dtype)
    images, targets = torch.randn(num_images, tokens, 3, dtype=dtype), torch.eye(2)[torch.arange(num_images) % 2]
    parts = list(zip(images.split(cut), targets.to(dtype).split(cut), strict=True))
    found = fisher(network, BCE, parts).sums
    network, images = network.double(), images.double()
    for name, parameter in network.named_parameters():
        expected = sum(
            torch.autograd.grad(BCE(network(image[None]), target[None].double())[0], parameter)[0].square()
            for image, target in zip(images, targets, strict=True)
        )
        scale = max(1.0, float(expected.max()))
        torch.testing.assert_close(
            found[name] / scale, expected / scale, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5
        )
