"""Data in a folder of class folders, with or without ``train`` and ``test`` above them."""

from __future__ import annotations

import os
from pathlib import Path

from forktail.data.files_below import entries, files_below
from forktail.data.images import Images
from forktail.data.natural_order import natural_key
from forktail.data.picture_files import ENDINGS, FilePictures
from forktail.data.splits import Splits, some
from forktail.errors import InputError

PARTS = ("train", "test", "val")
OTHER_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)


def open_folder(folder: Path) -> Splits:
    """Find the pictures of a folder.

    Either ``train/CLASS/picture`` with ``test`` and ``val`` beside it where they exist, or ``CLASS/picture``. Classes
    and pictures stand in natural order; pictures may lie in folders below their class. Hidden files are passed over,
    other files that are no pictures are passed over and counted.

    Args:
        folder: The folder.

    Returns:
        The splits that the folder holds; classes are those of the training part.

    Raises:
        InputError: If there are no class folders or only one, one is empty, one cannot be read, the parts have other
            names, or the test part has a class that the training part lacks.
    """
    _check_spelling(folder)
    # A class may itself be called "train"; then there are pictures in it and no folders.
    if not ((folder / "train").is_dir() and _folders(folder / "train")):
        train, others = _part(folder, None)
        return Splits(folder.resolve().name, train, notes=_passed_over(others))
    train, others = _part(folder / "train", None)
    parts: dict[str, Images] = {}
    for name in PARTS[1:]:
        if (folder / name).is_dir():
            parts[name], more = _part(folder / name, train.classes)
            others += more
    notes = _passed_over(others)
    unknown = [path.name for path in _folders(folder) if path.name not in PARTS]
    if unknown:
        notes += (f"folders beside train/ that are not called test or val were passed over: {some(unknown)}.",)
    return Splits(folder.resolve().name, train, parts.get("test"), parts.get("val"), notes=notes)


def _check_spelling(folder: Path) -> None:
    """Parts under another name would be taken for classes."""
    found = _folders(folder)
    wanted = [OTHER_NAMES.get(path.name.casefold(), "") for path in found]
    if "train" in wanted and all(wanted) and not any(path.name == "train" for path in found):
        path = next(path for path, name in zip(found, wanted, strict=True) if name == "train")
        if _folders(path):
            raise InputError(
                f"{path} holds folders, so it looks like the training part",
                expected="train, with test and val beside it, in these letters",
                remedy=f"rename {', '.join(f'{p.name} to {name}' for p, name in zip(found, wanted, strict=True))}",
            )


def _part(folder: Path, classes: tuple[str, ...] | None) -> tuple[Images, int]:
    """Find the pictures of one part, and how many other files lie among them."""
    names = [path.name for path in _folders(folder)]
    _check_class_folders(folder, names, 2 if classes is None else 1)
    classes = tuple(names) if classes is None else classes
    paths: list[str] = []
    labels: list[int] = []
    num_others = 0
    unknown = [name for name in names if name not in classes]
    if unknown:
        found = f"{folder} has classes that the training part lacks: {some(unknown)}"
        raise InputError(
            found,
            expected=f"some of its {len(classes)} classes",
            remedy="remove them, or give them training pictures",
        )
    for name in names:
        pictures, others = _pictures(folder, name)
        if not pictures:
            raise InputError(
                f"class folder {folder / name} holds no picture",
                expected="one or more in each class",
                remedy="fill it or delete it",
            )
        paths += pictures
        labels += [classes.index(name)] * len(pictures)
        num_others += others
    return Images.ordered(FilePictures(folder, tuple(paths)), labels, classes), num_others


def _check_class_folders(folder: Path, names: list[str], at_least: int) -> None:
    if len(names) >= at_least:
        return
    if names:
        found = f'{folder} has a single class folder, "{names[0]}"'
    elif any(entry.suffix.lower() in ENDINGS for entry in entries(folder)):
        found = f"the pictures of {folder} lie directly in it"
    else:
        found = f"{folder} has no class folders"
    raise InputError(
        found,
        expected=f"a folder of pictures for each class{', and two classes or more' if at_least > 1 else ''}",
        remedy=f"move the pictures into {folder / 'CLASS'}/, one folder a class",
    )


def _folders(folder: Path) -> list[Path]:
    """List the folders in a folder that are not hidden, in natural order."""
    folders = [path for path in entries(folder) if os.path.isdir(path)]
    return sorted(folders, key=lambda path: natural_key(path.name))


def _pictures(part: Path, name: str) -> tuple[list[str], int]:
    """List the pictures of a class, relative to its part, in natural order, and count the other files."""
    if part.resolve().is_relative_to((part / name).resolve()):
        raise InputError(
            f"class folder {part / name} links to a folder that holds it",
            expected="a folder with the pictures of one class",
            remedy="delete the link",
        )
    files = [file.relative_to(part).as_posix() for file in files_below(part / name)]
    pictures = [file for file in files if Path(file).suffix.lower() in ENDINGS]
    return sorted(pictures, key=natural_key), len(files) - len(pictures)


def _passed_over(num_others: int) -> tuple[str, ...]:
    return (f"{num_others} files that are no pictures were passed over.",) if num_others else ()
