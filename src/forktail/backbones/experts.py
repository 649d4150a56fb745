"""Several networks that share their first layers and see all classes: the multi-expert systems, and BBN.

Legend: B images of a batch, C classes, D features, E experts, L units.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from forktail.backbones.layered import Layered
from forktail.errors import InputError


@final
class Branched(nn.Module):
    """Units 1..s once, then E copies of the other units and the readout.

    Args:
        backbone: The chain to start from; it is copied.
        depth: s, in 1..L: how many units are shared.
        branches: E.

    Raises:
        InputError: If the backbone is not as deep as ``depth``, or there is no branch.

    Example:
        >>> chain = Layered(nn.Flatten(), [nn.Linear(4, 4), nn.GELU()], nn.LayerNorm(4), num_features=4)
        >>> [tuple(features.shape) for features in Branched(chain, depth=1, branches=2)(torch.zeros(5, 2, 2))]
        [(5, 4), (5, 4)]
    """

    def __init__(self, backbone: Layered, depth: int, branches: int) -> None:
        super().__init__()
        if not 1 <= depth <= backbone.depth:
            raise InputError(f"{depth} shared units", expected=f"1 to {backbone.depth}, the units of the backbone")
        if branches < 1:
            raise InputError(f"{branches} branches", expected="at least one")
        self.num_features = backbone.num_features
        self.depth, self.max_depth = depth, backbone.depth
        self.shared = nn.Sequential(copy.deepcopy(backbone.stem), *copy.deepcopy(backbone.units[:depth]))
        end = nn.Sequential(*backbone.units[depth:], backbone.readout)
        self.branches = nn.ModuleList(copy.deepcopy(end) for _ in range(branches))

    def forward(self, inputs: Any) -> list[Tensor]:
        """Compute the (B, D) features of every branch."""
        hidden = self.shared(inputs)
        return [branch(hidden) for branch in self.branches]

    def unit_of(self, parameter_name: str) -> int:
        """Say to which layer a parameter belongs.

        Args:
            parameter_name: A name as in ``named_parameters()``.

        Returns:
            Chain index: 0 for the stem, 1..L for a unit, L + 1 for a readout.
        """
        part, *rest = parameter_name.split(".")
        return int(rest[0]) if part == "shared" else self.depth + 1 + int(rest[1])


def rows_of(hidden: Any, which: slice | Tensor) -> Any:
    """Take some images' part of what travels between the units.

    Args:
        hidden: A tensor or a nest of tensors, images first.
        which: The images.

    Returns:
        The same nest.

    Example:
        >>> rows_of((torch.arange(4), torch.ones(4, 2)), slice(0, 4, 2))[0]
        tensor([0, 2])
    """
    return pytree.tree_map(lambda values: values[which], hidden)


@final
class Experts(nn.Module):
    """E experts of all classes on one trunk; their mean logits decide.

    Args:
        trunk: The shared and the private layers.
        make_classifier: Makes the classifier of one expert; called E times, in order.

    Example:
        >>> chain = Layered(nn.Flatten(), [nn.Linear(4, 4)], nn.LayerNorm(4), num_features=4)
        >>> experts = Experts(Branched(chain, depth=1, branches=3), lambda: nn.Linear(4, 10))
        >>> experts.expert_logits(torch.zeros(5, 2, 2)).shape, experts(torch.zeros(5, 2, 2)).shape
        (torch.Size([3, 5, 10]), torch.Size([5, 10]))
    """

    def __init__(self, trunk: Branched, make_classifier: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.classifiers = nn.ModuleList(make_classifier() for _ in trunk.branches)

    def expert_logits(self, inputs: Any) -> Tensor:
        """Compute every expert's logits.

        Args:
            inputs: What the stem takes.

        Returns:
            (E, B, C) logits.
        """
        features = self.trunk(inputs)
        return torch.stack([classify(x) for classify, x in zip(self.classifiers, features, strict=True)])

    def forward(self, inputs: Any) -> Tensor:
        """Compute the (B, C) mean logits."""
        return self.expert_logits(inputs).mean(0)
