"""The tables of the documentation, from the figures in benchmarks/results.

    python benchmarks/tables.py            # rewrites every block between `<!-- table: NAME -->` and `<!-- /table -->`

Run it after a benchmark; a test compares the pages with what it would write.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import evidence_page
from markdown_tables import table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
MILLION = 1_000_000
NAMES = {
    "plain step": "plain forward and backward",
    "forktail, each further batch": "**forktail**, each further batch",
    "forktail": "forktail, a whole call for only {images} images",
    "forktail, two tasks and products": "forktail, two networks and their products",
    "loop": "loop over images",
    "torch.func": "torch.func {version}, `vmap(grad)`",
    "laplace": "laplace-torch {version} (curvlinops)",
    "backpack": "BackPACK {version}",
    "opacus": "Opacus {version}",
    "nngeometry": "nngeometry {version}",
    "curvlinops": "curvlinops {version}",
}


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def written(text):
    """The text of a page with every block as the results have it."""
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def fisher():
    found = _results("fisher")
    small, base = found["small"], found["base"]
    total = small["ways"]["loop"]["tensors"]
    rows = []
    for way, name in NAMES.items():
        row = small["ways"][way]
        name = name.format(version=row.get("version"), images=small["images"])
        if "fails" in row:
            rows.append([name, f"stops: {_reason(row['fails'])}", "", "", ""])
        elif way == "plain step":
            rows.append([name, "1", row["peak_mb"], "", ""])
        else:
            right, error = row["tensors_right"], f"{row['largest_error']:.1e}"
            rows.append([name, f"{row['ratio']:.2f}", row["peak_mb"], right, error if right == total else ""])
    large = base["ways"]["forktail, batches of 8"]
    note = (
        f"ViT-B/16 at 224 pixels with 1,000 outputs, {base['images']} images in batches of 8, "
        f"{_millions(base['parameters'])} parameters: {large['seconds']:.0f} s, {large['peak_mb']} MB above the loaded "
        f"network. {_where(small['machine'])}"
    )
    head = ["", "ratio", "peak memory, MB", f"tensors right, of {total}", "largest error"]
    return f"{table(head, rows)}\n\n{note}"


def selection():
    found = _results("selection")
    rows = [
        [
            *(_reading(run), _millions(run["parameters"]), f"{run['weights']:,}", run["threads"]),
            *(f"{run['seconds']:.2f}", f"{run['processor_seconds']:.2f}", f"{run['extra_megabytes']:.0f}"),
        ]
        for run in found["runs"]
        if run["kind"] in {"sandwich", "other"}
    ]
    checked = [run for run in found["runs"] if run["kind"] == "error"]
    error, bound = (max(run[f"largest_relative_{name}"] for run in checked) for name in ("error", "bound"))
    faster = [run["times_faster"] for run in checked]
    note = (
        f"Against the reference at {_millions(checked[0]['parameters'])} parameters the total is off by at most "
        f"{error:.1e} of itself over all readings, where the bound says {bound:.1e}, and the reference "
        f"takes {min(faster):.0f} to {max(faster):.0f} times as long for {checked[0]['weights']} weights. "
        f"{_where(found['machine'])}"
    )
    head = ["reading", "parameters", "weights", "threads", "s", "processor s", "extra MB"]
    return f"{table(head, rows)}\n\n{note}"


def short():
    ways = _results("fisher")["small"]["ways"]
    total = ways["loop"]["tensors"]
    rows = []
    for way in ("forktail, each further batch", "loop", "torch.func", "laplace", "backpack", "opacus", "nngeometry"):
        row, name = ways[way], NAMES[way].format(version=ways[way].get("version"))
        if "fails" in row:
            rows.append([name, "stops with an error", "", ""])
        else:
            rows.append([name, f"{row['tensors_right']} of {total}", f"{row['ratio']:.2f}", row["peak_mb"]])
    runs = [run for run in _results("selection")["runs"] if run["kind"] == "sandwich"]
    largest = max(run["parameters"] for run in runs)
    at = {run["weights"]: run for run in runs if run["parameters"] == largest and run["threads"] == 1}
    times = ", ".join(f"{run['seconds']:.2f} s for {number:,}" for number, run in sorted(at.items()))
    head = ["Fisher of a vision transformer", "tensors right", "time, plain steps", "peak memory, MB"]
    note = (
        f"The criterion at {_millions(largest)} parameters and 13 depths, by number of weights, on one thread: {times}."
    )
    return f"{table(head, rows)}\n\n{note}"


def evidence():
    return evidence_page.summary(RESULTS / "evidence")


def _results(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _millions(number):
    return f"{number / MILLION:.3g} M"


def _reading(run):
    return f"`{run.get('reading', 'sandwich')}`" + (", damped" if run.get("damping") else "")


def _reason(error):
    """What an error of another library says; what is not there at all has no error to quote."""
    name, _, text = error.partition(": ")
    return text if name == "NotImplementedError" else f"`{error}`"


def _where(machine):
    name, load = machine.get("processor", machine.get("cpu")), machine.get("load_average", machine.get("load_before"))
    return f"{name}, {machine['cores']} cores, load average {load:.1f} from other work."


TABLES = {"fisher": fisher, "selection": selection, "short": short, "evidence": evidence}


def main():
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = written(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
