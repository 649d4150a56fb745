"""Several pieces of work at once, in processes that end with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from forktail.errors import InputError

Task = TypeVar("Task")
Note = Callable[[str], None]
Work = Callable[[Any, Note], str | None]  # does a task, may tell sentences, returns why it failed or None


@dataclass
class _Worker:
    """A process at work.

    Args:
        process: The process.
        link: Takes tasks; tells ``(False, None)`` when it begins, ``(False, sentence)``, and at the end of each task
            ``(True, why it failed)``.
        task: What it does.
        begun: Whether it has told anything yet.
        dead: Whether it is over.
    """

    process: SpawnProcess
    link: Connection
    task: Any
    begun: bool = False
    dead: bool = False


def beside(
    tasks: Sequence[Task], work: Work, jobs: int, note: Callable[[Task, str], None]
) -> Iterator[tuple[Task, str | None]]:
    """Do tasks in other processes, ``jobs`` at a time; a process does one task after the other.

    Ctrl-C, or whatever else ends the caller, reaches every process as one interrupt, which lets the engine finish its
    step and save; no further task is begun. A process that dies, as for want of memory, costs its own task alone.

    Args:
        tasks: What is to be done, in order.
        work: Does one task; a function that another process can import.
        jobs: How many at once.
        note: Hears what a task has to say.

    Yields:
        Each task when it is over, and why it failed, or None.

    Raises:
        InputError: If a process cannot begin, since it reads the caller's script first and fails there.
    """
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads half alive
    waiting, running, begun = list(tasks), list[_Worker](), False
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_begin(context, work, waiting.pop(0)))
            wait([one.link for one in running])
            for one in list(running):
                for over, text in _heard(one, begun):
                    if not over:
                        note(one.task, text)
                        continue
                    done = one.task
                    if waiting and not one.dead:
                        one.task = waiting.pop(0)
                        _send(one, one.task)
                    else:
                        running.remove(one)
                        _end(one)
                    yield done, text
                begun = begun or one.begun
    finally:
        for one in running:
            _interrupt(one.process)
        for one in running:
            one.link.close()  # ends one that was interrupted between two tasks
            one.process.join()


def leave_if_script_is_read_again() -> None:
    """End a new process, silently, that came to its parent's call for processes while it reads the parent's script.

    It reads it to know what is defined there, and a script that does not say ``if __name__ == "__main__":`` then does
    its work again; `beside` tells the parent.
    """
    main = sys.modules["__main__"]
    read = sys.modules.get("__mp_main__", main)
    if read is not main and read.__name__ == "__mp_main__":  # they are one module before and after
        sys.exit(1)


def _begin(context: multiprocessing.context.SpawnContext, work: Work, task: Any) -> _Worker:
    here, there = context.Pipe()
    process = context.Process(target=_do, args=(there, work, task), daemon=True)
    process.start()
    there.close()  # so that the pipe ends when the process does
    return _Worker(process, here, task)


def _heard(one: _Worker, others_began: bool) -> Iterator[tuple[bool, Any]]:
    """Read what has come of a task; a pipe that ends without a last word is a process that died."""
    over = False
    while not over and one.link.poll():
        try:
            said = one.link.recv()
        except (EOFError, OSError):
            one.dead = True
        over, text = (True, _death(one, others_began)) if one.dead else said
        if over or one.begun:  # the first word only says that it begins
            yield over, text
        one.begun = one.begun or not one.dead


def _end(one: _Worker) -> None:
    _send(one, None)
    one.process.join()


def _send(one: _Worker, task: Any) -> None:
    with contextlib.suppress(OSError):  # one that died meanwhile is found out when it is listened to
        one.link.send(task)


def _death(one: _Worker, others_began: bool) -> str:
    """Say how a process died; where none could begin, each had a script to read."""
    one.process.join()
    code = one.process.exitcode
    if not (one.begun or others_began) and code is not None and code > 0:  # a signal's is negative
        raise InputError(
            f"a process ended with code {code} before its work began",
            expected='a script whose work stands under `if __name__ == "__main__":`, since every process reads it',
            remedy="write that line above it, or use jobs=1",
        )
    return f"its process ended with code {code}, as for want of memory"


def _do(link: Connection, work: Work, task: Any) -> None:
    """Be the process: interrupts come from the parent alone, not from the terminal."""
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, EOFError, OSError):
        link.send((False, None))
        while task is not None:
            link.send((True, work(task, lambda text: link.send((False, text)))))
            task = link.recv()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)


def _interrupt(process: SpawnProcess) -> None:
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGINT)
