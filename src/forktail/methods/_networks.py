"""A backbone under a new classifier, with which several methods begin."""

from __future__ import annotations

import torch

from forktail.backbones.classified import Classified
from forktail.backbones.classifiers import CosineClassifier, linear_classifier
from forktail.backbones.layered import Layered


def new_classified(
    backbone: Layered, num_classes: int, generator: torch.Generator, scale: float | None = None
) -> Classified:
    """Put a new classifier on a backbone.

    Args:
        backbone: Taken as it is, not copied.
        num_classes: C.
        generator: Where the classifier is drawn from.
        scale: Of a cosine classifier; None makes a linear one.

    Returns:
        The network.
    """
    if scale is None:
        return Classified(backbone, linear_classifier(backbone.num_features, num_classes, generator))
    return Classified(backbone, CosineClassifier(backbone.num_features, num_classes, scale, generator))
