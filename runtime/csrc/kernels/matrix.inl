// Products of float matrices for any width of vectors. Whoever includes this has defined
//
//   Vector                  kLanes floats, of GCC's vector extensions: + - * and comparisons are those of its elements
//   kMostRows, kMostVectors the tile of sums that registers hold, beside the operands: at least as many chains of
//                           multiply-adds as the processor has under way at once
//   multiply_add(a, b, c)   a * b + c, rounded once or twice
//   store_some(to, v, n)    the first n elements of v, 0 < n < kLanes, and nothing behind them
//   load_some(from, n)      the same read, and anything in the other elements
//   larger(a, b)            a > b ? a : b, and b beside NaN

typedef int32_t Lanes __attribute__((vector_size(sizeof(Vector))));

static inline Vector load(const float* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}
static inline void store(float* to, Vector v) { __builtin_memcpy(to, &v, sizeof(v)); }
static inline Vector all(float x) { return x - Vector{}; }  // −0 less 0 is −0: compilers leave the subtraction out

static inline int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// `count` things in parts of at most `most`, as equal as they can be: where part i begins.
static inline int64_t begin_of(int64_t i, int64_t count, int64_t most) {
  const int64_t parts = divided_up(count, most);
  const int64_t each = count / parts, longer = count % parts;
  return i * each + (i < longer ? i : longer);
}

// ---- Packing ----

// Four rows of the right matrix that lie as columns: blocks of four by four are turned round in registers.
typedef float Four __attribute__((vector_size(16)));

static inline Four load_four(const float* from) {
  Four v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

static inline void turn_four(const float* in, int64_t step, float* out, int64_t out_step) {
  const Four a = load_four(in), b = load_four(in + step), c = load_four(in + 2 * step), d = load_four(in + 3 * step);
  const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Four ba = __builtin_shufflevector(a, b, 2, 6, 3, 7), dc = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Four turned[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                          __builtin_shufflevector(ba, dc, 0, 1, 4, 5), __builtin_shufflevector(ba, dc, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) __builtin_memcpy(out + i * out_step, &turned[i], sizeof(Four));
}

// kLanes columns, of which `columns` are there, to every width-th vector.
static inline void pack_vector(const MatrixPanels* t, int64_t column, int64_t columns, float* out, int64_t width) {
  const float* in = t->matrix + column * t->column_step;
  int64_t k = 0;
  if (columns == kLanes && t->depth_step == 1) {
    for (; k + 4 <= t->depth; k += 4) {
      for (int c = 0; c < kLanes; c += 4) {
        turn_four(in + c * t->column_step + k, t->column_step, out + k * width * kLanes + c, width * kLanes);
      }
    }
  }
  if (columns == kLanes && t->column_step == 1) {
    for (; k < t->depth; ++k) store(out + k * width * kLanes, load(in + k * t->depth_step));
  }
  for (; k < t->depth; ++k) {
    float* to = out + k * width * kLanes;
    store(to, Vector{});
    for (int64_t c = 0; c < columns; ++c) to[c] = in[c * t->column_step + k * t->depth_step];
  }
}

static void pack(const MatrixPanels* t) {
  const int64_t vectors = divided_up(t->columns, kLanes), panels = divided_up(vectors, kMostVectors);
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t first = begin_of(i, vectors, kMostVectors), width = begin_of(i + 1, vectors, kMostVectors) - first;
    for (int64_t v = 0; v < width; ++v) {
      const int64_t column = (first + v) * kLanes, left = t->columns - column;
      pack_vector(t, column, left < kLanes ? left : kLanes, t->panels + first * kLanes * t->depth + v * kLanes, width);
    }
  }
}

// ---- Products ----

template <int P, int V>
static void multiply_tile(const MatrixProduct* t, int64_t row, const float* panel, int64_t column) {
  const float* x[P];
  Vector sum[P][V];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    x[p] = t->left + (row + p) * t->row_step;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[p][v] = Vector{};
  }
  const int64_t step = t->depth_step;
  for (int64_t k = 0; k < t->depth; ++k, panel += V * kLanes) {
    Vector w[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) w[v] = load(panel + v * kLanes);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const Vector a = all(x[p][k * step]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[p][v] = multiply_add(a, w[v], sum[p][v]);
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const Vector factor = all(t->scales == nullptr ? t->scale : t->scales[row + p]);
    float* to = t->out + (row + p) * t->out_step + column;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const int64_t left = t->columns - column - v * kLanes;
      if (left >= kLanes) {
        store(to + v * kLanes, sum[p][v] * factor);
      } else {
        store_some(to + v * kLanes, sum[p][v] * factor, left);
      }
    }
  }
}

using TileFunction = void (*)(const MatrixProduct*, int64_t row, const float* panel, int64_t column);

template <int V>
static inline TileFunction tile_of(int64_t rows) {
  static constexpr TileFunction kTiles[8] = {
      multiply_tile<1, V>,
      multiply_tile<2, V>,
      multiply_tile<3, V>,
      multiply_tile<4, V>,
      multiply_tile < kMostRows < 5 ? 1 : 5,
      V >,
      multiply_tile < kMostRows < 6 ? 1 : 6,
      V >
      , multiply_tile < kMostRows < 7 ? 1 : 7, V >, multiply_tile < kMostRows < 8 ? 1 : 8, V > };
  return kTiles[rows - 1];
}

static void multiply(const MatrixProduct* t) {
  static_assert(kMostRows <= 8 && kMostVectors <= 3, "there are no other tiles");
  const int64_t vectors = divided_up(t->columns, kLanes), panels = divided_up(vectors, kMostVectors);
  const int64_t tiles = divided_up(t->rows, kMostRows);
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t first = begin_of(i, vectors, kMostVectors), width = begin_of(i + 1, vectors, kMostVectors) - first;
    if (first * kLanes >= t->wanted) return;
    const float* panel = t->panels + first * kLanes * t->panel_depth;
    for (int64_t j = 0; j < tiles; ++j) {
      const int64_t row = begin_of(j, t->rows, kMostRows), rows = begin_of(j + 1, t->rows, kMostRows) - row;
      const TileFunction tile = width == 1   ? tile_of<1>(rows)
                                : width == 2 ? tile_of<2>(rows)
                                             : tile_of<kMostVectors>(rows);
      tile(t, row, panel, first * kLanes);
    }
  }
}

// ---- Exponentials ----

// e^x for x <= 0, within two units in the last place; 0 where it is below 2^-126, NaN of NaN. Cody and Waite: x is
// n·log 2 + r with |r| <= log 2 / 2, whose multiple of n is exact in two steps; e^r by its series.
static inline Vector exponential(Vector x) {
  const Vector least = all(-87.33654f), round = all(12582912.0f);  // 1.5·2^23: what is added to it is rounded
  const Lanes is_nothing = x < least;
  const Vector bounded = larger(least, x);
  const Vector n = multiply_add(bounded, all(1.44269504f), round) - round;
  const Vector r = multiply_add(n, all(-1.42860677e-6f), multiply_add(n, all(-0.693145752f), bounded));
  Vector y = all(1.0f / 720);
  y = multiply_add(y, r, all(1.0f / 120));
  y = multiply_add(y, r, all(1.0f / 24));
  y = multiply_add(y, r, all(1.0f / 6));
  y = multiply_add(y, r, all(0.5f));
  y = multiply_add(y, r, all(1.0f));
  y = multiply_add(y, r, all(1.0f));
  const Lanes power = (__builtin_convertvector(n, Lanes) + 127) << 23;
  Vector two_to_n;
  __builtin_memcpy(&two_to_n, &power, sizeof(power));
  return is_nothing ? all(0.0f) : y * two_to_n;
}

// The first n elements, and `rest` in the others.
static inline Vector load_first(const float* from, int64_t n, float rest) {
  Lanes lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(n) ? load_some(from, n) : all(rest);
}

// Adds the bias, and returns the largest score; NaN does not count.
static inline float add_bias(const AttentionRow* t) {
  const float lowest = -__builtin_inff();
  Vector largest[2] = {all(lowest), all(lowest)};  // one would wait for itself
  int64_t i = 0;
  for (; i + 2 * kLanes <= t->columns; i += 2 * kLanes) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      Vector x = load(t->scores + i + j * kLanes);
      if (t->bias != nullptr) store(t->scores + i + j * kLanes, x = x + load(t->bias + i + j * kLanes));
      largest[j] = larger(x, largest[j]);
    }
  }
  for (; i < t->columns; i += kLanes) {
    const int64_t left = t->columns - i;
    const bool is_whole = left >= kLanes;
    Vector x = is_whole ? load(t->scores + i) : load_first(t->scores + i, left, lowest);
    if (t->bias != nullptr) {
      x = x + (is_whole ? load(t->bias + i) : load_first(t->bias + i, left, 0.0f));
      if (is_whole) store(t->scores + i, x);
      if (!is_whole) store_some(t->scores + i, x, left);
    }
    largest[0] = larger(x, largest[0]);
  }
  float most[kLanes];
  store(most, larger(largest[0], largest[1]));
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane)
      most[lane] = most[lane] > most[lane + half] ? most[lane] : most[lane + half];
  }
  return most[0];
}

static float exponentials(const AttentionRow* t) {
  const float most = add_bias(t);
  // Where nothing is above -infinity: 0, so that e^-infinity is what all scores become, but for NaN.
  const Vector shift = all(most == -__builtin_inff() ? 0.0f : most);
  Vector sum = Vector{};
  int64_t i = 0;
  for (; i + kLanes <= t->columns; i += kLanes) {
    const Vector y = exponential(load(t->scores + i) - shift);
    store(t->scores + i, y);
    sum = sum + y;
  }
  if (i < t->columns) {
    const int64_t left = t->columns - i;
    const Vector y = exponential(load_first(t->scores + i, left, -__builtin_inff()) - shift);
    store_some(t->scores + i, y, left);
    sum = sum + y;
  }
  float sums[kLanes];
  store(sums, sum);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}
