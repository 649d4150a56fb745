"""Long-tailed recognition: classifiers that are good on every class, with the reasons."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InputError", "fit", "load"]

if TYPE_CHECKING:
    from forktail.api import fit, load
    from forktail.errors import InputError


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that `import forktail` is instant."""
    if name not in __all__:
        raise AttributeError(f"module 'forktail' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("forktail.errors" if name == "InputError" else "forktail.api"), name)
