"""DeiT-LT: a transformer that learns from labels with one token and from a convolutional teacher with another.

Legend: B images of a batch, C classes, D features, N tokens.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.classifiers import linear_classifier
from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.backbones.open import BackboneSpec, InputFacts, input_facts, open_backbone, takes_texts
from forktail.backbones.vit import VitReadout
from forktail.data.augment import Preprocess
from forktail.data.sampling import Repeated
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.losses.class_balanced import ClassBalanced
from forktail.losses.logit_adjusted import LogitAdjusted
from forktail.methods._method import Method, Problem
from forktail.methods._mixing import own_mix
from forktail.methods._ranges import check_fraction, check_whole
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.moving_average import MovingAverage
from forktail.training.objective import Batch, Objective, Supervised, freeze
from forktail.training.randomness import seed_of

TOKEN_STD = 0.02


@final
@dataclass(frozen=True)
class DeiTLT(Method):
    """Train a teacher, then labels on one token and what the teacher says of the same mixed images on another.

    L = (1 - alpha) CE(z_cls, t) + alpha CE(z_dist, argmax teacher), the second part re-weighted late (DRW). Predicts by
    the mean of both logits. The teacher sees the student's strongly changed images, which it was not trained on:
    "out-of-distribution" distillation. Ours is trained by the balanced softmax, the authors' by PaCo with SAM, and it
    sees them at the student's size, not at its own. They stop mixing during DRW on CIFAR; here, as on their other sets,
    mixing stays. A backbone without tokens, such as a ResNet, gets two classifiers on one feature.

    A teacher with pretrained weights is frozen, and its stage trains a classifier of the training set's classes alone,
    since the file of a backbone holds none; it sees the pictures with the colour statistics of its own pretraining.

    Args:
        teacher_backbone: Name of the teacher's backbone.
        teacher_weights: Its pretrained weights: a file, or in place of both the name of a backbone that brings some,
            such as ``resnet18.a1_in1k``, which is downloaded. None begins with random weights, and trains all.
        teacher_epochs: Length of the teacher's training; None is the plan's.
        alpha: Share of the teacher, in [0, 1].
        drw_start: Share of the training after which the teacher's part is weighted, in [0, 1]: epoch 1100 of 1200.
        beta: Of the effective number that weighs it, in [0, 1).
        smoothing: Of the labels, in [0, 1).
        mixup: alpha of mixup, in place of the plan's; 0 is off.
        cutmix: alpha of CutMix, in place of the plan's; 0 is off.
        repeats: How often an image comes in its epoch (repeated augmentation), of which each shows N / repeats images.
        ema: Decay of a moving average of the weights, which then is the model; 0 is off. The authors' 0.99996 needs
            their 1000 epochs: it remembers 25000 steps.
    """

    summary = "labels on one token, a convolutional teacher's answers on another, then deferred re-weighting of these"
    source = "Rangwani et al. 2024 (DeiT-LT), section 3, as in its code"
    stages = ("teacher", "training")
    compute = 4.7

    teacher_backbone: str = "resnet32"
    teacher_weights: str | None = None
    teacher_epochs: int | None = None
    alpha: float = 0.5
    drw_start: float = 11 / 12
    beta: float = 0.9999
    smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    repeats: int = 3
    ema: float = 0.0

    def __post_init__(self) -> None:
        self._mix()
        check_fraction(self, "alpha", "drw_start")
        check_fraction(self, "beta", "ema", one=False)
        check_whole(self, "teacher_epochs")
        check_whole(self, "repeats", least=1)
        if self.teacher_weights is not None and self._teacher_spec().has_random_weights:
            raise InputError(
                f'method.teacher_weights = "{self.teacher_weights}"',
                expected=f"a file of weights of {self.teacher_backbone}, or a backbone that brings some",
                remedy=f'for "{self.teacher_weights}" with random weights, set method.teacher_backbone alone',
            )

    def network(self, spec: ModelSpec) -> Distilled:
        """Return an untrained network of two classifiers."""
        return Distilled(open_backbone(spec.backbone), len(spec.classes), torch.Generator())

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read the mean of both logits as it is, as the authors do."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train the teacher, then the student on mixed images."""
        epochs = engine.plan.epochs
        teacher_epochs = epochs if self.teacher_epochs is None else self.teacher_epochs
        teaching, learning = engine.plans(
            [
                (lambda: self._teacher(problem), problem.train, teacher_epochs),
                (lambda: self._student(problem, self._teacher(problem).network), problem.train, epochs),
            ]
        )
        teacher = engine.train("teacher", self._teacher(problem), problem.train, teaching).network
        objective = self._student(problem, teacher)
        mixing = dataclasses.replace(learning, mix=self._mix())
        trained = engine.train("training", objective, problem.train, mixing, Repeated(self.repeats))
        return self.reads(trained.model, problem.spec(self))

    def _teacher(self, problem: Problem) -> Supervised:
        seed = seed_of(problem.seed, "teacher")
        if takes_texts(self._teacher_spec()):
            raise InputError(
                f'method.teacher_weights = "{self.teacher_weights}", which reads texts',
                expected="a teacher that sees pictures",
            )
        spec = dataclasses.replace(self._teacher_spec(), input_size=problem.picture_size)
        backbone = open_backbone(spec, seed=seed)
        if self.teacher_weights is not None:
            assert isinstance(problem.preprocess, Preprocess)
            backbone.stem = nn.Sequential(Renormalised(problem.preprocess, input_facts(spec)), backbone.stem)
            freeze(backbone)
        return Supervised(Forked.single(backbone, problem.counts.num_classes, seed), LogitAdjusted(problem.counts))

    def _teacher_spec(self) -> BackboneSpec:
        if self.teacher_weights is None:
            return BackboneSpec(self.teacher_backbone, weights="random")
        given = BackboneSpec.parse(self.teacher_weights)
        return dataclasses.replace(given, name=given.name or self.teacher_backbone)

    def _student(self, problem: Problem, teacher: nn.Module) -> Distillation:
        network = Distilled(problem.backbone(), problem.counts.num_classes, problem.generator("classifier"))
        return Distillation(network, teacher, problem.counts, self)

    def _mix(self) -> Mix:
        return own_mix(self.mixup, self.cutmix, self.smoothing)


@final
class Renormalised(nn.Module):
    """Give normalised pictures the colour statistics that another network expects.

    Args:
        given: How the pictures were normalised.
        wanted: How they shall be.

    Example:
        >>> wanted = input_facts(BackboneSpec("tiny"))  # mean and standard deviation 1/2
        >>> grey = Renormalised(Preprocess(1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), wanted)
        >>> grey(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)).flatten()
        tensor([-1.,  0.,  1.])
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, given: Preprocess, wanted: InputFacts) -> None:
        super().__init__()
        old_mean, old_std, mean, std = (
            torch.tensor(numbers).view(3, 1, 1) for numbers in (given.mean, given.std, wanted["mean"], wanted["std"])
        )
        self.register_buffer("factor", old_std / std)
        self.register_buffer("offset", (old_mean - mean) / std)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, 3, H, W) to the same shape."""
        return inputs * self.factor + self.offset


@final
class Distilled(nn.Module):
    """A backbone with two classifiers, each on a token of its own where the backbone is a vision transformer.

    The distillation token stands behind all others, since attention knows no order, and carries no position; pooling
    does not see it, and its feature goes through the norms that the pooled feature goes through.

    Args:
        backbone: Taken as it is, not copied.
        num_classes: C.
        generator: Where token and classifiers are drawn from.
    """

    def __init__(self, backbone: Layered, num_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.backbone = backbone
        self.token: nn.Parameter | None = None
        if isinstance(backbone.readout, VitReadout):
            token = torch.empty(1, 1, backbone.num_features)
            self.token = nn.Parameter(nn.init.trunc_normal_(token, std=TOKEN_STD, generator=generator))
        self.classifier = linear_classifier(backbone.num_features, num_classes, generator)
        self.dist_classifier = linear_classifier(backbone.num_features, num_classes, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the (B, C) mean of both logits."""
        return torch.stack(self.both_logits(inputs)).mean(0)

    def both_logits(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what each classifier says.

        Args:
            inputs: (B, 3, H, W).

        Returns:
            (B, C) logits that learn from the labels, and (B, C) logits that learn from the teacher.
        """
        features, dist_features = self._features(inputs)
        return self.classifier(features), self.dist_classifier(dist_features)

    def _features(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.token is None:
            features = self.backbone(inputs)
            return features, features
        readout = self.backbone.readout
        assert isinstance(readout, VitReadout)
        hidden = self.backbone.stem(inputs)
        hidden = torch.cat([hidden, self.token.expand(len(hidden), -1, -1)], dim=1)
        for unit in self.backbone.units:
            hidden = unit(hidden)
        return readout(hidden[:, :-1]), readout.fc_norm(readout.norm(hidden[:, -1]))

    def unit_of(self, parameter_name: str) -> int:
        """Say to which layer a parameter belongs.

        Args:
            parameter_name: A name as in ``named_parameters()``.

        Returns:
            Chain index: 0 for stem and token, 1..L for a unit, L + 1 for readout and classifiers.
        """
        part, _, rest = parameter_name.partition(".")
        if part == "backbone":
            return self.backbone.unit_of(rest)
        return 0 if part == "token" else self.backbone.depth + 1

    def no_weight_decay(self) -> set[str]:
        """Exempt the token from weight decay, as timm does with tokens.

        Returns:
            Its name.
        """
        return set() if self.token is None else {"token"}


@final
class Distillation(Objective):
    """Labels for one classifier, a frozen teacher's hard answers for the other.

    Args:
        network: The student.
        teacher: Maps inputs to (B, C) logits; it is frozen.
        counts: Training images of each class.
        options: The method's hyper-parameters.
    """

    def __init__(self, network: Distilled, teacher: nn.Module, counts: ClassCounts, options: DeiTLT) -> None:
        super().__init__()
        self.network = network
        self.teacher = teacher
        freeze(self.teacher)
        self.alpha, self.drw_start = options.alpha, options.drw_start
        self.weighted = ClassBalanced(counts, options.beta)
        self.average = MovingAverage(network, options.ema) if options.ema else None

    @property
    def model(self) -> nn.Module:
        """What predicts: the network, or its moving average."""
        return self.network if self.average is None else self.average.module

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        logits, dist_logits = self.network.both_logits(batch.inputs)
        with torch.no_grad():
            taught = self.teacher(batch.inputs).argmax(1)
        weights = self.weighted.image_weights(taught)
        if batch.progress < self.drw_start:
            weights = torch.ones_like(weights)
        return distillation_loss(logits, dist_logits, batch.targets, taught, weights, self.alpha)

    def after_step(self) -> None:
        """Let the moving average follow."""
        if self.average is not None:
            self.average.follow(self.network)

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"alpha={self.alpha}, drw_start={self.drw_start}, ema={self.average and self.average.decay}"


def distillation_loss(
    logits: Tensor, dist_logits: Tensor, targets: Tensor, taught: Tensor, weights: Tensor, alpha: float
) -> Tensor:
    r"""Compute $(1 - \alpha) CE(z_i, t_i) + \alpha \frac{B w_i}{\sum_j w_j} CE(z'_i, y_i)$ (DeiT-LT, section 3, DRW).

    The plain mean over the batch is the weighted mean of the authors' code in the second part.

    Args:
        logits: (B, C) z, of the classifier that learns from labels.
        dist_logits: (B, C) z', of the one that learns from the teacher.
        targets: (B,) classes or (B, C) soft targets t.
        taught: (B,) classes y that the teacher gives.
        weights: (B,) w, > 0.
        alpha: Share of the teacher.

    Returns:
        (B,) losses in nats.

    Example:
        >>> zeros, first = torch.zeros(1, 2), torch.tensor([0])
        >>> distillation_loss(zeros, zeros, first, first, torch.ones(1), alpha=0.5)
        tensor([0.6931])
    """
    labelled = F.cross_entropy(logits, targets, reduction="none")
    distilled = weights * len(weights) / weights.sum() * F.cross_entropy(dist_logits, taught, reduction="none")
    return (1 - alpha) * labelled + alpha * distilled
