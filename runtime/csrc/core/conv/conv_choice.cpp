#include "core/conv/conv_choice.h"

#include <algorithm>

#include "core/base/cpu.h"
#include "core/conv/conv_weights.h"
#include "core/conv/staged_cost.h"

namespace bitorch {

namespace {

bool is_linear(const ConvGeometry& g) { return g.out_height() * g.out_width() == 1; }

// Which method a spec gets if its input may have any layout.
Method preferred_method(const ConvSpec& spec, const KernelTable& kernels) {
  if (spec.weight_bits == 0) return is_depthwise(spec.geometry) ? kDepthwiseFloat : kFloat;
  const ConvGeometry& g = spec.geometry;
  if (is_depthwise(g)) return kDepthwise;
  Method method = static_cast<Method>(kernels.method[spec.weight_bits - 1][spec.activation_bits - 1]);
  // One image at a time a linear layer waits for its weights, and bit planes are the smallest form they have.
  if (is_linear(g) && spec.weight_bits * spec.activation_bits <= 8) method = kPopcount;
  if (method == kTables) {
    // Building a pixel's tables pays when they are looked into often: by every kernel tap that reads the pixel, for
    // every vector of output channels. At 4.5 times popcount is faster on Zen 4, 112 to 140 us; at 9 tables are, 228 to
    // 221.
    const double lookups = static_cast<double>(g.kernel_h * g.kernel_w * g.out_channels) /
                           static_cast<double>(g.stride_h * g.stride_w * kernels.table_lanes);
    const bool suits = g.groups == 1 && g.out_channels * 4 >= kernels.table_lanes * 3 && lookups >= 9;
    if (!suits) method = spec.weight_bits * spec.activation_bits <= 4 ? kPopcount : kBytes;
  }
  if (method == kPopcount && g.groups > 1) {
    // A group must start at a byte, and fill a good part of a block.
    const bool suits = g.in_channels / g.groups % 8 == 0 && g.out_channels / g.groups >= kBlock / 2;
    if (!suits) method = kBytes;
  }
  // Half a block leaves each popcount half empty, while its other costs remain.
  if (method == kPopcount && g.out_channels <= kBlock / 2 && spec.weight_bits * spec.activation_bits > 2)
    method = kBytes;
  return method;
}

}  // namespace

Method staged_method(const ConvSpec& spec, const KernelTable& kernels, Kind input) {
  const Method method = preferred_method(spec, kernels);
  if (input == Kind::kBytes) return method == kPopcount ? kBytes : method;
  // Planes for a fused kernel that then refuses the weights: popcount serves any bits.
  const bool bytes_only = method == kBytes || method == kWords;
  return input == Kind::kPlanes && bytes_only && spec.geometry.groups == 1 ? kPopcount : method;
}

std::vector<KernelChoice> kernel_choices(const ConvSpec& spec, const KernelTable& kernels, Kind input,
                                         bool output_planes, const KernelWish& wish, const Tuning* tuning) {
  std::vector<KernelChoice> choices;
  FusedSpec fused;
  const bool fusible = describe_fused(spec, input == Kind::kPlanes, output_planes, &fused);
  for (int i = 0; fusible && i < kernels.fused_count; ++i) {
    const FusedKernel* kernel = kernels.fused[i];
    if (wish.only != nullptr ? kernel != wish.only : !wish.fused) continue;
    if (spec.pool && !kernel->pools) continue;
    const double cost = kernel->cost(&fused, wish.machine);
    if (cost < 0) continue;
    const double weights = waiting_cost(static_cast<double>(kernel->prepared_bytes(&fused)), wish.machine);
    choices.push_back({kernel, kernel->name, std::max(cost, weights), false});
  }
  if (wish.staged && wish.only == nullptr && !spec.pool) {
    const Method method = staged_method(spec, kernels, input);
    const bool reads = input != Kind::kPlanes || method == kPopcount || method == kTables;
    const double cost = staged_cost(spec, kernels, input, method, wish.machine);
    if (reads) choices.push_back({nullptr, kernels.dot_name[method], cost, false});
  }
  for (KernelChoice& choice : choices) {
    if (tuning == nullptr) break;
    const auto found = tuning->nanoseconds.find(kernel_key(spec, kernels, input, choice.name));
    if (found == tuning->nanoseconds.end()) continue;
    choice.nanoseconds = found->second;
    choice.measured = true;
  }
  std::stable_sort(choices.begin(), choices.end(),
                   [](const KernelChoice& a, const KernelChoice& b) { return a.nanoseconds < b.nanoseconds; });
  return choices;
}

Kind preferred_input(const ConvSpec& spec, const KernelTable& kernels, const Tuning* tuning) {
  if (spec.weight_bits == 0) return Kind::kFloat;
  const auto choices = [&](Kind input) {
    return kernel_choices(spec, kernels, input, input == Kind::kPlanes, KernelWish(), tuning);
  };
  const std::vector<KernelChoice> planes = choices(Kind::kPlanes), bytes = choices(Kind::kBytes);
  const auto leads = [](const std::vector<KernelChoice>& list) {
    return !list.empty() && list.front().fused != nullptr;
  };
  const bool measured = !planes.empty() && planes.front().measured && !bytes.empty() && bytes.front().measured;
  // Where costs do not tell methods of the staged path apart, those that were the fastest on one machine are taken; and
  // without fused kernels, so that plans of the staged path are the same on all machines.
  const bool known = fused_allowed() && staged_cost_is_fitted(kernels) && !spec.wants_int;
  if (!measured && !known && !leads(planes) && !leads(bytes)) {
    const Method method = preferred_method(spec, kernels);
    return method == kPopcount || method == kTables ? Kind::kPlanes : Kind::kBytes;
  }
  // A layer must be served in whatever layout its codes leave: that is known only when those who read them are.
  const bool leaves_bytes = !kernel_choices(spec, kernels, Kind::kPlanes, false, KernelWish(), tuning).empty();
  if (planes.empty() || !leaves_bytes) return Kind::kBytes;
  return planes.front().nanoseconds <= bytes.front().nanoseconds ? Kind::kPlanes : Kind::kBytes;
}

}  // namespace bitorch
