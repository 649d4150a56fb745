"""Small networks and images that every test of this folder takes its gradients of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from forktail.backbones.adapters import adapt
from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.backbones.tiny import tiny
from forktail.labels import TaskSplit
from forktail.losses.balanced_bce import BalancedBCE

COUNTS = [40, 25, 9, 3, 1]
SPLIT = TaskSplit((np.array([0, 2, 1]), np.array([4, 3])))


class Problem(NamedTuple):
    networks: list[Forked]
    starts: list[Forked]
    losses: list[BalancedBCE]
    split: TaskSplit
    images: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor

    def batches(self, *sizes, weighted=True):
        """Cut the images into batches of the given sizes."""
        weights = self.weights if weighted else torch.ones_like(self.weights)
        parts = [tensor.split(sizes) for tensor in (self.images, self.targets, weights)]
        return list(zip(*parts, strict=True))

    def double(self):
        networks, starts = ([network.double() for network in group] for group in (self.networks, self.starts))
        return self._replace(networks=networks, starts=starts, images=self.images.double())


def convolutional():
    """BatchNorm with statistics of its own, dropout, a parameter used at every position, and no symmetry."""
    stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.GELU())
    units = [nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Dropout(0.5), nn.Tanh()) for _ in range(2)]
    stem[1].running_mean.uniform_(-0.5, 0.5)
    return Layered(stem, units, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6)), num_features=6)


def transformer():
    return adapt(
        VisionTransformer(
            img_size=12, patch_size=4, embed_dim=12, depth=2, num_heads=3, num_classes=0, reg_tokens=1,
            init_values=0.5, pre_norm=True, drop_path_rate=0.5, pos_drop_rate=0.5,
        )
    )  # fmt: skip


BACKBONES: dict[str, tuple[Callable[[], Layered], int]] = {
    "convolutional": (convolutional, 12),
    "transformer": (transformer, 12),
    "tiny": (lambda: adapt(tiny()), 28),
}


@pytest.fixture(params=BACKBONES)
def problem(request):
    """Two networks that moved away from a common start, and 7 images with weights."""
    build, size = BACKBONES[request.param]
    torch.manual_seed(0)
    backbone = build()
    starts = [Forked.single(backbone, len(task), seed=t) for t, task in enumerate(SPLIT.tasks)]
    networks = [Forked.single(backbone, len(task), seed=t) for t, task in enumerate(SPLIT.tasks)]
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    losses = [BalancedBCE(COUNTS, classes=task) for task in SPLIT.tasks]
    targets = torch.eye(5)[[0, 0, 1, 2, 3, 4, 0]]
    return Problem(networks, starts, losses, SPLIT, torch.randn(7, 3, size, size), targets, torch.rand(7) + 0.5)
