# Everything runs in .venv, which each target sets up as far as it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

QUESTION := Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did Natalia sell altogether in April and May?

.PHONY: demo test test-serving check coverage format clean vllm-env bench-engine bench-gpu bench-speculation bench-draft-model

# vLLM pins its own torch: it lives in an environment of its own, wherever VLLM_ENV says.
VLLM_ENV ?= .venv-vllm
# More options for the benchmarks, such as BENCH='--branches 16 --prompts 83'.
BENCH ?=

# Solve a word problem with a small real model, over at most 16 paths.
demo: .venv/engine
	$(BIN)/python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct
	$(BIN)/branchwise solve "$(QUESTION)" --paths 16

# All tests, those with real models included (they are fetched on first use).
test: .venv/dev
	$(BIN)/python tools/fetch_model.py SmolLM2-135M-Instruct
	$(BIN)/python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct
	$(BIN)/python -m pytest

# The tests that need vLLM: in its process, as its plugin, as a server.
test-serving: $(VLLM_ENV)/ready
	$(VLLM_ENV)/bin/python tools/fetch_model.py SmolLM2-135M-Instruct
	$(VLLM_ENV)/bin/python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct
	$(VLLM_ENV)/bin/python -m pytest tests/vllm

# Format, lint, language; then types, imports and packaging, on the package as a user gets it.
check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tools/check_words.py
	rm -rf build/types build/lib
	$(PIP) --no-deps --upgrade --target build/types .
	PYTHONPATH=build/types $(BIN)/lint-imports --no-cache
	$(BIN)/mypy -p branchwise
	MYPYPATH=build/types:. $(BIN)/mypy --namespace-packages --explicit-package-bases --exclude tests/vllm \
		tests tools benchmarks research examples
	$(BIN)/python -m pytest -q tests/docs/test_packaging.py

# The tests without real models, and which lines they miss.
coverage: .venv/dev
	$(BIN)/python -m pytest -m "not model" --cov --cov-report=term --cov-report=html:build/coverage

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Compare the engine with HF generate, vLLM (where vllm-env was run) and the floor; writes build/bench/engine.json.
bench-engine: .venv/dev
	$(BIN)/python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct
	$(BIN)/python -m benchmarks.engine --vllm-python $(VLLM_ENV)/bin/python $(BENCH)

# What drafts are worth, under an hour on two cores; BRANCHWISE_DATA has gsm8k.jsonl and spec_bench.jsonl.
bench-speculation: .venv/dev
	$(BIN)/python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct
	$(BIN)/python -m benchmarks.speculation gsm8k --spec-bench spec_bench $(BENCH)

# The same for the 0.5B as the draft model of the 1.5B.
bench-draft-model: .venv/dev
	$(BIN)/python tools/fetch_model.py Qwen2.5-Coder-0.5B-Instruct
	$(BIN)/python tools/fetch_model.py Qwen2.5-Coder-1.5B-Instruct
	$(BIN)/python -m benchmarks.speculation gsm8k --model Qwen2.5-Coder-1.5B-Instruct \
		--draft-model Qwen2.5-Coder-0.5B-Instruct --out build/bench/draft_model.json $(BENCH)

# Random weights of a 7B shape on a GPU: no network, no vLLM, no model file.
bench-gpu: .venv/dev
	$(BIN)/python -m benchmarks.gpu $(BENCH)

# vLLM's CPU build, and branchwise. The CUDA builds of torchvision and friends it brings would break transformers there.
vllm-env: $(VLLM_ENV)/ready

$(VLLM_ENV)/ready: tests/vllm/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VLLM_ENV)
	$(VLLM_ENV)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	$(VLLM_ENV)/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_ENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --editable .
	$(VLLM_ENV)/bin/python -c 'import vllm'
	touch $@

clean:
	rm -rf build dist .venv .venv-vllm *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/engine: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[engine]'
	touch $@

.venv/dev: .venv/engine
	$(PIP) --editable '.[dev]'
	touch $@
