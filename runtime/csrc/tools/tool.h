// What the command-line tools share: random numbers, arguments, lists of files.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/checked.h"

namespace bitorch {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t word() {  // splitmix64
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  size_t below(size_t n) { return static_cast<size_t>(word() % n); }
  int from(int low, int high) { return low + static_cast<int>(word() % (static_cast<uint64_t>(high - low) + 1)); }
  bool one_in(size_t n) { return below(n) == 0; }
  float real() { return static_cast<float>(static_cast<double>(word() >> 11) * 0x1p-52 - 1.0); }  // [-1, 1)
  template <class T>
  const T& of(const std::vector<T>& options) {
    return options[below(options.size())];
  }

 private:
  uint64_t state_;
};

// Options with a value ("--seed 3"), flags without one ("--replay"), and paths. Errors end with the usage.
class Arguments {
 public:
  Arguments(int argc, char** argv, std::string usage, std::initializer_list<const char*> options,
            std::initializer_list<const char*> flags = {})
      : usage_(std::move(usage)) {
    const auto is_in = [](const std::string& name, std::initializer_list<const char*> names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      if (argument.rfind("--", 0) != 0) {
        paths_.push_back(argument);
      } else if (is_in(argument, flags)) {
        values_[argument].emplace_back();
      } else if (!is_in(argument, options)) {
        fail("unknown option " + argument);
      } else if (i + 1 == argc) {
        fail(argument + " needs a value");
      } else {
        values_[argument].emplace_back(argv[++i]);
      }
    }
  }

  const std::vector<std::string>& paths() const { return paths_; }
  bool has(const std::string& name) const { return values_.count(name) > 0; }
  std::vector<std::string> texts(const std::string& name) const {
    return has(name) ? values_.at(name) : std::vector<std::string>();
  }
  std::string text(const std::string& name) const { return has(name) ? values_.at(name).back() : ""; }

  int64_t number(const std::string& name, int64_t missing, int64_t low, int64_t high) const {
    if (!has(name)) return missing;
    const std::string& text = values_.at(name).back();
    char* end = nullptr;
    const long long value = std::strtoll(text.c_str(), &end, 10);
    if (end == text.c_str() || *end != '\0' || value < low || value > high) {
      fail(name + " is \"" + text + "\"; it must be a number from " + std::to_string(low) + " to " +
           std::to_string(high));
    }
    return value;
  }

  [[noreturn]] void fail(const std::string& what) const { throw Error(what + "; usage: " + usage_); }

 private:
  std::string usage_;
  std::vector<std::string> paths_;
  std::map<std::string, std::vector<std::string>> values_;
};

// The files among `paths`, and those of the folders among them that end with .safetensors, sorted.
inline std::vector<std::string> safetensors_files(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// What main() of a tool does: an Error is told under the tool's name, and is an exit status of 2.
inline int run_tool(const char* name, int run(int, char**), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 2;
  }
}

}  // namespace bitorch
