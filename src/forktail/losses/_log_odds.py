"""Log odds of a softmax.

Legend: B images of a batch, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def log_odds_against(logits: Tensor) -> Tensor:
    """Compute how much speaks against each class, ``log((1 - p_c) / p_c)`` with ``p = softmax(z)``.

    Cross-entropy is ``log(1 + e^a)`` of it, and a margin m on class c adds m to it. ``1 - p_c`` would lose all its
    digits where the network is sure; here the rest is summed without the likeliest class.

    Args:
        logits: ``(B, C)``, C at least 2.

    Returns:
        ``(B, C)`` log odds in nats.

    Example:
        >>> log_odds_against(torch.tensor([[100.0, 0.0]]))
        tensor([[-100.,  100.]])
    """
    log_p = F.log_softmax(logits, dim=1)
    # One class also where several tie. (`F.one_hot` would not run under vmap.)
    top = log_p.argmax(1, keepdim=True) == torch.arange(logits.shape[1], device=logits.device)
    others = log_p.masked_fill(top, -torch.inf)
    log_rest = torch.where(top, others.logsumexp(1, keepdim=True), torch.log1p(-others.exp()))  # there, p_c <= 1/2
    return log_rest - log_p
