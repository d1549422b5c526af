# Everything a contributor needs; `make` alone says what there is.
#
# PYTHON: any Python from 3.11 on, to make the environment with.
# VENV: where the environment is; made when missing, and again when pyproject.toml changes.

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done),python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development

.DEFAULT_GOAL := help
SEEDS ?= 50000
KILLS ?= 200
DATABASE ?= sqlite

.PHONY: help demo test test-services gcs-live simulate plant chaos chaos-cluster check format clean

help:
	@echo "make demo            a service, 20,000 objects and their story, in a minute"
	@echo "make test            every test; needs nothing but the package index"
	@echo "make check           style, types, architecture"
	@echo "make format          rewrite the sources in the house's style"
	@echo "make test-services   on PostgreSQL, which the tests start themselves; with gcloud and Node"
	@echo "make gcs-live        what Cloud Storage is expected to answer, on a bucket of yours, BUCKET=…"
	@echo "make simulate        so many simulated disasters, SEEDS=$(SEEDS)"
	@echo "make plant           does the simulation find bugs? plants them in copies of the sources"
	@echo "make chaos           so many kills of a working service, KILLS=$(KILLS) DATABASE=$(DATABASE)"
	@echo "make chaos-cluster   so many blows to the processes of a cluster, KILLS=$(KILLS)"
	@echo "make clean           remove the environment and the caches"
	@echo
	@echo "VENV=$(VENV)  PYTHON=$(PYTHON)"

demo: $(RUNTIME)
	@$(BIN)/longshore demo

test: $(DEVELOPMENT)
	$(BIN)/python -m pytest -n auto --dist worksteal

# What is not installed is skipped, with a word in the summary; where CI=true, it fails.
test-services: $(DEVELOPMENT)
	$(BIN)/python -m pytest -rs -m services
	$(BIN)/python -m pytest -rs -n 2 --dist loadfile --database postgresql \
		tests/database tests/api tests/crash tests/fuzz tests/runner/test_supervision.py \
		tests/conformance/test_runner.py
	$(BIN)/python -m pytest -rs --database postgresql -m services tests/crash tests/fuzz

# Asks Google, by the Application Default Credentials; see docs/emulator.md.
gcs-live: $(DEVELOPMENT)
	@test -n "$(BUCKET)" || { echo "Name a bucket that you may change: make gcs-live BUCKET=..."; exit 1; }
	$(BIN)/python -m tests.conformance.gcs_live $(BUCKET)

simulate: $(DEVELOPMENT)
	$(BIN)/python -m tests.simulation --seeds 0:$(SEEDS)

plant: $(DEVELOPMENT)
	$(BIN)/python -m tests.simulation.plant

chaos: $(DEVELOPMENT)
	$(BIN)/python -m tests.crash.chaos --kills $(KILLS) --database $(DATABASE) \
		$(if $(SEED),--seed $(SEED)) --summary build/chaos.md

chaos-cluster: $(DEVELOPMENT)
	$(BIN)/python -m tests.cluster.chaos --blows $(KILLS) $(if $(SEED),--seed $(SEED))

check: $(DEVELOPMENT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile deploy/cluster/Dockerfile
	$(BIN)/python -m pytest tests/test_architecture.py

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c '$(NEW_ENOUGH)' || \
		{ echo "No Python of at least 3.11 found: name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[all]'
	@touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[all,dev]'
	@touch $@ $(RUNTIME)
