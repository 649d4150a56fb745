.PHONY: demo test lint pictures evidence evidence-tables clean
PYTHON ?= python3
BIN := .venv/bin

demo: .venv/ready          ## compare OSDTW with three baselines on the embedded pictures, and write their reports
	$(BIN)/python examples/demo.py

test: lint                 ## every check: lint, types, tests, doctests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: .venv/ready          ## format, lint and types alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

pictures: demo             ## take the README's pictures of the demo's pages (needs Debian's chromium)
	for page in compare.html runs/osdtw-0/report.html; do \
	  name=$$(basename $$page .html); \
	  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,1750 \
	    --screenshot=docs/$$name.png "file://$$(ls $(CURDIR)/runs/demo/$$page)"; \
	done

evidence: .venv/ready      ## train all that docs/evidence.md says; hours, and it goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evidence.py

evidence-tables: .venv/ready ## write docs/evidence.md again from the committed results
	$(BIN)/python benchmarks/evidence.py --tables

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv runs
