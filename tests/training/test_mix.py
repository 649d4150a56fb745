import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from forktail.errors import InputError
from forktail.training.mix import Mix
from forktail.training.objective import Batch


def batch(num=6, side=8, classes=4):
    inputs = torch.arange(num, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(num, 3, side, side).clone()
    targets = torch.arange(num) % classes
    return Batch(inputs, targets, torch.arange(num), progress=0.0, generator=torch.Generator())


def test_what_is_off_hands_the_batch_on():
    given = batch()
    assert Mix()(given, 4) is given


def test_smoothing_alone_keeps_the_inputs_and_spreads_its_share_over_all_classes():
    given = batch()
    mixed = Mix(smoothing=0.2)(given, 4)
    torch.testing.assert_close(mixed.inputs, given.inputs, rtol=0, atol=0)
    torch.testing.assert_close(mixed.targets, 0.8 * one_hot(given.targets, 4) + 0.05)


def test_mixup_blends_inputs_and_targets_by_the_same_share():
    mixed = Mix(mixup=1.0)(batch(classes=6), 6)
    levels, shares = mixed.inputs[:, 0, 0, 0].numpy(), np.diag(mixed.targets.numpy())
    others = mixed.targets.numpy() - np.diag(shares)
    partners = others.argmax(axis=1)
    assert sorted(partners.tolist()) == list(range(6))
    np.testing.assert_allclose(others[np.arange(6), partners], 1 - shares, atol=1e-6)
    np.testing.assert_allclose(levels, shares * np.arange(6) + (1 - shares) * partners, atol=1e-5)
    np.testing.assert_allclose(shares, shares[0], atol=1e-6)
    assert 0 < shares[0] < 1


def test_partners_are_drawn_from_the_whole_batch_whatever_the_order_of_the_images():
    classes = torch.arange(40).repeat_interleave(3)  # as repeated augmentation puts them
    given = Batch(torch.zeros(120, 3, 2, 2), classes, torch.arange(120), 0.0, torch.Generator())
    two = (Mix(mixup=1.0)(given, 40).targets > 0).sum(1) == 2
    assert two.float().mean() > 0.9  # next to one another only a third would meet another image


def test_cutmix_targets_are_the_share_of_the_area():
    torch.manual_seed(1)
    mixed = Mix(cutmix=1.0)(batch(classes=6), 6)
    own = (mixed.inputs == torch.arange(6.0).reshape(-1, 1, 1, 1)).float().mean(dim=(1, 2, 3))
    met = own < 1  # an image may meet itself
    assert met.any()
    torch.testing.assert_close(mixed.targets.diag(), own)


def test_where_both_are_on_each_batch_gets_one_of_them_equally_often():
    torch.manual_seed(0)
    cut = 0
    for _ in range(200):
        levels = Mix(mixup=0.5, cutmix=1.0)(batch(), 4).inputs
        cut += bool((levels == levels.round()).all())  # CutMix keeps whole pixels
    assert 70 <= cut <= 130


def test_the_same_generator_gives_the_same_mix():
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(Mix(mixup=0.8, cutmix=1.0, smoothing=0.1)(batch(), 4))
    torch.testing.assert_close(results[0].inputs, results[1].inputs, rtol=0, atol=0)
    torch.testing.assert_close(results[0].targets.sum(1), torch.ones(6))


def test_an_odd_batch_can_be_mixed():
    assert Mix(mixup=0.8)(batch(num=5), 4).targets.shape == (5, 4)


@pytest.mark.parametrize(
    "numbers",
    [{"mixup": -1.0}, {"cutmix": float("inf")}, {"smoothing": 1.0}, {"smoothing": -0.1}, {"mixup": float("nan")}],
)
def test_a_number_out_of_range_is_refused(numbers):
    with pytest.raises(InputError, match=f"plan.mix.{next(iter(numbers))}"):
        Mix(**numbers)


def test_several_views_are_not_mixed():
    views = Batch(torch.zeros(2, 2, 3, 4, 4), torch.zeros(2, dtype=torch.long), torch.arange(2), 0.0, torch.Generator())
    with pytest.raises(InputError, match="several views"):
        Mix(mixup=0.8)(views, 3)
