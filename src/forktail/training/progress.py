"""What the engine tells whoever watches: a bar on a terminal, lines in a file, or nobody."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Listens to the engine; the command line has a bar and plain lines."""

    def note(self, text: str) -> None:
        """Hear a sentence that a user should read."""

    def begin(self, stage: str, done: int, total: int) -> None:
        """Hear that a stage begins at step ``done`` of ``total``."""

    def advance(self, step: int, loss: float | None = None) -> None:
        """Hear that ``step`` steps are done and what the last loss was, in nats, if there is one."""

    def end(self, note: str) -> None:
        """Hear that the stage is over and how."""


class Silent:
    """Tells nobody."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def begin(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def advance(self, step: int, loss: float | None = None) -> None:
        """Say nothing."""

    def end(self, note: str) -> None:
        """Say nothing."""
