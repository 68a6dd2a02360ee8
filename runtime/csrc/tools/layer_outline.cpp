#include "tools/layer_outline.h"

#include <algorithm>
#include <vector>

#include "core/conv/code_writer.h"

namespace bitorch {

namespace {

int64_t macs_of(const LayerOutline& outline) {
  const ConvGeometry& g = outline.geometry;
  return outline.batch * g.out_height() * g.out_width() * g.out_channels * g.inputs_per_output();
}

// Of layers of many weights, which are few.
constexpr int64_t kWideMacs = int64_t{1} << 24;

// Sizes beside those of vectors and words.
int64_t draw_channels(Random& random) {
  static const std::vector<int> usual = {1, 3, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
  return random.one_in(3) ? random.from(1, 200)
                          : std::max(1, random.of(usual) + (random.one_in(4) ? random.from(-1, 1) : 0));
}

// Groups of as many input and output channels, or of as many as they like.
void draw_groups(Random& random, ConvGeometry* g) {
  static const std::vector<int> widths = {8, 16, 24, 4, 32, 3};
  const int64_t in = random.of(widths), out = random.one_in(3) ? random.of(widths) : in;
  g->groups = random.from(2, random.one_in(3) ? 20 : 9);
  g->in_channels = g->groups * in;
  g->out_channels = g->groups * out;
}

ConvGeometry draw_geometry(Random& random) {
  static const std::vector<int> kernels = {1, 1, 3, 3, 3, 5, 7, 2};
  ConvGeometry g;
  g.kernel_h = g.kernel_w = random.of(kernels);
  if (random.one_in(8)) g.kernel_h = random.from(1, 4);
  g.stride_h = g.stride_w = random.one_in(3) ? 2 : 1;
  if (random.one_in(12)) g.stride_h = random.from(1, 3);
  if (random.one_in(12)) g.dilation_h = g.dilation_w = 2;
  g.pad_top = random.from(0, static_cast<int>(g.kernel_h / 2 * g.dilation_h));
  g.pad_bottom = random.one_in(4) ? 0 : g.pad_top;
  g.pad_left = random.from(0, static_cast<int>(g.kernel_w / 2 * g.dilation_w));
  g.pad_right = random.one_in(4) ? 0 : g.pad_left;
  g.height = random.from(1, 12) + (g.kernel_h - 1) * g.dilation_h;
  g.width = (random.one_in(4) ? random.from(1, 70) : random.of(std::vector<int>{7, 14, 28, 9, 1})) +
            (g.kernel_w - 1) * g.dilation_w;
  g.in_channels = draw_channels(random);
  g.out_channels = draw_channels(random);
  if (random.one_in(3)) g.groups = g.out_channels = g.in_channels;
  if (random.one_in(6)) draw_groups(random, &g);
  return g;
}

// A linear layer: its tokens are images of one pixel, or pixels of a row.
ConvGeometry draw_linear(Random& random, int64_t* batch) {
  static const std::vector<int> tokens = {1, 2, 3, 7, 8, 16, 17, 33, 64, 65, 129, 140};
  ConvGeometry g;
  g.in_channels = random.one_in(4) ? random.from(200, 700) : draw_channels(random);
  g.out_channels = draw_channels(random);
  const int count = random.one_in(2) ? random.of(tokens) : random.from(1, 20);
  if (random.one_in(3)) {
    g.width = count;
    *batch = random.one_in(3) ? 2 : 1;
  } else {
    *batch = count;
  }
  return g;
}

// A layer of many weights, which kernels may keep in another form; so of few pixels, or it would take long.
ConvGeometry draw_wide(Random& random) {
  ConvGeometry g;
  g.kernel_h = g.kernel_w = random.one_in(2) ? 1 : 3;
  g.pad_top = g.pad_bottom = g.pad_left = g.pad_right = g.kernel_h / 2;
  g.height = random.from(1, 4);
  g.width = random.from(1, 30 / static_cast<int>(g.height));
  const int64_t weights = random.from(100, 300) * 1024;
  g.out_channels = random.from(1, 24) * (random.one_in(2) ? 16 : 11);
  g.in_channels = std::max<int64_t>(1, weights / g.out_channels / (g.kernel_h * g.kernel_w));
  if (random.one_in(2)) g.in_channels = (g.in_channels + 63) / 64 * 64;
  return g;
}

// A pool behind a convolution that is high enough for one; stems are drawn for it.
void draw_pool(Random& random, LayerOutline* outline) {
  ConvGeometry& g = outline->geometry;
  if (random.one_in(2)) {
    g.in_channels = random.from(1, 4);
    g.groups = 1;
  }
  ConvPool& p = outline->pool;
  p.kernel_h = random.from(1, 3);
  p.kernel_w = random.from(1, 3);
  p.stride_h = random.from(1, 3);
  p.stride_w = random.one_in(3) ? random.from(1, 3) : p.stride_h;
  p.pad_top = random.from(0, static_cast<int>(p.kernel_h / 2));
  p.pad_left = random.from(0, static_cast<int>(p.kernel_w / 2));
}

// Outputs of the pool, some of whose windows reach beyond the last pixel.
void fit_pool(Random& random, LayerOutline* outline) {
  ConvPool& p = outline->pool;
  if (!p) return;
  const ConvGeometry& g = outline->geometry;
  const auto outputs = [&](int64_t size, int64_t kernel, int64_t stride, int64_t pad) {
    const int64_t end = size + pad + (random.one_in(2) ? pad : 0);  // or none behind
    return end < kernel ? 1 : (end - kernel) / stride + 1;
  };
  p.height = outputs(g.out_height(), p.kernel_h, p.stride_h, p.pad_top);
  p.width = outputs(g.out_width(), p.kernel_w, p.stride_w, p.pad_left);
}

// So many channels that the largest sum, in one of the ways that kernels count it, is about all that lanes hold.
void fill_lanes(Random& random, LayerOutline* outline) {
  static const std::vector<int> limits = {127, 255, 32767, 65535};
  ConvGeometry& g = outline->geometry;
  if (g.groups != 1) return;
  const int weight = (1 << outline->weight_bits) - 1, half = 1 << (outline->weight_bits - 1);
  const int64_t taps = g.kernel_h * g.kernel_w * ((1 << outline->activation_bits) - 1);
  const int64_t channels = random.of(limits) / (taps * (random.one_in(2) ? weight : half)) + random.from(-1, 1);
  if (channels >= 1 && channels <= 700) g.in_channels = channels;
}

void draw_bits(Random& random, LayerOutline* outline) {
  outline->weight_bits = random.one_in(2) ? random.from(1, 2) : random.from(1, 8);
  outline->activation_bits = random.one_in(2) ? random.from(1, 2) : random.from(1, 8);
  outline->weight_grid = random.one_in(3) ? WeightGrid::kSigned : WeightGrid::kOdd;
  if (!random.one_in(6)) return;
  if (outline->activation_bits == 1) outline->sign_activations = true;
  if (outline->activation_bits > 1) outline->zero_point = random.from(0, (1 << outline->activation_bits) - 1);
}

void draw_stages(Random& random, LayerOutline* outline) {
  outline->has_float = random.one_in(2);
  if (outline->has_float) {
    outline->has_norm = random.one_in(2);
    outline->has_residual = !outline->pool && random.one_in(2);
    outline->relu = random.one_in(2);
    outline->wants_float = random.one_in(2);
    outline->in_place = outline->has_residual && outline->wants_float && random.one_in(2);
  }
  if (outline->wants_float && random.one_in(2)) return;
  outline->code_bits = random.one_in(2) ? random.from(1, 4) : random.from(1, 8);
  const bool from_int = !outline->has_float || random.one_in(4);
  outline->codes = from_int ? CodesOf::kInt : random.one_in(2) ? CodesOf::kUnit : CodesOf::kFloat;
  outline->falls = from_int && random.one_in(3);
}

// Windows that reach beyond the image make it larger.
void fit_windows(ConvGeometry* g) {
  g->height = std::max(g->height, (g->kernel_h - 1) * g->dilation_h + 1 - g->pad_top - g->pad_bottom);
  g->width = std::max(g->width, (g->kernel_w - 1) * g->dilation_w + 1 - g->pad_left - g->pad_right);
}

void take_window(const ConvGeometry& from, ConvGeometry* to) {
  const ConvGeometry old = *to;
  *to = from;
  to->height = old.height;
  to->width = old.width;
  to->in_channels = old.in_channels;
  to->out_channels = old.out_channels;
  to->groups = old.groups;
}

void take_channels(const ConvGeometry& from, ConvGeometry* to) {
  to->in_channels = from.in_channels;
  to->out_channels = from.out_channels;
  to->groups = from.groups;
}

bool is_possible(const LayerOutline& outline, int64_t most_macs) {
  return macs_of(outline) <= most_macs && outline.spec().largest_sum() <= 2147483647;
}

}  // namespace

ConvSpec LayerOutline::spec() const {
  static const std::vector<float> kNumbers(size_t{1} << 10, 1.0f);
  static const int32_t kThreshold = 0;
  static const std::vector<uint8_t> kFalls(size_t{1} << 10, 1);
  ConvSpec spec;
  spec.geometry = geometry;
  spec.pool = pool;
  spec.weight_bits = weight_bits;
  spec.activation_bits = activation_bits;
  spec.weight_grid = weight_grid;
  spec.sign_activations = sign_activations;
  spec.zero_point = zero_point;
  spec.multiply = spec.offset = has_float ? kNumbers.data() : nullptr;
  spec.norm_multiply = spec.norm_offset = has_norm ? kNumbers.data() : nullptr;
  spec.has_residual = has_residual;
  spec.relu = relu;
  spec.wants_float = wants_float;
  spec.code.bits = code_bits;
  if (code_bits != 0 && codes == CodesOf::kInt) spec.code.int_thresholds = &kThreshold;
  if (code_bits != 0 && codes == CodesOf::kFloat) spec.code.float_thresholds = kNumbers.data();
  if (code_bits != 0 && falls) spec.code.descending = kFalls.data();
  return spec;
}

LayerOutline draw_outline(Random& random, int64_t most_macs) {
  for (;;) {
    LayerOutline outline;
    outline.batch = random.one_in(5) ? random.from(2, 3) : 1;
    outline.geometry = random.one_in(4) ? draw_linear(random, &outline.batch) : draw_geometry(random);
    const bool wide = random.one_in(40);
    if (wide) {
      outline.batch = 1;
      outline.geometry = draw_wide(random);
    }
    draw_bits(random, &outline);
    if (!wide && random.one_in(5)) fill_lanes(random, &outline);
    outline.input_kind = random.one_in(2) ? Kind::kPlanes : Kind::kBytes;
    outline.codes_kind = random.one_in(2) ? Kind::kPlanes : Kind::kBytes;
    outline.extra = {random.from(0, 1), random.from(0, 1), random.from(0, 1), random.from(0, 1)};
    if (random.one_in(5)) draw_pool(random, &outline);
    fit_pool(random, &outline);
    draw_stages(random, &outline);
    if (!can_write_planes(outline.spec())) outline.codes_kind = Kind::kBytes;
    if (is_possible(outline, wide ? kWideMacs : most_macs)) return outline;
  }
}

LayerOutline vary(Random& random, const LayerOutline& outline, int64_t most_macs) {
  for (;;) {
    const LayerOutline other = draw_outline(random, most_macs);
    LayerOutline result = outline;
    ConvGeometry& g = result.geometry;
    if (random.one_in(3)) result.batch = other.batch;
    if (random.one_in(3)) take_channels(other.geometry, &g);
    if (random.one_in(3)) take_window(other.geometry, &g);
    if (random.one_in(2)) g.height = other.geometry.height;
    if (random.one_in(2)) g.width = other.geometry.width;
    if (random.one_in(3)) static_cast<OutlineBits&>(result) = other;
    if (random.one_in(6)) fill_lanes(random, &result);
    if (random.one_in(3)) result.input_kind = other.input_kind;
    if (random.one_in(3)) result.codes_kind = other.codes_kind;
    if (random.one_in(2)) result.extra = other.extra;
    if (random.one_in(2)) static_cast<OutlineStages&>(result) = other;
    if (random.one_in(3)) result.pool = other.pool;
    if (result.pool) result.has_residual = result.in_place = false;
    fit_windows(&g);
    fit_pool(random, &result);
    if (!can_write_planes(result.spec())) result.codes_kind = Kind::kBytes;
    if (is_possible(result, most_macs)) return result;
  }
}

}  // namespace bitorch
