"""A small made-up run and comparison, and a strict reader of pages."""

import copy
import csv
import json
import struct
import zlib
from html.parser import HTMLParser

import pytest

from forktail.run import Run

VOID = {"meta", "img", "br", "link", "input", "hr"}
CLASSES = ["cat", "dog", "owl", "eel", "elk", "yak"]
COUNTS = [400, 150, 60, 30, 8, 2]
ACCURACY = [0.9, 0.85, 0.7, 0.5, 0.25, 0.0]


class Page(HTMLParser):
    """Reads a page and refuses tags that are not closed in order, or ids that occur twice."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.words, self.cells = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert len(found) == len(attributes), f"an attribute twice in {tag}"
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_endtag(self, tag):
        assert [tag] == self.open[-1:], f"</{tag}> while {self.open[-3:]} are open"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    def having(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return "".join(self.words).replace("\u00a0", " ")


@pytest.fixture
def read_page():
    return Page


def accuracy_of(per_class):
    return {
        "balanced": sum(per_class) / len(per_class),
        "micro": 0.53,
        "many": 0.875,
        "medium": 0.6,
        "few": 0.125,
        "head": 0.8167,
        "tail": 0.25,
        "worst": min(per_class),
    }


def metrics():
    images = [0, 3, 20, 40, 30, 27]
    bins = [
        {"low": k / 6, "high": (k + 1) / 6, "images": n, "confidence": (k + 0.5) / 6, "accuracy": k / 6}
        for k, n in enumerate(images)
    ]
    bins[0] |= {"confidence": None, "accuracy": None}
    return {
        "accuracy": accuracy_of(ACCURACY),
        "groups": {
            "rule": "A",
            "edges": {"many": "n > 100", "medium": "20 <= n <= 100", "few": "n < 20"},
            "classes": {"many": 2, "medium": 2, "few": 2, "head": 3, "tail": 3},
        },
        "tasks": [[0, 1, 2], [3, 4, 5]],
        "per_class": list(ACCURACY),
        "macro_f1": 0.4987,
        "nll": 1.2345,
        "risk": 2.3456,
        "ece": 0.0432,
        "reliability": bins,
        "confused": [
            {
                "true": 5,
                "predicted": 0,
                "images": 12,
                "share": 0.6,
                "positions": [7, 8],
                "names": ["a/7.png", "a/8.png"],
            }
        ],
        "classes": list(CLASSES),
        "train_images": list(COUNTS),
        "test_images": [20] * 6,
        "prior": "uniform",
        "evaluated_on": "test",
    }


DEPTHS, WEIGHTS = range(3), (0.25, 0.5, 0.75)


def terms():
    for depth in DEPTHS:
        for weight in WEIGHTS:
            shared, bias, own = 2.0 * depth, 0.5 * depth * (1 + abs(weight - 0.5)) * (depth > 0), 10.0 - 4 * depth
            named = {"shared_variance": shared, "shared_bias": bias, "own_variance": own}
            yield {"depth": depth, "weight": weight, **named, "total": shared + bias + own}


def png(side=4):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + bytes([40 * row] * side) for row in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def files():
    stages = [
        {"stage": "stage1-head", "flops": 2e12, "steps": 40, "steps_per_epoch": 20, "images_per_step": 32}
        | {"trained_parameters": 1000, "memory": 5e6},
        {"stage": "moments", "flops": 1e12},
    ]
    units = [
        {"layer": k, "name": name, "parameters": 100, "curvature": [4.0 / (k + 1), 1.0], "scores": [2.0, 1.0]}
        | {"distance": None if k == 3 else 0.5, "mismatch": None if k == 3 else 0.125 * (k + 1)}
        for k, name in enumerate(["stem", "unit 1", "unit 2", "decoder"])
    ]
    return {
        "recipe.toml": 'seed = 7\n\n[data]\npath = "animals"\n\n[method]\nname = "osdtw"\n',
        "env.json": {
            "forktail": "0.1.0",
            "python": "3.11.7",
            "torch": "2.14.1",
            "numpy": "2.4.6",
            "platform": "Linux",
            "device": "cpu",
            "threads": 2,
            "command": "forktail fit animals --out 'my run'",
            "data": {"name": "animals", "train": "beef", "images": 650, "notes": ["one picture could not be read"]},
        },
        "metrics.json": metrics(),
        "cost.json": {"training_flops": 3e12, "training_memory": 5e6, "inference_flops": 38359808, "parameters": 4242},
        "stages.json": stages,
        "timing.jsonl": [
            {"stage": "stage1-head", "seconds": 12.5, "found": True},
            {"stage": "moments", "seconds": 3.0, "found": False},
        ],
        "log.jsonl": [
            {"stage": "stage1-head", "epoch": epoch, "step": 20 * epoch, "loss": 4.0 / epoch, "lr": 0.001}
            for epoch in (1, 2)
        ],
        "criterion.csv": list(terms()),
        "criterion.json": {
            "reading": "general",
            "debiased": True,
            "damping": 0.0,
            "evaluation_prior": "train",
            "images": 650,
            "mean_gradient_norms": [0.001, 0.002],
            "flat_coordinates": 0,
            "units": units,
        },
        "selection.json": {
            "depth": 2,
            "weight": 0.5,
            "value": 7.0,
            "reading": "general",
            "flatness": 1 / 9,
            "runner_up": {"depth": 1, "weight": 0.5, "value": 8.5},
            "alike": [[2, 0.5]],
        },
    }


def write(run, name, content):
    if content is None:
        return
    if isinstance(content, str):
        run.write_text(name, content)
    elif name.endswith(".jsonl"):
        run.write_text(name, "".join(json.dumps(line) + "\n" for line in content))
    elif name.endswith(".csv"):
        run.path.mkdir(parents=True, exist_ok=True)
        with (run.path / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    else:
        run.write_text(name, json.dumps(content))


@pytest.fixture
def make_run(tmp_path):
    """Write a run directory; ``change(files)`` may alter what stands in it, None leaves a file out."""

    def make(change=None, folder="run"):
        content = copy.deepcopy(files())
        if change is not None:
            change(content)
        run = Run(tmp_path / folder)
        for name, one in content.items():
            write(run, name, one)
        (run.path / "confused").mkdir(parents=True, exist_ok=True)
        for position in (7, 8):
            (run.path / "confused" / f"{position}.png").write_bytes(png())
        return run

    return make


@pytest.fixture
def make_png():
    return png


def method(label, balanced, *, difference, seeds=(0, 1, 2), flops=1e12):
    keys = ("balanced", "many", "medium", "few", "head", "tail", "worst", "micro")
    costs = {"training_flops": flops, "inference_flops": 4e7, "parameters": 4242, "training_memory": 5e6}
    mean = dict.fromkeys(keys, balanced) | {"nll": 1.5, "ece": 0.05, **costs, "seconds": 20.0}
    several = len(seeds) > 1
    gap = None
    if difference is not None:
        low, high = (difference - 0.02, difference + 0.02) if several else (None, None)
        gap = {key: {"mean": difference, "low": low, "high": high} for key in (*keys, "nll", "ece")}
    return {
        "label": label,
        "method": label,
        "summary": f"what {label} does",
        "source": "a paper",
        "runs": [f"runs/{label}-{seed}" for seed in seeds],
        "mean": mean,
        "standard_error": {key: 0.0123 if several and key in keys else (0.0 if several else None) for key in mean},
        "difference": gap,
        "per_seed": [{"seed": seed, **mean} for seed in seeds],
        "selection": [{"seed": seed, "depth": 3, "weight": 0.25} for seed in seeds] if label == "osdtw" else None,
    }


@pytest.fixture
def make_comparison(tmp_path):
    """Write a comparison; ``methods`` are pairs of label and keyword arguments of `method`."""

    def make(methods=None, *, seeds=(0, 1, 2), reference="ce", change=None, folder="comparison"):
        given = methods or [
            ("osdtw", 0.65, {"difference": 0.05, "flops": 2e12}),
            ("ce", 0.60, {"difference": None}),
            ("crt", 0.59, {"difference": -0.01}),
        ]
        content = {
            "data": "animals",
            "command": "forktail compare animals",
            "budget": "epochs",
            "budget_text": "every stage has 2 epochs",
            "seeds": list(seeds),
            "ranking": "ranked by balanced accuracy",
            "reference": reference,
            "groups": metrics()["groups"],
            "methods": [method(label, balanced, seeds=seeds, **more) for label, balanced, more in given],
            "left_out": [],
        }
        if change is not None:
            change(content)
        place = Run(tmp_path / folder)
        write(place, "comparison.json", content)
        return place.path

    return make


def grid_content(depths=(0, 2, 3), weights=(0.25, 0.5, 0.75), seeds=(0, 1, 2)):
    """A grid whose risk is a valley that one reading sees, one sees upside down, and one cannot see."""

    def valley(seed, depth, weight):
        return 0.01 * (depth - 2) ** 2 + (depth > 0) * 0.1 * (weight - 0.75 + 0.01 * seed) ** 2

    def accuracies(balanced):
        groups = {"many": balanced + 0.2, "medium": balanced, "few": balanced - 0.2, "head": 0.7, "tail": 0.3}
        return {"balanced": balanced, **groups, "nll": 1.0}

    def figures(risk):
        margin, posterior = accuracies(0.1), accuracies(0.5 - 2 * risk)
        return {"risk": 1.5 + risk, "risk_uniform": 2.0, "margin": margin, "posterior": posterior}

    def cell(seed, depth, weight):
        risk = valley(seed, depth, 0.5 if weight is None else weight)
        states = {"refined": figures(risk), "raw": figures(0.02 + risk)}
        parts = {key: {"validation": found, "test": copy.deepcopy(found)} for key, found in states.items()}
        return {"seed": seed, "weight": weight, "depth": depth, **parts}

    def table(seed, slope):
        rows = range(depths[-1] + 1)
        return [[7 + slope * valley(seed, depth, weight) for weight in weights] for depth in rows]

    def predict(slope):
        return {str(seed): {"table": table(seed, slope), "damping": 0.125} for seed in seeds}

    blind = {str(seed): {"table": None, "reason": "no damping explains the movement"} for seed in seeds}
    return {
        "data": "animals",
        "command": "forktail grid animals",
        "depths": list(depths),
        "weights": list(weights),
        "seeds": list(seeds),
        "rule": "posterior",
        "selects_by": "sandwich",
        "training_images": 1234,
        "flops": 3.21e15,
        "cells": [
            cell(seed, depth, weight)
            for seed in seeds
            for depth in depths
            for weight in ([None] if depth == 0 else weights)
        ],
        "predicted": {"naive": predict(-1.0), "sandwich": predict(2.0), "refined": blind},
    }


@pytest.fixture
def make_grid(tmp_path):
    """Write a grid with the measures that it has; ``change(content)`` alters them, ``before(content)`` the rest."""
    from forktail.grids.grid import measured_against

    def make(*, before=None, change=None, folder="grid", **axes):
        content = grid_content(**axes)
        if before is not None:
            before(content)
        content["measures"] = json.loads(json.dumps(measured_against(content)))
        if change is not None:
            change(content)
        place = Run(tmp_path / folder)
        write(place, "grid.json", content)
        return place.path

    return make
