"""From files that anyone may have written to checked values: every name made visible, every number finite."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from forktail.errors import InputError
from forktail.report.names import visible, visible_text
from forktail.run import Run

T = TypeVar("T")

Number = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]  # so that sums stay finite, too
Count = Annotated[int, Field(ge=0, le=10**15)]
Name = Annotated[str, BeforeValidator(lambda given: visible(given) if isinstance(given, str) else given)]
Text = Annotated[str, BeforeValidator(lambda given: visible_text(given) if isinstance(given, str) else given)]


class DamagedError(InputError):
    """A file that does not hold what it should.

    Args:
        run: Where the file stands.
        name: Name of the file.
        why: What is wrong.
    """

    def __init__(self, run: Run, name: str, why: str) -> None:
        super().__init__(
            f"{run.path / name}: {visible(why)}",
            expected="what this version of forktail writes",
            remedy="the file is damaged or of another version: give the command that made it again, with another --out",
        )


def checked(kind: type[T], run: Run, name: str, content: object) -> T:
    """Check the content of a file against what it should be.

    Args:
        kind: The type that it should have.
        run: Where the file stands.
        name: Name of the file.
        content: What was read from it.

    Returns:
        The content as that type.
    """
    return _checked(TypeAdapter(kind), run, name, content)


def read_text(run: Run, name: str) -> str:
    """Read a text file of a run.

    Args:
        run: The run.
        name: Name of the file.

    Returns:
        Its text.

    Raises:
        InputError: If it is not there.
        DamagedError: If it is no text.
    """
    path = run.path / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}", expected="a finished run", remedy="give the folder that `forktail fit` wrote"
        ) from None
    except UnicodeDecodeError:
        raise DamagedError(run, name, "not UTF-8") from None


def read_lines(kind: type[T], run: Run, name: str) -> list[T]:
    """Read a file of JSON lines.

    Args:
        kind: The type of each line.
        run: The run.
        name: Name of the file.

    Returns:
        One value per line; none if there is no such file.

    Raises:
        DamagedError: If a line is no JSON, or not of that type.
    """
    if not (run.path / name).is_file():
        return []
    adapter, found = TypeAdapter(kind), list[T]()
    for number, line in enumerate(read_text(run, name).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content: Any = json.loads(line)
        except ValueError as error:
            raise DamagedError(run, name, f"line {number}: {error}") from None
        found.append(_checked(adapter, run, name, content))
    return found


def _checked(kind: TypeAdapter[T], run: Run, name: str, content: object) -> T:
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise DamagedError(run, name, f"{place}: {first['msg']}") from None
