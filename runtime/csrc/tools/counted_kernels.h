// A copy of a kernel table whose dot products count their calls: which one ran, and not only which one was planned.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "core/kernels.h"

namespace bitorch {

// There is one at a time: functions have no room for the object that counts them.
class CountedKernels {
 public:
  explicit CountedKernels(const KernelTable& table) : table_(table) {
    original() = &table;
    count_all(std::make_index_sequence<kMethods>());
  }
  const KernelTable& table() const { return table_; }

  // The names of the dot products that were called since the last call of this.
  std::set<std::string> called() {
    std::set<std::string> names;
    for (size_t method = 0; method < kMethods; ++method) {
      if (counts()[method].exchange(0) > 0) names.insert(table_.dot_name[method]);
    }
    return names;
  }

 private:
  static const KernelTable*& original() {
    static const KernelTable* table = nullptr;
    return table;
  }
  static std::array<std::atomic<int64_t>, kMethods>& counts() {
    static std::array<std::atomic<int64_t>, kMethods> counts{};
    return counts;
  }
  template <size_t kMethod>
  static void counted(const DotTile* tile, void* sums) {
    counts()[kMethod].fetch_add(1, std::memory_order_relaxed);
    original()->dot[kMethod](tile, sums);
  }
  template <size_t... kMethod>
  void count_all(std::index_sequence<kMethod...>) {
    ((table_.dot[kMethod] = table_.dot[kMethod] == nullptr ? nullptr : counted<kMethod>), ...);
  }

  KernelTable table_;
};

}  // namespace bitorch
