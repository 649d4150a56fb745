"""The rare-class sample generator of RSG: a module that stands between two layers while a network is trained.

Legend: B images of a batch, G generated features, C classes, n centres of a class, D channels, H x W cells of a map.
"""

from __future__ import annotations

from math import isqrt
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from forktail.errors import InputError
from forktail.labels import ClassCounts

DIFFERENT = 0  # what the pair classifier says of two maps of different classes


@final
class RareSamples(nn.Module):
    """Centres of every class, the pair classifier, and the convolution that moves variation to another class.

    Args:
        counts: Training images of each class; they say which are the head classes.
        channels: D.
        generator: Where initial weights are drawn from, with the distributions of the released code.
        n_center: n.
        contrastive_module_dim: Channels of the pair classifier.
        head_tail_ratio: Share of the classes that are head classes, at least one.
        transfer_strength: How many of the pairs that a batch could form are formed, in (0, 1].
        released_vectors: Of `vector_loss`.
    """

    is_head: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        channels: int,
        generator: torch.Generator,
        *,
        n_center: int,
        contrastive_module_dim: int,
        head_tail_ratio: float,
        transfer_strength: float,
        released_vectors: bool,
    ) -> None:
        super().__init__()
        num_classes, dim = counts.num_classes, contrastive_module_dim
        num_head = max(1, int(num_classes * head_tail_ratio))
        is_head = torch.zeros(num_classes, dtype=torch.bool)
        is_head[np.argsort(-counts.per_class, kind="stable")[:num_head].copy()] = True
        self.register_buffer("is_head", is_head)
        self.weight = nn.Parameter(torch.randn(num_classes, channels, n_center, generator=generator))
        self.bias = nn.Parameter(torch.ones(num_classes, n_center))
        self.centres = nn.Parameter(torch.zeros(num_classes, n_center, channels))
        self.transform = _convolution(channels, channels, 3, generator)
        self.same_class = nn.Sequential(
            _convolution(2 * channels, dim, 1, generator),
            nn.ReLU(),
            _convolution(dim, dim, 3, generator),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            _linear(dim, 2, generator),
        )
        self.transfer_strength = transfer_strength
        self.released_vectors = released_vectors

    def centre_shares(self, maps: Tensor, targets: Tensor) -> Tensor:
        """Say how much of each image belongs to each centre of its class.

        Args:
            maps: (B, D, H, W).
            targets: (B,) classes.

        Returns:
            (B, n) gamma, each row's sum 1.
        """
        scores = torch.einsum("bd,bdn->bn", maps.mean((2, 3)), self.weight[targets]) + self.bias[targets]
        return torch.softmax(scores, dim=1)

    def estimation(self, maps: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Compute the loss of the centres; see `centre_loss`."""
        return centre_loss(maps, self.centres[targets], shares)

    def pair_loss(self, maps: Tensor, targets: Tensor) -> Tensor:
        """Ask of the i-th image of each half of the batch whether they are of one class.

        Args:
            maps: (B, D, H, W).
            targets: (B,) classes.

        Returns:
            The mean cross-entropy in nats.
        """
        half = len(targets) // 2
        first, second = slice(0, half), slice(half, 2 * half)
        logits = self.same_class(torch.cat([maps[first], maps[second]], dim=1))
        return F.cross_entropy(logits, (targets[first] == targets[second]).long())

    def pairs(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Pair images of head and tail classes: the scarcer ones come again with each of the others' successive parts.

        Args:
            targets: (B,) classes.

        Returns:
            (G,) positions of the head images and (G,) of the tail images; G is 0 if either are absent.
        """
        of_head = self.is_head[targets]
        head, tail = of_head.nonzero().flatten(), (~of_head).nonzero().flatten()
        fewer, more = sorted((len(head), len(tail)))
        if not fewer:
            return head[:0], tail[:0]
        times = max(1, int(more * self.transfer_strength / fewer))
        count = times * fewer
        return head.repeat(times)[:count], tail.repeat(times)[:count]

    def moved_variation(
        self, maps: Tensor, targets: Tensor, shares: Tensor, head: Tensor, tail: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take what head images have beyond their centres, and move it to tail images.

        The pair classifier judges and does not learn any more; nor do the centres learn from here.

        Args:
            maps: (B, D, H, W).
            targets: (B,) classes.
            shares: (B, n) of `centre_shares`.
            head: (G,) positions of the head images.
            tail: (G,) positions of the tail images.

        Returns:
            (G, D, H, W) what is to be added to the tail images' maps, and the loss, 0 if there are no pairs.
        """
        nearest = self.centres.detach()[targets, shares.argmax(1)][:, :, None, None]
        variation = (maps - nearest)[head]
        moved = self.transform(variation)
        if not len(head):
            return moved, moved.sum()
        judge = {name: value.detach() for name, value in self.same_class.named_parameters()}
        logits = functional_call(self.same_class, judge, torch.cat([maps[head], moved], dim=1))
        wanted = torch.full_like(head, DIFFERENT)
        kept = vector_loss(variation, moved, (maps - nearest)[tail], released_vectors=self.released_vectors)
        return moved, F.cross_entropy(logits, wanted) + kept

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"transfer_strength={self.transfer_strength}, released_vectors={self.released_vectors}"


def centre_loss(maps: Tensor, centres: Tensor, shares: Tensor) -> Tensor:
    r"""Compute the loss of centre estimation: $\frac1B \sum_i \sum_k \gamma_{ik} \sum_{hw} \|f_{ihw} - c_{ik}\|^2$.

    Args:
        maps: (B, D, H, W) f.
        centres: (B, n, D) c, those of each image's class.
        shares: (B, n) gamma, each row's sum 1.

    Returns:
        The loss, without dimensions.

    Example:
        >>> centre_loss(torch.ones(1, 2, 3, 3), torch.zeros(1, 4, 2), torch.full((1, 4), 0.25))
        tensor(18.)
    """
    # About each map's own mean the sum over cells parts in two, and no (B, n, D, H, W) tensor is needed.
    mean = maps.mean((2, 3))
    within = (maps - mean[:, :, None, None]).square().sum((1, 2, 3))
    cells = maps.shape[2] * maps.shape[3]
    between = (shares * (mean[:, None] - centres).square().sum(2)).sum(1)
    return (within + cells * between).mean()


def vector_loss(variation: Tensor, moved: Tensor, direction: Tensor, *, released_vectors: bool = False) -> Tensor:
    r"""Ask that moved variation keeps its length and takes the direction of the tail image's own variation.

    $\frac1G \sum_i \sum_{hw} | \|d'\| - \|d\| | + | \cos(v, d') - 1 |$ over the D-vectors of each cell.

    Args:
        variation: (G, D, H, W) d, of head images about their centres.
        moved: (G, D, H, W) d'.
        direction: (G, D, H, W) v, of tail images about their centres.
        released_vectors: Take D successive numbers in the order (D, H, W) for a vector, which they are not, and
            compare each product of components with 1 in place of their sum.

    Returns:
        The loss, without dimensions.

    Example:
        >>> d = torch.tensor([[[[1.0]], [[0.0]]]])
        >>> vector_loss(d, 3 * d, -d)
        tensor(4.)
    """
    d, d_moved, v = (
        maps.reshape(-1, maps.shape[1]) if released_vectors else maps.movedim(1, 3).flatten(0, 2)
        for maps in (variation, moved, direction)
    )
    products = F.normalize(v) * F.normalize(d_moved)
    turned = products if released_vectors else products.sum(1)
    stretched: Tensor = torch.linalg.vector_norm(d_moved, dim=1) - torch.linalg.vector_norm(d, dim=1)
    return (stretched.abs().sum() + (turned - 1).abs().sum()) / len(variation)


def as_maps(hidden: Tensor, num_prefix_tokens: int) -> Tensor:
    """See a hidden state as maps: a ResNet's as it is, patch tokens on their grid, a vector as one cell.

    Args:
        hidden: (B, D, H, W), (B, T, D) with the prefix tokens first, or (B, D).
        num_prefix_tokens: How many tokens are of no patch.

    Returns:
        (B, D, H, W) maps.

    Raises:
        InputError: If the patches form no square.

    Example:
        >>> as_maps(torch.zeros(2, 10, 8), num_prefix_tokens=1).shape
        torch.Size([2, 8, 3, 3])
    """
    if hidden.ndim == 4:
        return hidden
    if hidden.ndim == 2:
        return hidden[:, :, None, None]
    patches = hidden[:, num_prefix_tokens:]
    side = isqrt(patches.shape[1])
    if side**2 != patches.shape[1]:
        raise InputError(f"rsg on {patches.shape[1]} patch tokens", expected="a square grid of them")
    return patches.transpose(1, 2).reshape(len(hidden), -1, side, side)


def as_hidden(maps: Tensor, ndim: int, num_prefix_tokens: int) -> Tensor:
    """Turn maps into hidden states again; prefix tokens are zero.

    Args:
        maps: (B, D, H, W).
        ndim: Dimensions of the hidden state, 2 to 4.
        num_prefix_tokens: How many tokens are of no patch.

    Returns:
        (B, D, H, W), (B, T, D) or (B, D), the inverse of `as_maps`.

    Example:
        >>> as_hidden(torch.zeros(2, 8, 3, 3), ndim=3, num_prefix_tokens=1).shape
        torch.Size([2, 10, 8])
    """
    if ndim == 4:
        return maps
    if ndim == 2:
        return maps.flatten(1)
    return F.pad(maps.flatten(2).transpose(1, 2), (0, 0, num_prefix_tokens, 0))


def _convolution(before: int, after: int, side: int, generator: torch.Generator) -> nn.Conv2d:
    # Built without PyTorch's own initial values, which would draw from the global generator; the same below.
    convolution = nn.Conv2d(before, after, side, padding=side // 2, device="meta").to_empty(device="cpu")
    nn.init.kaiming_normal_(convolution.weight, generator=generator)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _linear(before: int, after: int, generator: torch.Generator) -> nn.Linear:
    linear = nn.Linear(before, after, device="meta").to_empty(device="cpu")
    nn.init.normal_(linear.weight, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear
