"""Recipes: one typed description of a run, read from TOML, strict about every key."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import tomli_w
from pydantic import TypeAdapter, ValidationError

from forktail.backbones.open import BackboneSpec
from forktail.data.open import DataSpec
from forktail.errors import InputError, nearest
from forktail.labels import ClassCounts, TaskSplit, by_mass, by_rank
from forktail.methods import Method, find_method
from forktail.run import Run
from forktail.runtime import Runtime
from forktail.training.engine import Engine
from forktail.training.plan import Plan
from forktail.training.progress import Progress

Table = dict[str, Any]


@dataclass(frozen=True)
class SplitSpec:
    """How the classes are divided, into tasks for training and into shot groups for the report.

    Args:
        rule: ``rank`` (the paper's: halves of the sorted classes) or ``mass`` (equal numbers of images).
        parts: Number of tasks.
        shots: Which published edges make many, medium and few: ``A``, ``B``, ``C`` or ``quantile``.
    """

    rule: Literal["rank", "mass"] = "rank"
    parts: int = 2
    shots: Literal["A", "B", "C", "quantile"] = "A"

    def split(self, counts: ClassCounts) -> TaskSplit:
        """Divide the classes into tasks.

        Args:
            counts: Training images of each class.

        Returns:
            The tasks.
        """
        rules: dict[str, Callable[[ClassCounts, int], TaskSplit]] = {"rank": by_rank, "mass": by_mass}
        return rules[self.rule](counts, self.parts)


@dataclass(frozen=True)
class Recipe:
    """All that decides a run.

    Args:
        data: Which pictures, and what is done to their class counts.
        method: The system to train, with its hyper-parameters.
        backbone: Which backbone with which initial weights.
        split: How classes are divided.
        plan: How each stage is optimised.
        seed: Seed of all that is random in training; the data has a seed of its own.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: Processes that read pictures ahead; no result depends on it.
        checkpoint_seconds: A kill costs at most this much work; no result depends on it.
    """

    data: DataSpec
    method: Method
    backbone: BackboneSpec = field(default_factory=BackboneSpec)
    split: SplitSpec = field(default_factory=SplitSpec)
    plan: Plan = field(default_factory=Plan)
    seed: int = 0
    device: str = "auto"
    workers: int = 0
    checkpoint_seconds: float = 20.0

    def __post_init__(self) -> None:
        for name in ("seed", "workers", "checkpoint_seconds"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"recipe: {name} = {getattr(self, name)}", expected="a number >= 0")

    def engine(self, run: Run, *, cache: Path | None = None, progress: Progress | None = None) -> Engine:
        """Return the engine that trains what the recipe describes.

        Args:
            run: Where to.
            cache: Folder of trained stages; by default the run's own.
            progress: Who is told how far it is.

        Returns:
            An engine on the recipe's device.
        """
        return Engine(
            run,
            self.plan,
            seed=self.seed,
            runtime=Runtime.open(self.device),
            cache=cache,
            progress=progress,
            workers=self.workers,
            checkpoint_seconds=self.checkpoint_seconds,
        )

    def to_toml(self) -> str:
        """Write the recipe with every value spelled out; a value of None is left out.

        Returns:
            TOML that `read_recipe` reads back to an equal recipe.
        """
        table = dataclasses.asdict(self)
        table["method"] = {"name": self.method.name, **table["method"]}
        return tomli_w.dumps(_without_none(table))


def deciding(table: Table, prefix: str = "") -> Table:
    """Flatten a recipe's tables to what decides a result.

    Args:
        table: The tables.
        prefix: What stands before every key.

    Returns:
        Values by dotted key, without device, workers and checkpoint_seconds.

    Example:
        >>> deciding({"seed": 0, "workers": 2, "plan": {"epochs": 3}})
        {'seed': 0, 'plan.epochs': 3}
    """
    flat: Table = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= deciding(value, f"{prefix}{key}.")
        elif prefix + key not in ("device", "workers", "checkpoint_seconds"):
            flat[prefix + key] = value
    return flat


def read_recipe(path: str | Path) -> Table:
    """Read a recipe file as tables, unchecked.

    Args:
        path: A TOML file.

    Returns:
        Its tables.

    Raises:
        InputError: If it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"recipe {path}: {error.strerror}", expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"recipe {path}: {error}", expected="a TOML file") from None


def apply_settings(table: Table, settings: Iterable[str]) -> Table:
    """Apply ``a.b=value`` settings on top of a recipe's tables.

    Args:
        table: The tables; they stay untouched.
        settings: Each ``key=value`` with a dotted key; the value is TOML, or else a plain string.

    Returns:
        New tables.

    Raises:
        InputError: If a setting has no ``=`` or its key runs through a value.

    Example:
        >>> apply_settings({"plan": {"epochs": 30}}, ["plan.epochs=5", "method.name=ce"])
        {'plan': {'epochs': 5}, 'method': {'name': 'ce'}}
    """
    result = _copied(table)
    for setting in settings:
        key, equals, text = setting.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise InputError(f"--set {setting}", expected="key.name=value, such as plan.epochs=10")
        place = result
        for name in names[:-1]:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise InputError(f'--set {setting}: "{name}" is a value', expected="the name of a table before the dot")
        place[names[-1]] = _toml_value(text.strip(), setting)
    return result


def make_recipe(table: Table) -> Recipe:
    """Check a recipe's tables and build the recipe.

    Args:
        table: Tables as in TOML; ``method.name`` says which method the other keys of ``[method]`` belong to.

    Returns:
        The recipe.

    Raises:
        InputError: If a key is unknown or a value does not fit.
    """
    table = _copied(table)
    options = table.get("method", {})
    if not isinstance(options, dict):
        raise InputError(f"recipe: method = {options!r}", expected="a table [method] with a name")
    kind = find_method(str(options.pop("name", "osdtw")))
    _check_keys(options, kind, "method.")
    _check_keys(table, Recipe, "")
    if "path" not in table.get("data", {}):
        raise InputError("recipe: no data.path", expected="a folder, a file or the name of a data set")
    method = _validated(kind, options, "method")
    types = get_type_hints(Recipe)
    others = {name: _validated(types[name], value, name) for name, value in table.items() if name != "method"}
    return Recipe(method=method, **others)


def _check_keys(table: Any, kind: type, prefix: str) -> None:
    """Refuse unknown keys, with the nearest known one, before any value is looked at."""
    if not isinstance(table, dict):
        raise InputError(f"recipe: {prefix.rstrip('.')} = {table!r}", expected="a table")
    known = get_type_hints(kind)
    known = {f.name: known[f.name] for f in dataclasses.fields(kind)}
    for key, value in table.items():
        if key not in known:
            raise InputError(
                f'recipe: key "{prefix}{key}" is unknown',
                remedy=nearest(prefix + key, [prefix + name for name in known]),
            )
        if dataclasses.is_dataclass(known[key]) and known[key] is not Method:
            _check_keys(value, known[key], f"{prefix}{key}.")


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _validated(kind: Any, value: Any, name: str) -> Any:
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        problems = error.errors()
    first = problems[0]
    key = ".".join([name, *(str(part) for part in first["loc"][:1])])
    wanted = [problem["msg"] for problem in problems if problem["loc"][:1] == first["loc"][:1]]
    expected = " or ".join(text.removeprefix("Input should be ") for text in wanted)
    raise InputError(f"recipe: {key} = {first['input']!r}", expected=expected)


def _toml_value(text: str, setting: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except RecursionError as error:
        raise InputError(f"--set {setting}: {error}", expected="brackets that end") from None


def _copied(table: Table) -> Table:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in table.items()}


def _without_none(table: Table) -> Table:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }
