"""From a name or a file to a backbone with weights, and back to a file."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from forktail.backbones.adapters import adapt
from forktail.backbones.layered import Layered
from forktail.errors import InputError, nearest

# timm and `tiny`, which builds on it, are imported where they are needed: timm takes seconds.

EMBEDDED = Path(__file__).with_name("tiny.safetensors")
SUGGESTED = ["tiny", "vit_small_patch16_224", "vit_base_patch16_224"]
# What a checkpoint may hold beyond the backbone: classifiers, and the decoder of a masked autoencoder.
BEYOND_BACKBONE = ("head.", "head_dist.", "classifier.", "decoder", "mask_token")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone, with which initial weights.

    Args:
        name: ``tiny``, or a timm name. A name with a tag (``vit_base_patch16_224.mae``) or ``hf-hub:...`` names weights
            as well. May be empty if ``weights`` is a file that names its architecture.
        weights: ``random``, ``embedded`` (``tiny`` only), or a file of weights (.safetensors, .pth). None takes what
            the name implies: ``tiny`` its embedded weights, a tag the weights of the hub (the one case in which
            something is downloaded), any other name random weights. With a file, a tag still decides the
            normalisation of the pictures: ``vit_base_patch16_224.mae`` for weights that expect ImageNet's.
        drop_path: Rate of stochastic depth at the last unit, in [0, 1).
        input_size: Side of the square input in pixels; None for the architecture's own.

    Raises:
        InputError: If ``drop_path`` is no rate.

    Example:
        >>> BackboneSpec("tiny", weights="random").drop_path
        0.0
    """

    name: str = ""
    weights: str | None = None
    drop_path: float = 0.0
    input_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1:
            raise InputError(f"drop_path {self.drop_path}", expected="a rate from 0 to below 1")

    @classmethod
    def parse(cls, text: str) -> BackboneSpec:
        """Read what a user gives as backbone: a name or a file of weights.

        Args:
            text: The name, or a path that ends in .safetensors, .pth, .pt or .bin.

        Returns:
            The spec with ``name`` or ``weights`` set.

        Example:
            >>> BackboneSpec.parse("runs/pretrain/backbone.safetensors").weights
            'runs/pretrain/backbone.safetensors'
        """
        is_file = Path(text).suffix in {".safetensors", ".pth", ".pt", ".bin"}
        return cls(weights=text) if is_file else cls(name=text)


class InputFacts(TypedDict):
    """How pictures must be prepared for a backbone: pixels, RGB statistics, resampling, share of the side kept."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop: float


def open_backbone(spec: BackboneSpec, seed: int = 0) -> Layered:
    """Build a backbone and give it its initial weights.

    Args:
        spec: Which one.
        seed: Decides random weights; the global generators are left as they were.

    Returns:
        A fresh backbone in training mode.

    Raises:
        InputError: If the name is unknown or of a family without adapter, or if the weights do not fit.

    Example:
        >>> backbone = open_backbone(BackboneSpec("tiny", weights="random"), seed=0)
        >>> backbone.depth, backbone.num_features
        (6, 64)
    """
    resolved = _resolve(spec)
    file = _weights_file(resolved)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        # Weights of a file are loaded at the size they were made for; only then are they brought to another.
        model = _construct(replace(resolved, input_size=_facts_in(file).get("input_size")) if file else resolved)
    if file:
        _load(model, file)
        _resize(model, resolved.input_size)
    return adapt(model)


def architecture(spec: BackboneSpec) -> BackboneSpec:
    """Reduce a spec to what builds the same network without reading any weights, for strict loading later.

    Args:
        spec: Which backbone; a file of weights is asked for its architecture and input size.

    Returns:
        The spec with its name filled in and ``weights="random"``.

    Raises:
        InputError: If no architecture is named, neither by the spec nor by the file.

    Example:
        >>> architecture(BackboneSpec("vit_base_patch16_224.mae")).weights
        'random'
    """
    return replace(_resolve(spec), weights="random")


def input_facts(spec: BackboneSpec) -> InputFacts:
    """Say how pictures must be prepared for a backbone.

    Args:
        spec: Which backbone.

    Returns:
        Side in pixels, mean and standard deviation of the channels for pixel values in [0, 1], interpolation, and the
        share of the shorter side that the evaluation crop keeps.

    Raises:
        InputError: If the name is unknown.

    Example:
        >>> input_facts(BackboneSpec("tiny", weights="random"))["size"]
        28
    """
    resolved = architecture(spec)
    if resolved.name == "tiny":
        from forktail.backbones.tiny import INPUT_SIZE

        half = (0.5, 0.5, 0.5)
        return InputFacts(
            size=resolved.input_size or INPUT_SIZE, mean=half, std=half, interpolation="bicubic", crop=1.0
        )
    config = _timm_config(resolved.name)
    return InputFacts(
        size=resolved.input_size or config["input_size"][-1],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop=config["crop_pct"],
    )


def save_backbone(path: str | Path, backbone: Layered, spec: BackboneSpec, dtype: torch.dtype = torch.float32) -> None:
    """Write a backbone's weights with the name of its architecture, under the parameter names of timm.

    Args:
        path: The file to write, as safetensors; an older file is replaced at once or not at all.
        backbone: The backbone.
        spec: What built it.
        dtype: Type of the stored floating-point numbers; ``torch.bfloat16`` halves the file.

    Raises:
        InputError: If the spec names no architecture.

    Example:
        >>> import tempfile
        >>> spec = BackboneSpec("tiny", weights="random")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_backbone(f"{folder}/a.safetensors", open_backbone(spec), spec)
        ...     architecture(BackboneSpec(weights=f"{folder}/a.safetensors")).name
        'tiny'
    """
    built = architecture(spec)
    names = _timm_names(built)
    tensors = {
        names[name]: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    # One key: safetensors writes several in no fixed order, and the same weights shall be the same file.
    facts: dict[str, str | int] = {"architecture": built.name}
    if built.input_size is not None:
        facts["input_size"] = built.input_size
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    safetensors.torch.save_file(tensors, partial, {"forktail": json.dumps(facts)})
    os.replace(partial, path)


def _resolve(spec: BackboneSpec) -> BackboneSpec:
    """Fill in what a file of weights says about its architecture and input size."""
    file = None if spec.weights in {None, "random", "embedded"} else Path(str(spec.weights))
    if file and not file.is_file():
        raise InputError(f"no file {file}", expected="'random', 'embedded' or a file of weights")
    name = spec.name or (_facts_in(file).get("architecture", "") if file else "")
    if not name:
        raise InputError(
            f"no backbone named{f', nor by {file}' if file else ''}",
            expected="the name of an architecture",
            remedy=f"for instance {', '.join(SUGGESTED)}",
        )
    _check_name(name)
    return replace(spec, name=name, input_size=spec.input_size or (_facts_in(file).get("input_size") if file else None))


def _weights_file(spec: BackboneSpec) -> Path | None:
    """Find the file to load: the one that is named, the embedded one, or none."""
    if spec.weights == "embedded" or (spec.weights is None and spec.name == "tiny"):
        _check_embedded(spec.name)
        return EMBEDDED
    return None if spec.weights in {None, "random"} else Path(str(spec.weights))


def _check_embedded(name: str) -> None:
    if name != "tiny":
        raise InputError(
            f'embedded weights for "{name}"',
            expected='the backbone "tiny", the only one with embedded weights',
            remedy="name a file of weights, or 'random'",
        )
    if not EMBEDDED.exists():
        raise InputError(
            f"no embedded weights: {EMBEDDED.name} is not part of this installation",
            expected="the weights that ship with the package",
            remedy="reinstall forktail, or ask for weights 'random'",
        )


def _facts_in(file: Path) -> dict[str, Any]:
    """Read what `save_backbone` wrote beside the weights; files of others have no such facts."""
    if file.suffix != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            facts: dict[str, Any] = json.loads((opened.metadata() or {}).get("forktail", "{}"))
            return facts
    except (safetensors.SafetensorError, ValueError) as error:
        raise InputError(f"{file}: {error}", expected="a file of weights in the safetensors format") from error


def _is_hub(name: str) -> bool:
    return name.startswith(("hf-hub:", "hf_hub:"))


def _check_name(name: str) -> None:
    if name == "tiny" or _is_hub(name):
        return
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        known = ["tiny", *timm.list_models()]
        close = difflib.get_close_matches(base, known, n=1) or SUGGESTED
        raise InputError(f'no backbone named "{name}"', expected="tiny or a model of timm", remedy=nearest(base, close))
    tagged = timm.list_models(f"{base}.*", pretrained=True)
    if tag and name not in tagged:
        raise InputError(
            f'no weights "{tag}" of {base}', expected="a tag that timm knows", remedy=nearest(name, tagged)
        )


def _construct(spec: BackboneSpec) -> nn.Module:
    """Build the foreign model; the one place where timm may download, and only for a name that asks for it."""
    if spec.name == "tiny":
        from forktail.backbones.tiny import INPUT_SIZE, tiny

        return tiny(input_size=spec.input_size or INPUT_SIZE, drop_path=spec.drop_path)
    import timm

    names_weights = "." in spec.name or _is_hub(spec.name)
    with _loading(spec.name):
        return timm.create_model(
            spec.name,
            pretrained=names_weights and spec.weights is None,
            num_classes=0,
            drop_path_rate=spec.drop_path,
            img_size=spec.input_size,  # timm drops None, so that families without an input size can be built too
        )


def _timm_config(name: str) -> dict[str, Any]:
    import timm

    config: dict[str, Any]
    if _is_hub(name):
        with _loading(name):
            config = timm.models.load_model_config_from_hf(name.partition(":")[2])[0]
    else:
        config = timm.get_pretrained_cfg(name).to_dict()  # type: ignore[union-attr]  # the name was checked
    return config


@contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{name} could not be loaded: {str(error).partition(chr(10))[0]}",
            expected="a connection to the hub, or the weights in its cache",
            remedy="or give a file of weights",
        ) from error


def _timm_names(spec: BackboneSpec) -> dict[str, str]:
    """Map the names of a ``Layered`` to those of the model that it was made from, by identity of the tensors."""
    model = _construct(spec)
    foreign = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    return {name: foreign[id(tensor)] for name, tensor in adapt(model).state_dict(keep_vars=True).items()}


def _load(model: nn.Module, file: Path) -> None:
    """Load a file strictly: every parameter of the backbone is in it, and nothing else but heads and decoders."""
    state = _read(file)
    wanted = model.state_dict()
    extra = [name for name in state if name not in wanted]
    for name in extra:
        if not name.startswith(BEYOND_BACKBONE):
            raise InputError(f"{file}: unexpected {name} {_shape(state[name])}", expected=f"weights of {_kind(model)}")
    for name, tensor in wanted.items():
        if name not in state:
            raise InputError(f"{file}: {name} {_shape(tensor)} is missing", expected=f"weights of {_kind(model)}")
        if state[name].shape != tensor.shape:
            raise InputError(
                f"{file}: {name} has shape {_shape(state[name])}",
                expected=_shape(tensor),
                remedy="name the architecture and input size with which the weights were made",
            )
    if extra:
        log.warning("%s: left out, not part of the backbone: %s", file, ", ".join(extra))
    model.load_state_dict({name: state[name] for name in wanted})


def _read(file: Path) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        return safetensors.torch.load_file(file)
    try:
        # Published checkpoints keep the arguments of their training script beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{file} cannot be read without running code that it carries, or is damaged",
            expected="tensors alone",
            remedy="convert it to safetensors",
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict):
            content = content.get(wrapper, content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(
            f"{file}: more than tensors", expected="tensors by name, or these under 'model' or 'state_dict'"
        )
    return content


def _resize(model: Any, input_size: int | None) -> None:
    """Bring loaded position embeddings to another input size, by timm's own interpolation."""
    if input_size is not None:
        model.set_input_size(img_size=(input_size, input_size))


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _kind(model: nn.Module) -> str:
    return f"this {type(model).__name__}"
