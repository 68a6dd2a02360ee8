// The frame of the fuzzers: memory that runs out, the loop, what is saved. To be included by one file of a program, the
// one with its main(): it replaces operator new.
#pragma once
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "case_file.h"
#include "core/format/json.h"
#include "tool.h"

// ---- Memory: a limit, and failures on demand ----

// With AddressSanitizer, the ordinary operator new ends the process when there is no memory; this one throws. It is
// built on malloc, which the sanitizer watches.
namespace {
thread_local int64_t allocations_until_failure = -1;  // -1: none fails
// Bytes that were allocated by this thread and not freed, and the most there were at once.
thread_local int64_t live_bytes = 0, peak_bytes = 0;

void* counted(void* memory) {
  if (memory == nullptr) return nullptr;
  live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  peak_bytes = std::max(peak_bytes, live_bytes);
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

void* allocate(size_t size, size_t alignment = 0) {
  if (allocations_until_failure >= 0 && allocations_until_failure-- == 0) throw std::bad_alloc();
  void* memory =
      counted(alignment == 0 ? std::malloc(size > 0 ? size : 1)
                             : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return counted(std::malloc(size > 0 ? size : 1)); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return counted(std::malloc(size > 0 ? size : 1)); }
void* operator new(size_t size, std::align_val_t alignment) { return allocate(size, static_cast<size_t>(alignment)); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
void operator delete[](void* memory, size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { release(memory); }

#ifdef __SANITIZE_ADDRESS__
// Address space cannot be limited under AddressSanitizer; single allocations can. The options stand in the program,
// since without them every case that asks for much memory would look like a crash.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:max_allocation_size_mb=256:hard_rss_limit_mb=3000:malloc_context_size=6:detect_"
         "stack_use_after_return=0";
}
#endif

namespace bitorch {

constexpr unsigned kSecondsPerCase = 60;

inline void limit_memory(int64_t megabytes) {
#ifndef __SANITIZE_ADDRESS__
  const rlim_t bytes = static_cast<rlim_t>(megabytes) << 20;
  const rlimit limit = {bytes, bytes};
  if (setrlimit(RLIMIT_AS, &limit) != 0) throw Error("the memory limit cannot be set");
#else
  (void)megabytes;
#endif
}

inline uint64_t hash(const std::vector<uint8_t>& bytes) {  // FNV-1a
  uint64_t h = 0xcbf29ce484222325u;
  for (uint8_t byte : bytes) h = (h ^ byte) * 0x100000001b3u;
  return h;
}

// What a fuzzer must never see.
struct Crash : std::exception {
  explicit Crash(std::string text) : text(std::move(text)) {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

// An Error's text is shown to people through Python, which wants UTF-8; Json::parse checks that.
inline void check_message(const char* what) {
  if (*what == '\0') throw Crash("an Error without text");
  try {
    Json::parse(Json::quoted(what));
  } catch (const Error&) {
    throw Crash(std::string("an Error whose text is not UTF-8: ") + what);
  }
}

// ---- The loop ----

// Small ones are tried more often per second.
inline std::vector<std::vector<uint8_t>> read_seeds(const std::vector<std::string>& paths, size_t most_bytes) {
  std::vector<std::vector<uint8_t>> seeds;
  for (const std::string& file : safetensors_files(paths)) {
    std::vector<uint8_t> bytes = read_file(file);
    if (bytes.size() <= most_bytes) seeds.push_back(std::move(bytes));
  }
  if (seeds.empty()) throw Error("no case of at most " + std::to_string(most_bytes) + " bytes in " + paths[0]);
  return seeds;
}

inline void save_case(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) throw Error(path + ": cannot be written");
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !written) throw Error(path + ": cannot be written");
}

inline void report_alarm(int) {
  const char text[] = "a case takes longer than a minute\n";
  (void)!write(2, text, sizeof(text) - 1);
  _exit(1);
}

// main() of a fuzzer. Counts has print(), and check(): Error where the cases cannot have been what they should.
// mutate(random, seeds) gives a case; try_case(bytes, &counts) tries it and must do the same for the same bytes. The
// case being tried is always in FOLDER/current.safetensors.
template <class Counts, class Mutate, class TryCase>
int fuzz_main(const char* name, size_t most_seed_bytes, int argc, char** argv, Mutate mutate, TryCase try_case) {
  try {
    const std::string usage =
        std::string(name) +
        " [--seconds N | --count N] [--seed S] [--memory MB] --save FOLDER CASE ..., or --replay CASE ...";
    const Arguments arguments(argc, argv, usage, {"--seconds", "--count", "--seed", "--memory", "--save"},
                              {"--replay"});
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    if (arguments.paths().empty()) arguments.fail("which cases?");
    limit_memory(arguments.number("--memory", 1024, 1, 1 << 20));
    signal(SIGALRM, report_alarm);
    Counts counts;
    if (arguments.has("--replay")) {
      for (const std::string& path : arguments.paths()) {
        alarm(kSecondsPerCase);
        std::printf("%s: ", path.c_str());
        try_case(read_file(path), &counts);
      }
      counts.print();
      return 0;
    }
    const std::string folder = arguments.text("--save");
    if (folder.empty()) arguments.fail("--save FOLDER is missing: where the case being tried is kept");
    const int64_t count = arguments.number("--count", kMost, 1, kMost);
    const auto end =
        std::chrono::steady_clock::now() +
        std::chrono::seconds(arguments.number("--seconds", arguments.has("--count") ? 1 << 30 : 60, 1, 1 << 30));
    Random random(static_cast<uint64_t>(arguments.number("--seed", 0, 0, kMost)));
    const std::vector<std::vector<uint8_t>> seeds = read_seeds(arguments.paths(), most_seed_bytes);
    std::filesystem::create_directories(folder);
    const std::string current = folder + "/current.safetensors";
    for (int64_t i = 0; i < count && std::chrono::steady_clock::now() < end; ++i) {
      const std::vector<uint8_t> bytes = mutate(random, seeds);
      save_case(current, bytes);
      alarm(kSecondsPerCase);
      try_case(bytes, &counts);
    }
    alarm(0);
    std::filesystem::remove(current);
    counts.print();
    counts.check();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace bitorch
