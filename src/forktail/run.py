"""A run is a directory: all of its state, written atomically, by one process at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from forktail.errors import InputError


def write_atomically(path: Path, content: str | Callable[[Path], None]) -> None:
    """Replace a file in one step, so that a kill leaves either the old or the new content.

    Args:
        path: The file; one process at a time writes it.
        content: Its new content as text, or what writes it to a path.

    Raises:
        InputError: If the folder cannot be written, or the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(part)
        else:
            part.write_text(content, encoding="utf-8")
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {_reason(error)}", remedy="choose another --out, or make room") from None


def _reason(error: OSError) -> str:
    return f"cannot be written ({error.strerror or error})"


@contextmanager
def only_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock; the operating system frees it when the process ends, however it ends.

    Args:
        folder: The folder to lock; it is made where it is missing.
        wait: Wait for another process, whose result may then be there, in place of giving up.

    Yields:
        Nothing.

    Raises:
        InputError: If another process is writing there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {_reason(error)}", remedy="choose another --out") from None
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise InputError(
            f"{folder}: another process is writing there",
            expected="one writer per run directory",
            remedy="wait for it, or choose another --out",
        ) from None
    try:
        yield
    finally:
        lock.release()


class Run:
    """One run directory: what was asked, what happened, what came out.

    ```
    recipe.toml env.json      what was asked, and the machine it ran on
    log.jsonl timing.jsonl    learning curves (bit-equal on a rerun) and seconds (never equal)
    stages.json stages/       which stages made the result, by fingerprint
    criterion.* selection.json     the (s, w) table, what it rests on, and the choice, where a method makes them
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
        content: dict[str, Any] = self.read_json("metrics.json")
        return content

    @property
    def selection(self) -> dict[str, Any]:
        """Content of ``selection.json``."""
        content: dict[str, Any] = self.read_json("selection.json")
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
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"{path}: {error.strerror}",
                expected="a finished run",
                remedy="give the folder that `forktail fit` wrote",
            ) from None
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error})", remedy="the run is damaged; train it again") from None

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

    def append_line(self, name: str, record: dict[str, Any]) -> None:
        """Append one JSON line.

        Args:
            name: File name inside the run.
            record: The object.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
