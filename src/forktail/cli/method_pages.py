"""What `forktail methods` says of a method, all of it from the fields and the docstring of its class."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rich.table import Table

from forktail.cli.tables import inert
from forktail.methods import Adapts, Method

WIDTH = 80

HEADING = """# Methods

Every system is one file of `src/forktail/methods`, trained by the same engine on the same data. Its compute is that of
training at default settings, in units of `ce` at the same `plan.epochs`. Hyper-parameters are the recipe's keys
`method.<name>`; `forktail methods show NAME` says what each means.

This page is written by

    forktail methods --markdown > docs/methods.md

| method | what it is | source | stages | compute | hyper-parameters |
| --- | --- | --- | --- | ---: | --- |
"""


def described(kind: type[Method]) -> dict[str, Any]:
    """Say what is known of a method.

    Args:
        kind: Its class.

    Returns:
        Name, summary, source, stages, relative compute, and for each hyper-parameter default, choices and meaning.

    Example:
        >>> from forktail.methods import find_method
        >>> described(find_method("osdtw"))["options"]["rule"]["choices"]
        ['margin', 'posterior']
    """
    meanings, types = _meanings(kind), get_type_hints(kind)
    return {
        "name": kind().name,
        "summary": kind.summary,
        "source": kind.source,
        "stages": list(kind.stages),
        "compute": kind.compute,
        "options": {
            field.name: {
                "default": field.default,
                "choices": _choices(types[field.name]),
                "meaning": meanings[field.name],
            }
            for field in dataclasses.fields(kind)
        },
    }


def methods_table(kinds: Sequence[type[Method]]) -> Table:
    """Lay out one line per method; a terminal wraps it.

    Args:
        kinds: The methods.

    Returns:
        A table of name, compute relative to ``ce``, and summary, source and stages.
    """
    table = Table("method", "x ce", "what it is; source; stages", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[1].justify = "right"
    for kind in kinds:
        facts = f"{kind.summary}; {kind.source}; {', '.join(kind.stages)}"
        table.add_row(inert(kind().name), f"{kind.compute:g}", inert(facts))
    return table


def method_page(kind: type[Method]) -> str:
    """Write the page of one method.

    Args:
        kind: Its class.

    Returns:
        Summary, source, cost, what its docstring says, hyper-parameters with their defaults, and a command.
    """
    facts = described(kind)
    name = facts["name"]
    lines = [
        f"{name}: {kind.summary}",
        f"source: {kind.source}",
        f"stages: {', '.join(kind.stages)}",
        f"compute: {kind.compute:g} x ce at the same plan.epochs and default settings",
        *("", _wrapped(_docstring(kind)[0]), ""),
    ]
    for key, option in facts["options"].items():
        choices = f" ({' | '.join(option['choices'])})" if option["choices"] else ""
        lines += [f"  method.{key} = {_default(option['default'])}{choices}", _filled(option["meaning"], "      ")]
    lines += ["", f"forktail fit glyphs --method {name}{_example(facts['options'])}"]
    if issubclass(kind, Adapts):
        lines += ["forktail evaluate RUN DATA --adapt    learns on the unlabelled test pictures first"]
    return "\n".join(lines)


def methods_markdown(kinds: Sequence[type[Method]]) -> str:
    """Write docs/methods.md.

    Args:
        kinds: The methods.

    Returns:
        Markdown.
    """
    rows = []
    for facts in map(described, kinds):
        options = ", ".join(f"`{key}={_default(option['default'])}`" for key, option in facts["options"].items())
        cells = [f"`{facts['name']}`", facts["summary"], facts["source"], ", ".join(facts["stages"])]
        cells += [f"{facts['compute']:g}", options or "none"]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return HEADING + "".join(rows)


def _docstring(kind: type[Method]) -> tuple[str, str]:
    text, _, arguments = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:\n")
    return text, arguments


def _wrapped(text: str) -> str:
    """Fit a text into a narrow terminal; lists stay as they are."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(each if "\n- " in f"\n{each}" else _filled(each) for each in paragraphs)


def _filled(paragraph: str, indent: str = "") -> str:
    return textwrap.fill(paragraph, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _meanings(kind: type[Method]) -> dict[str, str]:
    """Read what the docstring says of each field, on one line."""
    found = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", _docstring(kind)[1], re.MULTILINE)
    meanings = {key: " ".join(text.split()) for key, text in found}
    return {field.name: meanings.get(field.name, "") for field in dataclasses.fields(kind)}


def _choices(annotation: Any) -> list[str]:
    """List the words that a field takes; a number or None beside them is told by its meaning."""
    parts = [annotation, *get_args(annotation)]
    return [str(word) for part in parts if get_origin(part) is Literal for word in get_args(part)]


def _default(value: object) -> str:
    """Write a default as ``--set`` takes it; None is a key that is left out."""
    return "unset" if value is None else value if isinstance(value, str) else json.dumps(value)


def _example(options: dict[str, Any]) -> str:
    """Set the first hyper-parameter that has a default to it, to show how."""
    keys = [key for key, option in options.items() if option["default"] is not None]
    return f" --set method.{keys[0]}={_default(options[keys[0]]['default'])}" if keys else ""
