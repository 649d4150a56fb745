"""The family of BERT: transformers over word pieces (Devlin et al. 2019), pooled by the mean over all tokens.

Legend: B texts, T tokens of a text, D features, L blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.adapters import adapts
from forktail.backbones.layered import Layered

PADDING = 0  # the token that is none
EPS = 1e-12  # of every norm, as published
INIT_STD = 0.02  # of random weights, as published


class Hidden(NamedTuple):
    """What travels between the units.

    Args:
        states: (B, T, D).
        present: (B, T), False at padding, which no other token looks at.
    """

    states: Tensor
    present: Tensor


@dataclass(frozen=True)
class BertSize:
    """How large a network is.

    Args:
        vocabulary: Number of word pieces.
        positions: The most tokens that a text may have.
        features: D.
        blocks: L.
        heads: Of attention, in each block.
        inner: Width between the two linear maps of a block.
    """

    vocabulary: int
    positions: int
    features: int
    blocks: int
    heads: int
    inner: int


class Bert(nn.Module):
    """Embeddings, blocks and masked mean; no dropout but stochastic depth.

    Args:
        size: How large it is.
        drop_path: Rate of stochastic depth at the last block, in [0, 1); earlier ones have less, linearly.

    Example:
        >>> model = Bert(BertSize(vocabulary=30, positions=8, features=12, blocks=2, heads=3, inner=24))
        >>> model(torch.tensor([[2, 7, 3, 0]])).shape
        torch.Size([1, 12])
    """

    def __init__(self, size: BertSize, *, drop_path: float = 0.0) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, size.blocks).tolist()
        self.num_features = size.features
        self.stem = BertStem(size)
        self.blocks = nn.ModuleList(BertBlock(size, rate) for rate in rates)
        self.readout = MaskedMean()
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn (B, T) token numbers into (B, D) features."""
        hidden = self.stem(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = self.readout(hidden)
        return features


class BertStem(nn.Module):
    """The sum of three embeddings, of word piece, position and kind of sentence, under a norm.

    Args:
        size: How large the network is.
    """

    def __init__(self, size: BertSize) -> None:
        super().__init__()
        self.words = nn.Embedding(size.vocabulary, size.features)
        self.positions = nn.Embedding(size.positions, size.features)
        self.kinds = nn.Embedding(2, size.features)  # of a pair of sentences; a single one is of kind 0
        self.norm = nn.LayerNorm(size.features, EPS)

    def forward(self, tokens: Tensor) -> Hidden:
        """Turn (B, T) token numbers into hidden states."""
        # Every text looks up its positions by itself, so that their per-image gradients have a formula.
        places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        states = self.words(tokens) + self.positions(places) + self.kinds(torch.zeros_like(tokens))
        return Hidden(self.norm(states), tokens != PADDING)


class BertBlock(nn.Module):
    """Attention and two linear maps, each with a residual and a norm behind it.

    Args:
        size: How large the network is.
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, size: BertSize, drop_path: float) -> None:
        super().__init__()
        self.heads = size.heads
        self.query, self.key, self.value, self.out = (nn.Linear(size.features, size.features) for _ in range(4))
        self.norm1 = nn.LayerNorm(size.features, EPS)
        self.fc1 = nn.Linear(size.features, size.inner)
        self.fc2 = nn.Linear(size.inner, size.features)
        self.norm2 = nn.LayerNorm(size.features, EPS)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, hidden: Hidden) -> Hidden:
        """Map hidden states to hidden states."""
        states, present = hidden
        states = self.norm1(states + self.drop_path(self._attention(states, present)))
        states = self.norm2(states + self.drop_path(self.fc2(F.gelu(self.fc1(states)))))
        return Hidden(states, present)

    def _attention(self, states: Tensor, present: Tensor) -> Tensor:
        query, key, value = (
            map_(states).unflatten(2, (self.heads, -1)).transpose(1, 2) for map_ in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=present[:, None, None, :])
        mixed: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return mixed


class MaskedMean(nn.Module):
    """The mean of a text's tokens, `[CLS]` and `[SEP]` included, padding left out."""

    def forward(self, hidden: Hidden) -> Tensor:
        """Turn hidden states into (B, D) features."""
        weights = hidden.present.to(hidden.states.dtype).unsqueeze(2)
        return (hidden.states * weights).sum(1) / weights.sum(1)


@adapts("forktail.backbones.bert.Bert")
def bert(model: Bert) -> Layered:
    """Take a ``Bert`` as the chain that it is.

    Args:
        model: The transformer.

    Returns:
        The chain, with as many units as the model has blocks.

    Example:
        >>> bert(Bert(BertSize(vocabulary=30, positions=8, features=12, blocks=2, heads=3, inner=24))).depth
        2
    """
    return Layered(model.stem, model.blocks, model.readout, num_features=model.num_features)


_EMBEDDINGS = {
    "word_embeddings": "words",
    "position_embeddings": "positions",
    "token_type_embeddings": "kinds",
    "LayerNorm": "norm",
}
_BLOCK = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "norm2",
}


def published_name(name: str) -> str:
    """Translate the name of a tensor in a published checkpoint of BERT.

    Args:
        name: Such as ``encoder.layer.3.attention.self.query.weight``.

    Returns:
        Its name in `Bert`; a name that is none of a checkpoint's is returned as it is.

    Example:
        >>> published_name("encoder.layer.3.attention.self.query.weight"), published_name("pooler.dense.bias")
        ('blocks.3.query.weight', 'pooler.dense.bias')
    """
    found = re.fullmatch(r"embeddings\.(\w+)\.(weight|bias)", name)
    if found and found[1] in _EMBEDDINGS:
        return f"stem.{_EMBEDDINGS[found[1]]}.{found[2]}"
    found = re.fullmatch(r"encoder\.layer\.(\d+)\.([\w.]+)\.(weight|bias)", name)
    if found and found[2] in _BLOCK:
        return f"blocks.{found[1]}.{_BLOCK[found[2]]}.{found[3]}"
    return name
