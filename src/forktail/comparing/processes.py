"""Several pieces of work at once, each in a process of its own that ends with its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

Task = TypeVar("Task")
Note = Callable[[str], None]
Work = Callable[[Any, Note], str | None]  # does a task, may tell sentences, returns why it failed or None


@dataclass
class _Running:
    """A process at work.

    Args:
        task: What it does.
        process: The process.
        messages: What it tells: ``(False, sentence)``, and at the end ``(True, why it failed)``.
    """

    task: Any
    process: SpawnProcess
    messages: Connection


def beside(
    tasks: Sequence[Task], work: Work, jobs: int, note: Callable[[Task, str], None]
) -> Iterator[tuple[Task, str | None]]:
    """Do tasks in processes of their own, ``jobs`` at a time.

    Ctrl-C, or whatever else ends the caller, reaches every process as one interrupt, which lets the engine finish its
    step and save; no further task is begun. A process that dies, as for want of memory, costs its own task alone.

    Args:
        tasks: What is to be done, in order.
        work: Does one task; a function that another process can import.
        jobs: How many at once.
        note: Hears what a task has to say.

    Yields:
        Each task when it is over, and why it failed, or None.
    """
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads half alive
    waiting, running = list(tasks), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_begin(context, waiting.pop(0), work))
            wait([one.messages for one in running])
            for one in list(running):
                for over, text in _heard(one):
                    if over:
                        running.remove(one)
                        one.process.join()
                        yield one.task, text
                    elif text is not None:
                        note(one.task, text)
    finally:
        for one in running:
            _interrupt(one.process)
        for one in running:
            one.process.join()


def _begin(context: multiprocessing.context.SpawnContext, task: Any, work: Work) -> _Running:
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(there, work, task), daemon=True)
    process.start()
    there.close()  # so that the pipe ends when the process does
    return _Running(task, process, here)


def _heard(one: _Running) -> Iterator[tuple[bool, str | None]]:
    """Read what has come; a pipe that ends without a last word is a process that died."""
    over = False
    while not over and one.messages.poll():
        try:
            over, text = one.messages.recv()
        except EOFError:
            one.process.join()
            over, text = True, f"its process ended with code {one.process.exitcode}, as for want of memory"
        yield over, text


def _do(messages: Connection, work: Work, task: Any) -> None:
    """Be the process: interrupts come from the parent alone, not from the terminal."""
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        failed = work(task, lambda text: messages.send((False, text)))
    except KeyboardInterrupt:
        return
    messages.send((True, failed))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)


def _interrupt(process: SpawnProcess) -> None:
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGINT)
