"""Files: read with one clear line when they are wrong, written in one step or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

from forktail.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def reason(error: BaseException) -> str:
    """Say why a file could not be opened, read or written, without the path that the message names already.

    Args:
        error: What was raised.

    Returns:
        One phrase.

    Example:
        >>> reason(FileNotFoundError(2, "No such file or directory", "a.txt"))
        'no such file or directory'
    """
    if isinstance(error, FileNotFoundError):
        return "no such file or directory"  # whatever else a library says of it
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    line = text.splitlines()[0].rstrip(".")
    return line[0].lower() + line[1:] if line[1:2].islower() else line


def read_text(path: Path, *, expected: str, remedy: str = "") -> str:
    """Read a text file in UTF-8, with or without a byte order mark; line ends stay as they are.

    Args:
        path: The file.
        expected: What it should be, for the message.
        remedy: What to do if it cannot be read.

    Returns:
        Its content.

    Raises:
        InputError: If it cannot be read, or is no UTF-8.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"{path}: {reason(error)}", expected=expected, remedy=remedy) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"{path}, line {line}: byte 0x{content[error.start]:02x} is no UTF-8"
        raise InputError(found, expected=expected, remedy="save it as text in UTF-8") from None


def read_json(path: Path, *, expected: str, remedy: str = "") -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        expected: What it should be, for the message.
        remedy: What to do if it cannot be read or is no JSON.

    Returns:
        Its content.

    Raises:
        InputError: If it cannot be read, or is no JSON.
    """
    text = read_text(path, expected=expected, remedy=remedy)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})", expected=expected, remedy=remedy) from None


def write_atomically(path: Path, content: str | Callable[[Path], object]) -> None:
    r"""Replace a file in one step, so that a kill leaves either the old or the new content.

    A lone surrogate, which the name of a file may bring along, is written as the escape ``\udcff`` that JSON has for
    it.

    Args:
        path: The file; one process at a time writes it.
        content: Its new content as text, or what writes it to a path.

    Raises:
        InputError: If the folder cannot be written, or the disk is full; the old content is then still there.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(part)
        else:
            part.write_text(content, encoding="utf-8", errors="backslashreplace")
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        cannot_write(path, error)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def cannot_write(path: Path, error: BaseException) -> NoReturn:
    """Say that a file or folder cannot be written, and what to do about it.

    Args:
        path: The file or folder.
        error: What was raised.

    Raises:
        InputError: Always.
    """
    full = (isinstance(error, OSError) and error.errno in NO_ROOM) or "os error 28" in str(error)
    remedy = "make room and give the same command again: what is finished is kept" if full else "choose another place"
    raise InputError(f"{path}: cannot be written ({reason(error)})", remedy=remedy) from None
