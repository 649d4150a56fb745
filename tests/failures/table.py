"""The shape of the table of failures, and its page in the docs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scene import Scene

REST = "…"  # in a message: whatever the library below says


@dataclass(frozen=True)
class Row:
    """One thing that can be wrong.

    Args:
        wrong: What is wrong.
        command: What the user typed, without ``forktail``, in the folder that ``arrange`` filled.
        arrange: Makes it wrong.
        says: The line on stderr, but for ``error: ``; ``…`` stands for the words of a library.
        after_notes: It is found when the work has begun, so that progress was said before.
        prints: What could be done is printed all the same.
        leaves: Folders in which finished work stays.
        as_user: It cannot happen to root.
        wish: What has to change before this is true.
    """

    wrong: str
    command: str
    arrange: Callable[[Scene], object]
    says: str
    after_notes: bool = False
    prints: bool = False
    leaves: tuple[str, ...] = ()
    as_user: bool = False
    wish: str = ""


@dataclass(frozen=True)
class Place:
    """Where something comes from outside.

    Args:
        key: How the guard over the source calls it.
        title: How the page calls it.
        about: A sentence or two on what is taken, and what is no error.
        rows: All that can be wrong there.
    """

    key: str
    title: str
    about: str
    rows: tuple[Row, ...]


def page(places: list[Place]) -> str:
    """Write the page of the docs; what is not yet true stands apart."""
    lines = [HEAD]
    for place in places:
        lines += [
            f"## {place.title}",
            "",
            place.about,
            "",
            "| what is wrong | command | what is said |",
            "|---|---|---|",
        ]
        lines += [f"| {row.wrong} | {_command(row)} | {_code(row.says)} |" for row in place.rows if not row.wish]
        lines.append("")
    lines.append(TAIL)
    wishes = [f"- {place.title}: {row.wrong} ({_command(row)})" for place in places for row in place.rows if row.wish]
    if wishes:
        lines += ["## Still to mend", "", "These end in a traceback or in a line that does not help.", "", *wishes, ""]
    return "\n".join(lines)


def _command(row: Row) -> str:
    return _code(re.sub(r"(.)\1{20,}", r"\1\1\1…", f"forktail {row.command}").replace("\n", "\\n"))


def _code(text: str) -> str:
    """Quote for a cell, as Markdown quotes code that may hold its own marks."""
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


HEAD = """# When something is wrong

Whatever comes from outside (pictures, lists, recipes, weights, runs, the machine) can be wrong. Then `forktail` ends
with exit code 2 and one last line on stderr: `error: ` and the message below, which says what was found and where, what
was expected, and what to do. There is no traceback. No file is left half-written. Nothing that was there before is
changed or lost. A command that is refused before its first training step leaves no run directory behind. Before that
line stand at most the notes of a training that had begun.

A wrong flag or a missing argument is answered by the usage, also with exit code 2. Ctrl-C is exit code 130, and the
same command goes on. Whatever else ends in a traceback is a bug of ours.

`…` stands for words of another library, or for a part that differs from one run to the next. Every row is produced and
checked by `tests/failures`, and this page is written from it by

    python tests/failures
"""

TAIL = """## Names stay names

A class or a file may be called anything that the file system takes: `[bold]`, `<script>`, two lines, text that runs
from right to left, a formula.

- Messages, notes and tables show what is not printable as an escape, such as `\\n` or `\\u202e`: control characters,
  line ends, marks of writing direction, bytes that are no Unicode. Markup of the terminal is not obeyed.
- `--json` and `--format json` escape the same characters in JSON's own way, so a program gets the name back exactly.
- `--format csv` is for programs and gives every name back exactly, quoted where CSV needs it; only on a terminal it is
  escaped as a table is. A name that begins with `=` is not changed either: let a spreadsheet import the file as text.
- The name of a class must be Unicode, because the model's description is; that of a picture need not be.
"""
