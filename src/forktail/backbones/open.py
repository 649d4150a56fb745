"""From a name or a file to a backbone with weights, and back to a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn

from forktail.backbones import cifar_resnet, timm_models
from forktail.backbones.adapters import adapt
from forktail.backbones.frozen_units import with_long_stem
from forktail.backbones.layered import Layered
from forktail.backbones.weight_files import ENDINGS, Facts, facts_in, load_weights, save_weights
from forktail.errors import InputError

# `tiny` and `minilm`, which build on timm, are imported where they are needed: timm takes seconds.

EMBEDDED = Path(__file__).with_name("tiny.safetensors")
LARGEST = 8192  # pixels: no network of today takes more, and a typing error would fill the memory


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone, with which initial weights.

    Args:
        name: ``tiny``, ``resnet32`` or another of CIFAR's residual networks, ``minilm`` for texts, or a timm name. A
            name with a tag (``vit_base_patch16_224.mae``) or ``hf-hub:...`` names weights as well. May be empty if
            ``weights`` is a file that names its architecture.
        weights: ``random``, ``embedded`` (``tiny`` only), or a file of weights (.safetensors, .pth). None takes what
            the name implies: ``tiny`` its embedded weights, ``minilm`` those of an installed package, a tag the
            weights of the hub (the one case in which something is downloaded), any other name random weights. With a
            file, a tag still decides the normalisation of the pictures: ``vit_base_patch16_224.mae`` for weights that
            expect ImageNet's.
        drop_path: Rate of stochastic depth at the last unit, in [0, 1).
        input_size: Side of the square input in pixels; None for the architecture's own. Of ``minilm``: tokens of a
            text, 3 to 512; None is 32.
        frozen_units: The stem and so many of the first units stay as they are, and count as the stem; the others are
            units 1, 2, ... of what remains.

    Raises:
        InputError: If ``drop_path`` is no rate, ``input_size`` no number of pixels, ``frozen_units`` negative, or a
            name is no Unicode.

    Example:
        >>> BackboneSpec("tiny", weights="random").drop_path
        0.0
    """

    name: str = ""
    weights: str | None = None
    drop_path: float = 0.0
    input_size: int | None = None
    frozen_units: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1:
            raise InputError(f"backbone.drop_path {self.drop_path}", expected="a rate from 0 to below 1")
        if self.input_size is not None and not 1 <= self.input_size <= LARGEST:
            raise InputError(f"backbone.input_size {self.input_size}", expected=f"1 to {LARGEST} pixels")
        if self.frozen_units < 0:
            raise InputError(f"backbone.frozen_units = {self.frozen_units}", expected="a whole number >= 0")
        try:
            f"{self.name}{self.weights}".encode()
        except UnicodeEncodeError:
            raise InputError(
                f'backbone "{self.weights or self.name}"',
                expected="a name or path in Unicode",
                remedy="rename the file",
            ) from None

    @property
    def has_random_weights(self) -> bool:
        """True if nobody trained the weights: neither ``tiny``, ``minilm``, a tag, the hub or a file brings any."""
        brings = self.name in ("tiny", "minilm") or "." in self.name or ":" in self.name
        return self.weights == "random" or (self.weights is None and not brings)

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
        return cls(weights=text) if Path(text).suffix in ENDINGS else cls(name=text)


class InputFacts(TypedDict):
    """How pictures must be prepared for a backbone: pixels, RGB statistics, resampling, share of the side kept."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop: float


class TextFacts(TypedDict):
    """How texts must be prepared for a backbone: the number of tokens, and the word pieces, one a line."""

    length: int
    vocabulary: str


def open_backbone(spec: BackboneSpec, seed: int = 0) -> Layered:
    """Build a backbone and give it its initial weights.

    Units that are to stay frozen are a part of its stem; they are frozen where it is trained.

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
        model = _construct(replace(resolved, input_size=facts_in(file).get("input_size")) if file else resolved)
    if file:
        _load(model, file, resolved.name)
        timm_models.resize(model, resolved.input_size)
    return with_long_stem(adapt(model), resolved.frozen_units)


def _load(model: nn.Module, file: Path, name: str) -> None:
    """Load a file of weights, of BERT's also under its published names."""
    if name != "minilm":
        load_weights(model, file)
        return
    from forktail.backbones.bert import published_name
    from forktail.backbones.minilm import BEYOND_BACKBONE

    load_weights(model, file, renamed=published_name, beyond=BEYOND_BACKBONE)


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


def takes_texts(spec: BackboneSpec) -> bool:
    """Say whether a backbone reads texts.

    Args:
        spec: Which backbone.

    Returns:
        False for one that sees pictures.

    Example:
        >>> takes_texts(BackboneSpec("minilm")), takes_texts(BackboneSpec("tiny"))
        (True, False)
    """
    return architecture(spec).name == "minilm"


def text_facts(spec: BackboneSpec) -> TextFacts:
    """Say how texts must be prepared for a backbone that takes them.

    Args:
        spec: Which backbone.

    Returns:
        The number of tokens and the word pieces.

    Raises:
        InputError: If the vocabulary is not there, or texts are to be longer than the backbone can read.
    """
    from forktail.backbones.minilm import SIZE, TOKENS, vocabulary

    length = architecture(spec).input_size or TOKENS
    if not 3 <= length <= SIZE.positions:
        raise InputError(f"backbone.input_size {length} of minilm", expected=f"3 to {SIZE.positions} tokens")
    return TextFacts(length=length, vocabulary=vocabulary())


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
    if resolved.name in cifar_resnet.NUM_LAYERS:
        return InputFacts(
            size=resolved.input_size or cifar_resnet.INPUT_SIZE,
            mean=cifar_resnet.MEAN,
            std=cifar_resnet.STD,
            interpolation="bicubic",
            crop=1.0,
        )
    config = timm_models.config(resolved.name)
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
    facts = Facts(architecture=built.name)
    if built.input_size is not None:
        facts["input_size"] = built.input_size
    save_weights(Path(path), tensors, facts)


def _resolve(spec: BackboneSpec) -> BackboneSpec:
    """Fill in what a file of weights says about its architecture and input size."""
    file = None if spec.weights in {None, "random", "embedded"} else Path(str(spec.weights))
    if file and not os.path.isfile(file):
        raise InputError(
            f"no file {file}",
            expected="'random', 'embedded' or a file of weights",
            remedy=_how_to_get_weights(spec.name, "check the path"),
        )
    facts: Facts = facts_in(file) if file else {}
    name = spec.name or facts.get("architecture", "")
    if not name:
        raise InputError(
            f"no backbone named{f', nor by {file}' if file else ''}",
            expected="the name of an architecture",
            remedy=f"add `--set backbone.name=NAME`, for instance {', '.join(timm_models.SUGGESTED)}",
        )
    _check_name(name)
    return replace(spec, name=name, input_size=spec.input_size or facts.get("input_size"))


def _check_name(name: str) -> None:
    if name in ("tiny", "minilm") or name in cifar_resnet.NUM_LAYERS:
        return
    base, _, tag = name.partition(".")
    if base in cifar_resnet.NUM_LAYERS:
        raise InputError(
            f'no weights "{tag}" of {base}', expected=f'"{base}"', remedy=_how_to_get_weights(base, "leave out the tag")
        )
    if os.path.exists(name):
        raise InputError(
            f'backbone "{name}" is a file or folder that is not called like weights',
            expected=f"a name, a file that ends in {', '.join(ENDINGS)}, or a folder with encoder.safetensors",
            remedy="give the file of weights",
        )
    timm_models.check_name(name)


def _weights_file(spec: BackboneSpec) -> Path | None:
    """Find the file to load: the one that is named, the embedded one, or none."""
    if spec.weights == "embedded" or (spec.weights is None and spec.name == "tiny"):
        _check_embedded(spec.name)
        return EMBEDDED
    if spec.weights is None and spec.name == "minilm":
        from forktail.backbones.minilm import weights_file

        return weights_file()
    return None if spec.weights in {None, "random"} else Path(str(spec.weights))


def _check_embedded(name: str) -> None:
    if name != "tiny":
        raise InputError(
            f'embedded weights for "{name}"',
            expected='the backbone "tiny", the only one with embedded weights',
            remedy=_how_to_get_weights(name, "name a file of weights, or 'random'"),
        )
    if not EMBEDDED.exists():
        raise InputError(
            f"no embedded weights: {EMBEDDED.name} is not part of this installation",
            expected="the weights that ship with the package",
            remedy="reinstall forktail, or ask for weights 'random'",
        )


def _how_to_get_weights(name: str, otherwise: str) -> str:
    """Say what helps: of CIFAR's networks nobody publishes weights that every user could take."""
    if name in cifar_resnet.NUM_LAYERS:
        return f"take 'random', or make some with `forktail pretrain DATA --backbone {name} --out FOLDER`"
    return otherwise


def _construct(spec: BackboneSpec) -> nn.Module:
    """Build the foreign model; only a name that asks for weights brings some along."""
    if spec.name == "tiny":
        from forktail.backbones.tiny import INPUT_SIZE, tiny

        return tiny(input_size=spec.input_size or INPUT_SIZE, drop_path=spec.drop_path)
    if spec.name == "minilm":
        from forktail.backbones.minilm import minilm

        return minilm(drop_path=spec.drop_path)
    if spec.name in cifar_resnet.NUM_LAYERS:
        return cifar_resnet.cifar_resnet(spec.name, drop_path=spec.drop_path)
    names_weights = "." in spec.name or timm_models.is_hub(spec.name)
    return timm_models.build(
        spec.name,
        pretrained=names_weights and spec.weights is None,
        drop_path=spec.drop_path,
        input_size=spec.input_size,
    )


def _timm_names(spec: BackboneSpec) -> dict[str, str]:
    """Map the names of a ``Layered`` to those of the model that it was made from, by identity of the tensors."""
    model = _construct(spec)
    foreign = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    chain = with_long_stem(adapt(model), spec.frozen_units)
    return {name: foreign[id(tensor)] for name, tensor in chain.state_dict(keep_vars=True).items()}
