import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.layered import Layered
from forktail.data.sampling import Paired, Shuffled, Weighted
from forktail.errors import InputError
from forktail.methods.bbn import BBN, Bilateral, Cumulative, conventional_share, mixed_features
from forktail.training.mix import Mix
from forktail.training.objective import Batch
from forktail.training.plan import Plan


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        units = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)]
        chain = Layered(nn.Linear(4, 4), units, nn.LayerNorm(4), num_features=4)
        network = Bilateral(chain, None, 5, torch.Generator().manual_seed(1)).double()
        nn.init.normal_(network.classifier.weight)
        for parameter in network.trunk.branches[1].parameters():  # so that the branches are not alike
            nn.init.normal_(parameter)
    return network


def pairs(progress, targets=(0, 4, 2, 1, 3, 3)):
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return Batch(inputs, torch.tensor(targets), torch.arange(6), progress, torch.Generator())


def test_the_loss_is_that_of_a_slow_loop(network):
    batch, share = pairs(0.6), 1 - 0.36
    expected = []
    for first in range(0, 6, 2):
        features = []
        for place, branch in enumerate(network.trunk.branches):
            hidden = network.trunk.shared(batch.inputs[first + place : first + place + 1])
            features.append(branch(hidden)[0].detach().numpy())
        mixed = 2 * np.concatenate([share * features[0], (1 - share) * features[1]])
        z = network.classifier.weight.detach().numpy() @ mixed + network.classifier.bias.detach().numpy()
        surprise = np.log(np.exp(z).sum()) - z
        expected.append(share * surprise[batch.targets[first]] + (1 - share) * surprise[batch.targets[first + 1]])
    np.testing.assert_allclose(Cumulative(network)(batch).detach(), expected, rtol=1e-10)


def test_at_first_only_the_conventional_branch_learns(network):
    objective = Cumulative(network)
    loss = objective(pairs(0.0))
    torch.testing.assert_close(objective(pairs(0.0, (0, 0, 2, 0, 3, 0))), loss, rtol=0, atol=0)
    loss.sum().backward()
    conventional, rebalancing = network.trunk.branches
    assert all(parameter.grad.abs().max() == 0 for parameter in rebalancing.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in conventional.parameters())
    assert network.classifier.weight.grad[:, 4:].abs().max() == 0  # half of the classifier is used


def test_in_the_end_only_the_rebalancing_branch_learns(network):
    objective = Cumulative(network)
    loss = objective(pairs(1.0))
    torch.testing.assert_close(objective(pairs(1.0, (1, 4, 1, 1, 1, 3))), loss, rtol=0, atol=0)
    loss.sum().backward()
    assert all(parameter.grad.abs().max() == 0 for parameter in network.trunk.branches[0].parameters())


def test_the_share_falls_from_1_to_0_as_a_parabola():
    shares = [conventional_share(p) for p in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == [1, 0.9375, 0.75, 0.4375, 0]


def test_an_even_share_is_the_plain_concatenation():
    first, second = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3)
    torch.testing.assert_close(mixed_features(first, second, 0.5), torch.cat([first, second], dim=1), rtol=0, atol=0)


def test_prediction_is_an_even_share_of_both_branches_on_the_same_image(network):
    inputs = pairs(0.0).inputs
    torch.testing.assert_close(network(inputs), network.pair_logits(inputs.repeat_interleave(2, dim=0), 0.5))


def test_finite_differences_agree(network):
    inputs, targets = pairs(0.0).inputs.requires_grad_(), pairs(0.0).targets
    objective = Cumulative(network)
    assert torch.autograd.gradcheck(
        lambda x: objective(Batch(x, targets, torch.arange(6), 0.7, torch.Generator())), (inputs,)
    )


def test_an_epoch_shows_n_pairs_in_batches_of_pairs(problem, make_engine):
    engine = make_engine(Plan(epochs=1, batch_size=8))
    BBN().fit(problem, engine)
    (stage,) = engine.manifest
    assert (stage["steps"], stage["images_per_step"]) == (32 // 8, 16)


def test_the_second_stream_is_the_reversed_one(problem):
    labels, reversed_stream = problem.train.labels, Weighted("reversed")
    shown = np.concatenate(
        [labels[Paired(Shuffled(), reversed_stream).epoch(labels, seed)[1::2]] for seed in range(200)]
    )
    shares = np.bincount(shown, minlength=6) / len(shown)
    inverse = 1 / problem.counts.per_class
    np.testing.assert_allclose(shares, inverse / inverse.sum(), atol=0.02)


def test_it_trains_under_a_compute_budget(problem, make_engine):
    free = make_engine(Plan(epochs=2, batch_size=8))
    BBN().fit(problem, free)
    bound = make_engine(Plan(epochs=9, batch_size=8, flops=free.flops * 0.8))
    BBN().fit(problem, bound)
    assert 0.6 * free.flops < bound.flops <= 0.8 * free.flops


def test_mixed_images_are_refused(problem, make_engine):
    with pytest.raises(InputError, match="needs one class of each image"):
        BBN().fit(problem, make_engine(Plan(epochs=1, batch_size=8, mix=Mix(mixup=0.8))))


def test_more_shared_units_than_there_are_is_an_error(problem, make_engine):
    with pytest.raises(InputError, match="3 shared units; expected 1 to 2"):
        BBN(shared_units=3).fit(problem, make_engine())
    with pytest.raises(InputError, match=r"method\.shared_units = 0"):
        BBN(shared_units=0)
