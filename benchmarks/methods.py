"""Every method on the same data, with three seeds and equal training compute, on two data sets and two backbones.

    python benchmarks/methods.py                 # trains what is missing; interrupt it and start it again
    python benchmarks/methods.py glyphs-vit      # one of them alone
    python benchmarks/methods.py --tables        # writes docs/comparison.md from benchmarks/results again

The sets are named here before they were run, and none was dropped. Each is a single `forktail compare`, whose command
stands above its table. Two more, `...-longer`, give the methods that did worse than cross-entropy four times the
compute, with one seed, beside cross-entropy and logit adjustment: does a method lack time, or does it not fit?
Fashion-MNIST has to be there, in `$FORKTAIL_DATA/fashion-mnist` or where Debian's package puts it. The ResNet starts
from weights that `forktail pretrain` makes first, on the embedded symbols, as the vision transformer's were made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import forktail
from forktail.cli.progress import watcher
from forktail.methods import method_names

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "comparison.md"
RUNS = Path("runs/methods")
COLUMNS = ("balanced", "many", "medium", "few")

VIT = ("backbone.name=tiny",)
VIT_ONLY = ("mae", "livt", "deit3")
RESNET_WEIGHTS = RUNS / "resnet14"
RESNET = ("backbone.name=resnet14", "backbone.input_size=28", f"backbone.weights={RESNET_WEIGHTS}/encoder.safetensors")
PLAN = ("plan.batch_size=32", "split.shots=quantile")
GLYPHS = ("data.n_max=20", "data.imbalance=10", *PLAN)
FASHION = ("data.n_max=200", "data.imbalance=100", *PLAN)

BEHIND = ("bbn", "bce", "deit_lt", "gcl", "gpaco", "independent", "osdtw", "paco")
TAUGHT = "deit_lt:teacher_weights=tiny"  # by the embedded weights instead of a ResNet-32 from nothing
TUNED = ("mae:pretraining_epochs=0", "livt:pretraining_epochs=0")  # from the weights that all others start from
BEHIND_VIT = ("ce", "logit_adjustment", *BEHIND, TAUGHT, "deit3", "livt", "mae", *TUNED)
BEHIND_RESNET = ("ce", "logit_adjustment", *BEHIND, TAUGHT, "disalign", "lws", "rsg")


@dataclass(frozen=True)
class Setting:
    """One comparison.

    Args:
        title: What the table shows.
        data: As in `forktail compare`.
        settings: The rest of the recipe.
        methods: Which methods; None is every one that the backbone allows.
        seeds: Of the runs.
    """

    title: str
    data: str
    settings: tuple[str, ...]
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)

    def contestants(self) -> list[str]:
        """List the methods, cross-entropy first: it is what the others are compared with."""
        if self.methods is not None:
            return list(self.methods)
        names = ["ce", *(name for name in method_names() if name != "ce")]
        return [name for name in names if VIT[0] in self.settings or name not in VIT_ONLY]

    def command(self, name: str) -> str:
        """Return the command that makes it."""
        words = " ".join(f"--set {setting}" for setting in self.settings)
        seeds = ",".join(str(seed) for seed in self.seeds)
        methods = ",".join(self.contestants())
        return (
            f"forktail compare {self.data} --methods {methods} --budget compute --seeds {seeds} --jobs 2 "
            f"{words} --out {RUNS / name}"
        )


SETTINGS = {
    "glyphs-vit": Setting("100 characters, imbalance 10, 0.36 M ViT", "glyphs", (*GLYPHS, "plan.epochs=15", *VIT)),
    "fashion-vit": Setting(
        "Fashion-MNIST-LT, imbalance 100, 0.36 M ViT", "fashion-mnist", (*FASHION, "plan.epochs=20", *VIT)
    ),
    "glyphs-resnet": Setting("100 characters, imbalance 10, ResNet-14", "glyphs", (*GLYPHS, "plan.epochs=15", *RESNET)),
    "fashion-resnet": Setting(
        "Fashion-MNIST-LT, imbalance 100, ResNet-14", "fashion-mnist", (*FASHION, "plan.epochs=20", *RESNET)
    ),
    "glyphs-vit-longer": Setting(
        "Four times the compute: 100 characters, imbalance 10, 0.36 M ViT",
        "glyphs",
        (*GLYPHS, "plan.epochs=60", *VIT),
        BEHIND_VIT,
        seeds=(0,),
    ),
    "glyphs-resnet-longer": Setting(
        "Four times the compute: 100 characters, imbalance 10, ResNet-14",
        "glyphs",
        (*GLYPHS, "plan.epochs=60", *RESNET),
        BEHIND_RESNET,
        seeds=(0,),
    ),
}


def pretrain(backbone: str, out: Path, epochs: int) -> None:
    """Make weights of the embedded symbols, unless they are there."""
    if not (out / "encoder.safetensors").is_file():
        words = ["pretrain", "symbols", "--backbone", backbone, "--out", str(out), "--set", f"plan.epochs={epochs}"]
        subprocess.run([sys.executable, "-m", "forktail", *words], check=True)


def pretrain_resnet() -> None:
    """Make the weights that ResNets start from, unless they are there."""
    pretrain("resnet14", RESNET_WEIGHTS, epochs=10)


def measure(name: str) -> None:
    """Train what is missing of one comparison and keep what it found."""
    setting = SETTINGS[name]
    if RESNET[0] in setting.settings:
        pretrain_resnet()
    with watcher() as progress:
        found = forktail.compare(
            setting.data,
            setting.contestants(),
            budget="compute",
            seeds=setting.seeds,
            settings=setting.settings,
            out=RUNS / name,
            jobs=2,
            progress=progress,
        )
    results = found.results
    kept = {
        "command": setting.command(name),
        "title": setting.title,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__},
        "cpu_hours": sum(run["seconds"] for row in results["methods"] for run in row["per_seed"]) / 3600,
        "left_out": results["left_out"],
        "methods": [_kept(row) for row in results["methods"]],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"methods-{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    names = (*COLUMNS, "nll", "training_flops", "inference_flops", "seconds")
    return {
        "method": row["label"],
        "mean": {name: row["mean"][name] for name in names},
        "standard_error": {name: row["standard_error"][name] for name in names},
        "balanced_by_seed": [record["balanced"] for record in row["per_seed"]],
        "difference_from_ce": row["difference"] and row["difference"]["balanced"],
    }


WHY = """## Below cross-entropy, and why

Methods that did worse than cross-entropy were checked again for their properties (the tests of losses and methods) and
trained four times as long, with one seed; two tables below. What remains is compute or nature:

- `bce`, `lws` and `disalign` lack time: four times the compute brings them level with `ce`. A sigmoid of a rare class
  learns slowly, and two-stage methods take their second stage from the first.
- `independent` pays for two trainings out of one budget. With four times of it it stays 2 to 6 points below: each of
  its networks has half the training, and shares nothing where all classes are characters. `osdtw` was 1 to 14 points
  below `ce` on three of the four sets while its Stage 1 trained each task as long as the plan
  (`method.stage1_epochs=plan`); an eighth of that leaves the rest to what is used in the end, and puts it above `ce`
  on all four.
- `paco`, `gpaco` and `rsg` lack time for the most part: two views of an image and a queue, or a classifier of pairs
  that costs three times the ResNet-14 itself, leave them a quarter to three quarters of the steps. They gain 30 to 56
  points from four times the compute, and are then 3 to 14 points below `ce` still.
- `deit3` and what fine-tunes as it does (`mae`, `livt`, `deit_lt`) mix every image and change its colours, for
  hundreds of epochs on photographs; in these few on characters it costs tens of points, and fewer of them with time.
- `mae` and `livt` spend eight of nine epochs on masked pretraining, of a few hundred pictures, which undoes the weights
  that all others start from. `pretraining_epochs=0` keeps these: 2 to 3 % become 58 and 65 %.
- `deit_lt` learns from a ResNet-32 that begins with nothing, and says so: with a pretrained teacher it has 57 in place
  of 12 % on the transformer. A ResNet as the student has no token of its own for the teacher, for which it was made.
- `gcl` and `bbn` are of another nature: noise that grows for rare classes, or a branch that sees them most, move errors
  from the few to the many. On the characters `gcl` is best or second best on the few and pays more for it than it
  gains; on Fashion-MNIST it is above `ce`. `bbn` shows each of the two images of the rarest class about ten times in an
  epoch, and on the transformer more epochs make it worse on the few (44 to 27 %), not better."""


def page() -> str:
    """Write the page of all results that are there."""
    parts = [
        "# Every method on the same data",
        "Mean accuracy in percent over the seeds ± standard error, at equal training compute: each method may use"
        " the floating-point operations of the plan's epochs of cross-entropy, in all its stages together. Balanced"
        " accuracy is the mean over classes; *many*, *medium* and *few* are thirds of the classes by training images."
        " The difference from cross-entropy is paired by seed, with its 95 % interval; three seeds make wide ones."
        " Nothing was tuned to these sets: every method runs at its defaults, the published hyper-parameters but for"
        " what its page (`forktail methods show NAME`) says, and `rsg`'s late generation is not in its count;"
        " none of the settings is that of a paper. Short training on small pictures says which method copes with"
        " little, not which wins on ImageNet-LT.",
        "Written by `python benchmarks/methods.py --tables` from `benchmarks/results/methods-*.json`.",
    ]
    for name, setting in SETTINGS.items():
        if setting.methods is not None and WHY not in parts:
            parts.append(WHY)
        path = RESULTS / f"methods-{name}.json"
        if path.is_file():
            parts.append(_section(json.loads(path.read_text(encoding="utf-8"))))
        else:
            parts.append(f"## {SETTINGS[name].title}\n\nNot run to its end yet: `python benchmarks/methods.py {name}`.")
    return "\n\n".join(parts) + "\n"


def _section(kept: dict[str, Any]) -> str:
    lines = [
        f"## {kept['title']}",
        "",
        f"{kept['cpu_hours']:.1f} CPU hours.",
        "",
        "```",
        kept["command"],
        "```",
        "",
        "| method | balanced | many | medium | few | from cross-entropy | inference, MFLOP |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in kept["methods"]:
        cells = [_spread(row, name) for name in COLUMNS]
        lines.append(
            f"| `{row['method']}` | {' | '.join(cells)} | {_difference(row['difference_from_ce'])} "
            f"| {row['mean']['inference_flops'] / 1e6:.0f} |"
        )
    lines += [f"\nLeft out: `{run['label']}`, seed {run['seed']}: {run['reason']}" for run in kept["left_out"]]
    return "\n".join(lines)


def _spread(row: dict[str, Any], name: str) -> str:
    mean, error = row["mean"][name], row["standard_error"][name]
    return "" if mean is None else f"{100 * mean:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def _difference(found: dict[str, float | None] | None) -> str:
    if found is None:
        return ""
    if found["low"] is None:
        return f"{100 * found['mean']:+.1f}"
    return f"{100 * found['mean']:+.1f} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(SETTINGS)}; by default all")
    parser.add_argument("--tables", action="store_true", help="only write the page again")
    asked = parser.parse_args()
    if not asked.tables:
        for name in asked.names or SETTINGS:
            measure(name)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
