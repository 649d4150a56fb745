"""Models of timm, by name: the one place that may download, and only where a name asks for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from forktail.backbones import cifar_resnet
from forktail.errors import InputError, nearest
from forktail.files import reason

# timm is imported where it is needed: it takes seconds.

SUGGESTED = ("tiny", "vit_small_patch16_224", "vit_base_patch16_224")
SMALLEST = 32  # pixels: no patch of timm's models is larger


def is_hub(name: str) -> bool:
    """Tell whether a name is that of a repository of the hub.

    Args:
        name: Name of a backbone.

    Returns:
        True for ``hf-hub:...``.

    Example:
        >>> is_hub("hf-hub:timm/vit_tiny_patch16_224.augreg_in21k"), is_hub("vit_tiny_patch16_224")
        (True, False)
    """
    return name.startswith(("hf-hub:", "hf_hub:"))


def check_name(name: str) -> None:
    """Refuse a name that timm does not know; nothing is downloaded.

    Args:
        name: A name of timm, with or without a tag.

    Raises:
        InputError: If there is no such model, or no weights with that tag.

    Example:
        >>> check_name("vit_base_patch16_22")
        Traceback (most recent call last):
        ...
        forktail.errors.InputError: no backbone named "vit_base_patch16_22"; ... did you mean "vit_base_patch16_224"?
    """
    if is_hub(name):
        return
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        known = ["tiny", *cifar_resnet.NUM_LAYERS, *timm.list_models()]
        close = difflib.get_close_matches(base, known, n=1) or SUGGESTED
        raise InputError(f'no backbone named "{name}"', expected="tiny or a model of timm", remedy=nearest(base, close))
    tagged = timm.list_models(f"{base}.*", pretrained=True)
    if tag and name not in tagged:
        raise InputError(
            f'no weights "{tag}" of {base}', expected="a tag that timm knows", remedy=nearest(name, tagged)
        )


def build(name: str, *, pretrained: bool, drop_path: float, input_size: int | None) -> nn.Module:
    """Build a model without its classifier.

    Args:
        name: A name of timm or of the hub.
        pretrained: Take the weights that the name names, by downloading them unless they are in the hub's cache.
        drop_path: Rate of stochastic depth.
        input_size: Side of the input in pixels; None for the architecture's own.

    Returns:
        The model.

    Raises:
        InputError: If it cannot be downloaded, or cannot be built at that input size.
    """
    import timm

    if input_size is not None and input_size < SMALLEST:
        raise InputError(
            f"input_size {input_size} of {name}",
            expected=f"{SMALLEST} pixels or more for a model of timm",
            remedy='raise backbone.input_size, or use the backbone "tiny"',
        )
    # Only families with a position for every patch are built for a size; others, like ResNets, take any picture.
    side = input_size if input_size is not None and config(name).get("fixed_input_size") else None
    with _loading(name) if pretrained or is_hub(name) else _building(name, input_size):
        return timm.create_model(
            name,
            pretrained=pretrained,
            num_classes=0,
            drop_path_rate=drop_path,
            img_size=side,  # timm drops None
        )


def resize(model: Any, input_size: int | None) -> None:
    """Bring loaded position embeddings to another input size, by timm's own interpolation.

    Args:
        model: A model of timm; one without positions, such as a ResNet, takes any size as it is.
        input_size: Side of the input in pixels; None leaves it as it is.
    """
    if input_size is not None and hasattr(model, "set_input_size"):
        with _building(type(model).__name__, input_size):
            model.set_input_size(img_size=(input_size, input_size))


def config(name: str) -> dict[str, Any]:
    """Ask how pictures are prepared for a model; of the hub's models this may download a small file.

    Args:
        name: A name of timm or of the hub.

    Returns:
        timm's configuration.
    """
    import timm

    found: dict[str, Any]
    if is_hub(name):
        with _loading(name):
            found = timm.models.load_model_config_from_hf(name.partition(":")[2])[0]
    else:
        found = timm.get_pretrained_cfg(name).to_dict()  # type: ignore[union-attr]  # the name was checked
    return found


@contextmanager
def _loading(name: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever the hub's client, the network and the file at its end may raise
        raise InputError(
            f"{name} could not be loaded: {reason(error)}",
            expected="a connection to the hub, or the weights in its cache",
            remedy="or give a file of weights",
        ) from error


@contextmanager
def _building(name: str, input_size: int | None) -> Iterator[None]:
    try:
        yield
    except (AssertionError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{name} cannot be built with input_size {input_size}: {reason(error)}",
            expected="an input size that its patches divide",
            remedy="leave out backbone.input_size, or choose another",
        ) from error
