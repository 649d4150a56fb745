import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from forktail.data.augment import Augment, Preprocess
from forktail.data.images import ArrayPictures, Images
from forktail.data.sampling import ClassAware, Paired, Shuffled
from forktail.errors import InputError
from forktail.run import Run, only_writer
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Batch, Objective, freeze
from forktail.training.plan import Plan
from forktail.training.progress import Silent
from forktail.training.stage import state_digest

PREPROCESS = Preprocess(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
PLAN = Plan(epochs=3, batch_size=8, lr=1e-2)  # 2 steps an epoch, 6 in all


class Toy(Objective):
    """A small network with all that can go wrong in a resume: dropout, batch statistics, a moving average."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)
            )
        self.register_buffer("average", torch.zeros(2))

    def forward(self, batch: Batch):
        noise = torch.rand(len(batch.inputs), 1, generator=batch.generator) if batch.inputs.device.type != "meta" else 0
        outputs = self.network(batch.inputs) + noise
        targets = batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    def after_step(self):
        self.average.lerp_(self.network[-1].bias.detach(), 0.1)


@pytest.fixture
def images():
    pixels = np.random.RandomState(0).randint(0, 256, (18, 8, 8)).astype(np.uint8)
    return Images.ordered(ArrayPictures(pixels), np.arange(18) % 2, ("a", "b")).with_transform(
        Augment(PREPROCESS, "shift")
    )


def make_engine(path, plan=PLAN, **changes):
    return Engine(Run(path), plan, **changes)


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0, msg=name)


def test_training_moves_the_parameters_and_logs_every_epoch(tmp_path, images):
    before = state_of(Toy())
    trained = make_engine(tmp_path).train("toy", Toy(), images)
    assert not torch.equal(trained.state_dict()["network.1.weight"], before["network.1.weight"])
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["epoch"], r["step"]) for r in records] == [(1, 2), (2, 4), (3, 6)]
    assert not trained.training


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path, images):
    first = make_engine(tmp_path / "a", seed=1).train("toy", Toy(), images)
    again = make_engine(tmp_path / "b", seed=1).train("toy", Toy(), images)
    other = make_engine(tmp_path / "c", seed=2).train("toy", Toy(), images)
    assert_same_state(again.state_dict(), first.state_dict())
    assert (tmp_path / "a/log.jsonl").read_bytes() == (tmp_path / "b/log.jsonl").read_bytes()
    assert not torch.equal(other.state_dict()["network.1.weight"], first.state_dict()["network.1.weight"])


def test_a_finished_stage_is_loaded_and_not_trained_again(tmp_path, images):
    first = make_engine(tmp_path).train("toy", Toy(), images)

    class Watched:
        begun = 0

        def begin(self, *_):
            self.begun += 1

        def advance(self, *_):
            raise AssertionError("a finished stage was trained")

        def end(self, *_): ...

    watcher = Watched()
    again = make_engine(tmp_path, progress=watcher).train("toy", Toy(), images)
    assert watcher.begun == 0
    assert_same_state(again.state_dict(), first.state_dict())


def test_runs_that_share_a_cache_train_a_common_stage_once(tmp_path, images):
    for name in ("a", "b"):
        make_engine(tmp_path / name, cache=tmp_path / "cache").train("toy", Toy(), images)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert (tmp_path / "a/stages.json").read_bytes() == (tmp_path / "b/stages.json").read_bytes()
    assert (tmp_path / "a/log.jsonl").read_bytes() == (tmp_path / "b/log.jsonl").read_bytes()


@pytest.mark.parametrize("change", ["objective", "seed", "stage", "plan", "images", "frozen"])
def test_the_fingerprint_knows_what_a_stage_depends_on(tmp_path, images, change):
    def fingerprint(changed):
        engine = make_engine(tmp_path / str(changed), seed=int(changed and change == "seed"))
        objective = Toy(seed=int(changed and change == "objective"))
        if changed and change == "frozen":
            freeze(objective.network[1])
        plan = PLAN.for_epochs(2) if changed and change == "plan" else PLAN
        data = images.subset(np.arange(17)) if changed and change == "images" else images
        engine.train("other" if changed and change == "stage" else "toy", objective, data, plan)
        return engine.manifest[0]["fingerprint"]

    assert fingerprint(True) != fingerprint(False)


KILLED = textwrap.dedent(
    """
    import importlib.util, os, pathlib, signal, sys
    spec = importlib.util.spec_from_file_location({name!r}, {file!r})
    toys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toys)
    import torch
    torch.set_num_threads(1)
    kill_at, path, optimizer = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    steps = 0
    follow = toys.Toy.after_step
    def after_step(self):
        global steps
        follow(self)
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    toys.Toy.after_step = after_step
    images = toys.images.__wrapped__() if hasattr(toys.images, "__wrapped__") else toys.images._get_wrapped_function()()
    plan = toys.dataclasses.replace(toys.PLAN, optimizer=optimizer)
    cache = pathlib.Path(sys.argv[4]) if len(sys.argv) > 4 else None
    toys.make_engine(path, plan, checkpoint_seconds=0.0, cache=cache).train("toy", toys.Toy(), images)
    """
)


@pytest.mark.parametrize(("kill_at", "optimizer"), [(1, "adamw"), (3, "lamb"), (4, "sgd"), (6, "adamw")])
def test_a_killed_stage_goes_on_bit_for_bit(tmp_path, images, kill_at, optimizer):
    plan = dataclasses.replace(PLAN, optimizer=optimizer)
    whole = make_engine(tmp_path / "whole", plan).train("toy", Toy(), images)
    script = KILLED.format(file=__file__, name=__name__)
    command = [sys.executable, "-c", script, str(kill_at), str(tmp_path / "killed"), optimizer]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not list((tmp_path / "killed/stages").glob("*/result.safetensors"))
    began = None

    class Watcher(Silent):
        def begin(self, stage, done, total):
            nonlocal began
            began = done

    resumed = make_engine(tmp_path / "killed", plan, progress=Watcher()).train("toy", Toy(), images)
    assert_same_state(resumed.state_dict(), whole.state_dict())
    for name in ("log.jsonl", "stages.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert began == kill_at - 1


def test_ctrl_c_stops_between_steps_and_the_run_goes_on(tmp_path, images):
    class Presser:
        def begin(self, *_): ...

        def advance(self, step, loss):
            if step == 3:
                os.kill(os.getpid(), signal.SIGINT)

        def end(self, *_): ...

    with pytest.raises(KeyboardInterrupt):
        make_engine(tmp_path / "a", progress=Presser()).train("toy", Toy(), images)
    resumed = make_engine(tmp_path / "a").train("toy", Toy(), images)
    whole = make_engine(tmp_path / "b").train("toy", Toy(), images)
    assert_same_state(resumed.state_dict(), whole.state_dict())


def test_divergence_names_stage_and_step_and_keeps_the_last_good_checkpoint(tmp_path, images):
    class Exploding(Toy):
        def after_step(self):
            super().after_step()
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 3:
                with torch.no_grad():
                    self.network[1].weight.fill_(torch.nan)

    with pytest.raises(InputError, match=r"stage toy diverged at step 3: .*network\.1\.weight"):
        make_engine(tmp_path).train("toy", Exploding(), images)


def test_the_digest_knows_settings_that_no_tensor_shows():
    torch.manual_seed(0)
    four = nn.MultiheadAttention(8, 4)
    torch.manual_seed(0)
    two = nn.MultiheadAttention(8, 2)
    assert state_digest(four) != state_digest(two)
    evaluated, tracked = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    freeze(evaluated)
    freeze(tracked, norm="track")
    assert state_digest(evaluated) != state_digest(tracked)
    module = nn.Linear(2, 2)
    assert state_digest(module.eval()) == state_digest(module.train())


def test_a_second_process_waits_for_a_stage_and_then_loads_it(tmp_path):
    """Two runs with one cache at the same time: one trains, the other waits and finds the result."""
    script = KILLED.format(file=__file__, name=__name__)
    shared = ["adamw", str(tmp_path / "cache")]
    commands = [[sys.executable, "-c", script, "-1", str(tmp_path / name), *shared] for name in "ab"]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    found = [json.loads((tmp_path / name / "timing.jsonl").read_text())["found"] for name in "ab"]
    assert sorted(found) == [False, True]
    assert (tmp_path / "a/log.jsonl").read_bytes() == (tmp_path / "b/log.jsonl").read_bytes()


def test_frozen_parts_do_not_move_and_keep_their_statistics(tmp_path, images):
    objective = Toy()
    freeze(objective.network)
    objective.extra = nn.Linear(1, 1)  # something is left to train
    before = state_of(objective.network)
    forward = Toy.forward

    def with_extra(self, batch):
        return forward(self, batch) + self.extra(torch.ones(1, 1, device=batch.inputs.device)).sum()

    objective.forward = with_extra.__get__(objective)
    trained = make_engine(tmp_path).train("toy", objective, images)
    assert_same_state(trained.network.state_dict(), before)


def test_frozen_norms_may_track_the_data(tmp_path, images):
    objective = Toy()
    freeze(objective.network, norm="track")
    objective.extra = nn.Linear(1, 1)
    forward = Toy.forward
    objective.forward = (
        lambda self, batch: forward(self, batch) + self.extra(torch.ones(1, 1, device=batch.inputs.device)).sum()
    ).__get__(objective)
    before = state_of(objective.network)
    trained = make_engine(tmp_path).train("toy", objective, images)
    assert not torch.equal(trained.network[2].running_mean, before["2.running_mean"])
    torch.testing.assert_close(trained.network[2].weight, before["2.weight"], rtol=0, atol=0)


def test_compute_does_not_depend_on_what_was_trained_before(tmp_path, images):
    engine = make_engine(tmp_path)
    engine.train("toy", Toy(), images)
    linear = 2 * (192 * 6 + 6 * 2)
    # forward once, backward twice, but no gradient with respect to the pictures
    assert engine.flops == (3 * linear - 2 * 192 * 6) * 6 * 8


def test_a_budget_in_flops_decides_the_number_of_steps(tmp_path, images):
    engine = make_engine(tmp_path / "a")
    engine.train("toy", Toy(), images)
    budget = Engine(Run(tmp_path / "b"), Plan(epochs=99, batch_size=8, flops=engine.flops * 2))
    budget.train("toy", Toy(), images)
    assert budget.manifest[0]["steps"] == 12


def test_kept_arrays_are_computed_once(tmp_path):
    engine, calls = make_engine(tmp_path), []

    def make():
        calls.append(1)
        return {"x": np.arange(3.0)}

    for _ in range(2):
        np.testing.assert_array_equal(engine.keep("thing", ["input"], make)["x"], np.arange(3.0))
    assert len(calls) == 1
    engine.keep("thing", ["other input"], make)
    assert len(calls) == 2


def test_a_second_writer_is_refused_in_one_line(tmp_path):
    code = (
        f"from forktail.run import only_writer\nwith only_writer(__import__('pathlib').Path({str(tmp_path)!r})): pass"
    )
    with only_writer(tmp_path):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "another process is writing there" in found.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plans_of_stages_have_their_epochs(tmp_path, images):
    engine = make_engine(tmp_path / "run")
    plans = engine.plans([(Toy, images, 5), (Toy, images, 0)])
    assert [plan.epochs for plan in plans] == [5, 0]
    assert {plan.flops for plan in plans} == {None}


def test_plans_divide_the_compute_that_is_left(tmp_path, images):
    """One epoch is already done; of the rest, an analysis takes a tenth and the stages share 1 to 3."""
    first = make_engine(tmp_path / "a", PLAN.for_epochs(1))
    first.train("one", Toy(), images)
    budget = 10 * first.flops
    engine = make_engine(tmp_path / "a", dataclasses.replace(PLAN, flops=budget))
    engine.manifest += first.manifest
    plans = engine.plans([(Toy, images, 1), (Toy, images, 3), (Toy, images, 0)], reserve=0.1 * budget)
    assert [plan.flops for plan in plans[:2]] == pytest.approx([0.2 * budget, 0.6 * budget])
    assert (plans[2].flops, plans[2].epochs) == (None, 0)
    with pytest.raises(InputError, match=r"plan\.flops = .*; expected more than"):
        engine.plans([(Toy, images, 1)], reserve=0.9 * budget)


def test_less_than_a_step_is_refused_in_the_same_words_by_plans_and_by_a_stage_without_any(tmp_path, images):
    step = 8 * make_engine(tmp_path).flops_per_epoch(Toy(), images) / len(images)
    remedy = r"expected at least .*, one step; raise plan\.flops, or plan\.epochs in a comparison"
    short = make_engine(tmp_path / "short", Plan(batch_size=8, flops=0.999 * step))
    with pytest.raises(InputError, match=rf"^stage toy: .* are for it; {remedy}"):
        short.train("toy", Toy(), images)
    halves = make_engine(tmp_path / "halves", Plan(batch_size=8, flops=1.998 * step))
    with pytest.raises(InputError, match=rf"leaves .* to a stage; {remedy}"):
        halves.plans([(Toy, images, 1), (Toy, images, 1)])
    enough = make_engine(tmp_path / "enough", Plan(batch_size=8, flops=2 * step))
    for name, plan in zip("ab", enough.plans([(Toy, images, 1), (Toy, images, 1)]), strict=True):
        enough.train(name, Toy(), images, plan)
    assert [record["steps"] for record in enough.manifest] == [1, 1]


def test_the_cost_of_an_epoch_is_what_an_epoch_is_charged(tmp_path, images):
    engine = make_engine(tmp_path / "run", Plan(epochs=1, batch_size=9))  # 18 images in full batches
    engine.train("one", Toy(), images)
    assert engine.flops == engine.flops_per_epoch(Toy(), images)
    assert engine.manifest[0]["memory"] > 0


def test_the_sampler_decides_what_is_shown_and_names_the_stage(tmp_path, images):
    class Counting(Toy):
        def __init__(self):
            super().__init__()
            self.register_buffer("shown", torch.zeros(18))

        def forward(self, batch: Batch):
            if not batch.inputs.is_meta:
                self.shown.index_add_(0, batch.index, torch.ones(len(batch.index)))
            return super().forward(batch)

    rare = images.subset([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])  # nine of the first class, one of the second
    engine = make_engine(tmp_path)
    plain = engine.train("toy", Counting(), rare)
    aware = engine.train("toy", Counting(), rare, sampler=ClassAware(each=1))
    assert plain.shown[9] <= 3
    assert aware.shown[9] == aware.shown.sum() / 2
    assert len({record["fingerprint"] for record in engine.manifest}) == 2


def test_a_longer_epoch_has_more_steps(tmp_path, images):
    engine = make_engine(tmp_path)
    engine.train("toy", Toy(), images, sampler=Paired(Shuffled(), Shuffled()))
    assert engine.manifest[0]["steps_per_epoch"] == 4


def test_mixing_gives_soft_targets_and_is_refused_where_classes_are_needed(tmp_path, images):
    seen = []

    class Looking(Toy):
        def forward(self, batch: Batch):
            seen.append(batch.targets)
            return super().forward(batch)

    class Strict(Toy):
        needs_classes = True

    mixing = dataclasses.replace(PLAN, mix=Mix(mixup=0.8, smoothing=0.1))
    make_engine(tmp_path / "a", mixing).train("toy", Looking(), images)
    trained = [targets for targets in seen if not targets.is_meta]
    assert all(targets.shape == (8, 2) for targets in trained)
    assert min(float(targets.min()) for targets in trained) >= 0.05 - 1e-6
    with pytest.raises(InputError, match=r"plan\.mix .* in stage toy, which needs one class"):
        make_engine(tmp_path / "b", mixing).train("toy", Strict(), images)
