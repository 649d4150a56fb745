import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import BackboneSpec, input_facts, open_backbone, save_backbone
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.methods.deit_lt import DeiTLT, Distillation, Distilled, Renormalised, distillation_loss
from forktail.run import Run
from forktail.training.engine import Engine
from forktail.training.objective import Batch, set_modes
from forktail.training.plan import Plan
from forktail.training.progress import Silent
from forktail.training.randomness import seed_of

COUNTS = [50, 5, 1]


def generator():
    return torch.Generator().manual_seed(3)


def drawn(images=5, classes=3):
    z, z_dist = torch.randn(2, images, classes, dtype=torch.float64, generator=generator())
    targets = torch.rand(images, classes, dtype=torch.float64, generator=generator()).softmax(1)
    return z, z_dist, targets, torch.tensor([0, 2, 1, 2, 0])


def test_the_loss_is_its_formula():
    z, z_dist, targets, taught = drawn()
    weights = torch.tensor([0.2, 1.5, 1.0, 1.5, 0.2], dtype=torch.float64)
    found = distillation_loss(z, z_dist, targets, taught, weights, alpha=0.3)
    for i in range(5):
        log_p, log_q = (row - math.log(sum(math.exp(v) for v in row)) for row in (z[i].numpy(), z_dist[i].numpy()))
        labelled = -sum(t * v for t, v in zip(targets[i].tolist(), log_p, strict=True))
        distilled = -5 * float(weights[i]) / 4.4 * log_q[taught[i]]
        np.testing.assert_allclose(found[i], 0.7 * labelled + 0.3 * distilled)


def test_without_the_teachers_share_it_is_cross_entropy_of_the_labels():
    z, z_dist, targets, taught = drawn()
    found = distillation_loss(z, z_dist, targets, taught, torch.ones(5), alpha=0.0)
    torch.testing.assert_close(found, nn.functional.cross_entropy(z, targets, reduction="none"))


def test_a_teacher_that_says_the_labels_gives_half_of_each_cross_entropy():
    z, z_dist, _, labels = drawn()
    found = distillation_loss(z, z_dist, labels, labels, torch.ones(5, dtype=torch.float64), alpha=0.5)
    ce = nn.functional.cross_entropy
    torch.testing.assert_close(
        found, 0.5 * ce(z, labels, reduction="none") + 0.5 * ce(z_dist, labels, reduction="none")
    )


def test_the_mean_is_a_weighted_mean_of_what_the_teacher_says():
    z, z_dist, targets, taught = drawn()
    weights = torch.tensor([0.2, 1.5, 1.0, 1.5, 0.2], dtype=torch.float64)
    found = distillation_loss(z, z_dist, targets, taught, weights, alpha=1.0).mean()
    per_class = torch.tensor([0.2, 1.0, 1.5], dtype=torch.float64)
    torch.testing.assert_close(found, nn.functional.cross_entropy(z_dist, taught, weight=per_class))


def test_the_gradient_is_that_of_finite_differences():
    z, z_dist, targets, taught = drawn()
    weights = torch.tensor([0.2, 1.5, 1.0, 1.5, 0.2], dtype=torch.float64)

    def loss(a, b):
        return distillation_loss(a, b, targets, taught, weights, alpha=0.3)

    assert torch.autograd.gradcheck(loss, (z.requires_grad_(), z_dist.requires_grad_()))


@pytest.fixture(scope="module")
def on_tiny():
    return Distilled(open_backbone(BackboneSpec("tiny", weights="random")), 3, generator()).eval()


def test_the_token_is_one_more_and_takes_part_in_attention(on_tiny):
    """The class feature is what the blocks make of the patches with the token among them, pooled without it."""
    inputs = torch.randn(2, 3, 28, 28)
    logits, dist_logits = on_tiny.both_logits(inputs)
    backbone = on_tiny.backbone
    hidden = torch.cat([on_tiny.token.expand(2, 1, 64), backbone.stem(inputs)], dim=1)  # in front: order is nothing
    for unit in backbone.units:
        hidden = unit(hidden)
    readout = backbone.readout
    expected = on_tiny.classifier(readout.fc_norm(hidden[:, 1:].mean(1)))
    expected_dist = on_tiny.dist_classifier(readout.fc_norm(hidden[:, 0]))
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(dist_logits, expected_dist)
    torch.testing.assert_close(on_tiny(inputs), (logits + dist_logits) / 2)


def test_the_token_learns_and_is_exempt_from_weight_decay(on_tiny):
    objective = Distillation(on_tiny, nn.Flatten(), ClassCounts(np.array(COUNTS)), DeiTLT())
    assert "network.token" in objective.no_weight_decay()
    on_tiny.zero_grad()
    on_tiny(torch.randn(2, 3, 28, 28)).square().sum().backward()
    assert on_tiny.token.grad.abs().max() > 0
    assert on_tiny.unit_of("token") == 0
    assert on_tiny.unit_of("backbone.units.2.norm1.weight") == 3
    assert on_tiny.unit_of("dist_classifier.weight") == 7


def test_a_class_token_is_read_by_the_classifier_of_the_labels():
    spec = BackboneSpec("deit_tiny_patch16_224", weights="random", input_size=32)
    network = Distilled(open_backbone(spec), 3, generator()).eval()
    logits, dist_logits = network.both_logits(inputs := torch.randn(2, 3, 32, 32))
    hidden = torch.cat([network.backbone.stem(inputs), network.token.expand(2, 1, -1)], dim=1)
    for unit in network.backbone.units:
        hidden = unit(hidden)
    normed = network.backbone.readout.norm(hidden)
    torch.testing.assert_close(logits, network.classifier(normed[:, 0]))
    torch.testing.assert_close(dist_logits, network.dist_classifier(normed[:, -1]))


def test_a_resnet_has_two_classifiers_on_one_feature():
    network = Distilled(open_backbone(BackboneSpec("resnet8", weights="random")), 3, generator()).eval()
    inputs = torch.randn(2, 3, 32, 32)
    features = network.backbone(inputs)
    logits, dist_logits = network.both_logits(inputs)
    torch.testing.assert_close(logits, network.classifier(features))
    torch.testing.assert_close(dist_logits, network.dist_classifier(features))
    assert network.no_weight_decay() == set()


class Answers(nn.Module):
    """A teacher that reads its answer from the first three numbers of an image."""

    def forward(self, inputs):
        return inputs.flatten(1)[:, :3]


def test_the_teacher_is_asked_about_the_mixed_images_and_weighted_late():
    network = Distilled(open_backbone(BackboneSpec("tiny", weights="random")), 3, generator())
    objective = Distillation(network, Answers(), ClassCounts(np.array(COUNTS)), DeiTLT(drw_start=0.5)).eval()
    inputs = torch.randn(4, 3, 28, 28)
    taught, targets = inputs.flatten(1)[:, :3].argmax(1), torch.rand(4, 3).softmax(1)
    z, z_dist = network.both_logits(inputs)
    beta = DeiTLT().beta
    inverse = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    weights = torch.tensor([inverse[c] for c in taught])
    for progress, expected in ((0.49, torch.ones(4)), (0.5, weights)):
        found = objective(Batch(inputs, targets, torch.arange(4), progress, torch.Generator()))
        torch.testing.assert_close(found, distillation_loss(z, z_dist, targets, taught, expected, 0.5))


def test_the_teacher_learns_nothing_and_keeps_its_statistics():
    teacher = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 28 * 28, 3))
    network = Distilled(open_backbone(BackboneSpec("tiny", weights="random")), 3, generator())
    objective = Distillation(network, teacher, ClassCounts(np.array(COUNTS)), DeiTLT())
    before = copy.deepcopy(teacher.state_dict())
    set_modes(objective)
    inputs, targets = torch.randn(4, 3, 28, 28), torch.tensor([0, 1, 2, 0])
    objective(Batch(inputs, targets, torch.arange(4), 0.0, torch.Generator())).sum().backward()
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert network.training
    assert not teacher.training


class Stops(Silent):
    def __init__(self, stage):
        self.stage, self.now = stage, None

    def begin(self, stage, done, total):
        self.now = stage

    def advance(self, step, loss=None):
        if self.now == self.stage and step == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["teacher", "training"])
def test_a_killed_run_ends_as_an_undisturbed_one(problem, make_engine, unseen, stage):
    method = DeiTLT(ema=0.5)
    undisturbed = method.fit(problem, make_engine()).eval()
    engine = make_engine(progress=Stops(stage), checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        method.fit(problem, engine)
    resumed = method.fit(problem, Engine(engine.run, engine.plan)).eval()
    torch.testing.assert_close(resumed(unseen), undisturbed(unseen), rtol=0, atol=0)


def test_the_moving_average_is_the_model(problem, make_engine, unseen):
    """With so long a memory it has hardly left the initial weights, while the network has."""
    start = DeiTLT(teacher_epochs=0).fit(problem, make_engine(Plan(epochs=0, batch_size=8))).eval()(unseen)
    averaged = DeiTLT(teacher_epochs=0, ema=0.9999).fit(problem, make_engine()).eval()(unseen)
    plain = DeiTLT(teacher_epochs=0).fit(problem, make_engine()).eval()(unseen)
    assert (averaged - start).abs().max() < 0.02 * (plain - start).abs().max()
    assert not torch.equal(averaged, start)


def test_a_budget_is_divided_between_teacher_and_student(problem, make_engine):
    whole = make_engine()
    DeiTLT().fit(problem, whole)
    limited = make_engine(Plan(flops=whole.flops, batch_size=8))
    DeiTLT().fit(problem, limited)
    assert 0.8 * whole.flops < limited.flops <= whole.flops
    assert [record["steps"] for record in limited.manifest] == [record["steps"] for record in whole.manifest]


class Remembers(Engine):
    """An engine that keeps what its first stage trained."""

    def train(self, stage, objective, *rest, **options):
        trained = super().train(stage, objective, *rest, **options)
        if stage == "teacher":
            self.teacher = trained.network
        return trained


@pytest.fixture
def real_teachers(problem, monkeypatch):
    """The student stays the small stand-in, and the teacher is what the method names."""
    monkeypatch.setattr("forktail.methods.deit_lt.open_backbone", open_backbone)
    return problem


@pytest.fixture
def resnet8_file(tmp_path):
    spec, path = BackboneSpec("resnet8", weights="random"), tmp_path / "teacher.safetensors"
    save_backbone(path, open_backbone(spec, seed=9), spec)
    return path


def test_a_pretrained_teacher_learns_a_classifier_alone(real_teachers, resnet8_file, tmp_path):
    method = DeiTLT(teacher_backbone="resnet8", teacher_weights=str(resnet8_file))
    engine = Remembers(Run(tmp_path / "run"), Plan(epochs=2, batch_size=8, lr=1e-2))
    method.fit(real_teachers, engine)
    teacher, given = engine.teacher.path(0), open_backbone(BackboneSpec("resnet8", str(resnet8_file)))
    assert isinstance(teacher.stem[0], Renormalised)
    for name, tensor in given.state_dict().items():
        found = teacher.state_dict()[name.replace("stem.", "stem.1.", 1)]
        torch.testing.assert_close(found, tensor, rtol=0, atol=0)
    record = engine.manifest[0]
    assert (record["stage"], record["trained_parameters"]) == ("teacher", 6 * (64 + 1))
    fresh = Forked.single(given, 6, seed_of(real_teachers.seed, "teacher"))
    assert not torch.equal(engine.teacher.classifier(0).weight, fresh.classifier(0).weight)
    assert tuple(record["stage"] for record in engine.manifest) == DeiTLT.stages


def test_a_pretrained_teacher_sees_the_pictures_as_its_pretraining_did(real_teachers, resnet8_file):
    picture = torch.rand(2, 3, 8, 8, generator=generator())
    seen, given = real_teachers.preprocess, input_facts(BackboneSpec("resnet8"))
    method = DeiTLT(teacher_backbone="resnet8", teacher_weights=str(resnet8_file))
    teacher = method._teacher(real_teachers).network.path(0).eval()
    by_student, by_teacher = (
        (picture - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        for mean, std in ((seen.mean, seen.std), (given["mean"], given["std"]))
    )
    expected = open_backbone(BackboneSpec("resnet8", str(resnet8_file))).eval()(by_teacher)
    torch.testing.assert_close(teacher(by_student), expected)
    assert not torch.allclose(teacher(by_teacher), expected)


def test_a_name_that_brings_weights_stands_for_the_backbone_too(real_teachers):
    teacher = DeiTLT(teacher_weights="tiny")._teacher(real_teachers).network.path(0)
    embedded = open_backbone(BackboneSpec("tiny", input_size=8))
    torch.testing.assert_close(teacher.stem[1].state_dict(), embedded.stem.state_dict(), rtol=0, atol=0)


def test_without_weights_the_teacher_is_trained_as_a_whole(real_teachers):
    teacher = DeiTLT(teacher_backbone="resnet8")._teacher(real_teachers).network
    assert all(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("weights", ["resnet20", "random"])
def test_a_name_without_weights_is_refused(weights):
    with pytest.raises(InputError, match=f'method.teacher_weights = "{weights}"; expected a file of weights of'):
        DeiTLT(teacher_weights=weights)


def test_a_file_that_is_gone_is_missed_where_the_teacher_is_made_and_not_where_a_model_is_loaded(
    real_teachers, make_engine
):
    method, engine = DeiTLT(teacher_weights="gone.safetensors"), make_engine()
    with pytest.raises(InputError, match=r"no file gone\.safetensors"):
        method.fit(real_teachers, engine)
    assert engine.manifest == []
    assert method.build(real_teachers.spec(method)).spec.options["teacher_weights"] == "gone.safetensors"


@pytest.mark.parametrize(
    "option",
    [
        {"alpha": 1.5},
        {"drw_start": -0.1},
        {"beta": 1.0},
        {"ema": 1.0},
        {"teacher_epochs": -1},
        {"repeats": 0},
        {"smoothing": 1.0},
    ],
)
def test_what_is_no_setting_is_refused(option):
    with pytest.raises(InputError, match=rf"method\.{next(iter(option))} = "):
        DeiTLT(**option)


def test_an_unknown_teacher_is_refused_before_anything_is_trained(monkeypatch, problem, make_engine):
    monkeypatch.setattr("forktail.methods.deit_lt.open_backbone", open_backbone)
    engine = make_engine()
    with pytest.raises(InputError, match="resnet33"):
        DeiTLT(teacher_backbone="resnet33").fit(problem, engine)
    assert engine.manifest == []
