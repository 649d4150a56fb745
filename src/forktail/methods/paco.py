"""PaCo: each image against learned class centres, other images, and a queue of a slowly moving encoder's embeddings.

Legend: B images of a batch, C classes, M samples to compare with, d features of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.open import open_backbone
from forktail.labels import ClassCounts
from forktail.losses._loss import constant
from forktail.methods._contrastive import Queue, check_contrast, contrasted, parametric_contrast, projector
from forktail.methods._method import Method, Problem
from forktail.methods._networks import new_classified
from forktail.methods._ranges import check_fraction
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.moving_average import MovingAverage
from forktail.training.objective import Batch, Objective, freeze


@final
@dataclass(frozen=True)
class PaCo(Method):
    """Parametric contrastive learning: the classifier's rows are one learned centre per class beside the samples.

    Each image comes in two views of the data set's own augmentation (the authors: one strong, one as in SimCLR). The
    first is the anchor, the second goes through the momentum encoder. Defaults are those of CIFAR-100-LT; ImageNet-LT
    and iNaturalist: alpha 0.05, moco_t 0.2, moco_k 8192, moco_dim 128. The authors train 400 epochs. Predicts by the
    classifier alone.

    Args:
        alpha: Weight of a sample of the same class against beta for the centre, >= 0.
        beta: Weight of the centre, > 0.
        gamma: Weight of the samples in the normaliser, >= 0.
        supt: Temperature of the classifier's logits, > 0.
        moco_t: Temperature of the cosines between embeddings, > 0.
        moco_k: Places of the queue; more than the training set holds keeps several embeddings of an image.
        moco_m: Momentum of the second encoder, in [0, 1).
        moco_dim: Features of an embedding.
    """

    summary = "supervised contrast with learned class centres, a momentum encoder and a queue"
    source = "Cui et al. 2021, parametric contrastive learning"
    stages = ("training",)
    compute = 1.4

    alpha: float = 0.01
    beta: float = 1.0
    gamma: float = 1.0
    supt: float = 1.0
    moco_t: float = 0.05
    moco_k: int = 1024
    moco_m: float = 0.999
    moco_dim: int = 32

    def __post_init__(self) -> None:
        check_contrast(self)
        check_fraction(self, "moco_m", one=False)

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a linear classifier."""
        return new_classified(open_backbone(spec.backbone), len(spec.classes), torch.Generator())

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read logits that are free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on two views of all images."""
        trained = contrasted(
            problem, engine, lambda network, generator: MomentumContrast(network, problem.counts, self, generator)
        )
        return self.reads(trained, problem.spec(self))


@final
class MomentumContrast(Objective):
    """The first view against centres, first views, second views and the queue.

    The second encoder normalises by the statistics of its batch, as MoCo's does, and follows after each step.

    Args:
        network: Maps inputs to (B, C) logits.
        counts: Training images of each class.
        options: The method's hyper-parameters.
        generator: Where the projector is drawn from.
    """

    needs_classes: ClassVar[bool] = True  # who belongs together is asked of classes
    log_prior: Tensor

    def __init__(self, network: Classified, counts: ClassCounts, options: PaCo, generator: torch.Generator) -> None:
        super().__init__()
        self.network = network
        width = network.backbone.num_features
        self.projector = projector([width, width, options.moco_dim], generator, batch_norm=True)
        self.follower = MovingAverage(self._encoder(), options.moco_m)
        freeze(self.follower.module, norm="track")
        self.queue = Queue(options.moco_k, options.moco_dim)
        self.register_buffer("log_prior", constant(np.log(counts.prior)))
        self.alpha, self.beta, self.gamma = options.alpha, options.beta, options.gamma
        self.supt, self.moco_t = options.supt, options.moco_t
        self._keys: tuple[Tensor, Tensor] | None = None  # of the step that is being made

    def _encoder(self) -> nn.Sequential:
        return nn.Sequential(self.network.backbone, self.projector)

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of the first views in nats."""
        features = self.network.backbone(batch.inputs[:, 0])
        logits = self.network.classifier(features).float()
        queries = F.normalize(self.projector(features).float())
        with torch.no_grad():
            keys = F.normalize(self.follower.module(batch.inputs[:, 1]).float())
        self._keys = keys, batch.targets
        return parametric_contrast(
            (logits + self.log_prior) / self.supt,
            queries,
            torch.cat([keys, self.queue.features]),
            batch.targets,
            torch.cat([batch.targets, self.queue.labels]),
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            temperature=self.moco_t,
        )

    def after_step(self) -> None:
        """Move the second encoder, and put the step's embeddings in the queue."""
        assert self._keys is not None
        self.queue.enqueue(*self._keys)
        self._keys = None
        self.follower.follow(self._encoder())

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        weights = f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}"
        return f"{weights}, supt={self.supt}, moco_t={self.moco_t}"
