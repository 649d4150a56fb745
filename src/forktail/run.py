"""A run is a directory: all of its state, written atomically, by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from forktail.errors import InputError
from forktail.files import cannot_write, read_json, reason, write_atomically

DAMAGED = "give the folder of a finished run, or train it again"
BEGINNING = {".lock", "recipe.toml", "env.json"}  # what a run holds before its first stage


@contextmanager
def only_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock; the operating system frees it when the process ends, however it ends.

    A folder that is made here and then holds no work is removed again where the body fails.

    Args:
        folder: The folder to lock; it is made where it is missing.
        wait: Wait for another process, whose result may then be there, in place of giving up.

    Yields:
        Nothing.

    Raises:
        InputError: If another process is writing there, or the folder cannot be made.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise InputError(
            f"{folder}: another process is writing there",
            expected="one writer per run directory",
            remedy="wait for it, or choose another --out",
        ) from None
    except FileExistsError:
        raise InputError(f"{folder}: a file", expected="a folder to write to", remedy="choose another --out") from None
    except (OSError, NotImplementedError) as error:
        cannot_write(folder, error)
    try:
        yield
    except BaseException:
        if made and not wait:
            _withdraw(folder, made)
        raise
    finally:
        lock.release()


def _withdraw(folder: Path, made: list[Path]) -> None:
    """Remove the folders that were made for a run that was refused before its first stage."""
    with contextlib.suppress(OSError):
        left = {entry.name for entry in folder.iterdir()}
        if left <= BEGINNING:
            for name in left:
                (folder / name).unlink()
            for place in made:
                place.rmdir()


@contextmanager
def as_fit_wrote_it(path: Path) -> Iterator[None]:
    """Blame the file where what is read from it lacks a key or has another type.

    Args:
        path: The file whose content is used inside.

    Yields:
        Nothing.

    Raises:
        InputError: In place of a KeyError, IndexError, TypeError, ValueError or AttributeError.

    Example:
        >>> with as_fit_wrote_it(Path("run/cost.json")):
        ...     {}["flops"]
        Traceback (most recent call last):
        ...
        forktail.errors.InputError: run/cost.json: not as `forktail fit` wrote it (KeyError: 'flops'); expected ...
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: not as `forktail fit` wrote it ({type(error).__name__}: {reason(error)})",
            expected="the file of a finished run",
            remedy=DAMAGED,
        ) from None


class Run:
    """One run directory: what was asked, what happened, what came out.

    ```
    recipe.toml env.json      what was asked, and the machine it ran on
    log.jsonl timing.jsonl    learning curves (bit-equal on a rerun) and seconds (never equal)
    stages.json stages/       which stages made the result, by fingerprint
    criterion.* selection.json     the (s, w) table, what it rests on, and the choice, where a method makes them
    separation.json           how far apart head and tail went, where that was asked
    metrics.json model/       how good it is, and what `predict` loads
    ```

    Args:
        path: The directory; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.path / "model"

    @property
    def finished(self) -> bool:
        """True once the last file, ``metrics.json``, is written."""
        return (self.path / "metrics.json").is_file()

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``."""
        return self.read_object("metrics.json")

    @property
    def selection(self) -> dict[str, Any]:
        """Content of ``selection.json``."""
        return self.read_object("selection.json")

    def read_object(self, name: str) -> dict[str, Any]:
        """Read one of the run's JSON files that holds named values.

        Args:
            name: File name inside the run.

        Returns:
            Its content.

        Raises:
            InputError: If the run does not hold such a file, or something else is in it.
        """
        content = self.read_json(name)
        if not isinstance(content, dict):
            found = f"{self.path / name}: a JSON {type(content).__name__}"
            raise InputError(found, expected="a JSON object", remedy=DAMAGED)
        return content

    def read_json(self, name: str) -> Any:
        """Read one of the run's JSON files.

        Args:
            name: File name inside the run.

        Returns:
            Its content.

        Raises:
            InputError: If the run does not hold such a file, or it is no JSON.
        """
        return read_json(self.path / name, expected="a finished run", remedy=DAMAGED)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file atomically; a number that is not finite is refused.

        Args:
            name: File name inside the run.
            content: Anything that JSON can say.
        """
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(self.path / name, text + "\n")

    def write_text(self, name: str, content: str) -> None:
        """Write a text file atomically.

        Args:
            name: File name inside the run.
            content: The text.
        """
        write_atomically(self.path / name, content)

    def write_lines(self, name: str, records: Iterable[dict[str, Any]]) -> None:
        """Write JSON lines atomically.

        Args:
            name: File name inside the run.
            records: One object a line.
        """
        lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records)
        write_atomically(self.path / name, "".join(line + "\n" for line in lines))
