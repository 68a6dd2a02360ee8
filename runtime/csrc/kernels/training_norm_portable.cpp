// The loops that core/training_norm_kernels.h describes, in plain C++ for any architecture.
#include <cstdint>

#include "../core/training_norm_kernels.h"

namespace bitorch {

namespace training_norm_portable {

namespace {

void moments(const ChannelMoments* m) {
  for (int64_t c = 0; c < m->channels; ++c) {
    float total = 0;
    for (int64_t p = 0; p < m->pixels; ++p) total += m->x[p * m->channels + c];
    const float mean = total / static_cast<float>(m->pixels);
    float sum = 0, squares = 0;
    for (int64_t p = 0; p < m->pixels; ++p) {
      const float d = m->x[p * m->channels + c] - mean;
      sum += d;
      squares = __builtin_fmaf(d, d, squares);
    }
    m->mean[c] = mean;
    m->sum[c] = sum;
    m->squares[c] = squares;
  }
}

void quantize(const AffineQuantize* q) {
  for (int64_t i = 0; i < q->n; ++i) {
    const int64_t c = i % q->channels;
    const float v = __builtin_fmaf(q->x[i], q->scale[c], q->shift[c]);
    const float clipped = v > 0 ? (v < 1 ? v : 1.0f) : 0.0f;
    // Adding 2^23 rounds to an integer, half to even.
    const float sum = clipped * q->levels + 8388608.0f;
    uint32_t bits;
    __builtin_memcpy(&bits, &sum, sizeof bits);
    q->codes[i] = static_cast<uint8_t>(bits);
    if (q->inside == nullptr) continue;
    if (i % 8 == 0) q->inside[i / 8] = 0;
    const bool is_inside = (q->positive ? v > 0 : v >= 0) && v <= 1;
    q->inside[i / 8] = static_cast<uint8_t>(q->inside[i / 8] | is_inside << (i % 8));
  }
}

// Number k of a window: 0, 1 of the upper row, 2, 3 of the lower one.
int64_t place(int64_t pixel, int k, int64_t channels, int64_t c) { return (2 * pixel + k % 2) * channels + c; }

void pool(const AffinePool* p) {
  for (int64_t i = 0; i < p->pixels; ++i) {
    for (int64_t c = 0; c < p->channels; ++c) {
      float v[4];
      for (int k = 0; k < 4; ++k) {
        const float x = (k < 2 ? p->upper : p->lower)[place(i, k, p->channels, c)];
        v[k] = __builtin_fmaf(x, p->scale[c], p->shift[c]);
      }
      int winner = 0;
      for (int k = 1; k < 4; ++k) winner = v[k] > v[winner] || v[k] != v[k] ? k : winner;
      p->largest[i * p->channels + c] = v[winner];
      p->winners[i * p->channels + c] = static_cast<uint8_t>(winner);
    }
  }
}

void products(const ChannelProducts* r) {
  for (int64_t c = 0; c < r->channels; ++c) {
    float sum = 0, products = 0;
    for (int64_t p = 0; p < r->pixels; ++p) {
      const int64_t i = p * r->channels + c;
      sum += r->g[i];
      products = __builtin_fmaf(r->g[i], r->x[i] - r->mean[c], products);
    }
    r->sum[c] = sum;
    r->products[c] = products;
  }
}

void pool_products(const PoolProducts* r) {
  for (int64_t c = 0; c < r->channels; ++c) {
    float sum = 0, products = 0;
    for (int64_t p = 0; p < r->pixels; ++p) {
      const int64_t i = p * r->channels + c;
      const int k = r->winners[i];
      const float x = (k < 2 ? r->upper : r->lower)[place(p, k, r->channels, c)];
      sum += r->g[i];
      products = __builtin_fmaf(r->g[i], x - r->mean[c], products);
    }
    r->sum[c] = sum;
    r->products[c] = products;
  }
}

void gradient(const NormGradient* d) {
  for (int64_t i = 0; i < d->n; ++i) {
    const int64_t c = i % d->channels;
    const float g = d->g == nullptr ? 0 : d->g[i];
    d->out[i] = __builtin_fmaf(d->a[c], g, __builtin_fmaf(d->b[c], d->x[i] - d->mean[c], d->c[c]));
  }
}

void pool_gradient(const PoolGradient* d) {
  for (int64_t p = 0; p < d->pixels; ++p) {
    for (int64_t c = 0; c < d->channels; ++c) {
      const int64_t i = p * d->channels + c;
      for (int k = 0; k < 4; ++k) {
        const int64_t at = place(p, k, d->channels, c);
        const float g = d->winners[i] == k ? d->g[i] : 0;
        const float x = (k < 2 ? d->upper : d->lower)[at] - d->mean[c];
        (k < 2 ? d->out_upper : d->out_lower)[at] = __builtin_fmaf(d->a[c], g, __builtin_fmaf(d->b[c], x, d->c[c]));
      }
    }
  }
}

}  // namespace

}  // namespace training_norm_portable

constexpr TrainingNormKernels kPortableTrainingNorm = {
    "portable",
    training_norm_portable::moments,
    training_norm_portable::quantize,
    training_norm_portable::pool,
    training_norm_portable::products,
    training_norm_portable::pool_products,
    training_norm_portable::gradient,
    training_norm_portable::pool_gradient,
};

}  // namespace bitorch
