# Checks of the C++ core that need more than a compiler and Python, or more than a minute: none is part of `make test`.
#
#   make checks              what continuous integration has time for: the ARM kernels and damaged files
#   make checks-sanitized    a part of the sanitizers' checks and of the fuzzer under them, in some fifteen minutes
#   make neon                the NEON kernels and whole programs, cross-compiled and emulated: correctness, never speed
#   make sanitize            the same checks on this machine under Address-, UndefinedBehavior- and ThreadSanitizer
#   make fuzz SECONDS=600    damaged programs, arrays and files, under sanitizers; what fails stays in build/fuzz
#   make fuzz-file COUNT=1000000   damaged packed files, loaded and run, with 2 GiB for the process; what fails stays in
#                            build/fuzz-file
#   make fuzz-file-sanitized COUNT=100000   the same under sanitizers, which find other mistakes
CASES ?= 400
KERNEL_CASES ?= 200
SECONDS ?= 60
COUNT ?= 100000
SEED ?= 0
# Where the builds go, and what they are told.
BUILDS ?= build
NEON_FLAGS ?= -DCMAKE_BUILD_TYPE=Release -DBITORCH_WERROR=ON
SANITIZE_FLAGS ?= -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBITORCH_WERROR=ON
# As many compilers at once as there are CPUs, and two at least: one waits for the disk now and then.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((n > 2 ? n : 2)))

CMAKE := $(BIN)/cmake
QEMU ?= qemu-aarch64
CROSS_COMPILER := aarch64-linux-gnu-g++
CASE_DIR := build/cases-$(CASES)-$(SEED)
CASE_STAMP := $(CASE_DIR)/.written
CASE_SOURCES := $(wildcard runtime/tests/cases.py runtime/tests/dump_cases.py runtime/src/bitorch_runtime/reference/*.py)

# Compiling the fused kernels under sanitizers takes longer than all of continuous integration should.
checks-sanitized: $(RUNTIME_STAMP)
	$(MAKE) --jobs=2 --output-sync=target sanitize-memory fuzz JOBS=2 CASES=100 KERNEL_CASES=25 SECONDS=60 \
	  BUILDS=build/checks SANITIZE_FLAGS="$(QUICK) -DBITORCH_KERNEL_OPTIMIZE=-O1"

.PHONY: checks checks-sanitized neon neon-tools sanitize sanitize-build sanitize-memory sanitize-threads
.PHONY: fuzz fuzz-file fuzz-file-built fuzz-file-sanitized

$(CASE_STAMP): $(CASE_SOURCES) | $(RUNTIME_STAMP)
	rm -rf $(CASE_DIR)
	$(BIN)/python runtime/tests/dump_cases.py --out $(CASE_DIR) --count $(CASES) --seed $(SEED)
	touch $@

# Fewer cases than by hand, and a minute of the fuzzer of files. Compiling takes most of the time: the core is optimised
# less; the kernels for ARM are those that users have. Warnings are errors in the build that is installed; compilers that optimise less give others. Two parts are made at a
# time, and each is printed when it has ended. Without a cross compiler, `make checks NEON=` leaves its part out.
NEON ?= neon
QUICK := -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1
checks: $(RUNTIME_STAMP)
	@test -n "$(NEON)" || echo "make checks: the ARM kernels are NOT checked, since NEON is empty"
	$(MAKE) --jobs=2 --output-sync=target $(NEON) fuzz-file-built \
	  JOBS=2 CASES=100 KERNEL_CASES=25 SECONDS=60 BUILDS=build/checks \
	  NEON_FLAGS="$(QUICK)"

neon-tools:
	@for tool in $(CROSS_COMPILER) $(QEMU); do command -v $$tool >/dev/null || { \
	  echo "make neon needs $$tool. On Debian or Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }; done

# Cortex-A53 has no dotprod extension: there, the table for it must not be offered, nor run when named.
neon: neon-tools $(CASE_STAMP)
	$(CMAKE) -S runtime -B $(BUILDS)/neon $(NEON_FLAGS) -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake -DBITORCH_TOOLS=ON
	$(CMAKE) --build $(BUILDS)/neon --parallel $(JOBS)
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_packed
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_specs
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_kernels --kernel neon --cases $(KERNEL_CASES)
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_kernels --kernel neon-dotprod --cases $(KERNEL_CASES)
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_functions --every 100003
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_training --cases $(KERNEL_CASES)
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_training_norm --cases $(KERNEL_CASES)
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/check_few_channels --cases $(KERNEL_CASES)
	$(QEMU) -cpu cortex-a76 $(BUILDS)/neon/run_cases --kernel neon --kernel neon-dotprod $(CASE_DIR)
	$(QEMU) -cpu cortex-a53 $(BUILDS)/neon/check_kernels --cases $(KERNEL_CASES)
	$(QEMU) -cpu cortex-a53 $(BUILDS)/neon/run_cases $(CASE_DIR)
	$(QEMU) -cpu cortex-a53 $(BUILDS)/neon/run_cases --kernel neon-dotprod $(CASE_DIR); test $$? -eq 2

sanitize: sanitize-memory sanitize-threads

# What checks and fuzzers share: two builds in one directory at the same time would break each other under `make -j`.
sanitize-build: | $(RUNTIME_STAMP)
	$(CMAKE) -S runtime -B $(BUILDS)/sanitize $(SANITIZE_FLAGS) -DBITORCH_SANITIZE=ON -DBITORCH_TOOLS=ON
	$(CMAKE) --build $(BUILDS)/sanitize --parallel $(JOBS)

sanitize-memory: sanitize-build $(CASE_STAMP)
	$(BUILDS)/sanitize/check_safetensors
	$(BUILDS)/sanitize/check_packed
	$(BUILDS)/sanitize/check_functions
	$(BUILDS)/sanitize/check_specs
	$(BUILDS)/sanitize/check_kernels --cases $(KERNEL_CASES)
	$(BUILDS)/sanitize/check_threads
	$(BUILDS)/sanitize/check_training --cases $(KERNEL_CASES)
	$(BUILDS)/sanitize/check_training_norm --cases $(KERNEL_CASES)
	$(BUILDS)/sanitize/check_few_channels --cases $(KERNEL_CASES)
	$(BUILDS)/sanitize/run_cases --threads 2 $(CASE_DIR)

sanitize-threads: $(CASE_STAMP)
	$(CMAKE) -S runtime -B build/sanitize-threads -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBITORCH_TOOLS=ON -DBITORCH_WERROR=ON \
	  -DCMAKE_CXX_FLAGS=-fsanitize=thread
	$(CMAKE) --build build/sanitize-threads --target check_few_channels check_threads check_training check_training_norm run_cases --parallel $(JOBS)
	TSAN_OPTIONS=halt_on_error=1 build/sanitize-threads/check_threads
	TSAN_OPTIONS=halt_on_error=1 build/sanitize-threads/check_training --cases $(KERNEL_CASES)
	TSAN_OPTIONS=halt_on_error=1 build/sanitize-threads/check_training_norm --cases $(KERNEL_CASES)
	TSAN_OPTIONS=halt_on_error=1 build/sanitize-threads/check_few_channels --cases $(KERNEL_CASES)
	TSAN_OPTIONS=halt_on_error=1 build/sanitize-threads/run_cases --threads 4 --callers 3 $(CASE_DIR)

fuzz: sanitize-build $(CASE_STAMP)
	$(BUILDS)/sanitize/fuzz_program --seconds $(SECONDS) --seed $(SEED) --save build/fuzz $(CASE_DIR)

# The tools of the installed runtime, which has no sanitizers either.
fuzz-file-built: $(CASE_STAMP)
	build/runtime/fuzz_file --memory 2048 --seconds $(SECONDS) --seed $(SEED) --save build/fuzz-file $(CASE_DIR)

# Sanitizers reserve terabytes of address space: a limit on it needs a build without them.
fuzz-file: $(CASE_STAMP)
	$(CMAKE) -S runtime -B build/capped -DCMAKE_BUILD_TYPE=Release -DBITORCH_TOOLS=ON
	$(CMAKE) --build build/capped --target fuzz_file --parallel $(JOBS)
	build/capped/fuzz_file --memory 2048 --count $(COUNT) --seed $(SEED) --save build/fuzz-file $(CASE_DIR)

fuzz-file-sanitized: sanitize-build $(CASE_STAMP)
	$(BUILDS)/sanitize/fuzz_file --count $(COUNT) --seed $(SEED) --save build/fuzz-file-sanitized $(CASE_DIR)
