"""What the rows of the table arrange: an empty folder, and short ways to fill it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

SIDE = 12


@dataclass(frozen=True)
class Scene:
    """The folder in which a command is given.

    Args:
        folder: The folder, empty.
        trained: A finished run of another folder, to be copied.
        patch: Changes that are undone afterwards.
    """

    folder: Path
    trained: Path
    patch: pytest.MonkeyPatch

    def path(self, name: str) -> Path:
        """Name a file, and make its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def text(self, name: str, content: str) -> Path:
        """Write a text file."""
        path = self.path(name)
        path.write_bytes(content.encode())
        return path

    def content(self, name: str, content: bytes) -> Path:
        """Write a file."""
        path = self.path(name)
        path.write_bytes(content)
        return path

    def picture(self, name: str, grey: int = 90, side: int = SIDE) -> Path:
        """Write one picture."""
        path = self.path(name)
        Image.new("L", (side, side), grey).save(path)
        return path

    def classes(self, folder: str, **counts: int) -> None:
        """Fill a folder of class folders."""
        for name, count in counts.items():
            self.path(f"{folder}/{name}/x").parent.mkdir(exist_ok=True)
            for number in range(count):
                self.picture(f"{folder}/{name}/{number}.png", 10 * number)

    def rows(self, name: str, *lines: str, pictures: int = 4) -> None:
        """Write a list or a table beside ``0.png``, ``1.png`` and so on."""
        for number in range(pictures):
            self.picture(f"{number}.png", 10 * number)
        self.text(name, "".join(f"{line}\n" for line in lines))

    def arrays(self, name: str = "set.npz", **changes: Any) -> Path:
        """Write a good ``.npz`` file, but for some arrays; None leaves one out."""
        path = self.path(name)
        good = {"x_train": pixels(12), "y_train": np.arange(12) % 3, "x_test": pixels(30), "y_test": np.arange(30) % 3}
        np.savez(path, **{key: value for key, value in (good | changes).items() if value is not None})
        return path

    def weights(self, name: str, change: Callable[[dict[str, Any]], object] = dict.copy) -> Path:
        """Write weights of `tiny` as safetensors, after a change to them."""
        from forktail.backbones.tiny import tiny

        state = tiny().state_dict()
        change(state)
        path = self.path(name)
        safetensors.torch.save_file(state, path, {"forktail": '{"architecture": "tiny"}'})
        return path

    def run(self, name: str = "run") -> Path:
        """Copy the finished run, made from ``set.npz`` in this folder with ``ce``."""
        self.arrays()
        return Path(shutil.copytree(self.trained, self.folder / name))

    def json(self, name: str, **changes: Any) -> None:
        """Change keys of a JSON file; None takes one out."""
        path = self.folder / name
        facts = json.loads(path.read_text(encoding="utf-8")) | changes
        path.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))

    def cut(self, name: str, share: float = 0.5) -> None:
        """Cut a file."""
        path = self.folder / name
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])


def pixels(count: int) -> np.ndarray:
    """Draw grey pictures."""
    return np.random.RandomState(0).randint(0, 256, (count, SIDE, SIDE)).astype(np.uint8)
