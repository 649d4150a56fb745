"""Time, memory and error of the selection: against parameters, against weights, and against the exact reference.

    python benchmarks/selection.py [--parameters 86000000] [--repeat 5] [--out benchmarks/results/selection.json]

Prints a table and writes JSON with the machine. Moments are drawn at random in float32, 13 layers of equal size, two
tasks. Times are those of the whole call; every figure is the smallest of the repeats, and processor seconds (of all
threads) stand beside wall-clock seconds, which a busy machine spoils.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from forktail.theory import CriterionTable, UnitMoments, binned_table, criterion_table, movement_damping, select

LAYERS = 13
IMAGES = [115_846, 115_846]


def draw(parameters: int, seed: int, *, full: bool = False) -> tuple[list[UnitMoments], list[UnitMoments]]:
    """Log-normal curvatures round 1e-6, of which the tasks share a part, and solutions that differ by their noise."""
    rng = np.random.default_rng(seed)

    def noise(d: int) -> np.ndarray:
        return rng.standard_normal((2, d), dtype=np.float32)

    units = []
    for _ in range(LAYERS):
        d = parameters // LAYERS
        H = noise(d)
        H += rng.standard_normal((1, d), dtype=np.float32)
        np.exp(H, out=H)
        H *= 1e-6
        u = noise(d)
        u *= 3.0
        if not full:
            units.append(UnitMoments(H, H, H, u))
            continue
        S = H * np.exp(0.3 * noise(d))
        cross = np.zeros((2, 2, d), dtype=np.float32)
        cross[0, 1] = cross[1, 0] = -0.2 * np.sqrt(S[0] * S[1])
        units.append(UnitMoments(H, S, H * np.exp(0.3 * noise(d)), u, cross))
    return units, [UnitMoments(*[np.full((1, 1000), 1e-6)] * 3, np.zeros((1, 1000)))] * 2


def grid(number: int) -> np.ndarray:
    first = np.arange(1, number + 1) / (number + 1)
    return np.stack([first, 1 - first], axis=1)


def resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Memory:
    """The most that this process held while something ran, above what it held before."""

    def __enter__(self) -> Memory:
        self.before = self.most = resident()
        self.running = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.most = max(self.most, resident())
            time.sleep(0.002)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()
        self.most = max(self.most, resident())

    @property
    def megabytes(self) -> float:
        return round((self.most - self.before) / 2**20, 1)


def measure(work: Callable[[], Any], repeat: int) -> dict[str, float]:
    wall, processor = [], []
    for _ in range(repeat):
        begin, begin_processor = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begin)
        processor.append(time.process_time() - begin_processor)
    with Memory() as memory:
        work()
    return {
        "seconds": round(min(wall), 4),
        "processor_seconds": round(min(processor), 4),
        "extra_megabytes": memory.megabytes,
    }


def errors(found: CriterionTable, exact: CriterionTable) -> dict[str, float]:
    return {
        "largest_relative_error": float(np.max(np.abs(found.total - exact.total) / np.abs(exact.total))),
        "largest_relative_bound": float(np.max(found.bound / np.abs(found.total))),
    }


def machine() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if "model name" in line]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=86_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "selection.json")
    given = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "layers": LAYERS, "runs": []}

    def report(kind: str, **row: Any) -> None:
        found["runs"].append({"kind": kind, **row})
        print(f"{kind:10}", "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))

    for share in (4, 2, 1):
        units, decoders = draw(given.parameters // share, seed=0)
        for number in (99, 999, 9_999) if share == 1 else (99,):
            for threads in (1, 2):
                options = {"weights": grid(number), "n": IMAGES, "reading": "sandwich", "threads": threads}
                row = measure(lambda: select(binned_table(units, decoders, **options)), given.repeat)  # noqa: B023
                report("sandwich", parameters=given.parameters // share, weights=number, threads=threads, **row)
    begin = time.perf_counter()
    damping = movement_damping(units, decoders, IMAGES)
    report("damping", parameters=given.parameters, found=damping, seconds=round(time.perf_counter() - begin, 3))

    units, decoders = draw(given.parameters, seed=1, full=True)
    for options in (
        {"reading": "general"},
        {"reading": "general", "damping": 1e-6},
        {"reading": "sandwich", "damping": 1e-6},
    ):
        row = measure(lambda: binned_table(units, decoders, weights=grid(99), n=IMAGES, **options), 2)  # noqa: B023
        report("other", parameters=given.parameters, weights=99, threads=2, **options, **row)

    units, decoders = draw(given.parameters // 100, seed=2, full=True)
    for reading in ("sandwich", "naive", "average", "general"):
        for damping in (0.0,) if reading == "naive" else (0.0, 1e-6):
            options = {"weights": grid(99), "n": IMAGES, "reading": reading, "damping": damping, "debiased": False}
            begin = time.process_time()
            exact = criterion_table(units, decoders, **options)
            middle = time.process_time()
            table = binned_table(units, decoders, **options)
            ratio = (middle - begin) / (time.process_time() - middle)
            row = {"reading": reading, "damping": damping, "times_faster": round(ratio, 1), **errors(table, exact)}
            report("error", parameters=given.parameters // 100, weights=99, **row)

    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
