"""A stage on disk: its last checkpoint while it runs, its result when it is done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from forktail.errors import InputError
from forktail.files import write_atomically

Record = dict[str, Any]


@dataclass
class Cursor:
    """Where a stage stands, beside its tensors.

    Args:
        step: Steps done.
        epoch_loss: Sum of the losses of the current epoch's steps, in nats.
        log: Records of the epochs done.
        seconds: Time spent on the steps done, over all processes.
        threads: Threads of the process that began; sums are split by them, so whoever goes on uses as many.
    """

    step: int = 0
    epoch_loss: float = 0.0
    log: list[Record] = field(default_factory=list)
    seconds: float = 0.0
    threads: int = field(default_factory=torch.get_num_threads)


@dataclass(frozen=True)
class Stage:
    """One folder of the stage cache, named by the stage's fingerprint.

    Args:
        folder: The folder.
    """

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """What an unfinished stage goes on from."""
        return self.folder / "checkpoint.safetensors"

    @property
    def result(self) -> Path:
        """What a finished stage left."""
        return self.folder / "result.safetensors"

    def save_checkpoint(self, objective: nn.Module, optimizer: torch.optim.Optimizer, cursor: Cursor) -> None:
        """Write all that the next step depends on.

        Args:
            objective: Its state is saved.
            optimizer: Its state is saved.
            cursor: Where the stage stands.
        """
        tensors = {f"objective.{name}": value for name, value in objective.state_dict().items()}
        state = optimizer.state_dict()
        scalars: dict[str, Any] = {}
        for number, values in state["state"].items():
            for name, value in values.items():
                (tensors if isinstance(value, Tensor) else scalars)[f"optimizer.{number}.{name}"] = value
        # Some optimisers count their steps in the groups, as a tensor that they make of a number again.
        groups = [
            {k: v.item() if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}
            for group in state["param_groups"]
        ]
        write(self.checkpoint, tensors, {"cursor": dataclasses.asdict(cursor), "scalars": scalars, "groups": groups})

    def load_checkpoint(self, objective: nn.Module, optimizer: torch.optim.Optimizer) -> Cursor:
        """Restore what `save_checkpoint` wrote; a stage without a checkpoint begins.

        Args:
            objective: Receives its state.
            optimizer: Receives its state.

        Returns:
            Where the stage stands.
        """
        if not self.checkpoint.is_file():
            return Cursor()
        tensors, facts = read(self.checkpoint)
        with reading(self.checkpoint):
            optimizer.load_state_dict(_optimizer_state(optimizer, tensors, facts))
            cursor = Cursor(**facts["cursor"])
            load_objective(objective, tensors)
        return cursor

    def save_result(self, objective: nn.Module, facts: Record) -> None:
        """Write the trained objective, then drop the checkpoint.

        Args:
            objective: Its state is saved.
            facts: What the run's manifest and log say of the stage.
        """
        write(self.result, {f"objective.{name}": value for name, value in objective.state_dict().items()}, facts)
        self.checkpoint.unlink(missing_ok=True)

    def load_result(self, objective: nn.Module) -> Record:
        """Restore a finished stage.

        Args:
            objective: Receives its state.

        Returns:
            The facts that were saved with it.
        """
        tensors, facts = read(self.result)
        with reading(self.result):
            load_objective(objective, tensors)
        return facts


def _optimizer_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], facts: Record) -> Record:
    """Put an optimiser's state together as it was when `Stage.save_checkpoint` took it apart."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *facts["scalars"].items()]:
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = value
    groups = [
        own | {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
        for own, saved in zip(optimizer.state_dict()["param_groups"], facts["groups"], strict=True)
    ]
    return {"state": state, "param_groups": groups}


def write(path: Path, tensors: dict[str, Tensor], facts: Record) -> None:
    """Write tensors and facts as one safetensors file, atomically.

    Args:
        path: The file.
        tensors: What to save; each gets its own storage.
        facts: Anything that JSON can say, kept in the file's metadata.
    """
    owned = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    metadata = {"forktail": json.dumps(facts, ensure_ascii=False)}
    write_atomically(path, lambda part: save_file(owned, part, metadata))


def read(path: Path) -> tuple[dict[str, Tensor], Record]:
    """Read what `write` wrote.

    Args:
        path: The file.

    Returns:
        Tensors and facts.
    """
    with reading(path), safetensors.safe_open(path, framework="pt") as stream:
        facts: Record = json.loads(stream.metadata()["forktail"])
        return {name: stream.get_tensor(name) for name in stream.keys()}, facts  # noqa: SIM118 - not a mapping


def load_objective(objective: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load an objective's part of a stage file strictly.

    Args:
        objective: Receives its state.
        tensors: Content of the file.
    """
    prefix = "objective."
    objective.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file of the cache; what goes wrong meanwhile is the file's fault, since we wrote it.

    Args:
        path: The file.

    Yields:
        Nothing.

    Raises:
        InputError: If the file is damaged, or of another stage.
    """
    try:
        yield
    except (safetensors.SafetensorError, RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: damaged ({reason})",
            expected="what an earlier run wrote",
            remedy=f"delete {path.parent}; the stage is then trained again",
        ) from None


def fingerprint(*parts: object) -> str:
    """Name something by what it was made from.

    Args:
        parts: Strings, numbers, dataclasses of them: things whose ``repr`` says all and is the same tomorrow.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def state_digest(module: nn.Module) -> str:
    """Digest a module's structure, settings, tensors and which of them are trained.

    Args:
        module: Any module.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(structure_digest(module).encode())
    for value in module.state_dict().values():
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def structure_digest(module: nn.Module) -> str:
    """Digest all of a module but the numbers in its tensors.

    Args:
        module: Any module.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        kind = type(part)
        digest.update(repr((name, kind.__module__, kind.__qualname__, _settings(part))).encode())
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, value in module.state_dict().items():
        digest.update(repr((name, value.dtype, tuple(value.shape), name in trained)).encode())
    return digest.hexdigest()


def _settings(module: nn.Module) -> list[tuple[str, object]]:
    """List what a module keeps as plain values: numbers of heads, rates, scales, whether it is frozen."""
    return sorted(
        (name, value)
        for name, value in vars(module).items()
        if name != "training" and not name.startswith("_") and _is_plain(value)
    )


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
