"""The guards of the house: who may import whom, what is instant, and what stands in one file only."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "forktail"

# A part may import itself and what stands here. The order is that of the house, from the ground up.
ALLOWED = {
    "errors": set(),
    "labels": {"errors"},
    "metrics": {"errors", "labels"},
    "theory": {"errors"},
    "files": {"errors"},
    "run": {"errors", "files"},
    "report": {"errors", "labels", "run"},
    "runtime": {"errors"},
    "losses": {"errors", "labels"},
    "data": {"errors", "files", "labels"},
    "backbones": {"errors", "labels", "files"},
    "fisher": {"errors", "labels", "backbones", "losses", "theory"},
    "training": {"errors", "files", "run", "runtime", "data", "losses"},
    "predictor": {"errors", "labels", "files", "data", "backbones"},
    "evaluation": {"metrics", "data", "predictor", "training"},
    "methods": {"errors", "labels", "data", "backbones", "losses", "fisher", "theory", "training", "predictor"},
    "recipe": {"errors", "labels", "run", "runtime", "data", "backbones", "training", "methods"},
    "pretraining": {*("errors", "run", "runtime", "data", "backbones", "losses", "training", "methods", "recipe")},
    "fitting": {
        *("errors", "labels", "files", "run", "data", "backbones", "training", "methods", "predictor", "evaluation"),
        *("recipe", "report"),
    },
    "trained": {"errors", "run", "runtime", "data", "methods", "predictor", "evaluation", "recipe"},
    "comparing": {"errors", "run", "data", "losses", "training", "methods", "recipe", "fitting", "report"},
    "grids": {
        *("errors", "labels", "metrics", "run", "data", "training", "methods", "predictor", "evaluation", "recipe"),
        *("fitting", "comparing", "report"),
    },
    "__main__": {"cli"},
    "cli": {
        *(
            "errors",
            "files",
            "run",
            "methods",
            "training",
            "predictor",
            "pretraining",
            "fitting",
            "trained",
            "comparing",
            "grids",
        ),
        "report",
    },
}


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [
                f"{node.module}.{alias.name}" if node.module == "forktail" else node.module for alias in node.names
            ]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name and name.startswith("forktail.")}
    return parts


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_part_imports_only_what_stands_below_it(path):
    part = part_of(path)
    assert imported_parts(path) - {part} <= ALLOWED[part]


def test_the_table_names_no_part_that_is_gone():
    assert set(ALLOWED) == {part_of(path) for path in FILES}


@pytest.mark.parametrize(
    "statement",
    [
        "import forktail",
        "import forktail.theory, forktail.labels, forktail.metrics",
        "import forktail.cli",
        "import forktail.run, forktail.errors",
        "import forktail.grids.measures",
    ],
)
def test_these_imports_do_not_bring_torch(statement):
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def files_with(pattern: str) -> set[str]:
    return {str(p.relative_to(SOURCE)) for p in FILES if re.search(pattern, p.read_text(encoding="utf-8"))}


def test_backward_is_called_in_the_engine_alone():
    assert files_with(r"\.backward\(") == {"training/engine.py"}


def test_no_file_moves_anything_to_a_gpu_by_name():
    assert files_with(r"\.cuda\(") == set()


def test_nothing_loads_pickle_but_the_weights_only_loader():
    assert files_with(r"pickle\.loads?\(|allow_pickle=True") == set()
    for name in files_with(r"torch\.load\("):
        text = (SOURCE / name).read_text(encoding="utf-8")
        assert text.count("torch.load(") == text.count("weights_only=True"), name


def test_committed_files_carry_no_path_of_a_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    texts = {".py", ".md", ".toml", ".json", ".txt", ".cfg", ".yaml", ".cff", ""}
    pattern = re.compile(r"/(?:home|root|work|Users)/\w")
    found = [
        name
        for name in tracked.stdout.splitlines()
        if Path(name).suffix in texts
        and (ROOT / name).is_file()
        and pattern.search((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert found == []
