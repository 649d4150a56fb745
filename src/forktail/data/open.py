"""A name or a path becomes a data set."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from forktail.data.arrays import open_arrays
from forktail.data.augment import AugmentKind
from forktail.data.csv_file import open_csv
from forktail.data.fashion_mnist import open_fashion_mnist
from forktail.data.folder import open_folder
from forktail.data.glyphs import glyphs
from forktail.data.hold_out import held_out_test, held_out_validation
from forktail.data.images import DataSet, Images
from forktail.data.list_file import open_list
from forktail.data.longtail import Tail, carve
from forktail.data.picture_files import FilePictures, unreadable
from forktail.data.small_groups import small_groups_notes
from forktail.data.splits import Splits, some
from forktail.data.symbols import symbols
from forktail.data.wordnet_gloss import open_wordnet_gloss
from forktail.errors import InputError, nearest
from forktail.files import reason

Unreadable: TypeAlias = Literal["stop", "skip"]

MANY = 500  # names among which the nearest is looked for
GLYPHS_VALIDATION = 10  # images of each class
SMALL = 64  # pixels: up to this side, pictures are shifted; larger ones are cropped


@dataclass(frozen=True)
class DataSpec:
    """Which data, and what is done with them before training.

    Args:
        path: A named set (``fashion-mnist``, ``glyphs``, ``symbols``, ``wordnet-gloss``), a folder, a list file, a CSV
            or TSV file, or a ``.npz`` file. A folder that is called like a named set is written with its path,
            ``./glyphs``.
        root: Folder to which the paths of a list or CSV are relative, or which holds the files of a named set.
        test: A second list or CSV, with the test pictures.
        imbalance: Largest class over smallest, to carve a long tail; None leaves the counts as they are.
        n_max: Training images of the largest class of that tail; None takes what the smallest class allows. Of
            ``wordnet-gloss``, which has a tail: the others are sampled in proportion, and None is 432.
        tail: Shape of the tail.
        validation: Hold out a validation part, unless the set brings one: up to 50 images of a class that a carved tail
            left over, else a fifth of its training images but at most 5. ``glyphs`` draws 10 of every class.
        unreadable: What to do about pictures that cannot be read: ``stop``, or ``skip`` them with a note.
        augment: Kind of augmentation; None takes what suits the set.
        erasing: How often a rectangle of a training picture is erased (random erasing), in [0, 1].
        mismatch: How far the pictures of the rarer half of ``glyphs`` are from those of the other half, in [0, 1].
        seed: All chance in the above.

    Raises:
        InputError: If a path is empty or no Unicode, the seed is no 32-bit number, or ``unreadable`` is neither.
    """

    path: str
    root: str | None = None
    test: str | None = None
    imbalance: float | None = None
    n_max: int | None = None
    tail: Tail = "exponential"
    validation: bool = False
    unreadable: Unreadable = "stop"
    augment: AugmentKind | None = None
    erasing: float = 0.0
    mismatch: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("path", "root", "test"):
            if (value := getattr(self, name)) is not None and not (value and _is_unicode(value)):
                found = f'data.{name} "{value}"'
                raise InputError(found, expected="a name or path in Unicode", remedy="name it, or rename the file")
        if not 0 <= self.erasing <= 1:
            raise InputError(f"data.erasing = {self.erasing}", expected="a probability, 0 to 1")
        if not 0 <= self.mismatch <= 1:
            raise InputError(f"data.mismatch = {self.mismatch}", expected="0 (one kind of picture) to 1 (two)")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"data.seed {self.seed}", expected="0 or more, and less than 2^32")
        if self.unreadable not in get_args(Unreadable):
            raise InputError(
                f'data.unreadable "{self.unreadable}"',
                expected="stop or skip",
                remedy=nearest(self.unreadable, get_args(Unreadable)),
            )


def open_data(spec: DataSpec, *, workers: int | None = None, shots: str = "A") -> DataSet:
    """Open, check, carve and divide a data set, in this order.

    Every picture file is decoded once. Where a set brings no test part, one is held out of the training part; then
    the tail is carved; then the validation part is held out, of the images that the tail left over where there are any.
    Counts and priors are those of what remains.

    Args:
        spec: Which data, and what is done with them.
        workers: Threads that decode pictures; None takes the number of processors.
        shots: Rule of the shot groups, for notes on groups with too few test images.

    Returns:
        The data set; ``notes`` says what a user should know about it.

    Raises:
        InputError: If there is no such set, pictures cannot be read, or a class is left without training images.

    Example:
        >>> data = open_data(DataSpec("glyphs", n_max=20, imbalance=10, validation=True))
        >>> len(data.train), len(data.val), len(data.test)
        (737, 1000, 2500)
    """
    splits = _readable(_source(spec), spec, workers or os.cpu_count() or 1)
    train, test, val, notes = splits.train, splits.test, splits.val, splits.notes
    _check_counts(train, notes)
    if test is None:
        train, test, more = held_out_test(train, spec.seed)
        notes += more
    untested = [name for name, count in zip(test.classes, test.class_counts(), strict=True) if not count]
    if untested:
        notes += (f"no test images: {some(untested)}.",)
    tailed = spec.path in ("glyphs", "wordnet-gloss")
    spare = None
    if not tailed and (spec.imbalance is not None or spec.n_max is not None):
        kept = carve(train, spec.n_max, 1 if spec.imbalance is None else spec.imbalance, spec.tail, spec.seed)
        train, spare = kept, train.subset(~np.isin(train.positions, kept.positions))
    if spec.validation and val is None:
        train, val, more = held_out_validation(train, spec.seed, spare)
        notes += more
    notes += small_groups_notes(train, test, shots)
    augment = spec.augment or splits.augment or _suits(train)
    return DataSet(splits.name, train, test, val, augment, notes)


def open_labelled(spec: DataSpec) -> tuple[Images, tuple[str, ...]]:
    """Open labelled pictures to measure on: the test part of a set, or all of it where it has none.

    Args:
        spec: Which data; nothing is carved or held out.

    Returns:
        The images, and what a user should know about them.

    Raises:
        InputError: If there is no such set, or pictures cannot be read.
    """
    splits = _readable(_source(spec), spec, os.cpu_count() or 1)
    images = splits.train if splits.test is None else splits.test
    if not len(images):
        raise InputError("; ".join(["no images to measure on", *splits.notes]), expected="one or more")
    return images, splits.notes


def _source(spec: DataSpec) -> Splits:
    """Read the set that the path names."""
    if spec.mismatch and spec.path != "glyphs":
        raise InputError(
            f'data.mismatch has no meaning for "{spec.path}"',
            expected="it with glyphs",
            remedy="leave out data.mismatch",
        )
    path = Path(spec.path)
    test = None if spec.test is None else Path(spec.test)
    named: dict[str, Callable[[], Splits]] = {
        "fashion-mnist": lambda: open_fashion_mnist(_root(spec)),
        "glyphs": lambda: _drawn(_glyphs(spec)),
        "symbols": lambda: _drawn(symbols(seed=spec.seed)),
        "wordnet-gloss": lambda: _wordnet_gloss(spec),
    }
    if spec.path in named:
        _refuse(spec, test=True, root=spec.path not in ("fashion-mnist", "wordnet-gloss"))
        return named[spec.path]()
    if os.path.isdir(path):
        _refuse(spec, test=True, root=True)
        return open_folder(path)
    if not os.path.isfile(path):
        why = _why(path)
        beside = [] if why else _beside(path)
        raise InputError(
            f'no file, folder or named set "{spec.path}"{why}',
            expected="a path, or a named set",
            remedy=nearest(spec.path, difflib.get_close_matches(spec.path, [*named, *beside], n=1) or named),
        )
    if path.suffix.lower() == ".npz":
        _refuse(spec, test=True, root=True)
        return open_arrays(path)
    reader = open_csv if path.suffix.lower() in {".csv", ".tsv"} else open_list
    return reader(path, test, _root(spec))


def _root(spec: DataSpec) -> Path | None:
    if spec.root is None:
        return None
    if not os.path.isdir(spec.root):
        raise InputError(
            f'data.root "{spec.root}" is no folder',
            expected="the folder to which paths are relative",
            remedy="check the path",
        )
    return Path(spec.root)


def _why(path: Path) -> str:
    """Say what is wrong with a path that is neither a file nor a folder, unless it just does not exist."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return " (a broken link)" if path.is_symlink() else ""
    except (OSError, ValueError) as error:
        return f" ({reason(error)})"
    return " (it exists, but is neither)"


def _beside(path: Path) -> list[str]:
    """List what a misspelt path may have meant."""
    try:
        names = sorted(name for name in os.listdir(path.parent) if not name.startswith(".") and name != path.name)
        return [str(path.parent / name) for name in names[:MANY]]
    except (OSError, ValueError):
        return []


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: the name of a file need not be Unicode
        return False
    return True


def _refuse(spec: DataSpec, *, test: bool, root: bool) -> None:
    """An option that would do nothing is an error."""
    for name, unused in (("test", test), ("root", root)):
        if unused and getattr(spec, name) is not None:
            raise InputError(
                f'data.{name} has no meaning for "{spec.path}"',
                expected="it with a list or a CSV file"
                if name == "test"
                else "it with a list, a CSV file, fashion-mnist or wordnet-gloss",
                remedy=f"leave out data.{name}",
            )


def _glyphs(spec: DataSpec) -> DataSet:
    n_max = 200 if spec.n_max is None else spec.n_max
    imbalance = 100 if spec.imbalance is None else spec.imbalance
    validation = GLYPHS_VALIDATION if spec.validation else 0
    return glyphs(n_max, imbalance, spec.tail, seed=spec.seed, mismatch=spec.mismatch, validation_per_class=validation)


def _wordnet_gloss(spec: DataSpec) -> Splits:
    for name, value in (("imbalance", spec.imbalance), ("tail", None if spec.tail == "exponential" else spec.tail)):
        if value is not None:
            raise InputError(
                f'data.{name} has no meaning for "wordnet-gloss", which has a long tail by nature',
                expected="data.n_max alone",
                remedy=f"leave out data.{name}",
            )
    return open_wordnet_gloss(_root(spec), n_max=spec.n_max, validation=spec.validation, seed=spec.seed)


def _drawn(data: DataSet) -> Splits:
    return Splits(data.name, data.train, data.test, data.val, data.augment, data.notes)


def _readable(splits: Splits, spec: DataSpec, workers: int) -> Splits:
    """Decode every picture file; stop, or go on without those that fail."""
    _check_names(spec.path, splits.train.classes)
    parts = {"train": splits.train, "test": splits.test, "val": splits.val}
    sound = {name: _sound(images, workers) for name, images in parts.items() if images is not None}
    problems = [problem for _, found in sound.values() for problem in found]
    if not problems:
        return splits
    found = f"{len(problems)} picture{'s' * (len(problems) > 1)} cannot be read: {some(problems)}"
    if spec.unreadable == "stop":
        raise InputError(
            found,
            expected="pictures that can be decoded",
            remedy="mend or delete them, or leave them out with `--set data.unreadable=skip`",
        )
    kept = {name: images for name, (images, _) in sound.items()}
    notes = (*splits.notes, f"left out: {found}.")
    return dataclasses.replace(splits, train=kept["train"], test=kept.get("test"), val=kept.get("val"), notes=notes)


def _sound(images: Images, workers: int) -> tuple[Images, list[str]]:
    """Part the images that can be read from a description of those that cannot."""
    if not isinstance(images.pictures, FilePictures):
        return images, []
    bad = unreadable(images, workers)
    kept = images.subset(np.delete(np.arange(len(images)), list(bad)))
    return kept, [f"{images.name(i)} ({why})" for i, why in bad.items()]


def _check_names(path: str, classes: tuple[str, ...]) -> None:
    """A class name stands in JSON, TOML and HTML in the end: what cannot stand there is refused before training."""
    for name in classes:
        if not name or not _is_unicode(name):
            raise InputError(
                f'{path}: a class is called "{name}"', expected="a name in Unicode", remedy="rename the class"
            )


def _check_counts(images: Images, notes: tuple[str, ...]) -> None:
    absent = [name for name, count in zip(images.classes, images.class_counts(), strict=True) if not count]
    if absent:
        raise InputError(
            "; ".join([f"no training images: {some(absent)}", *(note.rstrip(".") for note in notes)]),
            expected="one or more of each class",
            remedy="add images, or delete the class",
        )


def _suits(images: Images) -> AugmentKind:
    first = images.read(0)
    if isinstance(first, str):
        return "none"
    return "shift-flip" if max(first.size) <= SMALL else "crop-flip"
