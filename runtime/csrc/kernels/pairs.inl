// Functions of two tensors, number by number. Part of generic.inl, behind float_vectors.inl.
//
// Vectors are loaded before any is written, so that a result may lie where a number was.

template <int function, typename T>
static inline T pair_of(T a, T b, T c) {
  if constexpr (function == kPairAdd) return a + b;
  if constexpr (function == kPairSub) return a - b;
  if constexpr (function == kPairMul) return a * b;
  if constexpr (function == kPairDiv) return a / b;
  if constexpr (function == kPairMinimum) return (a < b) | (a != a) ? a : b;
  if constexpr (function == kPairMaximum) return (a > b) | (a != a) ? a : b;
  if constexpr (function == kPairWhere) return c != T{} ? a : b;
}

// One number in all lanes, or as many numbers as there are. Less zero, since -0 with zero added is 0.
template <bool repeats>
static inline Floats pair_lanes(const float* from, int64_t i) {
  if (repeats) return *from - Floats{};
  return load_lanes(from + i, sizeof(Floats) / sizeof(float));
}

// n channels of one pixel.
template <int function, bool a_repeats, bool b_repeats, bool c_repeats>
static inline void pair_channels(float* out, const float* a, const float* b, const float* c, int64_t n) {
  constexpr int64_t kLanes = sizeof(Floats) / sizeof(float);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats x = pair_lanes<a_repeats>(a, i), y = pair_lanes<b_repeats>(b, i), z = pair_lanes<c_repeats>(c, i);
    const Floats result = pair_of<function>(x, y, z);
    __builtin_memcpy(out + i, &result, sizeof(result));
  }
  for (; i < n; ++i) out[i] = pair_of<function>(a[a_repeats ? 0 : i], b[b_repeats ? 0 : i], c[c_repeats ? 0 : i]);
}

template <int function, bool a_repeats, bool b_repeats, bool c_repeats>
static void pair_pixels(const PairRow* t) {
  const float *a = t->a.data, *b = t->b.data, *c = t->c.data;
  float* out = t->out;
  for (int64_t p = 0; p < t->pixels; ++p) {
    pair_channels<function, a_repeats, b_repeats, c_repeats>(out, a, b, c, t->n);
    out += t->out_step;
    a += t->a.pixel_step;
    b += t->b.pixel_step;
    c += t->c.pixel_step;
  }
}

// Whether the numbers of all pixels are one list of n to a pixel, or the same one.
static inline bool is_pair_list(const PairInput* x, int64_t n) {
  return x->channel_step == 0 ? x->pixel_step == 0 : x->pixel_step == n;
}

// Of pixels of one channel each: whether they are like channels of one pixel.
static inline bool is_pair_line(const PairInput* x) { return x->pixel_step == 0 || x->pixel_step == 1; }

// As few and as long pixels as it can be.
static inline void join_pixels(PairRow* t) {
  const bool is_dense = t->out_step == t->n;
  if (is_dense && is_pair_list(&t->a, t->n) && is_pair_list(&t->b, t->n) && is_pair_list(&t->c, t->n)) {
    t->n *= t->pixels;
    t->pixels = 1;
  } else if (is_dense && t->n == 1 && is_pair_line(&t->a) && is_pair_line(&t->b) && is_pair_line(&t->c)) {
    t->a.channel_step = t->a.pixel_step;
    t->b.channel_step = t->b.pixel_step;
    t->c.channel_step = t->c.pixel_step;
    t->n = t->pixels;
    t->pixels = 1;
  }
}

template <int function, bool c_repeats>
static void pair_row_of(const PairRow* t) {
  const bool a_repeats = t->a.channel_step == 0, b_repeats = t->b.channel_step == 0;
  if (a_repeats && b_repeats) return pair_pixels<function, true, true, c_repeats>(t);
  if (a_repeats) return pair_pixels<function, true, false, c_repeats>(t);
  if (b_repeats) return pair_pixels<function, false, true, c_repeats>(t);
  pair_pixels<function, false, false, c_repeats>(t);
}

template <int function>
static void pair_row(const PairRow* given) {
  PairRow t = *given;
  if (function != kPairWhere) t.c = t.a;  // not looked at
  join_pixels(&t);
  if (function == kPairWhere && t.c.channel_step == 0) return pair_row_of<function, true>(&t);
  pair_row_of<function, false>(&t);
}

constexpr PairKernels kGenericPairs = {{pair_row<kPairAdd>, pair_row<kPairSub>, pair_row<kPairMul>, pair_row<kPairDiv>,
                                        pair_row<kPairMinimum>, pair_row<kPairMaximum>, pair_row<kPairWhere>}};
