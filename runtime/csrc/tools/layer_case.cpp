#include "tools/layer_case.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/packing.h"

namespace bitorch {

namespace {

const float* pointer(const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); }

std::vector<float> draw_floats(Random& random, int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = random.real() * scale;
  return values;
}

// Thresholds of a channel in rising order: on a line, as quantizers make them, or anywhere.
std::vector<double> draw_thresholds(Random& random, int n, double reach) {
  std::vector<double> t(static_cast<size_t>(n));
  const bool line = !random.one_in(3);
  const double step = reach * (0.02 + std::fabs(random.real())) / n, first = reach * random.real() * 0.5;
  for (int j = 0; j < n; ++j) t[j] = line ? first + step * j : reach * 1.2 * random.real();
  if (random.one_in(20)) std::fill(t.begin(), t.end(), reach * 4 * random.real());
  std::sort(t.begin(), t.end());
  return t;
}

// Codes that no D reaches, as deployment stores them: one beyond the largest D of the layer's own weights.
void clamp_thresholds(LayerCase* layer) {
  const ConvSpec& spec = layer->spec;
  const int64_t channels = spec.geometry.out_channels, count = spec.geometry.inputs_per_output();
  int64_t reach = 0;
  for (int64_t c = 0; c < channels; ++c) {
    int64_t sum = 0;
    for (int64_t k = 0; k < count; ++k) {
      sum += std::abs(spec.code_step() * layer->m[static_cast<size_t>(c * count + k)] + spec.lowest_code());
    }
    reach = std::max(reach, sum * ((1 << spec.activation_bits) - 1));
  }
  const size_t n = (size_t{1} << spec.code.bits) - 1;
  for (size_t i = 0; i < layer->int_thresholds.size(); ++i) {
    const bool falls = !layer->descending.empty() && layer->descending[i / n] != 0;
    const int64_t t = layer->int_thresholds[i];
    const int64_t bounded = falls ? std::clamp(t, -reach - 1, reach) : std::clamp(t, -reach, reach + 1);
    layer->int_thresholds[i] = static_cast<int32_t>(bounded);
  }
}

void draw_code_stage(Random& random, const LayerOutline& outline, LayerCase* layer) {
  ConvSpec& spec = layer->spec;
  const int n = (1 << spec.code.bits) - 1;
  if (spec.code.bits == 0 || outline.codes == CodesOf::kUnit) return;
  const bool from_int = outline.codes == CodesOf::kInt;
  const double reach = static_cast<double>(spec.largest_sum()) * 0.3 + 1;
  for (int64_t c = 0; c < spec.geometry.out_channels; ++c) {
    std::vector<double> t = draw_thresholds(random, n, from_int ? reach : 2.0);
    const bool falls = outline.falls && random.one_in(5);
    if (falls) std::reverse(t.begin(), t.end());
    if (outline.falls) layer->descending.push_back(falls);
    for (const double x : t) {
      const double bounded = std::clamp(x, -2147483647.0, 2147483647.0);
      if (from_int) layer->int_thresholds.push_back(static_cast<int32_t>(std::ceil(bounded)));
      if (!from_int) layer->float_thresholds.push_back(static_cast<float>(x));
    }
  }
  if (from_int && random.one_in(2)) clamp_thresholds(layer);
}

void draw_residual(Random& random, LayerCase* layer) {
  layer->residual = draw_floats(random, layer->outputs(), 2);
  if (!random.one_in(3)) return;
  const float odd[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity(), -0.0f, 1e30f};
  for (float& value : layer->residual) value = random.one_in(10) ? odd[random.below(5)] : value;
}

void draw_stages(Random& random, const LayerOutline& outline, LayerCase* layer) {
  ConvSpec& spec = layer->spec;
  const int64_t channels = spec.geometry.out_channels;
  const float reach = 2.0f / static_cast<float>(std::max<int64_t>(1, spec.largest_sum()));
  if (outline.has_float) {
    layer->multiply = draw_floats(random, channels, reach * (random.one_in(2) ? 8 : 1));
    layer->offset = draw_floats(random, channels, 1);
    const bool zeros = !outline.pool && random.one_in(5);
    for (float& offset : layer->offset) offset = zeros && random.one_in(3) ? -0.0f : offset;
  }
  if (outline.has_norm) {
    layer->norm_multiply = draw_floats(random, channels, 3);
    layer->norm_offset = draw_floats(random, channels, 1);
  }
  draw_code_stage(random, outline, layer);
  if (spec.has_residual) draw_residual(random, layer);
}

// Weights and codes are at their ends in some layers: their sums are as large as can be.
void draw_numbers(Random& random, LayerCase* layer) {
  ConvSpec& spec = layer->spec;
  const ConvGeometry& g = spec.geometry;
  const int most = (1 << spec.weight_bits) - 1, n = (1 << spec.activation_bits) - 1;
  layer->m.resize(static_cast<size_t>(g.out_channels * g.inputs_per_output()));
  layer->codes.resize(static_cast<size_t>(layer->batch * g.height * g.width * g.in_channels));
  const bool extreme = random.one_in(6), sparse = random.one_in(6);
  const int end = random.one_in(3) ? 0 : most, other = random.one_in(2) ? end : most - end;
  for (uint8_t& m : layer->m) {
    m = static_cast<uint8_t>(extreme ? (random.one_in(50) ? other : end) : random.from(0, most));
  }
  for (uint8_t& q : layer->codes) {
    q = static_cast<uint8_t>(extreme ? n : sparse && !random.one_in(4) ? 0 : random.from(0, n));
  }
}

}  // namespace

Layout LayerCase::input_layout() const {
  const ConvGeometry& g = spec.geometry;
  const Halo halo = {g.pad_top + extra.top, g.pad_left + extra.left, g.pad_bottom + extra.bottom,
                     g.pad_right + extra.right};
  return Layout::make(input_kind, g.height, g.width, g.in_channels, spec.activation_bits, halo);
}
Layout LayerCase::codes_layout() const {
  const ConvGeometry& g = spec.geometry;
  const int64_t channels = before + g.out_channels + behind;
  const Layout whole =
      Layout::make(codes_kind, spec.result_height(), spec.result_width(), channels, spec.code.bits, {1, 1, 1, 1});
  return channels == g.out_channels ? whole : whole.part(before, g.out_channels);
}
Layout LayerCase::float_layout() const {
  const ConvGeometry& g = spec.geometry;
  const int64_t channels = before + g.out_channels + behind;
  const Layout whole = Layout::make(Kind::kFloat, spec.result_height(), spec.result_width(), channels, 0, {});
  return channels == g.out_channels ? whole : whole.part(before, g.out_channels);
}

void LayerCase::point() {
  const ConvGeometry& g = spec.geometry;
  const int64_t count = g.inputs_per_output(), bytes = packed_row_bytes(count, spec.weight_bits);
  packed.assign(static_cast<size_t>(g.out_channels * bytes + 8), 0);
  for (int64_t c = 0; c < g.out_channels; ++c) {
    pack_row(m.data() + c * count, count, spec.weight_bits, packed.data() + c * bytes);
  }
  spec.packed_weights = packed.data();
  spec.multiply = pointer(multiply);
  spec.offset = pointer(offset);
  spec.norm_multiply = pointer(norm_multiply);
  spec.norm_offset = pointer(norm_offset);
  spec.code.int_thresholds = int_thresholds.empty() ? nullptr : int_thresholds.data();
  spec.code.float_thresholds = pointer(float_thresholds);
  spec.code.descending = descending.empty() ? nullptr : descending.data();
}

LayerCase draw_layer(Random& random, const LayerOutline& outline) {
  LayerCase layer;
  layer.spec = outline.spec();
  layer.batch = outline.batch;
  layer.input_kind = outline.input_kind;
  layer.codes_kind = outline.codes_kind;
  layer.extra = outline.extra;
  layer.in_place = outline.in_place;
  if (random.one_in(4)) {
    const bool planes = outline.codes_kind == Kind::kPlanes, last = outline.geometry.out_channels % 8 != 0;
    layer.before = planes ? 8 * random.from(0, 3) : random.from(0, 24);
    layer.behind = !planes ? random.from(0, 24) : last ? 0 : 8 * random.from(0, 3);
  }
  draw_numbers(random, &layer);
  draw_stages(random, outline, &layer);
  layer.point();
  return layer;
}

namespace {

int64_t sum_of(const LayerCase& layer, int64_t n, int64_t y, int64_t x, int64_t c) {
  const ConvSpec& spec = layer.spec;
  const ConvGeometry& g = spec.geometry;
  const int64_t per_group = g.in_channels / g.groups, first = c / (g.out_channels / g.groups) * per_group;
  const uint8_t* m = layer.m.data() + c * g.inputs_per_output();
  int64_t sum = 0;
  for (int64_t ky = 0; ky < g.kernel_h; ++ky) {
    for (int64_t kx = 0; kx < g.kernel_w; ++kx, m += per_group) {
      const int64_t iy = y * g.stride_h - g.pad_top + ky * g.dilation_h;
      const int64_t ix = x * g.stride_w - g.pad_left + kx * g.dilation_w;
      if (iy < 0 || iy >= g.height || ix < 0 || ix >= g.width) continue;
      const uint8_t* q = layer.codes.data() + ((n * g.height + iy) * g.width + ix) * g.in_channels + first;
      for (int64_t k = 0; k < per_group; ++k) {
        const int64_t value = spec.sign_activations ? 2 * q[k] - 1 : q[k] - spec.zero_point;
        sum += (spec.code_step() * m[k] + spec.lowest_code()) * value;
      }
    }
  }
  return sum;
}

float value_of(const LayerCase& layer, int64_t sum, int64_t index, int64_t c) {
  const ConvSpec& spec = layer.spec;
  const float product = static_cast<float>(sum) * spec.multiply[c];
  float y = product + spec.offset[c];
  if (spec.norm_multiply != nullptr) y = std::fma(y, spec.norm_multiply[c], spec.norm_offset[c]);
  if (spec.has_residual) y = y + layer.residual[static_cast<size_t>(index)];
  return spec.relu && y < 0.0f ? 0.0f : y;
}

uint8_t code_of(const LayerCase& layer, int64_t sum, float y, int64_t c) {
  const CodeSpec& code = layer.spec.code;
  const int n = (1 << code.bits) - 1;
  int q = 0;
  if (code.int_thresholds != nullptr) {
    const bool falls = code.descending != nullptr && code.descending[c] != 0;
    const int32_t* t = code.int_thresholds + c * n;
    for (int j = 0; j < n; ++j) q += falls ? sum <= t[j] : sum >= t[j];
  } else if (code.float_thresholds != nullptr) {
    for (int j = 0; j < n; ++j) q += y >= code.float_thresholds[c * n + j];
  } else if (y > 0.0f) {
    const float v = y * static_cast<float>(n);
    q = v >= static_cast<float>(n) ? n : static_cast<int>(std::nearbyint(v));
  }
  return static_cast<uint8_t>(q);
}

}  // namespace

// The largest of each window of a pool, of values [batch][height][width][channels] of the convolution.
template <class T>
std::vector<T> pooled(const LayerCase& layer, const std::vector<T>& values) {
  const ConvPool& p = layer.spec.pool;
  const ConvGeometry& g = layer.spec.geometry;
  std::vector<T> results;
  if (!p || values.empty()) return values;
  for (int64_t n = 0; n < layer.batch; ++n) {
    for (int64_t i = 0; i < p.height * p.width * g.out_channels; ++i) {
      const int64_t c = i % g.out_channels, x = i / g.out_channels % p.width, y = i / g.out_channels / p.width;
      bool any = false;
      T most{};
      for (int64_t k = 0; k < p.kernel_h * p.kernel_w; ++k) {
        const int64_t iy = y * p.stride_h - p.pad_top + k / p.kernel_w;
        const int64_t ix = x * p.stride_w - p.pad_left + k % p.kernel_w;
        if (iy < 0 || iy >= g.out_height() || ix < 0 || ix >= g.out_width()) continue;
        const int64_t at = ((n * g.out_height() + iy) * g.out_width() + ix) * g.out_channels + c;
        const T value = values[static_cast<size_t>(at)];
        most = any ? std::max(most, value) : value;
        any = true;
      }
      results.push_back(most);
    }
  }
  return results;
}

LayerResults expected_results(const LayerCase& layer) {
  const ConvGeometry& g = layer.spec.geometry;
  LayerResults results;
  int64_t index = 0;
  for (int64_t n = 0; n < layer.batch; ++n) {
    for (int64_t y = 0; y < g.out_height(); ++y) {
      for (int64_t x = 0; x < g.out_width(); ++x) {
        for (int64_t c = 0; c < g.out_channels; ++c, ++index) {
          const int64_t sum = sum_of(layer, n, y, x, c);
          results.sums.push_back(static_cast<int32_t>(sum));
          const float value = layer.spec.multiply == nullptr ? 0.0f : value_of(layer, sum, index, c);
          if (layer.spec.multiply != nullptr) results.values.push_back(value);
          if (layer.spec.code.bits != 0) results.codes.push_back(code_of(layer, sum, value, c));
        }
      }
    }
  }
  results.values = pooled(layer, results.values);
  results.codes = pooled(layer, results.codes);
  return results;
}

void write_codes(const Layout& layout, const std::vector<uint8_t>& codes, int64_t batch, uint8_t* memory) {
  size_t index = 0;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t y = 0; y < layout.height; ++y) {
      for (int64_t x = 0; x < layout.width; ++x) {
        uint8_t* pixel = memory + layout.offset(n, y, x);
        if (layout.kind == Kind::kPlanes) {
          for (int bit = 0; bit < layout.bits; ++bit)
            std::fill_n(pixel + bit * layout.plane_bytes, layout.channel_bytes(), 0);
        }
        for (int64_t c = 0; c < layout.channels; ++c, ++index) {
          if (layout.kind == Kind::kBytes) pixel[c] = codes[index];
          for (int bit = 0; bit < layout.bits && layout.kind == Kind::kPlanes; ++bit) {
            pixel[bit * layout.plane_bytes + c / 8] |= static_cast<uint8_t>((codes[index] >> bit & 1) << c % 8);
          }
        }
      }
    }
  }
}

}  // namespace bitorch
