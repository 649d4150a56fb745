"""What is compared: a method, with or without options of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from forktail.errors import InputError
from forktail.methods import find_method


@dataclass(frozen=True)
class Contestant:
    """One row of a comparison.

    Args:
        label: As the user wrote it: ``osdtw``, or ``osdtw:depth=3:tau=0.5``.
        method: Name of the method.
        options: ``key=value`` settings of the method.

    Example:
        >>> Contestant.parse("balanced_bce:rule=posterior").options
        ('rule=posterior',)
    """

    label: str
    method: str
    options: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Contestant:
        """Read ``method[:key=value]...``.

        Args:
            text: What the user wrote.

        Returns:
            The contestant.

        Raises:
            InputError: If there is no such method, or an option is not of this form.
        """
        method, *options = (part.strip() for part in text.split(":"))
        for option in options:
            if not re.fullmatch(r"\w+=.+", option):
                raise InputError(f'--methods: option "{option}" of "{text}"', expected=f"{method}:key=value")
        find_method(method)
        return cls(":".join([method, *options]), method, tuple(options))

    @property
    def folder(self) -> str:
        """A file name that every system takes."""
        return re.sub(r"[^A-Za-z0-9_.]+", "-", self.label)

    @property
    def settings(self) -> list[str]:
        """The options as settings of a recipe."""
        return [f"method.{option}" for option in self.options]


def read_contestants(methods: str | Sequence[str]) -> list[Contestant]:
    """Read the list of what is compared.

    Args:
        methods: Labels, separated by commas or as a sequence.

    Returns:
        The contestants, in order.

    Raises:
        InputError: If there are fewer than two, or the same one twice.

    Example:
        >>> [contestant.label for contestant in read_contestants("ce, osdtw:depth=0")]
        ['ce', 'osdtw:depth=0']
    """
    texts = methods.split(",") if isinstance(methods, str) else list(methods)
    found = [Contestant.parse(text) for text in texts if text.strip()]
    if len(found) < 2:
        raise InputError(f"--methods: {len(found)} methods", expected="at least two, such as ce,osdtw")
    folders = [contestant.folder for contestant in found]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise InputError(f'--methods: "{found[number].label}" stands there twice', expected="each once")
    return found
