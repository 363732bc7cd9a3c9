# Each target says what it does: run `make` alone to read them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help build demo test stress lint format docs generate bench clean

help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

build: $(BIN)/python ## Build the package and install it, with the test tools, into .venv.
	$(BIN)/python -m pip install --quiet --group test .

demo: build ## Put a Python hook between a real program and the kernel.
	@echo '$$ grep trapline.test /etc/hosts     # without trapline: nothing'
	@! grep trapline.test /etc/hosts
	@echo '$$ trapline run -s examples/virtual_hosts.py -- grep trapline.test /etc/hosts'
	@$(BIN)/trapline run -s examples/virtual_hosts.py -- grep trapline.test /etc/hosts
	@echo '$$ trapline run -s examples/virtual_hosts.py -- getent hosts trapline.test'
	@$(BIN)/trapline run -s examples/virtual_hosts.py -- getent hosts trapline.test
	@echo '# All of it is the last lines of examples/virtual_hosts.py:'
	@sed -n '/^@/,$$p' examples/virtual_hosts.py

test: build ## Run every test.
	$(BIN)/python -m pytest

stress: build ## Long runs: real programs 50 times each, 64 threads with 10,000 calls each, 1,000 guests.
	$(BIN)/python stress/identity.py 50
	$(BIN)/python stress/calls.py 64 10000 3
	$(BIN)/python stress/guests.py

lint: build ## Formatters, linters, types, import layers, generated files.
	$(BIN)/python -m pip install --quiet --group lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'native/*.c' 'native/*.h' 'tests/*.c' 'bench/*.c')
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/gen/all.py --check

format: $(BIN)/python ## Format Python and C in place.
	$(BIN)/python -m pip install --quiet --group lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(git ls-files 'native/*.c' 'native/*.h' 'tests/*.c' 'bench/*.c')

docs: build ## Build the documentation; a warning is an error.
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

generate: $(BIN)/python ## Write abi/ tables and C includes from data/*.tsv.
	$(BIN)/python scripts/gen/all.py

bench: build ## Measure trapline beside native and beside its peers.
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m bench

clean: ## Remove everything that was built.
	rm -rf build dist $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
