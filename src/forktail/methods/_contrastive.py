"""What PaCo and GPaCo have in common: the loss over centres and samples, the projector and the queue.

Legend: B anchors, C classes (the centres), M samples that anchors are compared with, d features of an embedding,
K places of the queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.data.augment import Views
from forktail.data.images import Images
from forktail.data.texts import are_texts
from forktail.errors import InputError
from forktail.methods._method import Method, Problem
from forktail.methods._networks import new_classified
from forktail.methods._ranges import check_not_negative, check_positive, check_whole
from forktail.training.engine import Engine
from forktail.training.objective import Objective
from forktail.training.plan import Plan

UNFILLED = -1  # label of a place of the queue that has no embedding yet


def parametric_contrast(
    centres: Tensor,
    anchors: Tensor,
    keys: Tensor,
    targets: Tensor,
    key_targets: Tensor,
    *,
    alpha: float,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float,
    smooth: float = 0.0,
) -> Tensor:
    r"""Compute the parametric contrastive loss of each anchor (PaCo, Cui et al. 2021; GPaCo, Cui et al. 2023).

    $L_i = - \frac{\sum_c w_{ic} (s_{ic} - D_i) + \alpha \sum_{j \in P_i} (r_{ij} - D_i)}{\beta + \alpha |P_i|}$
    with $D_i = \log (\sum_c e^{s_{ic}} + \gamma \sum_{j \in A_i} e^{r_{ij}})$ and $r_{ij}$ the cosine over the
    temperature. $A_i$ holds the other anchors and the keys, $P_i$ those of the anchor's class, and w are the weights of
    `smoothed_centres`. The logarithm is exact, without the code's 1e-12.

    Args:
        centres: (B, C) s, the logits under the training prior, (z + log pi) / supt.
        anchors: (B, d) unit vectors.
        keys: (M, d) unit vectors.
        targets: (B,) classes of the anchors.
        key_targets: (M,) classes of the keys; negative for one that is to be left out.
        alpha: Weight of a sample of the anchor's class, >= 0.
        beta: Weight of the centres, > 0.
        gamma: Weight of the samples in D, >= 0.
        temperature: T, > 0.
        smooth: Label smoothing over the centres, in [0, 1).

    Returns:
        (B,) losses in nats.

    Example:
        >>> one, first = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
        >>> parametric_contrast(torch.zeros(1, 2), one, one, first, first, alpha=0.0, gamma=0.0, temperature=1.0)
        tensor([0.6931])
    """
    samples = anchors @ torch.cat([anchors, keys]).T / temperature
    itself = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    compared = torch.cat([~itself, (key_targets >= 0).expand(len(anchors), -1)], dim=1)
    same = compared & (targets[:, None] == torch.cat([targets, key_targets]))
    weights = torch.cat([smoothed_centres(targets, centres, beta, smooth), alpha * same.to(centres.dtype)], dim=1)
    log_gamma = math.log(gamma) if gamma else -math.inf
    others = (samples + log_gamma).masked_fill(~compared, -math.inf)
    normaliser = torch.logsumexp(torch.cat([centres, others], dim=1), dim=1, keepdim=True)
    agreement = weights * (torch.cat([centres, samples], dim=1) - normaliser)
    return -agreement.sum(1) / weights.sum(1)


def smoothed_centres(targets: Tensor, centres: Tensor, beta: float, smooth: float) -> Tensor:
    """Say how much each centre counts for an anchor: beta (1 - eps) at its class, beta eps / (C - 1) at the others.

    Args:
        targets: (B,) classes.
        centres: (B, C) logits, of whose size and type the weights are.
        beta: Weight of the centres together.
        smooth: eps, in [0, 1).

    Returns:
        (B, C) weights, each row's sum beta.

    Example:
        >>> smoothed_centres(torch.tensor([1]), torch.zeros(1, 3), beta=1.0, smooth=0.2)
        tensor([[0.1000, 0.8000, 0.1000]])
    """
    num_classes = centres.shape[1]
    own = F.one_hot(targets, num_classes).to(centres.dtype)
    return beta * (own * (1 - smooth) + (1 - own) * smooth / (num_classes - 1))


@final
class Queue(nn.Module):
    """The last K embeddings with their classes, first in, first out; all of it survives a kill.

    The authors fill it with noise and random classes at first; here places are empty until an embedding comes, which
    makes the first K / B steps compare fewer samples and changes nothing after. If K is more than the training set
    holds, an image is in it several times, as it was embedded at different times.

    Args:
        length: K.
        dim: d.
    """

    features: Tensor
    labels: Tensor
    next_place: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(length, dim))
        self.register_buffer("labels", torch.full((length,), UNFILLED))
        self.register_buffer("next_place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, features: Tensor, labels: Tensor) -> None:
        """Put embeddings in the place of the oldest ones.

        Args:
            features: (B, d); of more than K the last K stay.
            labels: (B,) classes.
        """
        length = len(self.labels)
        features, labels = features[-length:], labels[-length:]
        places = (self.next_place + torch.arange(len(labels), device=labels.device)) % length
        self.features[places] = features
        self.labels[places] = labels
        self.next_place.copy_((self.next_place + len(labels)) % length)


def projector(sizes: Sequence[int], generator: torch.Generator, *, batch_norm: bool) -> nn.Sequential:
    """Build a projector: linear maps with ReLU between them.

    Args:
        sizes: Features before and after each linear map.
        generator: Where the weights are drawn from.
        batch_norm: Whether batch normalisation stands before each ReLU; it makes a bias there pointless.

    Returns:
        The map from (B, sizes[0]) to (B, sizes[-1]).

    Example:
        >>> len(projector([8, 8, 2], torch.Generator(), batch_norm=True))
        4
    """
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(sizes), start=1):
        last = number == len(sizes) - 1
        # Built without PyTorch's own initial values, which would draw from the global generator.
        linear = nn.Linear(before, after, bias=last or not batch_norm, device="meta").to_empty(device="cpu")
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="linear", generator=generator)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
        layers.append(linear)
        if not last:
            layers += [nn.BatchNorm1d(after), nn.ReLU()] if batch_norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def check_contrast(method: Method) -> None:
    """Refuse hyper-parameters of a contrastive loss that make none.

    Args:
        method: With ``alpha``, ``beta``, ``gamma``, ``supt``, ``moco_t``, ``moco_k`` and ``moco_dim``.

    """
    check_not_negative(method, "alpha", "gamma")
    check_positive(method, "beta", "supt", "moco_t")
    check_whole(method, "moco_k", "moco_dim", least=1)


def check_pairs(plan: Plan) -> None:
    """Refuse batches in which there is nothing to compare an image with.

    Args:
        plan: How the stage is optimised.

    Raises:
        InputError: If a batch is one image.
    """
    if plan.batch_size < 2:
        raise InputError(
            f"plan.batch_size = {plan.batch_size}", expected="at least 2 images, which are compared with one another"
        )


def contrasted(
    problem: Problem, engine: Engine, make_objective: Callable[[Classified, torch.Generator], Objective]
) -> nn.Module:
    """Train a network with a linear classifier on two views of all images.

    Args:
        problem: Its images.
        engine: Trains.
        make_objective: Makes the objective of the network, and of a generator to draw the projector from.

    Returns:
        The trained network.
    """
    check_pairs(engine.plan)
    network = new_classified(problem.backbone(), problem.counts.num_classes, problem.generator("classifier"))
    engine.train("training", make_objective(network, problem.generator("projector")), two_views(problem.train))
    return network


def two_views(images: Images) -> Images:
    """Show every image in two ways of its own transform.

    Args:
        images: The training set with its transform.

    Returns:
        The same images, whose inputs are (2, 3, H, W).

    Raises:
        InputError: If they are texts.
    """
    assert images.transform is not None
    if are_texts(images):
        raise InputError(
            "texts, of which there are no two views",
            expected="pictures, which are augmented",
            remedy="choose a method that shows an example once, such as osdtw, logit_adjustment or ce",
        )
    return images.with_transform(Views((images.transform, images.transform)))
