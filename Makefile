# `make demo` and `make test` are all a new user needs: each sets the environment up first, and a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test sweep lint format bench-step bench-bf16 clean

demo: $(STAMP)
	$(BIN)/python recipes/digits.py --out runs/demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow"

sweep: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# BITorch 0.4.1 has our import name, so it is measured in an environment of its own.
BITORCH := .venv-bitorch-0.4.1

bench-step: $(STAMP) $(BITORCH)/.installed
	$(BIN)/python benchmarks/train_step.py --theirs $(BITORCH)/bin/python

bench-bf16: $(STAMP)
	$(BIN)/python benchmarks/train_step.py --bf16

$(BITORCH)/.installed: constraints.txt
	$(PYTHON) -m venv --clear $(BITORCH)
	$(BITORCH)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt bitorch==0.4.1
	touch $(BITORCH)/.installed

# One stamp for the whole set-up: it is redone when the dependencies change, and only then.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'constraints.txt needs Python 3.11 or newer; call make with PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[train,plots,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(BITORCH) runs
