#include "core/conv/tuning.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "core/base/checked.h"
#include "core/conv/conv_choice.h"

namespace bitorch {

namespace {

// A kernel runs until it has run so often, or so long, whichever comes last; the least of the times counts.
constexpr int kRuns = 5;
constexpr double kSeconds = 0.002;

std::string size_text(int64_t a, int64_t b) { return std::to_string(a) + "x" + std::to_string(b); }

// Tensors of one image around a layer.
struct Tensors {
  Layout input, codes, floats;
  AlignedArray<uint8_t> in, out_codes, out_floats, residual;

  Tensors(const ConvSpec& spec, Kind kind, Budget& budget) {
    const ConvGeometry& g = spec.geometry;
    const Halo halo = {g.pad_top, g.pad_left, g.pad_bottom, g.pad_right};
    const bool planes = kind == Kind::kPlanes && can_write_planes(spec);
    input = Layout::make(kind, g.height, g.width, g.in_channels, spec.activation_bits, halo);
    floats = Layout::make(Kind::kFloat, g.out_height(), g.out_width(), g.out_channels, 0, {});
    const auto array = [&](const Layout& layout) {
      return AlignedArray<uint8_t>(budget, checked_add(layout.image_bytes, kSlack, "a tensor"),
                                   "tensors to measure with");
    };
    in = array(input);
    uint32_t state = 1;
    const int mask = kind == Kind::kPlanes ? 255 : (1 << spec.activation_bits) - 1;
    for (uint8_t& byte : in) byte = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24 & mask);
    if (spec.code.bits != 0) {
      codes = Layout::make(planes ? Kind::kPlanes : Kind::kBytes, g.out_height(), g.out_width(), g.out_channels,
                           spec.code.bits, {});
      out_codes = array(codes);
    }
    if (spec.wants_float) out_floats = array(floats);
    if (spec.has_residual) residual = array(floats);
  }
};

// The least nanoseconds of an image.
double measured(const Conv& conv, Tensors& tensors, AlignedArray<uint8_t>& scratch) {
  Conv::Buffers buffers = {};
  buffers.input = tensors.in.data();
  buffers.residual = tensors.residual.data();
  buffers.out_float = tensors.out_floats.data();
  buffers.out_codes = tensors.out_codes.data();
  buffers.scratch = scratch.data();
  double least = 1e30, total = 0;
  for (int run = 0; run < kRuns || total < kSeconds; ++run) {
    const auto start = std::chrono::steady_clock::now();
    conv.run(buffers, 1, 1);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    least = std::min(least, taken.count());
    total += taken.count();
  }
  return least * 1e9;
}

// Negative: its numbers do not suit this kernel.
double time_of(const ConvSpec& spec, const KernelTable& kernels, Kind kind, const KernelChoice& choice, int64_t limit) {
  KernelWish wish;
  wish.only = choice.fused;
  wish.fused = choice.fused != nullptr;
  wish.staged = choice.fused == nullptr;
  Preparation preparation(limit, limit);
  Tensors t(spec, kind, preparation.budget());
  std::unique_ptr<Conv> conv;
  try {
    conv =
        std::make_unique<Conv>(spec, kernels, preparation, t.input, nullptr, spec.wants_float ? &t.floats : nullptr,
                               spec.code.bits != 0 ? &t.codes : nullptr, spec.has_residual ? &t.floats : nullptr, wish);
  } catch (const Error&) {
    if (wish.only == nullptr) throw;
    return -1;
  }
  AlignedArray<uint8_t> scratch(preparation.budget(), conv->scratch_bytes(1, 1) + kSlack, "scratch memory");
  return measured(*conv, t, scratch);
}

}  // namespace

std::string kernel_key(const ConvSpec& spec, const KernelTable& kernels, Kind input, const char* kernel) {
  const ConvGeometry& g = spec.geometry;
  std::string key = std::string(kernels.name) + " " + size_text(g.height, g.width) + "x" +
                    std::to_string(g.in_channels) + ">" + std::to_string(g.out_channels) + " k" +
                    size_text(g.kernel_h, g.kernel_w) + " s" + size_text(g.stride_h, g.stride_w) + " d" +
                    size_text(g.dilation_h, g.dilation_w) + " p" + size_text(g.pad_top, g.pad_left) + "x" +
                    size_text(g.pad_bottom, g.pad_right) + " g" + std::to_string(g.groups) + " W" +
                    std::to_string(spec.weight_bits) + "A" + std::to_string(spec.activation_bits) +
                    (spec.weight_grid == WeightGrid::kOdd ? " odd" : " signed") +
                    (spec.sign_activations  ? " signs"
                     : spec.zero_point != 0 ? " zero_point"
                                            : "") +
                    (input == Kind::kPlanes ? " planes" : " bytes");
  if (spec.has_residual) key += " residual";
  if (spec.wants_int) key += " to int32";
  if (spec.wants_float) key += " to float32";
  if (spec.code.bits != 0) {
    key +=
        std::string(spec.code.int_thresholds != nullptr ? " D" : " y") + " to codes" + std::to_string(spec.code.bits);
  }
  return key + ": " + kernel;
}

void measure_kernels(const ConvSpec& spec, const KernelTable& kernels, const Budget& budget, Tuning* tuning) {
  if (spec.weight_bits == 0 || spec.wants_int) return;
  for (const Kind kind : {Kind::kPlanes, Kind::kBytes}) {
    const bool planes = kind == Kind::kPlanes && can_write_planes(spec);
    for (const KernelChoice& choice : kernel_choices(spec, kernels, kind, planes, KernelWish())) {
      const std::string key = kernel_key(spec, kernels, kind, choice.name);
      if (tuning->nanoseconds.count(key) > 0) continue;
      const double taken = time_of(spec, kernels, kind, choice, budget.left());
      if (taken >= 0) tuning->nanoseconds[key] = taken;
    }
  }
}

}  // namespace bitorch
