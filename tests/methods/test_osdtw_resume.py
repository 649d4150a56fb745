"""A whole fit, killed once in every stage without warning, ends in the very files of one that was left alone."""

import json
import signal
import subprocess
import sys

import numpy as np

from forktail.fitting import fit

SETTINGS = [
    "plan.epochs=2", "plan.batch_size=8", "backbone.name=tiny", "backbone.weights=random", "device=cpu",
    "method.depth=3", "method.weights=3", "method.stage1_epochs=plan", "method.refinement_epochs=1",
    "checkpoint_seconds=0.0",
]  # fmt: skip

# Steps after which a process dies: in the middle of the first stage, then of the second, and so on. A step counts for
# the next process only once its checkpoint is written, which the kill comes before. There are four steps each in
# stage1-head, stage1-tail and stage2, and two in the refinement.
KILLS = [2, 3 + 3, 2 + 1, 4 + 2]

# Forked before torch has computed anything, so that torch is imported once.
KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from forktail.fitting import fit
from forktail.methods.osdtw import WeightedTasks

def run_until(kill_at, data, out, settings):
    steps = 0
    def after_step(self):
        nonlocal steps
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    WeightedTasks.after_step = after_step
    fit(data, "osdtw", settings=settings, out=out)

data, out, kills, *settings = sys.argv[1:]
for kill_at in kills.split():
    if (child := os.fork()) == 0:
        run_until(int(kill_at), data, out, settings)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.path.exists(f"{out}/metrics.json"), flush=True)
"""


def test_a_fit_that_is_killed_in_every_stage_ends_as_if_it_had_not_been(tmp_path, small_npz):
    with np.load(small_npz) as stored:  # 16 of 65 pictures, two steps an epoch
        few = np.r_[0:5, 24:28, 40:43, 52:54, 60, 64]
        parts = {name: stored[name][few] if name.endswith("train") else stored[name] for name in stored.files}
    np.savez(small_npz, **parts)
    whole = fit(small_npz, "osdtw", settings=SETTINGS, out=tmp_path / "whole")
    arguments = [str(small_npz), str(tmp_path / "killed"), " ".join(map(str, KILLS)), *SETTINGS]
    found = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [f"{-signal.SIGKILL} False"] * len(KILLS), found.stderr
    killed = fit(small_npz, "osdtw", settings=SETTINGS, out=tmp_path / "killed")
    for file in (
        "model/model.safetensors", "model/model.json", "metrics.json", "log.jsonl", "stages.json", "criterion.csv",
        "selection.json", "recipe.toml",
    ):  # fmt: skip
        assert (killed.path / file).read_bytes() == (whole.path / file).read_bytes(), file
    stages = [record["stage"] for record in json.loads((killed.path / "stages.json").read_text())]
    assert stages == ["stage1-head", "stage1-tail", "moments", "stage2", "refinement"]
