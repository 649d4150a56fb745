"""Work in processes of their own: all that can happen to them."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from forktail.comparing.processes import beside

def work(task, note):
    place = Path(sys.argv[1])
    (place / f"begun-{task}").touch()
    note(f"at {task}")
    if task == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "fails":
        return "no good"
    if task.startswith("waits"):
        try:
            time.sleep(60)
        finally:
            (place / f"interrupted-{task}").touch()
    return None

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    for task, failed in beside(sys.argv[3:], work, int(sys.argv[2]), lambda task, text: print("note", task, text)):
        print("over", task, failed, flush=True)
"""


GUARD = 'if __name__ == "__main__":'


def start(folder, jobs, *tasks, text=SCRIPT):
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    command = [sys.executable, str(script), str(folder), str(jobs), *tasks]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_task_is_done_and_a_process_that_dies_costs_its_own_alone(tmp_path):
    out, err = start(tmp_path, 2, "a", "dies", "fails", "b").communicate()
    over = sorted(line for line in out.splitlines() if line.startswith("over"))
    assert over == [
        "over a None",
        "over b None",
        "over dies its process ended with code -9, as for want of memory",
        "over fails no good",
    ]
    assert {line for line in out.splitlines() if line.startswith("note")} >= {"note a at a", "note fails at fails"}
    assert err == ""


LATE = """note(str(os.getpid()))
    if task == "dies":
        (place / "dying").touch()
    while task == "a" and not (place / "dying").exists():
        time.sleep(0.01)
    if task == "a":
        time.sleep(0.5)"""


def test_a_process_does_one_task_after_the_other(tmp_path):
    """The other process still has its first task when the one dies, so that tasks are left for a third."""
    tells = SCRIPT.replace('note(f"at {task}")', LATE)
    out, err = start(tmp_path, 2, "dies", "a", "b", "fails", "c", "d", "e", text=tells).communicate()
    assert err == ""
    processes = dict(line.split()[1:] for line in out.splitlines() if line.startswith("note"))
    assert set(processes) == {"a", "b", "fails", "c", "dies", "d", "e"}
    assert len(set(processes.values())) == 3  # two, and one for the one that died


def test_a_script_that_does_its_work_again_when_it_is_read_is_told_so(tmp_path):
    """Python itself refuses the second call, with a page of its own; the last line is the parent's."""
    process = start(tmp_path, 2, "a", "b", text=SCRIPT.replace(GUARD, "if True:"))
    out, err = process.communicate()
    assert process.returncode == 1
    assert out == ""
    assert err.splitlines()[-1].startswith("forktail.errors.InputError: a process ended with code 1 before its work")
    assert GUARD in err.splitlines()[-1]
    assert "want of memory" not in err
    assert not (tmp_path / "begun-a").exists()


def test_a_signal_before_the_work_begins_is_no_matter_of_the_script(tmp_path):
    killed = "import os, signal\nif __name__ == '__mp_main__': os.kill(os.getpid(), signal.SIGKILL)\n"
    out, err = start(tmp_path, 1, "a", text=killed + SCRIPT).communicate()
    assert out == "over a its process ended with code -9, as for want of memory\n"
    assert err == ""


@pytest.mark.parametrize("to_all", [True, False])
def test_one_interrupt_reaches_every_process_and_nothing_more_is_begun(tmp_path, to_all):
    process = start(tmp_path, 2, "waits1", "waits2", "a", "b")
    until(lambda: (tmp_path / "begun-waits1").exists() and (tmp_path / "begun-waits2").exists())
    time.sleep(0.2)  # they are asleep by now
    os.killpg(process.pid, signal.SIGINT) if to_all else process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert (tmp_path / "interrupted-waits1").exists()
    assert (tmp_path / "interrupted-waits2").exists()
    assert not (tmp_path / "begun-a").exists()


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    process = start(tmp_path, 1, "waits1", "a")
    until((tmp_path / "begun-waits1").exists)
    time.sleep(0.2)
    process.kill()
    until((tmp_path / "interrupted-waits1").exists)
    time.sleep(0.2)
    assert not (tmp_path / "begun-a").exists()
    process.communicate()


def test_a_task_that_cannot_begin_where_others_did_costs_itself_alone(tmp_path):
    """The second process, begun after the first died, fails while it reads the script."""
    once = """
import os, sys
from pathlib import Path
if __name__ == "__mp_main__":
    if (Path(sys.argv[1]) / "begun-dies").exists():
        sys.exit(3)
"""
    out, err = start(tmp_path, 1, "dies", "a", text=once + SCRIPT).communicate()
    over = [line for line in out.splitlines() if line.startswith("over")]
    assert over == [
        f"over {task} its process ended with code {code}, as for want of memory"
        for task, code in (("dies", -9), ("a", 3))
    ]
    assert err == ""
