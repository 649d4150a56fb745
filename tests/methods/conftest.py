"""A problem so small that a whole method trains on it in a fraction of a second."""

import dataclasses
import importlib
import json
from itertools import count

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from forktail.backbones import classifiers
from forktail.backbones.adapters import adapt
from forktail.backbones.layered import Layered
from forktail.backbones.open import BackboneSpec
from forktail.data.augment import Augment, Preprocess
from forktail.data.images import ArrayPictures, Images
from forktail.labels import ClassCounts, by_rank
from forktail.methods import Problem, find_method, method_names
from forktail.run import Run
from forktail.training.engine import Engine
from forktail.training.plan import Plan

COUNTS = [3, 12, 1, 8, 2, 6]  # not in the order of their size, so that a task's columns are no slice
PREPROCESS = Preprocess(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
TINY = BackboneSpec("tiny", weights="random")
VIT = BackboneSpec("vit_tiny_patch16_224", weights="random")
VIT_ALONE = ("livt", "mae")  # methods for vision transformers alone
PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


def two_blocks(spec, seed=0):
    """Stand in for `open_backbone`: a stem and two units on 8 x 8 pictures, with tokens if a ViT is asked for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**31)
        if spec.name == VIT.name:
            return adapt(VisionTransformer(8, 4, embed_dim=12, depth=2, num_heads=3, num_classes=0))
        stem = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Tanh())
        units = [nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(2)]
        return Layered(stem, units, nn.LayerNorm(5), num_features=5)


def draw(counts):
    """Noise with one bright square per class."""
    random = np.random.RandomState(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = random.randint(0, 90, (len(labels), 8, 8))
    for picture, label in zip(pixels, labels, strict=True):
        row, column = divmod(label, 3)
        picture[4 * row : 4 * row + 3, 3 * column : 3 * column + 2] += 150
    return Images.ordered(ArrayPictures(pixels.astype(np.uint8)), labels, tuple("abcdef"))


@pytest.fixture(scope="module")
def _small_backbone():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(classifiers, "CLASSIFIER_STD", 1.0)  # scores that say something from the start
        for name in [*method_names(), "_method"]:
            module = importlib.import_module(
                find_method(name).__module__ if name[0] != "_" else f"forktail.methods.{name}"
            )
            if hasattr(module, "open_backbone"):
                patched.setattr(module, "open_backbone", two_blocks)
        yield


def small_problem(backbone=TINY):
    counts = ClassCounts(np.array(COUNTS))
    return Problem(
        train=draw(COUNTS).with_transform(Augment(PREPROCESS, "shift")),
        val=None,
        counts=counts,
        split=by_rank(counts, 2),
        backbone_spec=backbone,
        preprocess=PREPROCESS,
    )


@pytest.fixture(scope="module")
def problem(_small_backbone):
    """32 training images of six classes, in two tasks of three; the head is 1, 3, 5."""
    return small_problem()


@pytest.fixture(scope="module")
def plain(problem):
    """The same problem without augmentation."""
    return dataclasses.replace(problem, train=problem.train.with_transform(problem.preprocess))


@pytest.fixture(scope="module")
def inputs(plain):
    """(32, 3, 8, 8) inputs of the plain problem's images, in their order."""
    return torch.stack([plain.train[i] for i in range(len(plain.train))])


@pytest.fixture(scope="module")
def first_logits(plain, inputs):
    """(32, 6) logits of them under the untrained network, in double precision."""
    with torch.no_grad():
        return plain.network()(inputs).double().numpy()


@pytest.fixture(scope="module")
def smoothed_loss(plain, first_logits):
    """Their mean cross-entropy with labels that are smoothed by 0.1, image by image and class by class."""
    losses = []
    for row, label in zip(first_logits, plain.train.labels, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        losses.append(-sum((0.9 * (c == label) + 0.1 / 6) * log_p[c] for c in range(6)))
    return np.mean(losses)


@pytest.fixture(scope="module")
def problem_of(_small_backbone):
    """The same problem with a backbone that the method of this name can train."""
    plain, tokens = small_problem(), small_problem(VIT)
    return lambda name: tokens if name in VIT_ALONE else plain


@pytest.fixture(scope="module")
def unseen():
    """(12, 3, 8, 8) inputs that no training has seen."""
    return torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def make_engine(tmp_path_factory):
    """An engine in a new run directory."""

    def make(plan=PLAN, **options):
        return Engine(Run(tmp_path_factory.mktemp("run")), plan, **options)

    return make


@pytest.fixture
def logged():
    """What every epoch of an engine's stages lost, in nats."""

    def losses(engine):
        return [json.loads(line)["loss"] for line in (engine.run.path / "log.jsonl").read_text().splitlines()]

    return losses


@pytest.fixture
def whole_and_killed(problem, make_engine, monkeypatch):
    """The tensors that a method's first stage leaves: undisturbed, and where its objective dies after six steps."""

    def fit_both(method, objective):
        whole, killed = make_engine(), make_engine(checkpoint_seconds=0.0)
        method.fit(problem, whole)
        steps, after_step = count(1), objective.after_step

        def dies_in_the_sixth_step(trained):
            after_step(trained)
            if next(steps) == 6:
                raise MemoryError

        with monkeypatch.context() as patched:
            patched.setattr(objective, "after_step", dies_in_the_sixth_step)
            with pytest.raises(MemoryError):
                method.fit(problem, killed)
        method.fit(problem, again := Engine(killed.run, PLAN))
        return [
            load_file(engine.cache / engine.manifest[0]["fingerprint"] / "result.safetensors")
            for engine in (whole, again)
        ]

    return fit_both
