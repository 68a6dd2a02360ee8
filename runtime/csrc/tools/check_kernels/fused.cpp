// Whole layers by fused kernels and by the staged path, against plain loops.
#include <algorithm>
#include <cstring>
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
      "%d), float stage %d, norm %d, residual %d, relu %d, float out %d, in place %d, pool %lldx%lld, stride "
      "%lldx%lld, "
      "part %lld %lld",
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
      (long long)s.pool.kernel_h, (long long)s.pool.kernel_w, (long long)s.pool.stride_h, (long long)s.pool.stride_w,
      (long long)layer.before, (long long)layer.behind);
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

// f(byte in memory, index) for every pixel.
template <class F>
void for_pixels(const Layout& layout, int64_t batch, const F& f) {
  size_t index = 0;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t i = 0; i < layout.height * layout.width; ++i) {
      f(layout.offset(n, i / layout.width, i % layout.width), index);
      index += static_cast<size_t>(layout.channels);
    }
  }
}

void write_floats(const Layout& layout, const std::vector<float>& values, int64_t batch, uint8_t* memory) {
  for_pixels(layout, batch, [&](int64_t at, size_t index) {
    std::memcpy(memory + at, values.data() + index, static_cast<size_t>(layout.channels) * 4);
  });
}

Fenced& float_memory() {
  static Fenced memory(size_t{1} << 22);
  return memory;
}

// Floats must be equal to the bit, but any NaN equals any other.
void check_floats(const Layout& layout, const std::vector<float>& values, int64_t batch, Memory* out) {
  for_pixels(layout, batch, [&](int64_t at, size_t index) {
    const uint8_t* const pixel = out->data + at;
    for (int64_t c = 0; c < layout.channels; ++c, ++index) {
      float got;
      std::memcpy(&got, pixel + c * 4, 4);
      if (std::memcmp(&got, &values[index], 4) == 0 || (got != got && values[index] != values[index])) continue;
      fail("a float", static_cast<long long>(index), got, values[index]);
    }
    std::memcpy(&out->expected[static_cast<size_t>(at)], pixel, static_cast<size_t>(layout.channels) * 4);
  });
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

bool serves(const FusedKernel& kernel, const KernelTable& table, const LayerOutline& outline) {
  KernelWish wish;
  wish.only = &kernel;
  const bool planes = outline.codes_kind == Kind::kPlanes;
  return !kernel_choices(outline.spec(), table, outline.input_kind, planes, wish).empty();
}

// Layers that one kernel serves: a part of those drawn, or, since some kernels serve one in thousands, one that it has
// served with parts of another one.
class Outlines {
 public:
  Outlines(const FusedKernel& kernel, const KernelTable& table) : kernel_(kernel), table_(table) {}

  LayerOutline draw(Random& random) {
    for (int64_t i = 0; i < kMostDraws; ++i) {
      const bool varied = !served_.empty() && !random.one_in(4);
      const LayerOutline outline =
          varied ? vary(random, random.of(served_), kMostMacs) : draw_outline(random, kMostMacs);
      if (!serves(kernel_, table_, outline)) continue;
      if (served_.size() < kKept) {
        served_.push_back(outline);
      } else {
        served_[random.below(kKept)] = outline;
      }
      return outline;
    }
    describe("%s: layers for it", kernel_.name);
    fail("no layer that it serves in so many", kMostDraws, 0, 1);
  }

 private:
  static constexpr size_t kKept = 500;
  static constexpr int64_t kMostDraws = 10000000;
  const FusedKernel& kernel_;
  const KernelTable& table_;
  std::vector<LayerOutline> served_;
};

void check_staged(Random& random, const KernelTable& table, const LayerCase& layer, const LayerResults& expected) {
  KernelWish wish;
  wish.fused = false;
  if (kernel_choices(layer.spec, table, layer.input_kind, false, wish).empty()) return;
  describe_layer(layer, "the staged path");
  run_layer(layer, expected, *make_conv(layer, table, wish), random.from(1, 3));
}

// What was among the layers, so that a kernel that never meets one of these is seen.
struct Met {
  int layers = 0, residuals = 0, in_place = 0, tails = 0, odd = 0, borders = 0, strided = 0;

  void add(const LayerCase& layer) {
    const ConvGeometry& g = layer.spec.geometry;
    ++layers;
    residuals += layer.spec.has_residual;
    in_place += layer.in_place;
    tails += g.out_channels % kFusedChannels != 0;
    odd += g.out_width() % 2 != 0;
    borders += layer.spec.sign_activations || layer.spec.zero_point != 0;
    strided += g.stride_h > 1 || g.stride_w > 1;
  }
  void print(const char* name) const {
    std::printf(
        "%-30s %d layers: %d with residuals (%d in place), %d with tails of channels, %d of odd widths, "
        "%d with borders, %d strided\n",
        name, layers, residuals, in_place, tails, odd, borders, strided);
    std::fflush(stdout);
  }
};

void check_fused_kernel(Random& random, const KernelTable& table, const FusedKernel& kernel, int cases) {
  Outlines outlines(kernel, table);
  KernelWish wish;
  wish.only = &kernel;
  Met met;
  int refused = 0;  // by their numbers, when these are prepared
  while (met.layers < cases) {
    const LayerCase layer = draw_layer(random, outlines.draw(random));
    describe_layer(layer, kernel.name);
    const std::unique_ptr<Conv> conv = make_conv(layer, table, wish);
    if (conv == nullptr) {
      if (++refused > 1000 + 100 * cases) fail("layers refused", refused, met.layers, cases);
      continue;
    }
    const LayerResults expected = expected_results(layer);
    run_layer(layer, expected, *conv, random.from(1, 3));
    check_staged(random, table, layer, expected);
    met.add(layer);
  }
  met.print(kernel.name);
}

}  // namespace

void check_fused(Random& random, const KernelTable& table, int cases) {
  Met met;
  while (met.layers < cases) {
    const LayerCase layer = draw_layer(random, draw_outline(random, kMostMacs));
    check_staged(random, table, layer, expected_results(layer));
    met.add(layer);
  }
  met.print(table.name);
  for (int i = 0; i < table.fused_count; ++i) check_fused_kernel(random, table, *table.fused[i], cases);
}

}  // namespace bitorch
