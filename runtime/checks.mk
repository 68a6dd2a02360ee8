# Checks of the C++ core that need more than a compiler and Python, or more than a minute: none is part of `make test`.
#
#   make neon                the NEON kernels and whole programs, cross-compiled and emulated: correctness, never speed
#   make sanitize            the same checks on this machine under Address-, UndefinedBehavior- and ThreadSanitizer
#   make fuzz SECONDS=600    damaged programs, arrays and files, under sanitizers; what fails stays in build/fuzz
#   make fuzz-file COUNT=1000000   damaged packed files, loaded and run; what fails stays in build/fuzz-file
CASES ?= 400
SECONDS ?= 60
COUNT ?= 100000
SEED ?= 0

CMAKE := $(BIN)/cmake
QEMU ?= qemu-aarch64
CROSS_COMPILER := aarch64-linux-gnu-g++
CASE_DIR := build/cases-$(CASES)-$(SEED)
CASE_STAMP := $(CASE_DIR)/.written
CASE_SOURCES := $(wildcard runtime/tests/cases.py runtime/tests/dump_cases.py runtime/src/bitorch_runtime/reference.py)

.PHONY: neon sanitize sanitize-memory sanitize-threads fuzz fuzz-file

$(CASE_STAMP): $(CASE_SOURCES) | $(RUNTIME_STAMP)
	rm -rf $(CASE_DIR)
	$(BIN)/python runtime/tests/dump_cases.py --out $(CASE_DIR) --count $(CASES) --seed $(SEED)
	touch $@

# Cortex-A53 has no dotprod extension: there, the table for it must not be offered, nor run when named.
neon: $(CASE_STAMP)
	@for tool in $(CROSS_COMPILER) $(QEMU); do command -v $$tool >/dev/null || { \
	  echo "make neon needs $$tool. On Debian or Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }; done
	$(CMAKE) -S runtime -B build/neon -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DBITORCH_TOOLS=ON
	$(CMAKE) --build build/neon --parallel
	$(QEMU) -cpu cortex-a76 build/neon/check_packed
	$(QEMU) -cpu cortex-a76 build/neon/check_kernels --kernel neon
	$(QEMU) -cpu cortex-a76 build/neon/check_kernels --kernel neon-dotprod
	$(QEMU) -cpu cortex-a76 build/neon/run_cases --kernel neon --kernel neon-dotprod $(CASE_DIR)
	$(QEMU) -cpu cortex-a53 build/neon/check_kernels
	$(QEMU) -cpu cortex-a53 build/neon/run_cases $(CASE_DIR)
	$(QEMU) -cpu cortex-a53 build/neon/run_cases --kernel neon-dotprod $(CASE_DIR); test $$? -eq 2

sanitize: sanitize-memory sanitize-threads

sanitize-memory: $(CASE_STAMP)
	$(CMAKE) -S runtime -B build/sanitize -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBITORCH_SANITIZE=ON -DBITORCH_TOOLS=ON
	$(CMAKE) --build build/sanitize --parallel
	build/sanitize/check_safetensors
	build/sanitize/check_packed
	build/sanitize/check_kernels
	build/sanitize/run_cases --threads 2 $(CASE_DIR)

sanitize-threads: $(CASE_STAMP)
	$(CMAKE) -S runtime -B build/sanitize-threads -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS=-fsanitize=thread -DBITORCH_TOOLS=ON
	$(CMAKE) --build build/sanitize-threads --target run_cases --parallel
	TSAN_OPTIONS=halt_on_error=1 build/sanitize-threads/run_cases --threads 4 --callers 3 $(CASE_DIR)

fuzz: $(CASE_STAMP)
	$(CMAKE) -S runtime -B build/sanitize -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBITORCH_SANITIZE=ON -DBITORCH_TOOLS=ON
	$(CMAKE) --build build/sanitize --target fuzz_program --parallel
	build/sanitize/fuzz_program --seconds $(SECONDS) --seed $(SEED) --save build/fuzz $(CASE_DIR)

fuzz-file: $(CASE_STAMP)
	$(CMAKE) -S runtime -B build/sanitize -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBITORCH_SANITIZE=ON -DBITORCH_TOOLS=ON
	$(CMAKE) --build build/sanitize --target fuzz_file --parallel
	build/sanitize/fuzz_file --count $(COUNT) --seed $(SEED) --save build/fuzz-file $(CASE_DIR)
