"""An ordinary network whose classifier may be of any kind."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from forktail.backbones.layered import Layered


@final
class Classified(nn.Module):
    """A backbone under a classifier; the modules are taken as they are, not copied.

    Args:
        backbone: Inputs to (B, D) features.
        classifier: Features to (B, C) logits.

    Example:
        >>> import torch
        >>> chain = Layered(nn.Flatten(), [nn.Linear(4, 4)], nn.LayerNorm(4), num_features=4)
        >>> Classified(chain, nn.Linear(4, 10))(torch.zeros(5, 2, 2)).shape
        torch.Size([5, 10])
    """

    def __init__(self, backbone: Layered, classifier: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier

    def forward(self, inputs: Any) -> Tensor:
        """Compute the (B, C) logits of what the stem takes."""
        logits: Tensor = self.classifier(self.backbone(inputs))
        return logits

    def unit_of(self, parameter_name: str) -> int:
        """Say to which layer a parameter belongs.

        Args:
            parameter_name: A name as in ``named_parameters()``.

        Returns:
            Chain index: 0 for the stem, 1..L for a unit, L + 1 for readout and classifier.
        """
        part, _, rest = parameter_name.partition(".")
        return self.backbone.unit_of(rest) if part == "backbone" else self.backbone.depth + 1
