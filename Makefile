# Everything a person types here. `make` by itself says what there is.
# PYTHON names the interpreter that makes the virtual environment; PIP_ARGS goes to pip.

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Its time says when the environment was last filled; older than the two lists: fill it again.
STAMP := $(VENV)/installed
RESULTS := build/tests.xml

.PHONY: help setup demo test check fast format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     set up, then run the whole job on embedded videos -> demo-run/report.html"
	@echo "make test     set up, then every check: format, lint, types, tests"
	@echo ""
	@echo "make setup    only the virtual environment in $(VENV)"
	@echo "make check    format, lint, types (seconds)"
	@echo "make fast     the tests without the slow ones"
	@echo "make format   rewrite the files in the house's format"
	@echo "make clean    delete all that make has made: $(VENV), build, caches, demo-run"
	@echo ""
	@echo "Another Python:           make setup PYTHON=python3.12"
	@echo "A small torch, no CUDA:   make setup \\"
	@echo "  PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "kinocell needs Python 3.11 or newer as $(PYTHON). Try: make setup PYTHON=python3.12"; \
	  exit 1; }
	@echo "== setting up $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "The virtual environment could not be made. On Debian and Ubuntu:"; \
	  echo "  apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP)
	@echo "== demo: the whole job on embedded videos, a few minutes on two cores"
	@$(BIN)/kinocell run --preset demo --out demo-run

check: $(STAMP)
	@echo "== format" && $(BIN)/ruff format --check
	@echo "== lint" && $(BIN)/ruff check
	@echo "== types" && $(BIN)/mypy

test: check
	@echo "== tests" && OMP_NUM_THREADS=1 $(BIN)/pytest --quiet --numprocesses auto \
	  --maxprocesses 4 --dist worksteal --durations=10 --junitxml=$(RESULTS)
	@echo "== all checks passed. Every test with its time: $(RESULTS)"

fast: $(STAMP)
	@$(BIN)/pytest --quiet -m "not slow"

format: $(STAMP)
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) build dist demo-run .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} +
