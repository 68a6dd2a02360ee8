// The tensors and operations of one program, as the description names them.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/array.h"
#include "core/base/checked.h"
#include "core/base/kernel_time.h"
#include "core/base/layout.h"
#include "core/graph/port.h"
#include "core/kernels.h"

namespace bitorch {

class ByRows;
class TakesRows;
class Preparation;

// An Error that says which operation it is about.
struct OperationError : Error {
  using Error::Error;
};

enum class Values { kFloat32, kInt32, kCodes };
const char* values_name(Values values);  // "float32", "int32" or "codes"

// The row axes of one image, outermost first: {height, width}, {length}, ... Axes of 1 in front of all others say
// nothing, so that a vector is an image of one pixel and a signal one of one row.
using RowAxes = std::vector<int64_t>;
RowAxes without_leading_ones(const RowAxes& axes);
// The same axes as a list of `count`: ones are put in front, or left out there. Empty where they do not fit.
RowAxes as_axes(const RowAxes& axes, size_t count);

// Channels at each place of any number of row axes. Only windows know how many these are: for everything else, and in
// memory, `height` rows of `width` pixels, the last axis being a row.
struct Tensor {
  std::string name;
  Values values = Values::kFloat32;
  int bits = 0;  // of codes
  RowAxes axes = {1, 1};
  int64_t height = 1, width = 1, channels = 1;

  // The memory plan fills these in.
  Layout layout;
  const Tensor* whole = nullptr;  // the tensor of which it is a part, or which has parts itself; else null
  int64_t arena_offset = 0;       // per image of the batch

  bool is_codes() const { return values == Values::kCodes; }
  int64_t pixels() const { return height * width; }
  bool same_shape(const Tensor& other) const { return same_rows(other) && channels == other.channels; }
  bool same_rows(const Tensor& other) const { return without_leading_ones(axes) == without_leading_ones(other.axes); }
  std::vector<int64_t> shape() const;  // {rows ..., channels}
  std::string describe() const;        // e.g. "codes [8, 8, 64] of 2 bits"
};

// Where a tensor begins that is not in the arena.
struct TensorPlace {
  const Tensor* tensor = nullptr;
  uint8_t* data = nullptr;
};

// What one run hands to every operation.
struct RunContext {
  const KernelTable* kernels;
  uint8_t* arena;
  uint8_t* scratch;      // 64-byte aligned, as many bytes as the operation asked for
  int64_t first, batch;  // images first .. first + batch - 1 of the arrays; tensors hold these alone
  int threads;
  const ArrayView* inputs;
  void* const* outputs;
  TensorPlace elsewhere[2] = {};  // what an operation of a chain reads and writes

  uint8_t* data(const Tensor& tensor) const {
    for (const TensorPlace& place : elsewhere) {
      if (place.tensor == &tensor) return place.data;
    }
    return arena + tensor.arena_offset * batch;
  }
  // Pixel (y, x) of image n; its neighbours on the right follow it.
  uint8_t* pixel(const Tensor& tensor, int64_t n, int64_t y, int64_t x = 0) const {
    return data(tensor) + tensor.layout.offset(n, y, x);
  }
  // The same in a tensor of float32.
  float* floats(const Tensor& tensor, int64_t n, int64_t y, int64_t x = 0) const {
    return reinterpret_cast<float*>(pixel(tensor, n, y, x));
  }
};

// One operation. It is made from a spec whose tensors and numbers were checked; plan() follows once layouts are final;
// then it runs any number of times, from several threads at once.
class Operation {
 public:
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // What messages and lists call it; whoever makes an operation says so.
  void set_name(std::string op, std::string where) {
    op_ = std::move(op);
    where_ = std::move(where);
  }
  const std::string& op() const { return op_; }
  const std::string& where() const { return where_; }  // "operation 3 (conv2d)"
  const std::vector<const Tensor*>& inputs() const { return inputs_; }
  const std::vector<const Tensor*>& outputs() const { return outputs_; }

  // What the memory plan asks, before layouts are final except those of tensors defined later than `tensor`.
  virtual bool reads_planes(const Tensor& /*input*/, const KernelTable&) const { return true; }
  virtual bool writes_planes(const Tensor& /*output*/) const { return true; }
  virtual bool prefers_planes(const Tensor& /*input*/, const KernelTable&) const { return false; }
  virtual Halo halo(const Tensor& /*input*/) const { return {}; }

  // Tensors whose pixels do not adjoin, because they are parts of others (layout.h).
  virtual bool reads_part(const Tensor& /*input*/) const { return false; }
  virtual bool writes_part(const Tensor& /*output*/) const { return false; }
  // Whether its output is the channels of one input behind those of the other.
  virtual bool joins_channels() const { return false; }
  // An input whose memory `output` may take where nobody reads it later: it is read, number by number, before it is
  // written. Null: none. Their layouts are the same, halo included.
  virtual const Tensor* overwrites(const Tensor& /*output*/) const { return nullptr; }

  // Whether it does `next`, the only reader of its only output, too, from now on: then it gives what that one would.
  // Asked before plan(), when layouts are final.
  virtual bool take_over(const Operation& /*next*/, const KernelTable&, Preparation&) { return false; }
  virtual void plan(const KernelTable&, Preparation&) {}
  // How it gives some of its rows alone; null where it cannot. Asked when layouts are final.
  virtual const ByRows* by_rows() const { return nullptr; }
  // How it takes the rows of its only input one after the other; null where it cannot. Asked at the same time.
  virtual const TakesRows* takes_rows() const { return nullptr; }
  virtual int64_t scratch_bytes(int64_t /*batch*/, int /*threads*/) const { return 0; }
  // Writes every pixel of its outputs and their halo. Allocates nothing.
  virtual void run(const RunContext& context) const = 0;

  virtual std::string kernel(const KernelTable& kernels) const;
  // Which kernels there were to choose from, the chosen one and why; empty where there is no choice.
  virtual std::vector<KernelTime> choices() const { return {}; }
  virtual int64_t macs() const { return 0; }
  virtual int64_t weight_bytes() const { return 0; }

 protected:
  Operation(std::vector<const Tensor*> inputs, std::vector<const Tensor*> outputs)
      : inputs_(std::move(inputs)), outputs_(std::move(outputs)) {}
  void set_outputs(std::vector<const Tensor*> outputs) { outputs_ = std::move(outputs); }

 private:
  std::string op_, where_;
  std::vector<const Tensor*> inputs_, outputs_;
};

struct Graph {
  std::deque<Tensor> tensors;  // in the order of definition; addresses stay
  std::map<std::string, Tensor*> by_name;
  std::vector<std::unique_ptr<Operation>> operations;  // as they are described
  // Inputs first, so that a bad value is found before any work; where operations were put into a chain (chain.h), the
  // chain stands where the last of them would.
  std::vector<const Operation*> run_order;
  // Those that another one does (join_operations.h): they are not in run_order.
  struct TakenOver {
    const Operation* by = nullptr;
    const Tensor* between = nullptr;  // what `by` would give alone
  };
  std::map<const Operation*, TakenOver> taken_over;
  std::vector<Port> inputs, outputs;   // in the order of description
  std::set<std::string> output_names;  // of the outputs' tensors
};

}  // namespace bitorch
