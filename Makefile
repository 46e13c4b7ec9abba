# Everything runs in .venv, which each target sets up as far as it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

QUESTION := Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did Natalia sell altogether in April and May?

.PHONY: demo test check format clean

# Solve a word problem with a small real model: path-consistency over 16 paths.
demo: .venv/engine
	$(BIN)/branchwise solve "$(QUESTION)" --strategy path-consistency --paths 16

# All tests, those with real models included (they are fetched on first use).
test: .venv/dev
	$(BIN)/branchwise models pull SmolLM2-135M-Instruct
	$(BIN)/branchwise models pull Qwen2.5-Coder-0.5B-Instruct
	$(BIN)/python -m pytest

# Format, lint and types (on the package as a user gets it).
check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf build/types build/lib
	$(PIP) --no-deps --upgrade --target build/types .
	$(BIN)/mypy -p branchwise
	$(BIN)/python -m pytest -q tests/test_packaging.py

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build dist .venv *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/engine: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[engine]'
	touch $@

.venv/dev: .venv/engine
	$(PIP) --editable '.[dev]'
	touch $@
