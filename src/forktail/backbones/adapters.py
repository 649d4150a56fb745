"""From a foreign model to ``Layered``: one function per family, each in its own file of this folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from torch import nn

import forktail.backbones
from forktail.backbones.layered import Layered
from forktail.errors import InputError

# Adapters read attributes that only their own family has, hence Any: the class was matched before they are called.
Adapter = Callable[[Any], Layered]
_ADAPTERS: dict[str, Adapter] = {}


def adapts(*model_classes: str) -> Callable[[Adapter], Adapter]:
    """Register a function that cuts models of the given classes into a ``Layered``.

    Args:
        model_classes: Full dotted names; names, so that an adapter need not import the family's library. A subclass
            is not matched: what it overrides may be exactly what the adapter takes apart.

    Returns:
        The decorator, which gives the function back unchanged.

    Example:
        >>> class Pair(nn.Module):
        ...     first, second = nn.Linear(2, 3), nn.Linear(3, 4)
        >>> @adapts("forktail.backbones.adapters.Pair")
        ... def pair(model):
        ...     return Layered(model.first, [model.second], nn.Identity(), num_features=4)
        >>> adapt(Pair()).depth
        1
    """

    def register(adapter: Adapter) -> Adapter:
        _ADAPTERS.update(dict.fromkeys(model_classes, adapter))
        return adapter

    return register


def adapt(model: nn.Module) -> Layered:
    """Cut a model into its layers; the model gives its parts away and must not be used afterwards.

    Args:
        model: A model of a family that a file of this folder adapts.

    Returns:
        The same parameters as a ``Layered``.

    Raises:
        InputError: If no adapter knows the model's class.
    """
    for module in pkgutil.iter_modules(forktail.backbones.__path__):
        importlib.import_module(f"forktail.backbones.{module.name}")
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if name not in _ADAPTERS:
        raise InputError(
            f"a backbone of class {name}",
            expected=f"one that has an adapter ({', '.join(sorted(_ADAPTERS))})",
            remedy="there is no adapter yet for this family; choose a plain vision transformer or a ResNet",
        )
    return _ADAPTERS[name](model)
