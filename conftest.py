"""What the examples in docstrings may use."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict[str, object], tmp_path: Path) -> None:
    doctest_namespace["folder"] = tmp_path
