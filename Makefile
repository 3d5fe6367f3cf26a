# Two commands for a newcomer: `make demo` answers a question about a real recording, `make test` proves the code.
# Another interpreter: make demo PYTHON=python3.12. Packages come from where pip is configured to look (pip config, PIP_* in the
# environment); a CPU build of torch is taken wherever one of those places offers it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test check format lint types contracts sizes bench clean
help: ## list the targets
	@echo "make TARGET [PYTHON=python3.12]"
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /:/' | sort | awk -F: '{ printf "  %-9s %s\n", $$1, $$2 }'

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v[:2] >= (3, 10) or sys.exit("make: Python 3.10 to 3.13 is needed, and $(PYTHON) is %d.%d; name another one: make demo PYTHON=python3.12" % v[:2])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { echo "make: no virtual environment could be made; on Debian and Ubuntu install python3-venv first"; exit 1; }
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.python
	@echo "installing the package and torch into $(VENV); minutes the first time"
	@$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.python
	@echo "installing the package and what developers need into $(VENV); minutes the first time"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## fetch the pocket model and ask a real recording the card's question
	@$(BIN)/naturelm demo

test: $(VENV)/.dev ## run the whole suite
	$(BIN)/naturelm models pull pocket
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not gpu"

check: lint types contracts sizes ## every gate that a pull request must pass

format: $(VENV)/.dev ## rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

sizes: $(VENV)/.dev
	$(BIN)/python tools/sizes.py NatureLM

bench: $(VENV)/.dev ## measure this machine and write benchmarks/results
	$(BIN)/python benchmarks/run.py

clean: ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist
