from itertools import chain

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.layered import Layered
from forktail.backbones.open import BackboneSpec, open_backbone
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.losses.ldam import LDAM
from forktail.methods._rare_samples import RareSamples, as_hidden, as_maps, centre_loss, vector_loss
from forktail.methods.rsg import RSG, Generating, generator_place
from forktail.training.objective import Batch, weighted_mean
from forktail.training.plan import Plan

COUNTS = ClassCounts(np.array([3, 12, 1, 8, 2]))  # class 1 is the head at ratio 0.2
SMALL = {"n_center": 3, "contrastive_module_dim": 4}


class Features(nn.Module):
    """A map of 4 channels, whatever comes in."""

    def __init__(self, channels=4, stride=2):
        super().__init__()
        self.conv = nn.Conv2d(3 if stride == 2 else channels, channels, 3, stride=stride, padding=1)

    def forward(self, hidden):
        return torch.tanh(self.conv(hidden))


@pytest.fixture
def make_objective():
    def make(**options):
        method = RSG(**SMALL, **options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            readout = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            backbone = Layered(Features(), [Features(stride=1), Features(stride=1)], readout, num_features=4)
            network = Classified(backbone, nn.Linear(4, 5))
        names = ("n_center", "contrastive_module_dim", "head_tail_ratio", "transfer_strength", "released_vectors")
        own = {name: getattr(method, name) for name in names}
        rare = RareSamples(COUNTS, 4, torch.Generator().manual_seed(1), **own)
        with torch.no_grad():  # centres begin at zero, where each is as near as the next
            rare.centres.normal_(generator=torch.Generator().manual_seed(2))
        return Generating(network, 1, rare, COUNTS, method)

    return make


def make_batch(targets, progress):
    inputs = torch.randn(len(targets), 3, 6, 6, generator=torch.Generator().manual_seed(3))
    return Batch(inputs, torch.tensor(targets), torch.arange(len(targets)), progress, torch.Generator())


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_loss_of_the_centres_is_that_of_the_formula():
    maps, centres, shares = draw(3, 4, 2, 5), draw(3, 6, 4, seed=1), draw(3, 6, seed=2).softmax(1)
    expected = 0.0
    for i in range(3):
        for k in range(6):
            for row in range(2):
                for column in range(5):
                    expected += shares[i, k] * ((maps[i, :, row, column] - centres[i, k]) ** 2).sum() / 3
    torch.testing.assert_close(centre_loss(maps, centres, shares), expected, rtol=1e-12, atol=1e-12)
    leaves = [tensor.clone().requires_grad_() for tensor in (centres, shares)]
    assert torch.autograd.gradcheck(lambda c, g: centre_loss(maps, c, g), leaves)


def test_a_centre_to_which_no_share_goes_gets_no_gradient():
    centres = draw(2, 3, 4).requires_grad_()
    one_hot = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    (slope,) = torch.autograd.grad(centre_loss(draw(2, 4, 2, 2, seed=1), centres, one_hot), centres)
    moved = slope.abs().amax(2) > 0
    assert moved.tolist() == [[False, True, False], [True, False, False]]


def test_the_loss_of_moved_vectors_compares_each_cells_length_and_direction():
    d, moved, v = (draw(3, 4, 2, 2, seed=seed) for seed in range(3))
    expected = 0.0
    for i in range(3):
        for row in range(2):
            for column in range(2):
                a, b, c = (maps[i, :, row, column].numpy() for maps in (d, moved, v))
                cosine = c @ b / np.linalg.norm(c) / np.linalg.norm(b)
                expected += (abs(np.linalg.norm(b) - np.linalg.norm(a)) + abs(cosine - 1)) / 3
    torch.testing.assert_close(vector_loss(d, moved, v).item(), expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: vector_loss(d, x, v), moved.clone().requires_grad_())


def test_the_released_code_takes_successive_numbers_for_a_vector():
    d, moved, v = (draw(3, 4, 2, 3, seed=seed) for seed in range(3))
    expected = 0.0
    rows = (maps.numpy().ravel().reshape(-1, 4) for maps in (d, moved, v))
    for a, b, c in zip(*rows, strict=True):
        expected += abs(np.linalg.norm(b) - np.linalg.norm(a)) / 3
        expected += sum(abs(x * y - 1) for x, y in zip(c / np.linalg.norm(c), b / np.linalg.norm(b), strict=True)) / 3
    found = vector_loss(d, moved, v, released_vectors=True)
    torch.testing.assert_close(found.item(), expected, rtol=1e-12, atol=1e-12)


def test_variation_that_is_kept_and_points_along_the_tails_own_costs_nothing():
    d = draw(2, 4, 3, 3)
    torch.testing.assert_close(vector_loss(d, d, 5 * d).item(), 0.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("targets", "head", "tail"),
    [
        ([1, 0, 1, 2, 1, 1, 1], [0, 2, 4, 5], [1, 3, 1, 3]),  # 5 head images, 2 tail: the tail twice, a head left over
        ([1, 0, 2, 3, 4, 0, 1], [0, 6, 0, 6], [1, 2, 3, 4]),  # 2 head images, 5 tail
        ([1, 0], [0], [1]),
        ([1, 1, 1], [], []),
        ([0, 2, 3], [], []),
    ],
    ids=["more head", "more tail", "one each", "no tail", "no head"],
)
def test_pairs_are_made_of_successive_parts(make_objective, targets, head, tail):
    found = make_objective().rare.pairs(torch.tensor(targets))
    assert [rows.tolist() for rows in found] == [head, tail]


def test_less_strength_makes_fewer_pairs_and_never_none(make_objective):
    targets = torch.tensor([1] * 6 + [0, 2])
    for strength, count in ((1.0, 6), (0.7, 4), (0.1, 2)):
        assert len(make_objective(transfer_strength=strength).rare.pairs(targets)[0]) == count


def test_at_first_the_images_alone_are_classified_and_pairs_are_judged(make_objective):
    objective = make_objective()
    batch = make_batch([1, 0, 1, 1, 2, 1], progress=0.79)
    found = objective(batch)
    rare, maps = objective.rare, objective.network.backbone.units[0](objective.network.backbone.stem(batch.inputs))
    scores = torch.stack(
        [m.mean((1, 2)) @ rare.weight[y] + rare.bias[y] for m, y in zip(maps, batch.targets, strict=True)]
    )
    distances = (maps[:, None] - rare.centres[batch.targets][:, :, :, None, None]).square().sum((2, 3, 4))
    logits = rare.same_class(torch.cat([maps[:3], maps[3:]], dim=1))
    own = (scores.softmax(1) * distances).sum(1).mean() + F.cross_entropy(logits, torch.tensor([1, 0, 1]))
    early = LDAM(COUNTS, max_m=15.0, s=1.0)(objective.network(batch.inputs), batch.targets)
    torch.testing.assert_close(found, early + 0.1 * own)


def test_later_tail_images_come_again_with_what_head_images_have_beyond_their_centres(make_objective):
    objective = make_objective()
    batch = make_batch([1, 0, 1, 1, 2, 1], progress=0.8)
    found = objective(batch)
    rare, backbone = objective.rare, objective.network.backbone
    maps = backbone.units[0](backbone.stem(batch.inputs)).detach()
    head, tail = [0, 2, 3, 5], [1, 4, 1, 4]
    targets = torch.cat([batch.targets, batch.targets[tail]])
    shares = rare.centre_shares(maps, batch.targets)
    nearest = torch.stack([rare.centres[y, k] for y, k in zip(batch.targets, shares.argmax(1), strict=True)])
    beyond = maps - nearest[:, :, None, None]
    moved = rare.transform(beyond[head])
    everything = torch.cat([maps, maps[tail] + moved])
    logits = objective.network.classifier(backbone.readout(backbone.units[1](everything)))
    late = weighted_mean(LDAM(COUNTS, max_m=15.0, s=1.0, beta=0.9999), logits, targets)
    judged = F.cross_entropy(rare.same_class(torch.cat([maps[head], moved], 1)), torch.zeros(4, dtype=torch.int64))
    own = 0.1 * centre_loss(maps, rare.centres[batch.targets], shares)
    own = own + 0.01 * (judged + vector_loss(beyond[head], moved, beyond[tail]))
    torch.testing.assert_close(found, late + own)


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_the_generators_losses_never_reach_the_backbone(make_objective, progress):
    slopes = []
    for weight in (0.0, 0.5):
        objective = make_objective(cesc_weight=weight, mv_weight=weight)
        objective(make_batch([1, 0, 1, 2], progress)).mean().backward()
        slopes.append([value.grad for value in objective.network.parameters()])
        assert bool(objective.rare.centres.grad.abs().max() > 0) == bool(weight)
    for without, found in zip(*slopes, strict=True):
        torch.testing.assert_close(found, without, rtol=0, atol=0)


def test_what_is_generated_trains_later_layers_and_the_convolution_alone(make_objective):
    """Gradients of one batch with the images' own losses taken away."""
    objective = make_objective(cesc_weight=0.0, mv_weight=0.0, drw_start=1.0)
    batch = make_batch([1, 0, 1, 2], progress=0.9)
    objective(batch)[4:].sum().backward()
    backbone, rare = objective.network.backbone, objective.rare
    earlier = chain(backbone.stem.parameters(), backbone.units[0].parameters(), rare.same_class.parameters())
    assert all(value.grad is None or not value.grad.abs().max() for value in [*earlier, rare.centres])
    later = chain(backbone.units[1].parameters(), rare.transform.parameters())
    assert all(value.grad.abs().max() > 0 for value in later)


def test_the_pair_classifier_learns_until_features_are_generated(make_objective):
    for progress, learns in ((0.0, True), (0.9, False)):
        objective = make_objective()
        objective(make_batch([1, 0, 1, 2], progress)).sum().backward()
        slopes = [value.grad for value in objective.rare.same_class.parameters()]
        assert all((slope is not None) == learns for slope in slopes)


@pytest.mark.parametrize("targets", [[1, 1, 1], [0, 2, 3]], ids=["no tail", "no head"])
def test_a_batch_without_pairs_generates_nothing(make_objective, targets):
    losses = make_objective()(make_batch(targets, progress=0.9))
    assert losses.shape == (3,)
    assert torch.isfinite(losses).all()
    losses.sum().backward()


def test_the_head_is_the_most_frequent_classes(make_objective):
    assert make_objective().rare.is_head.tolist() == [False, True, False, False, False]
    assert make_objective(head_tail_ratio=0.5).rare.is_head.tolist() == [False, True, False, True, False]
    assert make_objective(head_tail_ratio=0.01).rare.is_head.sum() == 1


@pytest.mark.parametrize("shape", [(2, 5), (2, 11, 5), (2, 5, 3, 3)], ids=["vector", "tokens", "map"])
def test_hidden_states_become_maps_and_come_back(shape):
    hidden = draw(*shape)
    maps = as_maps(hidden, num_prefix_tokens=2)
    back = as_hidden(maps, hidden.ndim, num_prefix_tokens=2)
    if hidden.ndim == 3:
        assert back[:, :2].abs().max() == 0
        torch.testing.assert_close(maps[:, :, 1, 2], hidden[:, 2 + 5], rtol=0, atol=0)  # second row, third column
        hidden[:, :2] = 0
    torch.testing.assert_close(back, hidden, rtol=0, atol=0)


def test_patches_that_form_no_square_are_refused():
    with pytest.raises(InputError, match="rsg on 6 patch tokens"):
        as_maps(torch.zeros(1, 7, 4), num_prefix_tokens=1)


@pytest.mark.parametrize(
    ("name", "side", "found"), [("resnet8", 32, (2, 32)), ("resnet32", 32, (10, 32)), ("tiny", 28, (5, 64))]
)
def test_it_stands_before_the_last_stage(name, side, found):
    backbone = open_backbone(BackboneSpec(name, weights="random"), seed=0)
    assert generator_place(backbone, side, None) == found
    assert generator_place(backbone, side, 1)[0] == 1
    with pytest.raises(InputError, match=f"method.insert_at = {backbone.depth + 1}"):
        generator_place(backbone, side, backbone.depth + 1)


def test_a_whole_fit_trains_all_of_the_generator_and_leaves_a_plain_network(problem, make_engine, unseen):
    kept = {}
    engine = make_engine(Plan(epochs=10, batch_size=32, lr=1e-2))
    train = engine.train

    def watched(stage, objective, *rest):
        before = {name: value.detach().clone() for name, value in objective.rare.named_parameters()}
        trained = train(stage, objective, *rest)
        kept.update({name: torch.equal(value, before[name]) for name, value in trained.rare.named_parameters()})
        return trained

    engine.train = watched
    predictor = RSG().fit(problem, engine).eval()
    assert kept
    assert not any(kept.values())
    assert isinstance(predictor.network, Classified)
    torch.testing.assert_close(predictor(unseen), predictor.network(unseen), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_center", 0), ("contrastive_module_dim", 0), ("head_tail_ratio", 1.0), ("transfer_strength", 0.0),
        ("transfer_strength", 1.5), ("generation_start", 1.1), ("insert_at", -1), ("cesc_weight", -0.1),
        ("mv_weight", -0.1), ("max_m", -0.5), ("s", 0.0), ("drw_start", -0.1), ("beta", 1.0),
    ],
)  # fmt: skip
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"method.{name} = {value}"):
        RSG(**{name: value})
