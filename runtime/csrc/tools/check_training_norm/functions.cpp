// Each function of core/training_norm_kernels.h by itself: numbers of channels and pixels around those of vectors, with
// NaN, infinities and both zeros among the numbers.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "checks.h"
#include "core/training/norm.h"
#include "tools/check_kernels/support.h"

namespace bitorch {
namespace {

// Arrays that end at an inaccessible page each.
class Arrays {
 public:
  template <class T>
  T* next(int64_t count) {
    if (used_ == fences_.size()) fences_.emplace_back(size_t{1} << 17);
    return fences_[used_++].last<T>(static_cast<size_t>(count));
  }
  void restart() { used_ = 0; }

 private:
  std::deque<Fenced> fences_;
  size_t used_ = 0;
};

// What the portable function and that of a table wrote.
template <class T>
class Written {
 public:
  Written(Arrays& arrays, int64_t count) : count_(count), by_{arrays.next<T>(count), arrays.next<T>(count)} {
    for (T* array : by_) memset(static_cast<void*>(array), 0xa5, static_cast<size_t>(count) * sizeof(T));
  }
  T* operator[](int table) const { return by_[table]; }

  // Bit for bit, but for those of a NaN.
  bool same() const {
    for (int64_t i = 0; i < count_; ++i) {
      const T a = by_[0][i], b = by_[1][i];
      if (memcmp(&a, &b, sizeof(T)) != 0 && !(a != a && b != b)) return false;
    }
    return true;
  }

 private:
  int64_t count_;
  T* by_[2];
};

struct Case {
  const TrainingNormKernels* tables[2];  // the portable ones, and those that are checked
  Arrays* arrays;
  Random* random;
  int64_t channels, pixels;
  bool special;  // whether there are numbers that are none

  int64_t numbers() const { return pixels * channels; }
  int64_t periodic() const { return channels + 63; }

  float number() const {
    const float infinity = std::numeric_limits<float>::infinity();
    const float ends[] = {-0.0f, 0.0f, 1.0f, std::nextafter(1.0f, 2.0f), -1e-42f, 1e-42f, 3e38f};
    const float none[] = {std::nanf(""), infinity, -infinity};
    if (random->one_in(16)) return ends[random->below(7)];
    if (special && random->one_in(16)) return none[random->below(3)];
    return 2 * random->real() + 0.25f;
  }
  const float* floats(int64_t count) const {
    float* of = arrays->next<float>(count);
    for (int64_t i = 0; i < count; ++i) of[i] = number();
    return of;
  }
  // One number for each channel, repeated.
  const float* repeated() const {
    float* of = arrays->next<float>(periodic());
    for (int64_t i = 0; i < periodic(); ++i) of[i] = i < channels ? number() : of[i - channels];
    return of;
  }
  const uint8_t* winners() const {
    uint8_t* of = arrays->next<uint8_t>(numbers());
    for (int64_t i = 0; i < numbers(); ++i) of[i] = static_cast<uint8_t>(random->below(4));
    return of;
  }
  template <class T>
  Written<T> written(int64_t count) const {
    return Written<T>(*arrays, count);
  }
};

bool moments_are_same(const Case& c) {
  const float* x = c.floats(c.numbers());
  const auto mean = c.written<float>(c.channels), sum = c.written<float>(c.channels);
  const auto squares = c.written<float>(c.channels);
  for (int i = 0; i < 2; ++i) {
    const ChannelMoments job{x, c.pixels, c.channels, mean[i], sum[i], squares[i]};
    c.tables[i]->moments(&job);
  }
  return mean.same() && sum.same() && squares.same();
}

bool codes_are_same(const Case& c) {
  const float *x = c.floats(c.numbers()), *scale = c.repeated(), *shift = c.repeated();
  const auto levels = static_cast<float>((1 << c.random->from(1, 8)) - 1);
  const bool positive = c.random->one_in(2), masks = !c.random->one_in(4);
  const auto codes = c.written<uint8_t>(c.numbers()), inside = c.written<uint8_t>((c.numbers() + 7) / 8);
  for (int i = 0; i < 2; ++i) {
    const AffineQuantize job{
        x, c.numbers(), c.channels, scale, shift, levels, positive, codes[i], masks ? inside[i] : nullptr};
    c.tables[i]->quantize(&job);
  }
  return codes.same() && inside.same();
}

bool pools_are_same(const Case& c) {
  const float *upper = c.floats(2 * c.numbers()), *lower = c.floats(2 * c.numbers());
  const float *scale = c.floats(c.channels), *shift = c.floats(c.channels);
  const auto largest = c.written<float>(c.numbers());
  const auto winners = c.written<uint8_t>(c.numbers());
  for (int i = 0; i < 2; ++i) {
    const AffinePool job{upper, lower, c.pixels, c.channels, scale, shift, largest[i], winners[i]};
    c.tables[i]->pool(&job);
  }
  return largest.same() && winners.same();
}

bool products_are_same(const Case& c) {
  const float *g = c.floats(c.numbers()), *x = c.floats(c.numbers()), *mean = c.floats(c.channels);
  const auto sum = c.written<float>(c.channels), products = c.written<float>(c.channels);
  for (int i = 0; i < 2; ++i) {
    const ChannelProducts job{g, x, mean, c.pixels, c.channels, sum[i], products[i]};
    c.tables[i]->products(&job);
  }
  return sum.same() && products.same();
}

bool pool_products_are_same(const Case& c) {
  const float *g = c.floats(c.numbers()), *mean = c.floats(c.channels);
  const float *upper = c.floats(2 * c.numbers()), *lower = c.floats(2 * c.numbers());
  const uint8_t* winners = c.winners();
  const auto sum = c.written<float>(c.channels), products = c.written<float>(c.channels);
  for (int i = 0; i < 2; ++i) {
    const PoolProducts job{g, winners, upper, lower, mean, c.pixels, c.channels, sum[i], products[i]};
    c.tables[i]->pool_products(&job);
  }
  return sum.same() && products.same();
}

bool gradients_are_same(const Case& c) {
  const float *g = c.floats(c.numbers()), *x = c.floats(c.numbers());
  const float *mean = c.repeated(), *of_g = c.repeated(), *of_x = c.repeated(), *constant = c.repeated();
  const auto out = c.written<float>(c.numbers());
  const bool is_zero = c.random->one_in(3), in_place = c.random->one_in(2);
  for (int i = 0; i < 2; ++i) {
    if (in_place) memcpy(out[i], g, static_cast<size_t>(c.numbers()) * sizeof(float));
    const NormGradient job{
        is_zero ? nullptr : in_place ? out[i] : g, x, c.numbers(), c.channels, mean, of_g, of_x, constant, out[i]};
    c.tables[i]->gradient(&job);
  }
  return out.same();
}

bool pool_gradients_are_same(const Case& c) {
  const float *g = c.floats(c.numbers()), *upper = c.floats(2 * c.numbers()), *lower = c.floats(2 * c.numbers());
  const uint8_t* winners = c.winners();
  const float *mean = c.floats(c.channels), *of_g = c.floats(c.channels), *of_x = c.floats(c.channels);
  const float* constant = c.floats(c.channels);
  const auto of_upper = c.written<float>(2 * c.numbers()), of_lower = c.written<float>(2 * c.numbers());
  for (int i = 0; i < 2; ++i) {
    const PoolGradient job{g,    winners, upper, lower,    c.pixels,    c.channels,
                           mean, of_g,    of_x,  constant, of_upper[i], of_lower[i]};
    c.tables[i]->pool_gradient(&job);
  }
  return of_upper.same() && of_lower.same();
}

struct Function {
  const char* name;
  bool (*is_same)(const Case&);
};

constexpr Function kFunctions[] = {
    {"moments", moments_are_same},
    {"quantize", codes_are_same},
    {"pool", pools_are_same},
    {"products", products_are_same},
    {"gradient", gradients_are_same},
    {"pool_products", pool_products_are_same},
    {"pool_gradient", pool_gradients_are_same},
};

void check_case(const Case& c, Calls& calls) {
  for (const Function& function : kFunctions) {
    c.arrays->restart();
    describe("%s %s: %lld channels, %lld pixels", c.tables[1]->name, function.name, static_cast<long long>(c.channels),
             static_cast<long long>(c.pixels));
    ++calls.done;
    if (function.is_same(c)) continue;
    std::printf("WRONG %s %s: %lld channels, %lld pixels%s\n", c.tables[1]->name, function.name,
                static_cast<long long>(c.channels), static_cast<long long>(c.pixels),
                c.special ? ", with NaN and infinities" : "");
    ++calls.wrong;
  }
}

}  // namespace

Calls check_norm_functions(Random& random) {
  Arrays arrays;
  Calls calls{};
  std::vector<int64_t> channels{63, 64, 65, 130};
  for (int64_t c = 1; c <= 41; ++c) channels.push_back(c);
  for (const TrainingNormKernels* table : available_training_norm_kernels()) {
    for (const int64_t of : channels) {
      for (const int64_t pixels : {1, 2, 3, 7, 8, 9, 33}) {
        for (const bool special : {false, true}) {
          check_case({{&kPortableTrainingNorm, table}, &arrays, &random, of, pixels, special}, calls);
        }
      }
    }
  }
  return calls;
}

}  // namespace bitorch
