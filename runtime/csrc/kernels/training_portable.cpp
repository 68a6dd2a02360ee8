// The training kernels in plain C++ for any architecture: the loops that core/training_kernels.h describes.
#include <cstdint>

#include "../core/training_kernels.h"

namespace bitorch {

namespace training_portable {

namespace {

uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

int32_t quantize(const float* x, int64_t n, float levels, uint8_t* codes, uint8_t* inside) {
  int32_t nan = 0;
  for (int64_t i = 0; i < n; ++i) {
    nan |= x[i] != x[i];
    const float clipped = x[i] > 0 ? (x[i] < 1 ? x[i] : 1.0f) : 0.0f;
    // Adding 2^23 rounds to an integer, half to even.
    codes[i] = static_cast<uint8_t>(bits_of(clipped * levels + 8388608.0f));
    if (inside == nullptr) continue;
    if (i % 8 == 0) inside[i / 8] = 0;
    inside[i / 8] = static_cast<uint8_t>(inside[i / 8] | (x[i] >= 0 && x[i] <= 1) << (i % 8));
  }
  return nan;
}

int32_t take_codes(const float* x, int64_t n, int32_t low, int32_t levels, uint8_t* bytes) {
  const auto most = static_cast<float>(levels);
  int32_t nan = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float from_low = x[i] - static_cast<float>(low);
    const float clipped = from_low > 0 ? (from_low < most ? from_low : most) : 0.0f;
    const bool is_nan = x[i] != x[i];
    nan |= is_nan;
    bytes[i] = static_cast<uint8_t>(is_nan ? static_cast<uint32_t>(-low) : bits_of(clipped + 8388608.0f));
  }
  return nan;
}

uint32_t largest(const float* g, int64_t n) {
  uint32_t most = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(g[i]) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return most;
}

uint32_t mix(uint32_t x, const uint32_t* key) {
  x ^= key[0];
  x ^= x >> 16;
  x *= 0x7feb352d;
  x = x ^ key[1] ^ x >> 15;
  x *= 0x846ca68b;
  x ^= x >> 16;
  return x | 0x00010001;
}

// |x| is at most 256: the conversion cannot overflow, and truncates.
int32_t floor_of(float x) {
  const int32_t whole = static_cast<int32_t>(x);
  return whole - (static_cast<float>(whole) > x);
}

// 1.5 * 2^23: the last bits of the sum are the integer, half to even, also a negative one.
int32_t round_of(float x) { return static_cast<int32_t>(bits_of(x + 12582912.0f) - bits_of(12582912.0f)); }

void gradient_codes(const GradientCodes* c) {
  for (int64_t i = 0; i < c->n; ++i) {
    const float y = c->g[i] * c->factor;
    int32_t code;
    if (c->noisy) {
      const uint32_t hash = mix(c->word + static_cast<uint32_t>(i / 32 * 16 + i % 16), c->key);
      const auto noise = static_cast<int16_t>(i % 32 < 16 ? hash & 0xffff : hash >> 16);
      const float v = y + static_cast<float>(noise) * 0x1p-16f;
      code = c->has_zero ? round_of(v) : floor_of(v);
    } else {
      code = c->has_zero ? round_of(y) : round_of(y + (static_cast<float>(c->high) + 0.5f)) + c->low;
    }
    code = code < c->low ? c->low : code;
    code = code > c->high ? c->high : code;
    if (c->levels != nullptr) c->levels[i] = static_cast<uint8_t>(code - c->low);
    c->codes[i] = static_cast<int8_t>(c->odd ? 2 * code + 1 : code);
  }
}

void interleave(const uint8_t* const* rows, int32_t n, uint8_t* out) {
  for (int32_t c = 0; c < kTileChannels; ++c) {
    for (int b = 0; b < 4; ++b) out[4 * c + b] = c < n && rows[b] != nullptr ? rows[b][c] : 0;
  }
}

void dots(const TrainingDots* t) {
  for (int32_t p = 0; p < t->pixels; ++p) {
    int32_t* sums = t->tile + p * kTileChannels;
    for (int32_t c = 0; c < kTileChannels; ++c) sums[c] = 0;
    for (int32_t row = 0; row < t->rows; ++row) {
      const uint8_t* in = t->in + row * t->in_row + p * t->in_step;
      const int8_t* weights = t->weights + row * t->weight_row;
      for (int32_t k = 0; k < 4 * t->steps; ++k) {
        const int8_t* of_channels = weights + k / 4 * 4 * kTileChannels + k % 4;
        for (int32_t c = 0; c < t->channels; ++c) sums[c] += in[k] * of_channels[4 * c];
      }
    }
  }
}

// Wraps around, as vectors do: where parts of a sum that is in range are not.
int32_t twice_and(int32_t sum, int32_t more) {
  return static_cast<int32_t>(2 * static_cast<uint32_t>(sum) + static_cast<uint32_t>(more));
}

void finish_forward(const FinishForward* f) {
  for (int32_t p = 0; p < f->pixels; ++p) {
    for (int32_t c = 0; c < f->channels; ++c) {
      int32_t sum = f->tile[p * kTileChannels + c];
      if (f->halves != nullptr) sum = twice_and(sum, f->halves[p]);
      if (f->border != nullptr) sum += f->border[c];
      const float y = static_cast<float>(sum) * f->scale[c];
      f->out[p * f->out_step + c] = f->bias == nullptr ? y : y + f->bias[c];
    }
  }
}

void finish_gradient(const FinishGradient* f) {
  for (int32_t p = 0; p < f->pixels; ++p) {
    for (int32_t c = 0; c < f->channels; ++c) {
      int32_t sum = f->tile[p * kTileChannels + c];
      if (f->halves != nullptr) sum = twice_and(sum, f->halves[p]);
      sum = f->twice ? twice_and(sum, f->border[p][c]) : sum + f->border[p][c];
      const float dx = static_cast<float>(sum) * f->scale[p * f->scale_step];
      const int64_t bit = f->first_bit + p * f->bit_step + c;
      const bool passes = f->mask == nullptr || (f->mask[bit / 8] >> (bit % 8) & 1) != 0;
      f->out[p * f->out_step + c] = passes ? dx : 0;
    }
  }
}

void weight_dots_of_sample(const WeightDots* w, int64_t sample) {
  for (int32_t r = 0; r < w->taps; ++r) {
    int32_t sums[kTileChannels] = {};
    const int8_t* g = w->g + sample * w->g_step;
    for (int32_t y = 0; y < w->rows; ++y) {
      const uint8_t* q = w->q + sample * w->q_step + y * w->row_step + w->offset[r];
      for (int32_t x = 0; x < w->groups; ++x, g += 4 * kTileChannels) {
        for (int32_t c = 0; c < w->channels; ++c) {
          for (int b = 0; b < 4; ++b) sums[c] += q[4 * x + b] * g[4 * c + b];
        }
      }
    }
    for (int32_t c = 0; c < w->channels; ++c) {
      int32_t sum = w->halves == nullptr ? sums[c] : twice_and(sums[c], w->halves[sample * w->halves_step + r]);
      if (w->border != nullptr) sum += w->border[sample * w->border_step + c];
      float* to = w->sums + r * kTileChannels + c;
      *to = __builtin_fmaf(static_cast<float>(sum), w->scale[sample], *to);
    }
  }
}

void weight_dots(const WeightDots* w) {
  for (int64_t sample = 0; sample < w->samples; ++sample) weight_dots_of_sample(w, sample);
}

void transpose(const Transpose* t) {
  for (int32_t c = 0; c < t->channels; ++c) {
    for (int64_t r = 0; r < t->rows; ++r) t->out[c * t->out_step + r] = t->scale * t->in[r * t->in_step + c];
  }
}

void outer(const OuterProduct* o) {
  for (int32_t r = 0; r < o->rows; ++r) {
    for (int32_t c = 0; c < o->channels; ++c) {
      float sum = 0;
      for (int64_t s = 0; s < o->samples; ++s) {
        sum = __builtin_fmaf(o->q[s * kTileChannels + c], o->g[s * o->g_step + r], sum);
      }
      o->out[r * o->out_step + c] = o->scale * sum;
    }
  }
}

}  // namespace

}  // namespace training_portable

constexpr TrainingKernels kPortableTraining = {
    "portable",
    training_portable::quantize,
    training_portable::take_codes,
    training_portable::largest,
    training_portable::gradient_codes,
    training_portable::interleave,
    training_portable::dots,
    training_portable::finish_forward,
    training_portable::finish_gradient,
    training_portable::weight_dots,
    training_portable::transpose,
    training_portable::outer,
    nullptr,
};

}  // namespace bitorch
