// A whole network: a JSON list of operations plus named arrays, checked and planned at load, then run any number of
// times.
#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/array.h"
#include "core/base/kernel_time.h"
#include "core/base/shared_arrays.h"
#include "core/graph/port.h"
#include "core/kernels.h"

namespace bitorch {

class Json;
struct Tuning;

class Program {
 public:
  static constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

  // Checks everything before anything runs; Error names the operation, the key, the value and the rule. The arrays are
  // copied (weights re-tiled): the caller may free them afterwards. `kernels` must outlive the program. Error also
  // where what the operations keep, what they need meanwhile, and the memory of a run with one image, its results
  // included, take more than memory_limit bytes together, before they are allocated; and where preparing it all would
  // take many seconds (budget.h). tuning: measured times of kernels to choose by, to which is added what it asks to
  // measure; null: kernels are chosen by what they reckon. shared: what other programs of the same arrays keep, and
  // where this one's is added; null: it keeps all for itself.
  Program(const std::string& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
          int64_t memory_limit = kNoLimit, Tuning* tuning = nullptr, SharedArrays* shared = nullptr);
  Program(const Json& json, const std::map<std::string, ArrayView>& arrays, const KernelTable& kernels,
          int64_t memory_limit = kNoLimit, Tuning* tuning = nullptr, SharedArrays* shared = nullptr);
  ~Program();
  Program(Program&&) noexcept;
  Program& operator=(Program&&) noexcept;

  using Port = bitorch::Port;
  static constexpr size_t kMaxArrayRank = bitorch::kMaxArrayRank;
  const std::vector<Port>& inputs() const;
  const std::vector<Port>& outputs() const;

  // The batch of these inputs, given in the order of inputs(). Error: number of inputs, dtype, shape, batches that
  // differ.
  int64_t batch(const std::vector<ArrayView>& inputs) const;

  // Computes every output. outputs[i] points to room for batch(inputs) x outputs()[i].shape elements, aligned to its
  // dtype; inputs are aligned likewise. Error (values beyond the bits of a uint8 input) leaves nothing half-computed in
  // the program; the content of the outputs is then unspecified. std::bad_alloc when a workspace for this batch does
  // not fit. May be called from several threads at once; each call takes a workspace from a free list, and only the
  // first call at a larger batch allocates.
  void run(const std::vector<ArrayView>& inputs, const std::vector<void*>& outputs) const;

  // Allocates and touches the memory of a run with this batch, which is what makes a first call slow.
  void reserve(int64_t batch) const;

  // A tensor as it was planned.
  struct TensorInfo {
    std::string name;
    std::string dtype;           // "float32", "int32" or "codes"
    std::string layout;          // "float32", "int32", "bytes" or "planes"
    std::vector<int64_t> shape;  // {H, W, C}
    int bits;                    // of codes, else 0
    std::vector<int64_t> halo;   // {top, left, bottom, right}
  };
  struct OperationInfo {
    std::string op;                   // "conv2d", ...
    std::string kernel;               // e.g. "popcount avx512-vpopcntdq"
    std::vector<std::string> inputs;  // tensor names
    std::vector<TensorInfo> outputs;
    int64_t macs;                     // multiply-adds per image
    int64_t weight_bytes;             // of the re-tiled weights
    std::vector<KernelTime> choices;  // of kernels, the cheapest first; empty where there was none
  };
  // In the order of the description. (The inputs run first.)
  std::vector<OperationInfo> describe() const;

  // Seconds per operation, in the order of describe(): the minimum over `repeats` runs (1 .. 1000000) after one
  // warm-up.
  std::vector<double> profile(const std::vector<ArrayView>& inputs, int repeats) const;

  int64_t workspace_bytes(int64_t batch) const;  // what one concurrent call needs, with get_num_threads() threads
  int64_t kept_bytes() const;                    // all that the operations keep: weights, tables, and they themselves
  const std::vector<SharedUse>& uses() const;    // of these, what other programs may keep as well
  // What "op" may be, and which keys a description may have besides it, in the order of the alphabet.
  static std::map<std::string, std::vector<std::string>> operations();
  const char* kernels_name() const;  // KernelTable::name

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bitorch
