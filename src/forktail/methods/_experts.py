"""What the multi-expert systems have in common: which layers the experts share, and their cosine classifiers."""

from __future__ import annotations

from functools import partial

import torch

from forktail.backbones.classifiers import CosineClassifier
from forktail.backbones.experts import Branched, Experts
from forktail.backbones.layered import Layered


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
