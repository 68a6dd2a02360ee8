#include "core/conv/staged_cost.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/checked.h"

namespace bitorch {

namespace {

// Nanoseconds. Intel's fitted to 3700 times of layers of ten networks on Emerald Rapids, method by method. The others'
// in proportion, by what their products and their other operations were measured to take.
struct StagedRates {
  double call, pixel, tile;            // of a layer, an output pixel, up to 32 channels of up to 64 pixels
  double popcount, bytes, words, tap;  // a vector of products: 16 channels x 32, 4, 2, 1 of them
  double look_up, table;               // `table_lanes` channels; an input pixel's table
  double sum, window;                  // 64 bytes of an input pixel, and a pixel of a window, where they are added
  double result;                       // 16 channels of D
  double scale, residual, out;         // 16 floats: from D, what they are added to, written
  double line, comparison, plane;      // their codes: by a line; a threshold of them; a plane of 16 codes
  double widen;                        // 64 bytes to 16 bits
  double wait;  // a step of few pixels and 32 channels, whose products wait for those before them
};

// Numbers of what a method does not do are of no account.
StagedRates intel_rates(Method method) {
  switch (method) {
    case kPopcount:
      return {190,  5.66,  20.1, 0.617, 0.19, 0.25, 0.3,  0.6,  4, 0.1,
              0.05, 0.491, 3.64, 0.288, 3.32, 5.46, 0.05, 1.81, 2, 1.5};
    case kTables:
      return {70.2, 0.3,   5.57, 0.6,  0.19, 0.25, 0.3,  0.541, 2.9, 0.768,
              0.05, 0.251, 0.1,  2.68, 6.18, 4.24, 1.26, 0.05,  2,   1.5};
    case kDepthwise:
      return {202, 0.755, 2.67, 0.6, 0.19, 0.25, 0.429, 0.6, 4, 2, 1, 1.43, 0.1, 2, 3.32, 4.01, 0.954, 1, 2, 1.5};
    default:
      return {144,  2.64, 8.83, 0.6,  0.208, 0.25, 0.3,   0.6, 4, 2.41,
              0.05, 1.59, 0.1,  1.41, 4.13,  3.3,  0.613, 1,   2, 2.24};
  }
}

// What products by a method take, and everything else, where Intel's is 1. Zen 4 and Zen 5: of 3x3 layers of 64 to 512
// channels, measured.
struct Proportions {
  double popcount, bytes, tap, look_up, others;
};

Proportions proportions_of(Machine machine) {
  switch (machine) {
    case Machine::kIceLake:
    case Machine::kSapphireRapids:
      return {1, 1, 1, 1, 1};
    case Machine::kZen4:
      return {0.7, 1.3, 0.74, 0.82, 0.64};
    case Machine::kZen5:
      return {0.31, 0.54, 0.34, 0.44, 0.4};
    case Machine::kGeneric:
      break;
  }
  return {0.8, 1, 0.8, 0.8, 0.8};
}

StagedRates rates_of(Method method, Machine machine) {
  StagedRates r = intel_rates(method);
  const Proportions by = proportions_of(machine);
  r.popcount *= by.popcount;
  r.bytes *= by.bytes;
  r.words *= by.bytes;
  r.wait *= by.others;
  r.tap *= by.tap;
  r.look_up *= by.look_up;
  for (double* rate : {&r.pixel, &r.tile, &r.table, &r.sum, &r.window, &r.result, &r.scale, &r.residual, &r.out,
                       &r.line, &r.comparison, &r.plane, &r.widen})
    *rate *= by.others;
  return r;
}

// What follows the sums of 16 channels of a pixel.
double finish(const ConvSpec& spec, const StagedRates& r, bool planes) {
  const bool has_float = spec.multiply != nullptr || spec.has_residual || spec.relu;
  double taken = r.result + (has_float ? r.scale : 0) + (spec.has_residual ? r.residual : 0);
  taken += spec.wants_float ? r.out : 0;
  if (spec.code.bits == 0) return taken;
  taken += spec.code.bits <= 2 ? ((1 << spec.code.bits) - 1) * r.comparison : r.line;
  return taken + (planes ? spec.code.bits * r.plane : 0);
}

// Products of an output pixel.
double products(const ConvSpec& spec, const KernelTable& kernels, Method method, const StagedRates& r) {
  const ConvGeometry& g = spec.geometry;
  const int64_t taps = g.kernel_h * g.kernel_w, in = g.in_channels / g.groups, out = g.out_channels / g.groups;
  const double vectors = static_cast<double>(ceil_div(out, 16) * g.groups);
  const auto steps = [](int64_t rows, int64_t inputs, int64_t of) {
    return static_cast<double>(rows * ceil_div(inputs, of));
  };
  switch (method) {
    case kPopcount:
      return vectors * spec.weight_bits * spec.activation_bits * steps(taps, in, 32) * r.popcount;
    case kTables:
      return static_cast<double>(ceil_div(out, kernels.table_lanes)) * spec.weight_bits *
             steps(taps, in, kernels.table_channels) * r.look_up;
    case kDepthwise:
      return static_cast<double>(ceil_div(g.out_channels, 16) * taps) * r.tap;
    case kWords:
      return vectors * steps(g.kernel_h, g.kernel_w * in, 2) * r.words;
    default:
      return vectors * steps(g.kernel_h, g.kernel_w * in, 4) * r.bytes;
  }
}

// What is made of the input before.
double preparation(const ConvSpec& spec, const KernelTable& kernels, Kind input, Method method, const StagedRates& r) {
  const ConvGeometry& g = spec.geometry;
  const double pixels =
      static_cast<double>((g.height + g.pad_top + g.pad_bottom) * (g.width + g.pad_left + g.pad_right));
  const int planes = input == Kind::kPlanes ? spec.activation_bits : 8;
  const double vectors = pixels * static_cast<double>(ceil_div(g.in_channels * planes, 512));
  double taken = 0;
  if (method == kTables)
    taken += pixels * static_cast<double>(ceil_div(g.in_channels, kernels.table_channels)) * r.table;
  if (method == kWords) taken += vectors * r.widen;
  const bool halved = method == kBytes && spec.weight_bits == 8 && spec.weight_grid == WeightGrid::kOdd;
  if (method == kPopcount || method == kTables || halved) {
    const double outputs = static_cast<double>(g.out_height() * g.out_width());
    taken += vectors * r.sum + outputs * static_cast<double>(g.kernel_h + g.kernel_w) * r.window;
  }
  return taken;
}

// The vectors of AVX2 and of NEON are shorter. Layers were measured at 2.2 to 3.4 times what those of 64 bytes take.
double vector_factor(const KernelTable& kernels) { return staged_cost_is_fitted(kernels) ? 1.0 : 2.8; }

// Weights of more bytes than this leave the second-level cache until they are read again, all of them from twice as
// many on.
constexpr double kCachedWeights = 1.2e6;

// Tables of a band of pixels that leave the second-level cache come back from behind it for every block of channels.
double table_factor(const ConvGeometry& g) {
  constexpr double kBandPixels = 128;
  const double pixels = std::min(kBandPixels, static_cast<double>(g.out_height() * g.out_width()));
  return pixels * static_cast<double>(g.in_channels) / 6 * 64 > 1.5 * kCachedWeights ? 2.4 : 1.0;
}

// Nanoseconds to get 64 bytes of weights that the second-level cache does not hold.
double far_weights(Machine machine) {
  switch (machine) {
    case Machine::kZen4:
      return 1.6;
    case Machine::kZen5:
      return 0.9;
    case Machine::kIceLake:
    case Machine::kSapphireRapids:
      return 2.5;
    case Machine::kGeneric:
      break;
  }
  return 2.0;
}

double weight_bytes(const ConvSpec& spec, Method method) {
  const int bits = method == kPopcount || method == kTables ? spec.weight_bits : method == kWords ? 16 : 8;
  const ConvGeometry& g = spec.geometry;
  return static_cast<double>(g.out_channels) * static_cast<double>(g.inputs_per_output()) * bits / 8;
}

}  // namespace

bool staged_cost_is_fitted(const KernelTable& kernels) { return std::strncmp(kernels.name, "avx512", 6) == 0; }

double waiting_cost(double weight_bytes, Machine machine) {
  const double beyond = std::clamp(weight_bytes / kCachedWeights - 1, 0.0, 1.0);
  return beyond * weight_bytes / 64 * far_weights(machine);
}

double staged_cost(const ConvSpec& spec, const KernelTable& kernels, Kind input, Method method, Machine machine) {
  const ConvGeometry& g = spec.geometry;
  const StagedRates r = rates_of(method, machine);
  const double pixels = static_cast<double>(g.out_height() * g.out_width());
  const int64_t groups = method == kDepthwise ? 1 : g.groups;
  const double blocks = static_cast<double>(ceil_div(g.out_channels / groups, kBlock) * groups);
  const double sixteens = static_cast<double>(ceil_div(g.out_channels / groups, 16) * groups);
  double dot = pixels * products(spec, kernels, method, r);
  if (method == kTables) dot *= table_factor(g);
  if (method == kBytes || method == kWords) {
    const int64_t row = g.kernel_w * g.in_channels / g.groups;
    const double steps = static_cast<double>(g.kernel_h * ceil_div(row, method == kBytes ? 4 : 2));
    dot = std::max(dot, std::ceil(pixels / 8) * blocks * steps * r.wait);
  }
  dot = std::max(dot, waiting_cost(weight_bytes(spec, method), machine));
  const double tiles = blocks * (pixels + 63) / 64;
  const double rest = pixels * (r.pixel + sixteens * finish(spec, r, input == Kind::kPlanes)) + tiles * r.tile;
  return r.call + vector_factor(kernels) * (dot + rest + preparation(spec, kernels, input, method, r));
}

}  // namespace bitorch
