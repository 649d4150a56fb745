"""SADE (TADE in its first version): three experts, each trained for another class prior.

Legend: B images of a batch, C classes, E = 3 experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.experts import Experts
from forktail.backbones.open import open_backbone
from forktail.data.augment import Views
from forktail.data.images import Images
from forktail.data.sampling import Shuffled
from forktail.labels import ClassCounts
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._experts import cosine_experts
from forktail.methods._method import Adapts, Problem
from forktail.methods._ranges import check_not_negative, check_positive, check_whole
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Batch, Objective
from forktail.training.randomness import seed_of
from forktail.training.stream import training_stream

NUM_EXPERTS = 3
ADAPTATION_BATCH = 128
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # of the aggregation weights, as in the authors' code
LEAST_WEIGHT = 0.05  # the adaptation ends when an expert has less, at two decimals


@final
@dataclass(frozen=True)
class SADE(Adapts):
    """Experts for the training prior, the uniform and the reversed one; predicts with their mean logits.

    Three experts see all images, and their losses are added without weights: CE(v_1), the balanced softmax
    CE(v_2 + log pi), and CE(v_3 + log pi - tau log pi~), where pi~ gives the rarest class the largest prior.
    `adapt` learns on unlabelled test images how much each expert counts, by SGD with momentum 0.9 and weight decay
    5e-4; its figures are transductive, so they are reported by themselves and never beside those of methods that have
    not seen the test images. With few classes the authors' users saw it collapse.

    Args:
        tau: Strength of the reversed prior: 2 for CIFAR and ImageNet-LT, 1 for iNaturalist and Places.
        s: Scale of the cosines.
        shared_units: How many units of the backbone the experts share; None shares all but the last third. The authors'
            ResNets are cut where a stage ends: 5 for ``resnet32``, 7 for ``resnet50``.
        adaptation_epochs: At most so many passes over the test images.
        adaptation_lr: Learning rate of the experts' weights there: 0.1 CIFAR, 0.025 ImageNet-LT, 0.2 iNaturalist, 0.01
            Places.
    """

    summary = "three experts, each for another class prior; their weights can be learnt on unlabelled test images"
    source = "Zhang et al. 2022 (SADE; TADE in its first version), skill-diverse experts and test-time aggregation"
    stages = ("training",)
    compute = 1.57

    tau: float = 2.0
    s: float = 30.0
    shared_units: int | None = None
    adaptation_epochs: int = 5
    adaptation_lr: float = 0.1

    def __post_init__(self) -> None:
        check_not_negative(self, "tau")
        check_positive(self, "s", "adaptation_lr")
        check_whole(self, "shared_units", "adaptation_epochs", least=1)

    def network(self, spec: ModelSpec) -> Experts:
        """Return three untrained experts."""
        generator = torch.Generator().manual_seed(0)
        backbone = open_backbone(spec.backbone)
        return cosine_experts(backbone, self.shared_units, NUM_EXPERTS, len(spec.classes), self.s, generator)

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read the mean logits as free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train the three experts together."""
        generator = problem.generator("experts")
        num_classes = problem.counts.num_classes
        experts = cosine_experts(problem.backbone(), self.shared_units, NUM_EXPERTS, num_classes, self.s, generator)
        objective = SkillDiverse(experts, expert_offsets(problem.counts, self.tau))
        trained = engine.train("training", objective, problem.train).network
        return self.reads(trained, problem.spec(self))

    def adapt(self, predictor: Predictor, images: Images, seed: int) -> Predictor:
        """Learn the experts' weights: two augmented views of an unlabelled image should get the same answer.

        The mean over images of cos(softmax(sum_k a_k v_k(x')), softmax(sum_k a_k v_k(x''))) is maximised over
        a = softmax(w), from w = 1/3, by SGD with Nesterov's momentum; after each epoch it ends if a weight has fallen
        below 0.05.

        Args:
            predictor: What `fit` returned.
            images: Test images with an augmenting transform; their labels are not looked at.
            seed: Of order and augmentation.

        Returns:
            A predictor with the same experts under their new weights.
        """
        experts = predictor.network
        assert isinstance(experts, Experts)
        predictor.eval()
        w = torch.full((NUM_EXPERTS,), 1 / NUM_EXPERTS, device=predictor.log_prior.device, requires_grad=True)
        optimizer = torch.optim.SGD(
            [w], lr=self.adaptation_lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
        )
        per_epoch = math.ceil(len(images) / ADAPTATION_BATCH)
        views = two_views(experts, images, self.adaptation_epochs, seed_of(seed, "adapt"), w.device)
        for _ in range(self.adaptation_epochs):
            for first, second in islice(views, per_epoch):
                loss = -agreement(w, first, second)
                (w.grad,) = torch.autograd.grad(loss, [w])
                optimizer.step()
            if torch.softmax(w.detach(), dim=0).min().round(decimals=2) < LEAST_WEIGHT:
                break
        return self.reads(Aggregated(experts, torch.softmax(w.detach(), dim=0)), predictor.spec)


@final
class SkillDiverse(Objective):
    """The sum of the experts' cross-entropies, each under a prior of its own.

    Args:
        network: E experts.
        offsets: (E, C) what is added to each expert's logits in training.
    """

    offsets: Tensor

    def __init__(self, network: Experts, offsets: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("offsets", offsets)
        self.loss = CrossEntropy()

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        adjusted = self.network.expert_logits(batch.inputs) + self.offsets[:, None]
        return torch.stack([self.loss(logits, batch.targets) for logits in adjusted]).sum(0)


@final
class Aggregated(nn.Module):
    """Experts under weights that are not all alike.

    Args:
        experts: Taken as they are, not copied.
        weights: (E,) weights of sum 1.
    """

    weights: Tensor

    def __init__(self, experts: Experts, weights: Tensor) -> None:
        super().__init__()
        self.experts = experts
        self.register_buffer("weights", weights)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the (B, C) weighted mean logits."""
        return torch.einsum("e,ebc->bc", self.weights, self.experts.expert_logits(inputs))


def reversed_prior(counts: ClassCounts) -> Tensor:
    """Give the rarest class the largest prior, the second rarest the second largest, and so on.

    It is no inverse: the C numbers stay the same. Classes of equal counts are ranked by their index, the first as the
    more frequent one; the authors' order of ties is an accident of their sort.

    Args:
        counts: Training images of each class.

    Returns:
        (C,) probabilities in double precision.

    Example:
        >>> reversed_prior(ClassCounts(np.array([3, 6, 1])))
        tensor([0.3000, 0.1000, 0.6000], dtype=torch.float64)
    """
    order = np.argsort(-counts.per_class, kind="stable")
    swapped = np.empty_like(counts.prior)
    swapped[order] = counts.prior[order[::-1]]
    return torch.from_numpy(swapped)


def expert_offsets(counts: ClassCounts, tau: float) -> Tensor:
    """Say what is added to the logits of each expert: 0, log pi, and log pi - tau log pi~.

    Args:
        counts: Training images of each class.
        tau: Strength of the reversed prior; 0 makes the third expert train like the second.

    Returns:
        (3, C) offsets.

    Example:
        >>> expert_offsets(ClassCounts(np.array([9, 1])), tau=1.0)
        tensor([[ 0.0000,  0.0000],
                [-0.1054, -2.3026],
                [ 2.1972, -2.1972]])
    """
    log_prior = torch.from_numpy(np.log(counts.prior))
    offsets = [torch.zeros_like(log_prior), log_prior, log_prior - tau * reversed_prior(counts).log()]
    return torch.stack(offsets).float()


def agreement(w: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Measure how much two views of the same images agree under given experts' weights.

    Args:
        w: (E,) logits of the weights a = softmax(w).
        first: (E, B, C) experts' logits of one view.
        second: (E, B, C) experts' logits of the other.

    Returns:
        The mean cosine of the two probability vectors, in (0, 1].

    Example:
        >>> view = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
        >>> round(float(agreement(torch.zeros(2), view, view)), 4)
        1.0
    """
    a = torch.softmax(w, dim=0)
    here, there = (torch.softmax(torch.einsum("e,ebc->bc", a, view), dim=1) for view in (first, second))
    return F.cosine_similarity(here, there, dim=1).mean()


def two_views(
    experts: Experts, images: Images, epochs: int, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run the experts on two augmented views of every image, batch by batch, epoch after epoch, the last batch too.

    Args:
        experts: In evaluation mode, on the device.
        images: With an augmenting transform.
        epochs: Passes over the images.
        seed: Of order and augmentation.
        device: Where the experts are.

    Yields:
        (E, B, C) logits of the first view and of the second.
    """
    assert images.transform is not None
    viewed = images.with_transform(Views((images.transform, images.transform)))
    # One by one: the stream's own batches are all full, so that it would leave out an epoch's last images.
    steps = epochs * len(images)
    stream = training_stream(viewed, Shuffled(), batch_size=1, steps=steps, start=0, seed=seed, workers=0)
    for _ in range(epochs):
        for begin in range(0, len(images), ADAPTATION_BATCH):
            loaded = islice(stream, min(ADAPTATION_BATCH, len(images) - begin))
            inputs = torch.cat([pictures for pictures, _, _ in loaded]).to(device)
            with torch.no_grad():
                first, second = (experts.expert_logits(view) for view in inputs.unbind(1))
            yield first, second
