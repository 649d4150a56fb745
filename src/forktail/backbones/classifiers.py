"""The last maps of a network: features to logits.

Legend: B images of a batch, C classes, D features.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Small enough that the first scores are near zero, large enough that the backbone gets a gradient at the first step.
CLASSIFIER_STD = 0.01


def linear_classifier(num_features: int, num_classes: int, generator: torch.Generator) -> nn.Linear:
    """Build an ordinary classifier with small random weights and no bias yet.

    Args:
        num_features: D.
        num_classes: C.
        generator: Where the weights are drawn from.

    Returns:
        The map from (B, D) to (B, C).

    Example:
        >>> linear_classifier(3, 5, torch.Generator().manual_seed(0))
        Linear(in_features=3, out_features=5, bias=True)
    """
    # Built without PyTorch's own initial values, which would draw from the global generator.
    classifier = nn.Linear(num_features, num_classes, device="meta").to_empty(device="cpu")
    nn.init.trunc_normal_(classifier.weight, std=CLASSIFIER_STD, generator=generator)
    nn.init.zeros_(classifier.bias)
    return classifier


@final
class CosineClassifier(nn.Module):
    r"""$z_c = s \langle x / \|x\|, W_c / \|W_c\| \rangle$, without bias (the field's "normed linear").

    Args:
        num_features: D.
        num_classes: C.
        scale: s; an inverse temperature that is not trained.
        generator: Where the directions are drawn from, evenly over the sphere (the released code draws them from a
            cube). They are as short as a linear classifier's rows: scores do not depend on their lengths, but Adam
            turns a short row faster, and unit vectors would hardly turn in a short training.

    Example:
        >>> classifier = CosineClassifier(3, 2, scale=30.0, generator=torch.Generator().manual_seed(0))
        >>> logits = classifier(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)))
        >>> logits.shape, bool((logits.abs() <= 30).all())
        (torch.Size([4, 2]), True)
    """

    def __init__(self, num_features: int, num_classes: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(CLASSIFIER_STD * torch.randn(num_classes, num_features, generator=generator))
        self.scale = scale

    @property
    def in_features(self) -> int:
        """D."""
        return self.weight.shape[1]

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) features to (B, C) logits."""
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))

    def extra_repr(self) -> str:
        """Name the sizes, as PyTorch's modules do."""
        return f"in_features={self.in_features}, out_features={len(self.weight)}, scale={self.scale}"


@final
class ScaledClassifier(nn.Module):
    """z_c = f_c (W_c h + b_c): a factor for each class on top of a classifier (learnable weight scaling, LWS).

    Args:
        classifier: The classifier that is scaled; who trains it decides whether it is frozen.

    Example:
        >>> inner = linear_classifier(3, 2, torch.Generator().manual_seed(0))
        >>> x = torch.ones(1, 3)
        >>> torch.equal(ScaledClassifier(inner)(x), inner(x))
        True
    """

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__()
        self.classifier = classifier
        self.factors = nn.Parameter(torch.ones(classifier.out_features))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) features to (B, C) logits."""
        logits: Tensor = self.classifier(features)
        return self.factors * logits
