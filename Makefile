# One way to do each thing. `make setup` is quick when nothing changed; every other target runs it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Where there is no NVIDIA GPU, prefer torch's CPU build (2.13.0+cpu counts as newer than 2.13.0): it is smaller by gigabytes.
TORCH_INDEX := $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu --retries 0)

# On shared machines OpenMP's threads shall sleep while they wait (src/unclouded/cli/__init__.py).
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test test-all lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "unclouded needs CPython 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_INDEX) --no-deps $$(grep '^torch==' constraints.txt)
	$(PIP) -c constraints.txt -e '.[dev,hub,metrics,plot,stac]'
	@touch $@

demo: setup
	$(BIN)/unclouded demo demo

test: setup
	$(BIN)/python -m pytest

test-all: setup
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo
