"""Write docs/failures.md from the table: ``python tests/failures``."""

from pathlib import Path

from places import PLACES
from table import page

if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "failures.md").write_text(page(PLACES), encoding="utf-8")
