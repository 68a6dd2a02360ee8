// Functions of floats, the same to the last bit on every CPU: nothing of libm, whose last bits depend on the machine,
// and multiplications fused with additions only where the sequence of a function says so.

#include "function_lanes.inl"

// out = f(in), n floats, vector by vector: f is given the lanes, the index of the first and how many there are.
template <typename Function>
static inline void for_vectors(float* out, const float* in, int64_t n, const Function& f) {
  int64_t i = 0;
  for (; i + kFloatLanes <= n; i += kFloatLanes) {
    const Floats y = f(load_lanes(in + i, kFloatLanes), i, kFloatLanes);
    __builtin_memcpy(out + i, &y, sizeof(y));
  }
  if (i < n) {
    const Floats y = f(load_lanes(in + i, n - i), i, n - i);
    __builtin_memcpy(out + i, &y, static_cast<unsigned long>(n - i) * sizeof(float));
  }
}

#include "function_tables.inl"

#include "exponential_functions.inl"
#include "normal_functions.inl"
#include "plain_functions.inl"
#include "softmax_rows.inl"

template <Floats (*f)(Floats)>
static void apply(float* out, const float* in, const float*, int64_t n) {
  for_vectors(out, in, n, [](Floats x, int64_t, int64_t) { return f(x); });
}

// With one parameter for all numbers, with two, and with one for each.
template <Floats (*f)(Floats, Floats)>
static void apply_with_one(float* out, const float* in, const float* parameters, int64_t n) {
  const Floats first = all_lanes(parameters[0]);
  for_vectors(out, in, n, [first](Floats x, int64_t, int64_t) { return f(x, first); });
}

template <Floats (*f)(Floats, Floats, Floats)>
static void apply_with_two(float* out, const float* in, const float* parameters, int64_t n) {
  const Floats first = all_lanes(parameters[0]), second = all_lanes(parameters[1]);
  for_vectors(out, in, n, [first, second](Floats x, int64_t, int64_t) { return f(x, first, second); });
}

template <Floats (*f)(Floats, Floats)>
static void apply_with_each(float* out, const float* in, const float* parameters, int64_t n) {
  for_vectors(out, in, n,
              [parameters](Floats x, int64_t i, int64_t count) { return f(x, load_lanes(parameters + i, count)); });
}

// With a part near 0, which is what networks mostly have, and one for the rest, which is computed only where it is
// needed.
template <Floats (*near)(Floats), Floats (*far)(Floats)>
static inline Floats of_parts(Floats x) {
  const Floats size = absolute_lanes(x);
  if (all_at_most(size, kNear)) return near(x);
  return size <= kNear ? near(x) : far(x);
}

template <typename Near, typename Rest>
static inline void apply_parts(float* out, const float* in, int64_t n, float limit, const Near& near,
                               const Rest& rest) {
  constexpr int64_t kBlock = 64;
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    if (!all_near(in + i, kBlock, limit)) {
      rest(out + i, in + i, kBlock);
      continue;
    }
    for (int64_t k = i; k < i + kBlock; k += kFloatLanes) {
      const Floats y = near(load_lanes(in + k, kFloatLanes));
      __builtin_memcpy(out + k, &y, sizeof(y));
    }
  }
  rest(out + i, in + i, n - i);
}

// Apart from the loop of what is near, whose constants shall stay in registers.
template <Floats (*near)(Floats), Floats (*far)(Floats)>
__attribute__((noinline)) static void apply_both(float* out, const float* in, int64_t n) {
  for_vectors(out, in, n, [](Floats x, int64_t, int64_t) { return of_parts<near, far>(x); });
}

template <Floats (*near)(Floats), Floats (*far)(Floats)>
static void apply_two(float* out, const float* in, const float*, int64_t n) {
  apply_parts(out, in, n, kNear, [](Floats x) { return near(x); }, apply_both<near, far>);
}

// -ln(1 + e^-x)
__attribute__((always_inline)) static inline Floats log_sigmoid_near(Floats x) { return -softplus_near(-x); }
static inline Floats log_sigmoid_far(Floats x) { return -softplus_far(-x); }

// x·beta > threshold ? x : ln(1 + e^(x·beta)) / beta
__attribute__((noinline)) static void apply_whole_softplus(float* out, const float* in, const float* parameters,
                                                           int64_t n) {
  const Floats beta = all_lanes(parameters[0]), threshold = all_lanes(parameters[1]);
  for_vectors(out, in, n, [=](Floats x, int64_t, int64_t) {
    const Floats scaled = x * beta;
    const Floats y = of_parts<softplus_near, softplus_far>(scaled) / beta;
    return scaled > threshold ? x : y;
  });
}

// Near 0, and 1 as beta: nothing is divided.
static void apply_softplus(float* out, const float* in, const float* parameters, int64_t n) {
  if (parameters[0] != 1.0f || parameters[1] < kNear) return apply_whole_softplus(out, in, parameters, n);
  apply_parts(
      out, in, n, kNear, [](Floats x) { return softplus_near(x); },
      [parameters](float* to, const float* from, int64_t count) { apply_whole_softplus(to, from, parameters, count); });
}

static inline Floats reciprocal_root_of(Floats x) { return 1.0f / root(x); }

static inline Floats reciprocal_of(Floats x) { return 1.0f / x; }

static constexpr FunctionKernels function_kernels() {
  FunctionKernels k = {};
  k.of[kLeakyRelu] = apply_with_each<leaky_relu_of>;
  k.of[kElu] = apply_with_each<elu_of>;
  k.of[kSelu] = apply<selu_of>;
  k.of[kCelu] = apply_with_two<celu_of>;
  k.of[kHardswish] = apply<hardswish_of>;
  k.of[kHardsigmoid] = apply<hardsigmoid_of>;
  k.of[kSigmoid] = apply<sigmoid_of>;
  k.of[kLogSigmoid] = apply_two<log_sigmoid_near, log_sigmoid_far>;
  k.of[kTanh] = apply<tanh_of>;
  k.of[kSilu] = apply<silu_of>;
  k.of[kMish] = apply_two<mish_near, mish_far>;
  k.of[kGelu] = apply_two<gelu_near, gelu_far>;
  k.of[kGeluTanh] = apply_two<gelu_tanh_near, gelu_tanh_far>;
  k.of[kSoftplus] = apply_softplus;
  k.of[kSoftsign] = apply<softsign_of>;
  k.of[kErf] = apply<erf_of>;
  k.of[kExp] = apply<exp_of>;
  k.of[kLog] = apply<log_of>;
  k.of[kSqrt] = apply<root>;
  k.of[kRsqrt] = apply<reciprocal_root_of>;
  k.of[kReciprocal] = apply<reciprocal_of>;
  k.of[kAbs] = apply<absolute_lanes>;
  k.of[kSign] = apply<sign_of>;
  k.of[kThreshold] = apply_with_two<threshold_of>;
  k.of[kHardshrink] = apply_with_one<hardshrink_of>;
  k.of[kSoftshrink] = apply_with_one<softshrink_of>;
  k.softmax = softmax_row;
  k.log_softmax = log_softmax_row;
  return k;
}
