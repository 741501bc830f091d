# What a person types and what CI runs.

PYTHON ?= python3
BIN := .venv/bin
SEED ?=
SIDE_BY_SIDE := --numprocesses auto --dist worksteal # each process has engines of its own

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run test test-quick faults faults-long mutants check bench simulate wheel lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed ## The environment in .venv, exactly as locked
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import ensurepip, sys; assert sys.version_info >= (3, 11)' 2>/dev/null || { \
	  echo "Lastunit needs Python 3.11 or newer with venv: 'apt-get install python3-venv', or make PYTHON=<path>." >&2; \
	  exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## Serve sample stock on 127.0.0.1:8000 with an engine of its own
	$(BIN)/lastunit serve --sample-stock

test: setup ## The whole test suite, against every engine that is here
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-quick: setup ## Scripts and units: the minute between two edits
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/scripts tests/unit

faults: setup ## Everything goes wrong, once, and all promises hold; SEED=<n> replays a run
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(if $(SEED),--randomly-seed=$(SEED)) tests/faults

faults-long: setup ## The same from 20 seeds, with 5 million commands; goes on where it was ended
	$(BIN)/python -m tests.faults

mutants: setup ## Breaks one line at a time; the quick suite must notice each
	$(BIN)/python -m tests.mutants $(if $(SEED),--seed $(SEED))

check: setup ## Format, lint, types, imports, style, Lua, Dockerfile, scripts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@command -v luacheck >/dev/null || { \
	  echo "luacheck is missing: 'apt-get install lua-check', or 'luarocks install luacheck'." >&2; exit 1; }
	luacheck --quiet lua
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m pytest tests/unit/test_tidy.py tests/scripts/test_loader.py

bench: setup ## Throughput and latency against peers, each run with its proof
	$(BIN)/python -m loadtests.bench

simulate: setup ## Seeded runs on a virtual clock; SEED=<n> replays one
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED))

# All of the lock is fetched and verified, then the wheel installed from these files alone: what it declares suffices.
wheel: setup ## Build the wheel in dist/ and test it without the checkout
	rm -rf build dist
	$(BIN)/python -m pip download --quiet --require-hashes --dest build/locked --requirement requirements.lock
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --no-index --find-links build/locked --find-links dist \
	  'lastunit[embedded]'
	cd build/wheel && bin/lastunit --help
	cd build/wheel && bin/python -I -c 'from app.store.scripts import load_scripts; assert load_scripts()'

lock: ## Renew requirements.lock
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

clean: ## Remove all that make made; the service's data stays
	rm -rf .venv build dist .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
