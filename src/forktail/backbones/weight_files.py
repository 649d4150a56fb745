"""Files of weights: our own, and checkpoints as others publish them; nothing in one is run."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypedDict

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from forktail.errors import InputError
from forktail.files import reason, write_atomically

ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
# What a checkpoint may hold beyond the backbone: classifiers, and the decoder of a masked autoencoder.
BEYOND_BACKBONE = ("head.", "head_dist.", "classifier.", "fc.", "linear.", "decoder", "mask_token")
KEY = "forktail"  # under which a file of ours says what it is

log = logging.getLogger(__name__)


class Facts(TypedDict, total=False):
    """What a file of ours says beside its weights: the architecture, and the side of its input in pixels."""

    architecture: str
    input_size: int


def save_weights(path: Path, tensors: Mapping[str, Tensor], facts: Facts) -> None:
    """Write weights with what they are the weights of.

    Args:
        path: The file to write; an older file is replaced at once or not at all.
        tensors: The weights by timm's names.
        facts: Architecture and input size.
    """
    # One key: safetensors writes several in no fixed order, and the same weights shall be the same file.
    metadata = {KEY: json.dumps(facts)}
    write_atomically(path, lambda part: safetensors.torch.save_file(dict(tensors), part, metadata))


def facts_in(file: Path) -> Facts:
    """Read what `save_weights` wrote beside the weights; files of others have no such facts.

    Args:
        file: A file of weights.

    Returns:
        The facts, empty for a file of others.

    Raises:
        InputError: If the file is damaged.
    """
    if file.suffix != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            facts = json.loads((opened.metadata() or {}).get(KEY, "{}"))
    except (OSError, safetensors.SafetensorError, ValueError, RecursionError) as error:
        _unreadable(file, error)
    kinds = {"architecture": str, "input_size": int}
    if not isinstance(facts, dict) or any(type(value) is not kinds.get(key) for key, value in facts.items()):
        raise InputError(
            f"{file}: says of itself {facts}",
            expected="the name of an architecture and a number of pixels",
            remedy="the file is damaged; make it again",
        )
    return Facts(**facts)  # type: ignore[typeddict-item] # as was checked


def load_weights(
    model: nn.Module, file: Path, *, renamed: Callable[[str], str] = str, beyond: tuple[str, ...] = ()
) -> None:
    """Load a file strictly: every tensor of the backbone is in it, and nothing else but heads and decoders.

    Args:
        model: A model with timm's parameter names.
        file: The file.
        renamed: Turns the names of the file into the model's.
        beyond: Beginnings of names that the files of this family always hold beside the backbone: left out in silence.

    Raises:
        InputError: If the file is damaged, carries code, or does not fit.
    """
    state = {renamed(name): tensor for name, tensor in _read(file).items() if not name.startswith(beyond)}
    wanted = model.state_dict()
    kind = f"weights of this {type(model).__name__}"
    extra = [name for name in state if name not in wanted]
    for name in extra:
        if not name.startswith(BEYOND_BACKBONE):
            _misfit(f"{file}: unexpected {name} {_shape(state[name])}", kind)
    for name, tensor in wanted.items():
        if name not in state:
            if name.endswith(".num_batches_tracked"):  # a count that older checkpoints lack and nothing here reads
                continue
            _misfit(f"{file}: {name} {_shape(tensor)} is missing", kind)
        found = state[name]
        if found.shape != tensor.shape:
            _misfit(f"{file}: {name} has shape {_shape(found)}", _shape(tensor))
        if found.layout != torch.strided or found.is_floating_point() != tensor.is_floating_point():
            _misfit(f"{file}: {name} is {found.dtype}, {found.layout}", f"{tensor.dtype}, {tensor.layout}")
        if not torch.isfinite(found).all():
            raise InputError(
                f"{file}: {name} holds numbers that are not finite",
                expected="finite weights",
                remedy="take an earlier checkpoint of that training",
            )
    if extra:
        log.warning("%s: left out, not part of the backbone: %s", file, ", ".join(extra))
    # A plain dictionary, which has no version: PyTorch then fills in the counts that are missing.
    model.load_state_dict({name: state[name] for name in wanted if name in state})


def _read(file: Path) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(file)
        except (OSError, safetensors.SafetensorError) as error:
            _unreadable(file, error)
    return _tensors_in(file, _unpickled(file))


def _unpickled(file: Path) -> object:
    """Read a checkpoint of torch; nothing but tensors, plain values and the script's arguments is built."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: object = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        _unreadable(file, error)
    except Exception as error:  # the reader of a damaged file may raise anything
        raise InputError(
            f"{file} cannot be read without running code that it carries, or is damaged",
            expected="tensors alone",
            remedy="convert it to safetensors, or fetch it again",
        ) from error
    return content


def _tensors_in(file: Path, content: object) -> Mapping[str, Tensor]:
    """Take the weights out of a checkpoint; the arguments of the training script stand beside them."""
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict):
            content = content.get(wrapper, content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise InputError(
            f"{file}: more than tensors",
            expected="tensors by name, or these under 'model' or 'state_dict'",
            remedy="save the state_dict of the model alone",
        )
    return content


def _unreadable(file: Path, error: Exception) -> NoReturn:
    raise InputError(
        f"{file}: {reason(error)}",
        expected="a file of weights in the safetensors format"
        if file.suffix == ".safetensors"
        else "a file of weights",
        remedy="make it or fetch it again",
    ) from error


def _misfit(found: str, expected: str) -> NoReturn:
    raise InputError(
        found,
        expected=expected,
        remedy="name the architecture and the input size with which the weights were made",
    )


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
