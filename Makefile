.PHONY: demo test lint clean
PYTHON ?= python3
BIN := .venv/bin

demo: .venv/ready          ## train OSDTW and two baselines on the embedded pictures
	$(BIN)/python examples/demo.py

test: lint                 ## every check: lint, types, tests, doctests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: .venv/ready          ## format, lint and types alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv runs
