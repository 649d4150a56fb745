"""Does the criterion predict, and does OSDTW win at equal cost? Every number of docs/evidence.md.

    python benchmarks/evidence.py                    # all that is missing; interrupt it and start it again
    python benchmarks/evidence.py --development      # only what choices rest on
    python benchmarks/evidence.py --list             # the pieces, their role and their CPU hours
    python benchmarks/evidence.py grid-glyphs-10     # one piece, or several
    python benchmarks/evidence.py --tables           # writes docs/evidence.md and its picture from the results again

The sets are named in evidence_sets.py before they were run, and none is dropped after its result was seen. Variants of
the criterion and of the method are chosen on the *development* sets by their validation part; the test part of the
*confirmation* sets is read once, after the default is committed. How long a comparison trains is read off a curve on
validation, for the glosses off their own. A piece whose defaults or settings have changed since is made again, of the
same stages where they can serve. Fashion-MNIST and the WordNet glosses have to be there, see docs/data.md; a piece
whose set is missing says so and is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform

import evidence_figure
import evidence_page
import torch
from evidence_pieces import RESULTS, ROOT, Piece, pieces

from forktail.errors import InputError
from forktail.files import write_atomically

PAGE = ROOT / "docs" / "evidence.md"


def _keep(piece: Piece) -> None:
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    facts = {"piece": piece.name, "role": piece.role, "machine": machine, "made_with": piece.made_with}
    content = {**facts, **piece.make()}
    text = json.dumps(content, separators=(",", ":")) + "\n"
    write_atomically(piece.path, text)
    _write_page()


def _write_page() -> None:
    PAGE.write_text(evidence_page.page(RESULTS), encoding="utf-8")
    evidence_figure.draw(RESULTS, PAGE.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pieces; by default all")
    parser.add_argument("--development", action="store_true", help="only those of development")
    parser.add_argument("--list", action="store_true", help="only say which pieces there are")
    parser.add_argument("--tables", action="store_true", help="only write docs/evidence.md and its picture again")
    asked, known = parser.parse_args(), pieces()
    unknown = [name for name in asked.names if name not in known]
    if unknown:
        parser.error(f"no such piece: {', '.join(unknown)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    names = [name for name in asked.names or known if not asked.development or known[name].role != "confirmation"]
    if asked.list:
        for piece in map(known.__getitem__, names):
            print(f"{piece.name:24} {piece.role:14} {piece.hours:.1f} h  {piece.state}")
        return
    missed = [] if asked.tables else [message for name in names if (message := _made(name)) is not None]
    _write_page()
    if missed:
        raise SystemExit("\n".join(missed))


def _made(name: str) -> str | None:
    """Make a piece unless it is there; say why it could not be made."""
    piece = pieces()[name]  # anew: a curve that was just made says how long a comparison trains
    if piece.state == "there":
        return None
    try:
        _keep(piece)
    except InputError as error:
        return f"{name} is left out: {error}"
    return None


if __name__ == "__main__":
    main()
