"""Progress on a terminal as a bar with the time left, elsewhere as plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from forktail.errors import one_line
from forktail.training.progress import Progress as Watcher


class Bar:
    """One bar per stage.

    Args:
        bars: The live display.
    """

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.task: TaskID | None = None

    def note(self, text: str) -> None:
        """Print above the bars."""
        self.bars.console.print(one_line(text), highlight=False, markup=False)

    def begin(self, stage: str, done: int, total: int) -> None:
        """Start the stage's bar where the stage stands."""
        self.task = self.bars.add_task(stage, total=total, completed=done, note="")

    def advance(self, step: int, loss: float | None = None) -> None:
        """Move the bar."""
        if self.task is not None:
            self.bars.update(self.task, completed=step, note=_loss(loss))

    def end(self, note: str) -> None:
        """Fill the bar and leave it standing."""
        if self.task is not None:
            total = self.bars.tasks[self.task].total
            self.bars.update(self.task, completed=total, note=note)


class Lines:
    """A line when a stage begins, every ten seconds, and when it ends."""

    def __init__(self) -> None:
        self.stage, self.total, self.said = "", 0, 0.0

    def note(self, text: str) -> None:
        """Say it."""
        self._say(one_line(text))

    def begin(self, stage: str, done: int, total: int) -> None:
        """Say what begins."""
        self.stage, self.total, self.said = stage, total, time.monotonic()
        self._say(f"{stage}: from step {done} to {total}" if done else f"{stage}: {total} steps")

    def advance(self, step: int, loss: float | None = None) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self.said >= 10:
            self.said = time.monotonic()
            self._say(f"{self.stage}: step {step} of {self.total} {_loss(loss)}")

    def end(self, note: str) -> None:
        """Say that it is over."""
        self._say(f"{self.stage}: done, {note}")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"loss {loss:.3f}"


@contextmanager
def watcher() -> Iterator[Watcher]:
    """Choose a bar on a terminal and plain lines elsewhere; say after Ctrl-C that nothing is lost.

    Yields:
        Who is told how far it is.

    Raises:
        KeyboardInterrupt: As it came.
    """
    console = Console(stderr=True)
    try:
        with _bars(console) if console.is_terminal else nullcontext(Lines()) as found:
            yield found
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here", highlight=False)
        raise


@contextmanager
def _bars(console: Console) -> Iterator[Watcher]:
    columns = (
        TextColumn("{task.description:14}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield Bar(bars)
