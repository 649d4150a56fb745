"""GPaCo: parametric contrast of both views through one encoder, without a momentum copy.

Legend: B images of a batch, C classes, d features of an embedding.
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
from forktail.training.objective import Batch, Objective


@final
@dataclass(frozen=True)
class GPaCo(Method):
    """Generalized parametric contrastive learning: every view is an anchor, against centres, views and a queue.

    Both views go through the network at once. Each image comes in two views of the data set's own augmentation.
    Defaults are those of ImageNet-LT with ResNeXt and of iNaturalist; ResNet-50 took alpha 0.045, Places-LT 0.02, a
    pretrained ViT-B 0.2 with smooth 0.1. The authors train 400 epochs. Predicts by the classifier alone.

    Args:
        alpha: Weight of a sample of the same class against beta for the centres, >= 0.
        beta: Weight of the centres together, > 0.
        gamma: Weight of the samples in the normaliser, >= 0.
        supt: Temperature of the classifier's logits, > 0.
        moco_t: Temperature of the cosines between embeddings, > 0.
        moco_k: Places of the queue; more than the training set holds keeps several embeddings of an image.
        moco_dim: Features of an embedding.
        smooth: Label smoothing over the centres, in [0, 1).
    """

    summary = "supervised contrast with learned class centres and a queue, without a momentum encoder"
    source = "Cui et al. 2023, generalized parametric contrastive learning"
    stages = ("training",)
    compute = 2.0

    alpha: float = 0.05
    beta: float = 1.0
    gamma: float = 1.0
    supt: float = 1.0
    moco_t: float = 0.2
    moco_k: int = 8192
    moco_dim: int = 128
    smooth: float = 0.0

    def __post_init__(self) -> None:
        check_contrast(self)
        check_fraction(self, "smooth", one=False)

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a linear classifier."""
        return new_classified(open_backbone(spec.backbone), len(spec.classes), torch.Generator())

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read logits that are free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on two views of all images."""
        trained = contrasted(
            problem, engine, lambda network, generator: ViewContrast(network, problem.counts, self, generator)
        )
        return self.reads(trained, problem.spec(self))


@final
class ViewContrast(Objective):
    """Both views against centres, all other views and the queue, which takes the second views.

    Args:
        network: Maps inputs to (B, C) logits.
        counts: Training images of each class.
        options: The method's hyper-parameters.
        generator: Where the projector is drawn from.
    """

    needs_classes: ClassVar[bool] = True  # who belongs together is asked of classes
    log_prior: Tensor

    def __init__(self, network: Classified, counts: ClassCounts, options: GPaCo, generator: torch.Generator) -> None:
        super().__init__()
        self.network = network
        width = network.backbone.num_features
        self.projector = projector([width, width, width, options.moco_dim], generator, batch_norm=False)
        self.queue = Queue(options.moco_k, options.moco_dim)
        self.register_buffer("log_prior", constant(np.log(counts.prior)))
        self.alpha, self.beta, self.gamma, self.smooth = options.alpha, options.beta, options.gamma, options.smooth
        self.supt, self.moco_t = options.supt, options.moco_t
        self._keys: tuple[Tensor, Tensor] | None = None  # of the step that is being made

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of the images in nats, each the mean over its views."""
        views = torch.cat([batch.inputs[:, 0], batch.inputs[:, 1]])
        features = self.network.backbone(views)
        logits = self.network.classifier(features).float()
        embeddings = F.normalize(self.projector(features).float())
        self._keys = embeddings[len(batch.targets) :].detach(), batch.targets
        losses = parametric_contrast(
            (logits + self.log_prior) / self.supt,
            embeddings,
            self.queue.features,
            batch.targets.repeat(2),
            self.queue.labels,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            temperature=self.moco_t,
            smooth=self.smooth,
        )
        return losses.reshape(2, -1).mean(0)

    def after_step(self) -> None:
        """Put the step's second views in the queue."""
        assert self._keys is not None
        self.queue.enqueue(*self._keys)
        self._keys = None

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        weights = f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, smooth={self.smooth}"
        return f"{weights}, supt={self.supt}, moco_t={self.moco_t}"
