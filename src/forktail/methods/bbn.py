"""BBN: two branches, one for the images as they come and one for the tail; training moves from the first to the second.

Legend: B pairs of a batch, C classes, D features.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from forktail.backbones.classifiers import linear_classifier
from forktail.backbones.experts import Branched, rows_of
from forktail.backbones.layered import Layered
from forktail.backbones.open import open_backbone
from forktail.data.sampling import Paired, Shuffled, Weighted
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_whole
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Batch, Objective


@final
@dataclass(frozen=True)
class BBN(Method):
    """A bilateral-branch network: shared layers, a conventional and a re-balancing branch, one classifier over both.

    Each step pairs an image of the usual stream with one of the reversed stream, which draws class c with probability
    (1 / n_c) / sum_k 1 / n_k. ``plan.batch_size`` counts pairs, so an epoch shows 2 N images. The first branch's share
    falls as l = 1 - progress^2; the authors move it once an epoch, and with 90 or 180 epochs never to 0. Predicts with
    both branches on the same image, unmixed.

    Args:
        shared_units: How many units of the backbone both branches share; None shares all but the last.
    """

    summary = "conventional and re-balancing branch, trained cumulatively from the first to the second"
    source = "Zhou et al. 2020, bilateral-branch network with cumulative learning"
    stages = ("training",)
    compute = 2.0

    shared_units: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "shared_units", least=1)

    def network(self, spec: ModelSpec) -> Bilateral:
        """Return an untrained network of two branches."""
        generator = torch.Generator().manual_seed(0)
        return Bilateral(open_backbone(spec.backbone), self.shared_units, len(spec.classes), generator)

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read the logits of both branches as free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train both branches on pairs of images."""
        generator = problem.generator("classifier")
        network = Bilateral(problem.backbone(), self.shared_units, problem.counts.num_classes, generator)
        plan = dataclasses.replace(engine.plan, batch_size=2 * engine.plan.batch_size)
        pairs = Paired(Shuffled(), Weighted("reversed"))
        trained = engine.train("training", Cumulative(network), problem.train, plan, pairs).network
        return self.reads(trained, problem.spec(self))


@final
class Bilateral(nn.Module):
    """Two branches on shared layers under one classifier of the concatenated features.

    Args:
        backbone: The chain to start from; it is copied.
        shared_units: How many units are shared; None is all but the last, and at least one.
        num_classes: C.
        generator: Where the classifier is drawn from.
    """

    def __init__(
        self, backbone: Layered, shared_units: int | None, num_classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        depth = max(1, backbone.depth - 1) if shared_units is None else shared_units
        self.trunk = Branched(backbone, depth, branches=2)
        self.classifier = linear_classifier(2 * backbone.num_features, num_classes, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the (B, C) logits of the plain concatenation, which is l = 1/2."""
        logits: Tensor = self.classifier(torch.cat(self.trunk(inputs), dim=1))
        return logits

    def pair_logits(self, inputs: Tensor, share: float) -> Tensor:
        """Compute the logits of pairs, each image seen by its own branch alone.

        Args:
            inputs: (2 B, 3, H, W) images: conventional at even places, re-balancing at odd ones.
            share: l, of the conventional branch, in [0, 1].

        Returns:
            (B, C) logits.
        """
        hidden = self.trunk.shared(inputs)
        conventional, rebalancing = self.trunk.branches
        even, odd = (rows_of(hidden, slice(first, None, 2)) for first in (0, 1))
        logits: Tensor = self.classifier(mixed_features(conventional(even), rebalancing(odd), share))
        return logits


@final
class Cumulative(Objective):
    """Cumulative learning: l weighs the features of the conventional branch and the loss of its labels.

    Args:
        network: Two branches.
    """

    needs_classes: ClassVar[bool] = True  # mixing a batch would exchange the two streams

    def __init__(self, network: Bilateral) -> None:
        super().__init__()
        self.network = network
        self.loss = CrossEntropy()

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of the pairs in nats."""
        share = conventional_share(batch.progress)
        logits = self.network.pair_logits(batch.inputs, share)
        conventional: Tensor = self.loss(logits, batch.targets[::2])
        rebalancing: Tensor = self.loss(logits, batch.targets[1::2])
        return share * conventional + (1 - share) * rebalancing


def conventional_share(progress: float) -> float:
    """Weigh the conventional branch: l = 1 - progress^2.

    Args:
        progress: Share of the training that is done, in [0, 1].

    Returns:
        l: 1 at first, 0 in the end.

    Example:
        >>> conventional_share(0.0), conventional_share(0.5)
        (1.0, 0.75)
    """
    return 1.0 - progress**2


def mixed_features(conventional: Tensor, rebalancing: Tensor, share: float) -> Tensor:
    """Weigh and join the features of the two branches: 2 [l f_c; (1 - l) f_r], with the code's factor 2.

    Args:
        conventional: (B, D) features f_c.
        rebalancing: (B, D) features f_r.
        share: l, in [0, 1].

    Returns:
        (B, 2 D) features; at l = 1/2 the plain concatenation.

    Example:
        >>> mixed_features(torch.ones(1, 1), torch.ones(1, 1), share=0.75)
        tensor([[1.5000, 0.5000]])
    """
    return 2 * torch.cat([share * conventional, (1 - share) * rebalancing], dim=1)
