#include "core/conv/thresholds.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace bitorch {

namespace {

// Up to here comparing is quicker than the affine rule.
constexpr int kCompareBits = 2;
// A line further off than this would send too many results to their thresholds.
constexpr double kMostDeviation = 0.05;
constexpr double kMostFloat = std::numeric_limits<float>::max();
// Of a budget's work, per threshold.
constexpr int64_t kLineSteps = 50, kCompareSteps = 4;

int32_t negated(int32_t x) {
  return x == std::numeric_limits<int32_t>::min() ? std::numeric_limits<int32_t>::max() : -x;
}
float negated(float x) { return -x; }

// The largest value below x.
int32_t below(int32_t x) { return x - 1; }
float below(float x) { return std::nextafter(x, -std::numeric_limits<float>::infinity()); }

bool is_nan(int32_t) { return false; }
bool is_nan(float x) { return std::isnan(x); }

// Whether an |x| <= reach can be at the threshold. NaN is out of reach.
template <class T>
bool within(T threshold, T reach) {
  return threshold <= reach;
}

template <class F>
struct Line {
  F multiply, offset;
};

// What the kernels compute before they round: two roundings, and NaN gives 0.
float on_line(float x, const Line<float>& line, int n) {
  const float product = x * line.multiply;
  const float v = product + line.offset;
  const float low = v > 0.0f ? v : 0.0f;
  return low < static_cast<float>(n) ? low : static_cast<float>(n);
}

// How far the half-integers j + 1/2 can be moved with every threshold still on its side of a line of slope m, and how
// this slack changes with m.
struct Slack {
  double value, derivative, offset;
};

// Over the thresholds first <= j < last.
template <class T>
Slack slack(double m, const T* t, int first, int last) {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  double at_low = 0, at_high = 0;
  for (int j = first; j < last; ++j) {
    const double upper = static_cast<double>(t[j]), lower = static_cast<double>(below(t[j]));
    if (j + 0.5 - m * upper > low) {
      low = j + 0.5 - m * upper;
      at_low = upper;
    }
    if (j + 0.5 - m * lower < high) {
      high = j + 0.5 - m * lower;
      at_high = lower;
    }
  }
  return {high - low, at_low - at_high, 0.5 * (low + high)};
}

// The slack is a concave function of the slope, made of straight pieces: from a rising and a falling piece, go on where
// the two meet.
template <class T>
Line<double> find_line(const T* t, int n, T reach) {
  int first = 0, last = n;
  while (first < n && t[first] <= -reach) ++first;
  while (last > first && !within(t[last - 1], reach)) --last;
  if (first == last) return {0.0, static_cast<double>(first)};  // one code for every x
  const double span = static_cast<double>(t[last - 1]) - static_cast<double>(t[first]);
  // One step within reach: any slope that keeps the codes beside it.
  const double slope = span > 0 ? (last - 1 - first) / span : 0.5 / (static_cast<double>(reach) + 1);
  double left = 0.5 * slope, right = 2.0 * slope, m = slope, best = slope;
  Slack at_left = slack(left, t, first, last), at_right = slack(right, t, first, last), at_m = slack(m, t, first, last);
  Slack at_best = at_m;
  for (int i = 0; i < 32 && at_m.derivative != 0; ++i) {
    (at_m.derivative > 0 ? left : right) = m;
    (at_m.derivative > 0 ? at_left : at_right) = at_m;
    const double bend = at_left.derivative - at_right.derivative;
    m = (at_right.value - at_left.value + at_left.derivative * left - at_right.derivative * right) / bend;
    if (!(m > left && m < right)) break;
    at_m = slack(m, t, first, last);
    if (at_m.value > at_best.value) {
      best = m;
      at_best = at_m;
    }
  }
  return {best, at_best.offset};
}

// How well a line stands for thresholds, for every |x| <= reach. Thresholds and line are monotone, so it is enough to
// look on the two sides of every threshold within reach, and at the ends.
struct Fit {
  bool exact = true;     // rounding gives the codes
  double deviation = 0;  // how far from a half-integer on the wrong side of it the line can be
};

template <class T>
Fit fit_of(const Line<float>& line, const T* t, int n, T reach) {
  Fit fit;
  for (int j = 0; j < n; ++j) {
    const bool reached = within(t[j], reach);
    if (reached) {
      const T at = t[j] < -reach ? -reach : t[j];
      const float v = on_line(static_cast<float>(at), line, n);
      fit.exact = fit.exact && std::nearbyint(v) >= j + 1;
      fit.deviation = std::max(fit.deviation, j + 0.5 - static_cast<double>(v));
    }
    if (t[j] <= -reach) continue;
    const float v = on_line(static_cast<float>(reached ? below(t[j]) : reach), line, n);
    fit.exact = fit.exact && std::nearbyint(v) <= j;
    fit.deviation = std::max(fit.deviation, static_cast<double>(v) - (j + 0.5));
  }
  return fit;
}

template <class T>
void check_order(const T* t, int n, bool descending, int64_t channel) {
  for (int j = 0; j < n; ++j) {
    if (j == 0 || is_nan(t[j])) continue;
    if (is_nan(t[j - 1])) {
      throw Error("thresholds: channel " + std::to_string(channel) + ", threshold " + std::to_string(j) + " is " +
                  std::to_string(t[j]) + " after NaN, which no number reaches, and which must therefore be the last");
    }
    if (descending ? t[j] > t[j - 1] : t[j] < t[j - 1]) {
      throw Error("thresholds: channel " + std::to_string(channel) + " must be in " +
                  (descending ? "falling" : "rising") + " order, but threshold " + std::to_string(j) + " is " +
                  std::to_string(t[j]) + " after " + std::to_string(t[j - 1]));
    }
  }
}

}  // namespace

std::vector<BlockRange> plain_blocks(int64_t channels) {
  std::vector<BlockRange> blocks;
  for (int64_t c = 0; c < channels; c += kBlock) {
    blocks.push_back({c, static_cast<int32_t>(std::min<int64_t>(kBlock, channels - c))});
  }
  return blocks;
}

// Everything but what the blocks hold; compares: thresholds are kept beside the lines.
void CodeRule::reserve(Budget& budget, int64_t blocks, bool compares) {
  const char* what = "code rules";
  rules_ = AlignedArray<int32_t>(budget, blocks, what);
  margins_ = AlignedArray<float>(budget, blocks, what);
  lines_ = AlignedArray<float>(budget, checked_mul(blocks, 2 * kBlock, what), what);
  if (!compares) return;
  const int64_t n = (int64_t{1} << bits_) - 1;
  thresholds_ = AlignedArray<uint32_t>(budget, checked_mul(blocks, n * kBlock, what), what);
  negate_ = AlignedArray<int32_t>(budget, checked_mul(blocks, kBlock, what), what);
  // A line through many thresholds is looked for step by step.
  budget.work(checked_mul(blocks, n * kBlock * (bits_ > kCompareBits ? kLineSteps : kCompareSteps), what));
}

template <class T>
void CodeRule::build(Budget& budget, const T* thresholds, const uint8_t* descending, T reach, bool negate_in_stage,
                     const std::vector<BlockRange>& blocks) {
  const int n = (1 << bits_) - 1;
  const int64_t count = static_cast<int64_t>(blocks.size());
  reserve(budget, count, true);
  std::vector<T> t(static_cast<size_t>(n));
  for (int64_t b = 0; b < count; ++b) {
    Fit worst;
    for (int32_t c = 0; c < blocks[b].channels; ++c) {
      const int64_t channel = blocks[b].first_channel + c;
      const bool falls = descending != nullptr && descending[channel] != 0;
      check_order(thresholds + channel * n, n, falls, channel);
      for (int j = 0; j < n; ++j) t[j] = falls ? negated(thresholds[channel * n + j]) : thresholds[channel * n + j];
      if (falls && negate_in_stage) {
        negate_[b * kBlock + c] = -1;
        has_negation_ = true;
      }
      for (int j = 0; j < n; ++j) std::memcpy(&thresholds_[(b * n + j) * kBlock + c], &t[j], 4);
      if (bits_ <= kCompareBits || worst.deviation > kMostDeviation) continue;
      const Line<double> ideal = find_line(t.data(), n, reach);
      if (!(std::fabs(ideal.multiply) <= kMostFloat && std::fabs(ideal.offset) <= kMostFloat)) {
        worst.deviation = std::numeric_limits<double>::infinity();
        continue;
      }
      const Line<float> line = {static_cast<float>(ideal.multiply), static_cast<float>(ideal.offset)};
      const Fit fit = fit_of(line, t.data(), n, reach);
      worst.exact = worst.exact && fit.exact;
      worst.deviation = std::max(worst.deviation, fit.deviation);
      lines_[(b * 2 + 0) * kBlock + c] = line.multiply;
      lines_[(b * 2 + 1) * kBlock + c] = line.offset;
    }
    const bool follows = bits_ > kCompareBits && worst.deviation <= kMostDeviation;
    rules_[b] = !follows ? kCompare : worst.exact ? kAffine : kGuided;
    // Rounded down, so that an x which the line puts at the margin is compared.
    margins_[b] = static_cast<float>(0.5 - worst.deviation) * (1 - 1e-6f);
    if (rules_[b] != kAffine) continue;
    // A line can have the change of sign in itself: (-x) * m = x * (-m), to the bit.
    for (int c = 0; c < kBlock; ++c) {
      if (negate_[b * kBlock + c] != 0) lines_[b * 2 * kBlock + c] = -lines_[b * 2 * kBlock + c];
    }
  }
}

CodeRule::CodeRule(Budget& budget, const int32_t* thresholds, const uint8_t* descending, int32_t reach, int bits,
                   bool negate_weights, const std::vector<BlockRange>& blocks)
    : bits_(bits) {
  build(budget, thresholds, descending, reach, !negate_weights, blocks);
}

CodeRule::CodeRule(Budget& budget, const float* thresholds, const uint8_t* descending, int bits,
                   const std::vector<BlockRange>& blocks)
    : bits_(bits) {
  build(budget, thresholds, descending, std::numeric_limits<float>::infinity(), true, blocks);
}

CodeRule::CodeRule(Budget& budget, int bits, const std::vector<BlockRange>& blocks) : bits_(bits) {
  const int64_t count = static_cast<int64_t>(blocks.size());
  reserve(budget, count, false);
  std::fill(rules_.begin(), rules_.end(), kAffine);
  std::fill(margins_.begin(), margins_.end(), 0.5f);
  const float n = static_cast<float>((1 << bits) - 1);
  for (int64_t b = 0; b < count; ++b) std::fill_n(&lines_[b * 2 * kBlock], kBlock, n);
}

bool CodeRule::compares_few() const { return bits_ <= kCompareBits && thresholds_.size() != 0; }

void CodeRule::fill(int64_t block, CodeStage* stage) const {
  const int n = (1 << bits_) - 1;
  stage->bits = bits_;
  stage->rule = rules_[block];
  stage->margin = margins_[block];
  stage->thresholds = stage->rule == kAffine ? nullptr : &thresholds_[block * n * kBlock];
  stage->multiply = &lines_[block * 2 * kBlock];
  stage->offset = stage->multiply + kBlock;
  stage->negate = has_negation_ && stage->rule != kAffine ? &negate_[block * kBlock] : nullptr;
}

}  // namespace bitorch
