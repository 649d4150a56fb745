"""What the multi-expert systems have in common: which layers the experts share, and their cosine classifiers."""

from __future__ import annotations

from functools import partial

import torch

from forktail.backbones.classifiers import CosineClassifier
from forktail.backbones.experts import Branched, Experts
from forktail.backbones.layered import Layered
from forktail.errors import InputError


def check_shared_units(shared_units: int | None) -> None:
    """Refuse a number of shared units that no backbone has.

    Args:
        shared_units: The hyper-parameter of that name; None leaves it to the method.

    Raises:
        InputError: If it is below 1.
    """
    if shared_units is not None and shared_units < 1:
        raise InputError(f"method.shared_units = {shared_units}", expected="a whole number >= 1")


def cosine_experts(
    backbone: Layered,
    shared_units: int | None,
    num_experts: int,
    num_classes: int,
    s: float,
    generator: torch.Generator,
) -> Experts:
    """Give each expert the last units, the readout and a cosine classifier of its own.

    The experts begin as copies of one pretrained end; what tells them apart at first is their classifiers.

    Args:
        backbone: The chain to start from; it is copied.
        shared_units: How many units all experts share; None shares all but the last third, and at least one.
        num_experts: E.
        num_classes: C.
        s: Scale of the cosines.
        generator: Where the classifiers are drawn from.

    Returns:
        The experts.
    """
    depth = max(1, 2 * backbone.depth // 3) if shared_units is None else shared_units
    trunk = Branched(backbone, depth, num_experts)
    return Experts(trunk, partial(CosineClassifier, backbone.num_features, num_classes, s, generator))
