// Whole layers by fused kernels and by the staged path, against plain loops.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "checks.h"
#include "core/base/threads.h"
#include "core/conv/conv_choice.h"
#include "tools/layer_case.h"

namespace bitorch {

namespace {

constexpr int64_t kMostMacs = 300000;
constexpr uint8_t kUntouched = 0xa5;

void describe_layer(const LayerCase& layer, const char* kernel) {
  const ConvSpec& s = layer.spec;
  const ConvGeometry& g = s.geometry;
  describe(
      "%s: batch %lld, %lldx%lldx%lld -> %lld, kernel %lldx%lld, stride %lldx%lld, pad %lld %lld %lld %lld, dilation "
      "%lld, groups %lld, W%dA%d, grid %d, sign %d, zero point %d, input %s, codes %d bits %s (int %d, float %d, "
      "falling "
      "%d), float stage %d, norm %d, residual %d, relu %d, float out %d, in place %d, pool %lldx%lld, stride %lldx%lld",
      kernel, (long long)layer.batch, (long long)g.height, (long long)g.width, (long long)g.in_channels,
      (long long)g.out_channels, (long long)g.kernel_h, (long long)g.kernel_w, (long long)g.stride_h,
      (long long)g.stride_w, (long long)g.pad_top, (long long)g.pad_left, (long long)g.pad_bottom,
      (long long)g.pad_right, (long long)g.dilation_h, (long long)g.groups, s.weight_bits, s.activation_bits,
      static_cast<int>(s.weight_grid), s.sign_activations, s.zero_point,
      layer.input_kind == Kind::kPlanes ? "planes" : "bytes", s.code.bits,
      layer.codes_kind == Kind::kPlanes ? "planes" : "bytes", s.code.int_thresholds != nullptr,
      s.code.float_thresholds != nullptr,
      s.code.descending != nullptr && std::count(s.code.descending, s.code.descending + g.out_channels, 1) > 0,
      s.multiply != nullptr, s.norm_multiply != nullptr, s.has_residual, s.relu, s.wants_float, layer.in_place,
      (long long)s.pool.kernel_h, (long long)s.pool.kernel_w, (long long)s.pool.stride_h, (long long)s.pool.stride_w);
}

// A tensor's memory that must not change but where it is written: what it holds and what it should.
struct Memory {
  std::vector<uint8_t> expected;
  uint8_t* data;

  Memory(Fenced& fence, const Layout& layout, int64_t batch)
      : expected(static_cast<size_t>(layout.image_bytes * batch), kUntouched), data(fence.last(expected.size())) {
    std::memset(data, kUntouched, expected.size());
  }
  void check(const char* what) const {
    const auto difference = std::mismatch(expected.begin(), expected.end(), data);
    if (difference.first == expected.end()) return;
    const auto at = difference.first - expected.begin();
    fail(what, at, *difference.second, *difference.first);
  }
};

void write_floats(const Layout& layout, const std::vector<float>& values, int64_t batch, uint8_t* memory) {
  size_t index = 0;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t y = 0; y < layout.height; ++y) {
      std::memcpy(memory + layout.offset(n, y, 0), values.data() + index,
                  static_cast<size_t>(layout.width * layout.channels) * 4);
      index += static_cast<size_t>(layout.width * layout.channels);
    }
  }
}

Fenced& float_memory() {
  static Fenced memory(size_t{1} << 22);
  return memory;
}

// Floats must be equal to the bit, but any NaN equals any other.
void check_floats(const Layout& layout, const std::vector<float>& values, int64_t batch, Memory* out) {
  size_t index = 0;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t y = 0; y < layout.height; ++y) {
      for (int64_t x = 0; x < layout.width * layout.channels; ++x, ++index) {
        float got;
        std::memcpy(&got, out->data + layout.offset(n, y, 0) + x * 4, 4);
        if (std::memcmp(&got, &values[index], 4) == 0 || (got != got && values[index] != values[index])) continue;
        fail("a float", static_cast<long long>(index), got, values[index]);
      }
      std::memcpy(&out->expected[static_cast<size_t>(layout.offset(n, y, 0))], out->data + layout.offset(n, y, 0),
                  static_cast<size_t>(layout.width * layout.channels) * 4);
    }
  }
  out->check("a byte beside the floats");
}

// The layer with the kernel wished for, or null where its numbers do not suit that one.
std::unique_ptr<Conv> make_conv(const LayerCase& layer, const KernelTable& table, const KernelWish& wish) {
  const ConvSpec& spec = layer.spec;
  const bool has_codes = spec.code.bits != 0;
  const Layout floats = layer.float_layout(), codes = has_codes ? layer.codes_layout() : Layout();
  Preparation preparation(Budget::kNoLimit, 0);
  try {
    return std::make_unique<Conv>(spec, table, preparation, layer.input_layout(), nullptr,
                                  spec.wants_float ? &floats : nullptr, has_codes ? &codes : nullptr,
                                  spec.has_residual ? &floats : nullptr, wish);
  } catch (const Error&) {
    if (wish.only == nullptr) throw;
    return nullptr;
  }
}

void run_layer(const LayerCase& layer, const LayerResults& expected, const Conv& conv, int threads) {
  const ConvSpec& spec = layer.spec;
  const Layout input = layer.input_layout(), floats = layer.float_layout();
  const bool has_codes = spec.code.bits != 0;
  const Layout codes = has_codes ? layer.codes_layout() : Layout();
  const auto input_bytes = static_cast<size_t>(input.image_bytes * layer.batch + kSlackBytes);
  uint8_t* in = input_memory().last(input_bytes);
  std::memset(in, 0, input_bytes - kSlackBytes);
  std::memset(in + input_bytes - kSlackBytes, 0xff, kSlackBytes);
  write_codes(input, layer.codes, layer.batch, in);
  Memory out_codes(output_memory(), has_codes ? codes : floats, layer.batch);
  Memory out_floats(float_memory(), floats, layer.batch);
  std::vector<uint8_t> residual(static_cast<size_t>(floats.image_bytes * layer.batch), 0);
  if (spec.has_residual) {
    write_floats(floats, layer.residual, layer.batch, layer.in_place ? out_floats.data : residual.data());
  }
  std::vector<uint8_t> scratch(static_cast<size_t>(conv.scratch_bytes(layer.batch, threads)) + 64);
  Conv::Buffers buffers = {};
  buffers.input = in;
  buffers.residual = !spec.has_residual ? nullptr : layer.in_place ? out_floats.data : residual.data();
  buffers.out_float = spec.wants_float ? out_floats.data : nullptr;
  buffers.out_codes = has_codes ? out_codes.data : nullptr;
  buffers.scratch = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<int64_t>(scratch.data()), 64));
  conv.run(buffers, layer.batch, threads);
  if (has_codes) write_codes(codes, expected.codes, layer.batch, out_codes.expected.data());
  out_codes.check("a byte of the codes");
  if (spec.wants_float) check_floats(floats, expected.values, layer.batch, &out_floats);
}

}  // namespace

namespace {

std::vector<const FusedKernel*> kernels_for(const LayerCase& layer, const KernelTable& table) {
  std::vector<const FusedKernel*> kernels;
  for (int i = 0; i < table.fused_count; ++i) {
    KernelWish wish;
    wish.only = table.fused[i];
    const bool planes = layer.codes_kind == Kind::kPlanes;
    if (!kernel_choices(layer.spec, table, layer.input_kind, planes, wish).empty()) kernels.push_back(wish.only);
  }
  return kernels;
}

void check_staged(Random& random, const KernelTable& table, const LayerCase& layer, const LayerResults& expected) {
  KernelWish wish;
  wish.fused = false;
  if (kernel_choices(layer.spec, table, layer.input_kind, false, wish).empty()) return;
  describe_layer(layer, "the staged path");
  run_layer(layer, expected, *make_conv(layer, table, wish), random.from(1, 3));
}

}  // namespace

void check_fused(Random& random, const KernelTable& table, int cases) {
  std::map<const FusedKernel*, int> done;
  int finished = 0;
  // Kernels that serve few layers wait for theirs: most draws cost next to nothing.
  for (int64_t draw = 0; draw < int64_t{cases} * 400 && (finished < table.fused_count || draw < cases); ++draw) {
    LayerCase layer = draw_layer(random, kMostMacs);
    if (layer.spec.largest_sum() > 2147483647) continue;
    if (!can_write_planes(layer.spec)) layer.codes_kind = Kind::kBytes;
    std::vector<const FusedKernel*> due = kernels_for(layer, table);
    due.erase(std::remove_if(due.begin(), due.end(), [&](const FusedKernel* kernel) { return done[kernel] >= cases; }),
              due.end());
    if (due.empty() && draw >= cases) continue;
    const LayerResults expected = expected_results(layer);
    if (draw < cases) check_staged(random, table, layer, expected);
    for (const FusedKernel* kernel : due) {
      KernelWish wish;
      wish.only = kernel;
      describe_layer(layer, kernel->name);
      const std::unique_ptr<Conv> conv = make_conv(layer, table, wish);
      if (conv == nullptr) continue;
      run_layer(layer, expected, *conv, random.from(1, 3));
      if (++done[kernel] == cases) ++finished;
    }
  }
  for (const auto& [kernel, count] : done) std::printf("%s: %d layers\n", kernel->name, count);
}

}  // namespace bitorch
