"""THE loop. Every method trains through `Engine.train`, and nothing else calls backward."""

from __future__ import annotations

import dataclasses
import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import timm
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from forktail.data.images import Images
from forktail.data.sampling import Sampler, Shuffled
from forktail.errors import InputError
from forktail.files import write_atomically
from forktail.run import Run, only_writer
from forktail.runtime import Runtime
from forktail.training.cost import TrainingCost, training_cost, training_memory
from forktail.training.objective import Batch, Objective, set_modes
from forktail.training.plan import Plan
from forktail.training.progress import Progress, Silent
from forktail.training.randomness import restored_generators, seed_of
from forktail.training.stage import Cursor, Record, Stage, fingerprint, reading, state_digest
from forktail.training.stream import Loaded, training_stream

# Raise it when the same objective, images and plan come to give other numbers: stored stages are then made again.
REVISION = 2

SHUFFLED = Shuffled()

O = TypeVar("O", bound=Objective)  # noqa: E741 - the objective that goes in comes out
Arrays = dict[str, npt.NDArray[Any]]


class Engine:
    """Trains stages, keeps what they leave by fingerprint, and goes on where a killed process stopped.

    Args:
        run: The run directory that the manifest, the log and the results go to.
        plan: How stages are optimised unless a method says otherwise.
        seed: Seed of everything that is random.
        runtime: The device.
        cache: Folder of the stages; by default the run's own. Runs that share one train a common stage once.
        progress: Who is told.
        workers: Processes that read pictures ahead; results do not depend on it.
        checkpoint_seconds: A kill costs at most this much work; results do not depend on it.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        *,
        seed: int = 0,
        runtime: Runtime | None = None,
        cache: Path | None = None,
        progress: Progress | None = None,
        workers: int = 0,
        checkpoint_seconds: float = 20.0,
    ) -> None:
        self.run = run
        self.plan = plan
        self.seed = seed
        self.runtime = runtime or Runtime.open("cpu")
        self.cache = cache or run.path / "stages"
        self.progress = progress or Silent()
        self.workers = workers
        self.checkpoint_seconds = checkpoint_seconds
        self.manifest: list[Record] = []
        self.notes: list[str] = []
        self._log: list[Record] = []
        self._timing: list[Record] = []

    @property
    def flops(self) -> float:
        """Floating-point operations of all stages and analyses so far, wherever they were computed."""
        return float(sum(record["flops"] for record in self.manifest))

    def note(self, text: str) -> None:
        """Tell and keep a sentence that a user should read, such as that an optimum was not reached.

        Args:
            text: The sentence.
        """
        self.notes.append(text)
        self.progress.note(text)

    def train(
        self, stage: str, objective: O, images: Images, plan: Plan | None = None, sampler: Sampler = SHUFFLED
    ) -> O:
        """Train an objective, or load it if the very same stage was trained before.

        A stage is named by its fingerprint: the objective's class, revision, structure, settings and state at entry,
        the images and their transform, the sampler, the plan, the seed, the stage's name, the kind of device and the
        versions of torch and timm.

        Args:
            stage: Name of the stage, unique in its method.
            objective: What to train; it is trained in place.
            images: The training set with its transform.
            plan: How; by default the engine's plan.
            sampler: What an epoch shows; by default every image once.

        Returns:
            The same objective, trained.

        Raises:
            InputError: If the plan mixes images and the objective needs one class of each.
            KeyboardInterrupt: If Ctrl-C was pressed; all steps that are done are saved.
        """
        plan = plan or self.plan
        if objective.needs_classes and plan.mix.active:
            raise InputError(
                f"plan.mix {plan.mix} in stage {stage}, which needs one class of each image",
                remedy="set plan.mix.mixup = 0, plan.mix.cutmix = 0 and plan.mix.smoothing = 0",
            )
        objective.to(self.runtime.device)
        facts = self._facts(stage, objective, images, plan, sampler)
        place = Stage(self.cache / facts["fingerprint"])
        with only_writer(place.folder, wait=True), interrupts_between_steps() as interrupted:
            found = place.result.is_file()
            if not found:
                threads = torch.get_num_threads()
                with self.runtime.reproducible():
                    self._run(place, objective, images, plan, sampler, facts, interrupted)
                torch.set_num_threads(threads)
            facts = place.load_result(objective)
        self._record(facts, found=found)
        if interrupted.is_set():
            raise KeyboardInterrupt
        return objective.eval()

    def keep(
        self,
        name: str,
        inputs: Sequence[object],
        make: Callable[[], Arrays],
        *,
        flops: float | Callable[[Arrays], float] = 0.0,
        memory: int = 0,
    ) -> Arrays:
        """Compute arrays once and store them by what they were computed from.

        Args:
            name: Name of the analysis, unique in its method.
            inputs: All that the result depends on, in words or digests.
            make: Computes the arrays.
            flops: What the computation costs in floating-point operations, or what says so of the arrays.
            memory: Bytes that it needs at once; 0 where nobody counted.

        Returns:
            The arrays, computed or loaded.
        """
        mark = fingerprint(REVISION, versions(), self.runtime.device.type, name, *inputs)
        path = self.cache / mark / "arrays.safetensors"
        with only_writer(path.parent, wait=True):
            found = path.is_file()
            if not found:
                started = time.perf_counter()
                with self.runtime.reproducible():
                    arrays = {key: np.ascontiguousarray(value) for key, value in make().items()}
                clock = {"seconds": str(time.perf_counter() - started)}
                write_atomically(path, functools.partial(save_file, arrays, metadata=clock))
        with reading(path), safe_open(path, framework="numpy") as stream:
            kept: Arrays = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a mapping
            seconds = float(stream.metadata()["seconds"])
        spent = flops(kept) if callable(flops) else flops
        facts = {"stage": name, "fingerprint": mark, "flops": spent, "memory": memory, "log": [], "seconds": seconds}
        self._record(facts, found=found)
        return kept

    def plans(self, stages: Sequence[tuple[Callable[[], Objective], Images, int]], *, reserve: float = 0) -> list[Plan]:
        """Plan stages of given lengths; under ``plan.flops`` they divide the compute that is left.

        Then each gets a share in proportion to what its epochs would cost, and the whole method spends ``plan.flops``
        but for less than one step of each stage.

        Args:
            stages: What makes the objective, the images and the epochs of each stage that is still to come.
            reserve: Floating-point operations to leave for analyses between them.

        Returns:
            One plan per stage.

        Raises:
            InputError: If what is left is less than a step of each stage.
        """
        if self.plan.flops is None:
            return [self.plan.for_epochs(epochs) for _, _, epochs in stages]
        left = self.plan.flops - self.flops - reserve
        if left <= 0:
            raise InputError(
                f"plan.flops = {self.plan.flops:g}",
                expected=f"more than {self.flops + reserve:g}, which the stages and analyses before take",
            )
        costs = [epochs * self.flops_per_epoch(make(), images) for make, images, epochs in stages]
        if not sum(costs):
            raise InputError(f"plan.flops = {self.plan.flops:g}", expected="a stage with epochs to divide them")
        shares = [left * cost / sum(costs) for cost in costs]
        for share, cost, (_, images, epochs) in zip(shares, costs, stages, strict=True):
            step = cost / max(1, epochs) / len(images) * min(self.plan.batch_size, len(images))
            _check_one_step(f"plan.flops = {self.plan.flops:.3g} leaves {share:.3g} to a stage", share, step)
        return [dataclasses.replace(self.plan, flops=share) if share else self.plan.for_epochs(0) for share in shares]

    def flops_per_epoch(self, objective: Objective, images: Images) -> float:
        """Count the floating-point operations of one pass over the images, forward and backward.

        Args:
            objective: What is trained.
            images: The training set with its transform.

        Returns:
            Floating-point operations.
        """
        return float(len(images) * self._cost(objective, images).flops)

    def _cost(self, objective: Objective, images: Images) -> TrainingCost:
        with restored_generators():  # the transform may draw
            shape = tuple(images[0].shape)
        return training_cost(objective, shape, len(images.classes))

    def _facts(self, stage: str, objective: Objective, images: Images, plan: Plan, sampler: Sampler) -> Record:
        """Say what the stage is before it runs: its fingerprint, length and cost."""
        cost = self._cost(objective, images)
        flops_per_image = cost.flops
        shown = sampler.length(len(images))
        per_epoch = plan.steps_per_epoch(shown)
        batch = min(plan.batch_size, shown)
        steps = plan.epochs * per_epoch if plan.flops is None else int(plan.flops // (flops_per_image * batch))
        if plan.flops is not None:  # a method with one stage has asked for no plans
            said = f"stage {stage}: {plan.flops:.3g} floating-point operations are for it"
            _check_one_step(said, plan.flops, flops_per_image * batch)
        mark = fingerprint(
            REVISION,
            versions(),
            self.runtime.device.type,
            type(objective).revision,
            state_digest(objective),
            images.fingerprint,
            sampler,
            plan,
            self.seed,
            stage,
        )
        return {
            "stage": stage,
            "fingerprint": mark,
            "steps": steps,
            "steps_per_epoch": per_epoch,
            "images_per_step": batch,
            "trained_parameters": sum(p.numel() for p in objective.parameters() if p.requires_grad),
            "flops": float(flops_per_image) * steps * batch,
            "memory": training_memory(objective, plan, batch, cost),
        }

    def _run(
        self,
        place: Stage,
        objective: Objective,
        images: Images,
        plan: Plan,
        sampler: Sampler,
        facts: Record,
        interrupted: threading.Event,
    ) -> None:
        """Train from the last checkpoint to the end."""
        stage, steps, per_epoch = facts["stage"], facts["steps"], facts["steps_per_epoch"]
        seed = seed_of(self.seed, stage)
        optimizer = plan.make_optimizer(objective)
        schedule = plan.make_schedule(optimizer, steps)
        cursor = place.load_checkpoint(objective, optimizer)
        torch.set_num_threads(cursor.threads)
        stream = training_stream(
            images, sampler, batch_size=plan.batch_size, steps=steps, start=cursor.step, seed=seed, workers=self.workers
        )
        self.progress.begin(stage, cursor.step, steps)
        before, started, saved = cursor.seconds, time.perf_counter(), time.monotonic()
        for loaded in stream:
            step = cursor.step
            schedule.step_update(step)
            with restored_generators(seed_of(seed, "step", step, self.runtime.rank), self.runtime.device):
                set_modes(objective)
                losses = objective(plan.mix(self._batch(loaded, seed, step, steps), len(images.classes)))
                loss = losses.mean()
                value = float(loss.detach())
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(trained_parameters(objective), plan.clip or float("inf"))
                if not np.isfinite([value, float(norm)]).all():
                    raise diverged(stage, step, objective, loaded[0])
                optimizer.step()
                objective.after_step()

            cursor.step += 1
            cursor.epoch_loss += value
            cursor.seconds = before + time.perf_counter() - started
            if cursor.step % per_epoch == 0 or cursor.step == steps:
                cursor.log.append(epoch_record(facts, cursor, optimizer.param_groups[0]["lr"]))
                cursor.epoch_loss = 0.0
            self.progress.advance(cursor.step, value)
            if interrupted.is_set() or time.monotonic() - saved >= self.checkpoint_seconds:
                place.save_checkpoint(objective, optimizer, cursor)
                self.run.write_lines("log.jsonl", self._log + cursor.log)
                saved = time.monotonic()
            if interrupted.is_set():
                raise KeyboardInterrupt
        place.save_result(objective, {**facts, "log": cursor.log, "seconds": cursor.seconds})
        self.progress.end(f"loss {cursor.log[-1]['loss']:.3f}" if cursor.log else "no step")

    def _batch(self, loaded: Loaded, seed: int, step: int, steps: int) -> Batch:
        inputs, targets, index = (tensor.to(self.runtime.device) for tensor in loaded)
        generator = torch.Generator(self.runtime.device)
        generator.manual_seed(seed_of(seed, "objective", step, self.runtime.rank))
        return Batch(inputs, targets, index, progress=step / steps, generator=generator)

    def _record(self, facts: Record, *, found: bool) -> None:
        """Add a finished stage to the run's manifest, log and clock; one that is asked for again is there already."""
        if any(record["fingerprint"] == facts["fingerprint"] for record in self.manifest):
            return
        self._log += facts["log"]
        self.manifest.append({key: value for key, value in facts.items() if key not in ("log", "seconds")})
        self._timing.append({"stage": facts["stage"], "seconds": round(facts["seconds"], 3), "found": found})
        self.run.write_json("stages.json", self.manifest)
        self.run.write_lines("log.jsonl", self._log)
        self.run.write_lines("timing.jsonl", self._timing)


def _check_one_step(said: str, flops: float, step: float) -> None:
    """Refuse a stage that its share of the compute does not begin."""
    if flops < step:
        raise InputError(
            said,
            expected=f"at least {step:.3g}, one step",
            remedy="raise plan.flops, or plan.epochs in a comparison, or lower plan.batch_size",
        )


def epoch_record(facts: Record, cursor: Cursor, lr: float) -> Record:
    """Say how the epoch that just ended went."""
    per_epoch = facts["steps_per_epoch"]
    steps = cursor.step % per_epoch or per_epoch
    return {
        "stage": facts["stage"],
        "epoch": -(-cursor.step // per_epoch),
        "step": cursor.step,
        "loss": cursor.epoch_loss / steps,
        "lr": lr,
    }


def trained_parameters(objective: Objective) -> list[nn.Parameter]:
    """List the parameters that are not frozen."""
    return [parameter for parameter in objective.parameters() if parameter.requires_grad]


def versions() -> tuple[str, str]:
    """Name what the numbers come from, beside our own code."""
    return (torch.__version__, timm.__version__)


def diverged(stage: str, step: int, objective: Objective, inputs: Tensor) -> InputError:
    """Name the stage, the step and the first tensor that is not finite."""
    tensors = [("the inputs", inputs), *objective.named_parameters()]
    tensors += [(f"the gradient of {name}", p.grad) for name, p in objective.named_parameters() if p.grad is not None]
    bad = next((name for name, value in tensors if not torch.isfinite(value).all()), "the loss itself")
    return InputError(
        f"stage {stage} diverged at step {step}: first tensor that is not finite: {bad}",
        expected="finite losses and gradients",
        remedy="lower plan.lr or raise plan.warmup, and give the command again",
    )


@contextmanager
def interrupts_between_steps() -> Iterator[threading.Event]:
    """Turn Ctrl-C into a flag that is looked at between two steps, so that no half-made step is saved."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def press(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():  # the second time: now
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
