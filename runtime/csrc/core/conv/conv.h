// One convolution (a linear layer is a 1x1 convolution on 1x1 images) from codes or floats to int32, float32 or codes.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/cpu.h"
#include "core/base/kernel_time.h"
#include "core/base/layout.h"
#include "core/base/preparation.h"
#include "core/conv/code_spec.h"
#include "core/kernels.h"

namespace bitorch {

struct ConvGeometry {
  int64_t height = 1, width = 1;  // of the input, without padding
  int64_t in_channels = 1, out_channels = 1;
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;

  void check() const;  // Error when a number is out of range, sizes overflow or the output is empty
  int64_t out_height() const;
  int64_t out_width() const;
  int64_t inputs_per_output() const;  // K = kernel_h * kernel_w * in_channels / groups
};

// What a stored weight m, 0 .. 2^bits - 1, stands for: the weight code c.
enum class WeightGrid {
  kOdd,     // c = 2m - (2^bits - 1): odd integers
  kSigned,  // c = m - 2^(bits - 1)
};

// A max-pool behind a convolution: of what it gives, padding never being the largest.
struct ConvPool {
  int64_t kernel_h = 0, kernel_w = 0;  // 0: there is none
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0;
  int64_t height = 0, width = 0;  // of the result

  explicit operator bool() const { return kernel_h != 0; }
};

// The weights and everything else that is fixed at load. Arrays are read during construction only.
struct ConvSpec {
  ConvGeometry geometry;
  // Low-bit: weight_bits and activation_bits 1..8 and packed_weights in the canonical order (packing.h).
  // Float: weight_bits == 0, float_weights [out_channels][kernel_h][kernel_w][in_channels/groups].
  int weight_bits = 0;
  int activation_bits = 0;
  WeightGrid weight_grid = WeightGrid::kOdd;
  bool sign_activations = false;  // codes q in {0, 1} mean 2q - 1; activation_bits == 1; padding contributes 0
  int zero_point = 0;             // a code q means q - zero_point, padding contributes 0; 0 beside sign_activations
  const uint8_t* packed_weights = nullptr;
  const float* float_weights = nullptr;

  // Float stage: both null (absent) or [out_channels]. Low-bit layers without it give D; float layers without it the
  // plain sum.
  const float* multiply = nullptr;
  const float* offset = nullptr;
  // What follows it, y = fma(y, norm_multiply, norm_offset): both null (absent) or [out_channels]. Low-bit layers need
  // multiply and offset as well; float layers do not.
  const float* norm_multiply = nullptr;
  const float* norm_offset = nullptr;
  bool has_residual = false;  // float layers and low-bit layers with a float stage
  bool relu = false;

  // Code stage: code.bits == 0 when absent. int32 thresholds are compared with D, float32 ones with y, and the unit
  // quantizer is that of y.
  CodeSpec code;

  bool wants_int = false, wants_float = false;  // which tensors leave, besides codes

  ConvPool pool;  // of what leaves; only fused kernels do it
  int64_t result_height() const { return pool ? pool.height : geometry.out_height(); }
  int64_t result_width() const { return pool ? pool.width : geometry.out_width(); }

  // Low-bit: c = code_step() * m + lowest_code(), and no |c| is larger than -lowest_code().
  int code_step() const { return weight_grid == WeightGrid::kOdd ? 2 : 1; }
  int lowest_code() const {
    return weight_grid == WeightGrid::kOdd ? 1 - (1 << weight_bits) : -(1 << (weight_bits - 1));
  }
  // The weight m that means -c is this less m; on the signed grid there is none for the lowest c.
  int negated_sum() const { return weight_grid == WeightGrid::kOdd ? (1 << weight_bits) - 1 : 1 << weight_bits; }
  // The largest |D| there can be, and no sum of weight code times activation code is larger; Error beyond int64.
  int64_t largest_sum() const;
};

// Which of the kernels that can do it a convolution takes.
struct KernelWish {
  bool staged = true, fused = fused_allowed();
  const FusedKernel* only = nullptr;     // this one; Error where it does not serve the layer
  Machine machine = bitorch::machine();  // whose costs count
};

// Which layout a low-bit convolution likes its input in: kPlanes, or kBytes, which every one can read; only one that
// likes planes reads planes. Float convolutions read kFloat.
Kind preferred_input(const ConvSpec& spec, const KernelTable& kernels, const Tuning* tuning = nullptr);
// Whether its codes may be written as bit planes (blocks of channels must not share a byte).
bool can_write_planes(const ConvSpec& spec);

class FusedConv;

class Conv {
 public:
  // input and the outputs' layouts are final here: geometry without halo must match. Outputs not wanted: nullptr.
  // Error: geometry, int32 overflow of the largest sum, a float stage without both arrays, thresholds out of order, ...
  // What it keeps is charged to the preparation's budget.
  Conv(const ConvSpec& spec, const KernelTable& kernels, Preparation& preparation, const Layout& input,
       const Layout* out_int, const Layout* out_float, const Layout* out_codes, const Layout* residual,
       const KernelWish& wish = {});
  // The same, or null where no kernel that may be used serves the layer.
  static std::unique_ptr<Conv> make(const ConvSpec& spec, const KernelTable& kernels, Preparation& preparation,
                                    const Layout& input, const Layout* out_int, const Layout* out_float,
                                    const Layout* out_codes, const Layout* residual, const KernelWish& wish = {});
  ~Conv();
  Conv(Conv&&) noexcept;

  struct Buffers {
    const uint8_t* input;
    const uint8_t* residual;  // null without
    uint8_t* out_int;         // null where not wanted
    uint8_t* out_float;
    uint8_t* out_codes;
    uint8_t* scratch;  // scratch_bytes(batch, threads) bytes, 64-byte aligned
    bool zeroes_halo;  // the outputs' halo as well, each of its rows by who writes there
  };
  int64_t scratch_bytes(int64_t batch, int threads) const;
  // Writes every real pixel of its outputs, and their halo only on demand. Never allocates, never throws.
  void run(const Buffers& buffers, int64_t batch, int threads) const;

  // The same for rows first .. last - 1 of image n alone, without the halo, on this thread. buffers.scratch:
  // rows_scratch() bytes.
  void run_rows(const Buffers& buffers, int64_t n, int64_t first, int64_t last) const;
  int64_t rows_scratch() const;
  double nanoseconds() const;  // that an image takes on one thread, about

  const char* kernel_name() const;  // e.g. "popcount avx512-vpopcntdq"
  // The kernels that could have computed it, the cheapest first, with the nanoseconds of one image that each was
  // reckoned or measured to take. Where the numbers of a layer do not suit the first, the next one runs.
  const std::vector<KernelTime>& choices() const { return choices_; }
  int64_t macs() const;          // multiply-adds per image
  int64_t weight_bytes() const;  // of the re-tiled weights

 private:
  struct State;
  explicit Conv(const ConvGeometry& geometry);
  bool take_kernel(const ConvSpec& spec, const KernelTable& kernels, Preparation& preparation, const Layout& input,
                   const Layout* const outs[4], const KernelWish& wish);

  ConvGeometry geometry_;
  std::vector<KernelTime> choices_;
  std::unique_ptr<State> state_;  // of the staged path, or
  std::unique_ptr<FusedConv> fused_;
};

}  // namespace bitorch
