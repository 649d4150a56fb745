"""The folder is the registry: ``methods/<name>.py`` holds exactly one final `Method`, and its stem is its name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points

from forktail.errors import InputError, nearest
from forktail.methods._method import Adapts, Method, Problem

__all__ = ["Adapts", "Method", "Problem", "find_method", "method_names"]

ENTRY_POINTS = "forktail.methods"  # an installed package's own methods: name -> module
FACTS = "summary, source, stages and compute as class variables, as docs/methods.md lists them"


def method_names() -> list[str]:
    """List every method of this package and of installed packages that offer one.

    Returns:
        Names in alphabetical order.

    Example:
        >>> method_names()[:3]
        ['balanced_bce', 'balanced_softmax', 'bbn']
    """
    return sorted(_own() | _installed())


def find_method(name: str) -> type[Method]:
    """Find a method's class by its name.

    Args:
        name: The stem of its file, or the name of its entry point.

    Returns:
        The class.

    Raises:
        InputError: If there is no such method.

    Example:
        >>> find_method("ce").summary
        'plain cross-entropy, the baseline that ignores the tail'
    """
    path = _own().get(name) or _installed().get(name)
    if path is None:
        raise InputError(f'method "{name}" is unknown', remedy=nearest(name, method_names()))
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise InputError(
            f'method "{name}": {path} cannot be imported ({error})', remedy="install its package again"
        ) from None
    found = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Method) and not inspect.isabstract(kind) and kind.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise InputError(f"{path} defines {len(found)} methods", expected="exactly one final Method per file")
    missing = [fact for fact in ("summary", "source", "stages", "compute") if not hasattr(found[0], fact)]
    if missing:
        raise InputError(f"{path}: {found[0].__name__} does not state its {' and '.join(missing)}", expected=FACTS)
    return found[0]


def _own() -> dict[str, str]:
    return {info.name: f"{__name__}.{info.name}" for info in pkgutil.iter_modules(__path__) if info.name[0] != "_"}


def _installed() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
