"""Long-tailed recognition: classifiers that are good on every class, with the reasons."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InputError", "compare", "fit", "grid", "load"]

if TYPE_CHECKING:
    from forktail.comparing.compare import compare
    from forktail.errors import InputError
    from forktail.fitting import fit
    from forktail.grids.grid import grid
    from forktail.trained import load


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that `import forktail` is instant."""
    homes = {
        "InputError": "errors",
        "compare": "comparing.compare",
        "fit": "fitting",
        "grid": "grids.grid",
        "load": "trained",
    }
    if name not in homes:
        raise AttributeError(f"module 'forktail' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"forktail.{homes[name]}"), name)
