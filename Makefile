# Every target stands on `install`; each is also written out in the README for machines without make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Compiled tests stay for the next target: to rewrite their asserts is half the time of collecting them.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install run test test-all soak check lint types bench docs clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(VENV)/installed ## Virtual environment with everything, once

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: install ## The main job: simulate, personalize, export, report (scenario `default`)
	$(BIN)/fedspeech simulate --scenario default

test: install ## Default tests: offline, at most 2 minutes
	$(PYTEST)

test-all: install ## Every marker but soak
	$(PYTEST) -m "not soak and not flower"
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "flower and not soak"

soak: install ## Long counts and examples drawn anew, by hand
	$(PYTEST) -m soak
	$(PYTEST) --hypothesis-profile explore

check: lint types ## What CI checks before it tests

lint: install ## Format, lint, docstrings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## Strict types on the library
	$(BIN)/mypy fedspeech clients server simulations tflite_export

bench: install ## Ratios against baselines of the same run
	$(BIN)/python -m benchmarks.local_training
	$(BIN)/python -m benchmarks.synthesis
	$(BIN)/python -m benchmarks.scale

docs: install ## The site of docs/, offline, into site/; a broken link fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean: ## Remove what the targets made, runs excepted
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
