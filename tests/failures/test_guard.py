"""Whatever reads from outside belongs to a place of the table; whoever adds a reader has to say which, and add rows."""

import ast
from pathlib import Path

import pytest
from places import PLACES

import forktail

SOURCE = Path(forktail.__file__).parent

READS = {
    *(
        "open",
        "read_text",
        "read_bytes",
        "read_json",
        "read_object",
        "read_lines",
        "load",
        "loads",
        "load_file",
        "fromfile",
    ),
    *(
        "iterdir",
        "glob",
        "rglob",
        "scandir",
        "listdir",
        "walk",
        "reader",
        "DictReader",
        "safe_open",
        "decompress",
        "memmap",
    ),
    *("truetype", "FT2Font", "create_model", "load_model_config_from_hf", "urlopen", "getenv", "entry_points"),
    *("import_module", "is_available"),
}
READ_ATTRIBUTES = {"environ", "stdin", "argv"}
WRITES = {"mkdir", "makedirs", "unlink", "rmdir", "rmtree", "touch", "write_bytes", "savez", "symlink_to"}
MODES = {f"{way}{kind}" for way in "wax" for kind in ("", "b", "t")}

INSIDE = "reads nothing from outside"
ASSIGNED = {
    "__init__.py: __getattr__": INSIDE,
    "backbones/adapters.py: adapt": INSIDE,
    "backbones/minilm.py: _file": "backbone",
    "backbones/minilm.py: vocabulary": "backbone",
    "backbones/timm_models.py: build": "backbone",
    "backbones/timm_models.py: config": "backbone",
    "backbones/weight_files.py: _read": "weights",
    "backbones/weight_files.py: _unpickled": "weights",
    "backbones/weight_files.py: facts_in": "weights",
    "comparing/compare.py: Comparison.results": "compare",
    "comparing/compare.py: check_holds_runs": "compare",
    "comparing/results.py: read_run": "compare",
    "comparing/results.py: _validation": "compare",
    "data/arrays.py: _load": "arrays",
    "data/csv_file.py: _rows": "csv",
    "data/drawing/fonts.py: Font.bitmaps": "named sets",
    "data/drawing/fonts.py: Font.characters": "named sets",
    "data/embedded.py: embedded": "installation",
    "data/fashion_mnist.py: _folder": "named sets",
    "data/fashion_mnist.py: _idx": "named sets",
    "data/files_below.py: entries": "folder",
    "data/files_below.py: files_below": "folder",
    "data/list_file.py: _rows": "list",
    "data/open.py: _beside": "data",
    "data/open.py: _source": "data",
    "data/picture_files.py: _decoded": "pictures",
    "data/texts.py: texts_in": "predict",
    "data/wordnet_gloss.py: _definitions": "named sets",
    "data/wordnet_gloss.py: _folder": "named sets",
    "cli/tables.py: read_prior": "prior",
    "files.py: read_json": "run",
    "files.py: read_text": "list",
    "files.py: write_atomically": "disk",
    "fitting.py: check_place": "run",
    "fitting.py: trained_on": "run",
    "fitting.py: check_same_recipe": "run",
    "grids/columns.py: Column.found": "grid",
    "grids/grid.py: Grid.results": "grid",
    "methods/__init__.py: _installed": "settings",
    "methods/__init__.py: find_method": "settings",
    "predictor.py: load_weights": "model",
    "predictor.py: read_spec": "model",
    "pretraining/pretrain.py: pretrain": "run",
    "recipe.py: Recipe.engine": "device",
    "recipe.py: _toml_value": "settings",
    "recipe.py: read_recipe": "recipe",
    "report/comparison_file.py: read_comparison": "compare",
    "report/grid_file.py: read_grid": "grid",
    "report/pictures.py: embedded": "compare",
    "report/reading.py: read_lines": "compare",
    "report/reading.py: read_text": "compare",
    "report/run_files.py: _read_metrics": "compare",
    "report/run_files.py: _optional": "compare",
    "report/run_files.py: _read_criterion": "compare",
    "report/run_files.py: read_run": "compare",
    "run.py: Run.metrics": "run",
    "run.py: Run.read_json": "run",
    "run.py: Run.read_object": "run",
    "run.py: Run.selection": "run",
    "run.py: _withdraw": "disk",
    "runtime.py: Runtime.open": "device",
    "runtime.py: Runtime.reproducible": "device",
    "trained.py: evaluate_run": "model",
    "trained.py: load": "device",
    "trained.py: predict_files": "model",
    "training/engine.py: Engine.__init__": "device",
    "training/engine.py: Engine.keep": "stages",
    "training/stage.py: read": "stages",
    "theory/stored.py: StoredUnit.__iter__": "stages",  # from Python alone; tests/theory/test_stored.py has its rows
}
WRITERS = {
    "files.py: write_atomically",
    "grids/grid.py: grid",  # takes a result away that new pieces have made old
    "run.py: only_writer",
    "run.py: _withdraw",
    "training/stage.py: Stage.save_result",
}


def uses(text, wanted):
    """Names of the functions of a source file in which something wanted is called or looked up."""
    found = set()

    def visit(node, scope):
        for child in ast.iter_child_nodes(node):
            inner = [*scope, child.name] if isinstance(child, ast.FunctionDef | ast.ClassDef) else scope
            if wanted(child):
                found.add(".".join(scope) or "module")
            visit(child, inner)

    visit(ast.parse(text), [])
    return found


def reads(node):
    return called(node) in READS or (isinstance(node, ast.Attribute) and node.attr in READ_ATTRIBUTES)


def writes(node):
    """A call that changes files, or opens one in a mode that does."""
    words = [part.value for part in node.args if isinstance(part, ast.Constant)] if called(node) == "open" else []
    return called(node) in WRITES or any(word in MODES for word in words)


def called(node):
    if not isinstance(node, ast.Call):
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def over_the_source(wanted):
    return {
        f"{path.relative_to(SOURCE).as_posix()}: {name}"
        for path in sorted(SOURCE.rglob("*.py"))
        for name in uses(path.read_text(encoding="utf-8"), wanted)
    }


def test_every_function_that_reads_from_outside_has_a_place_in_the_table():
    found = over_the_source(reads)
    assert sorted(found - set(ASSIGNED)) == [], "assign it to a place, and give the place the rows"
    assert sorted(set(ASSIGNED) - found) == [], "it reads no longer"


def test_every_place_has_rows_and_a_reader():
    places = {place.key: place for place in PLACES}
    assert set(ASSIGNED.values()) - {INSIDE} <= set(places)
    assert set(places) - set(ASSIGNED.values()) <= {"evaluate", "predict", "training"}  # read as data, or nothing
    assert all(place.rows for place in PLACES)


def test_only_these_write_and_all_else_goes_through_them():
    assert over_the_source(writes) == WRITERS


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("def f():\n    return open('a')", {"f"}),
        ("class A:\n    def f(self, p):\n        return p.read_text()", {"A.f"}),
        ("import os\nX = os.environ.get('X')", {"module"}),
        ("def f(x):\n    return x.opened()", set()),
    ],
)
def test_the_guard_sees_a_reader(text, seen):
    assert uses(text, reads) == seen


@pytest.mark.parametrize(("call", "seen"), [("p.open('w')", True), ("p.open('rb')", False), ("p.unlink()", True)])
def test_the_guard_sees_a_writer(call, seen):
    assert bool(uses(call, writes)) == seen
