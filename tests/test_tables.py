"""The tables in README and docs are those that benchmarks/tables.py makes of the results."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tables():
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("tables")


def test_pages_are_up_to_date(tables):
    for page in tables.pages():
        text = page.read_text(encoding="utf-8")
        assert tables.written(text) == text, f"{page.name} differs: run python benchmarks/tables.py"


def test_every_table_stands_on_one_page(tables):
    used = [name for page in tables.pages() for _, name, _ in tables.BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert sorted(used) == sorted(tables.TABLES)


def test_a_block_follows_the_results(tables, tmp_path, monkeypatch):
    """A figure that changes shows, what stands round the block stays, and rewriting twice changes nothing more."""
    results = json.loads((tables.RESULTS / "fisher.json").read_text(encoding="utf-8"))
    results["small"]["ways"]["loop"]["ratio"] = 7.125
    (tmp_path / "fisher.json").write_text(json.dumps(results), encoding="utf-8")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    page = "before\n<!-- table: fisher -->\nold\n<!-- /table -->\nafter\n"
    found = tables.written(page)
    assert re.search(r"^\| loop over images \| 7\.12 \| \d+ \| 65 \| ", found, re.MULTILINE)
    assert found.startswith("before\n")
    assert found.endswith("<!-- /table -->\nafter\n")
    assert "old" not in found
    assert tables.written(found) == found
