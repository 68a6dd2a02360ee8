// Tiles of up to 6 pixels (or taps, or outputs) x 16 channels: 12 sums, two vectors of weights, a broadcast dword of
// codes and a product are all 16 registers.
//
//   16ch        v0  v1      weights, one load each, s8
//   pixel 0     +   +       a dword of codes, broadcast, u8
//   ...
//   pixel 5     +   +
//
// As for AVX-512, tile functions are not inlined, loops are do-while, and flags in CMakeLists.txt keep GCC 12 from
// moving what would put sums on the stack.

constexpr int kStrip = 2 * kVector;

// sum += x in the register of the sum: GCC 12 collects the products of a whole tile first, and puts sums on the stack.
void add_words(__m256i& sum, __m256i x) {
#ifdef BITORCH_NO_ASM
  sum = _mm256_add_epi16(sum, x);
#else
  __asm__("vpaddw %1, %0, %0" : "+x"(sum) : "x"(x));
#endif
}
void add_dwords(__m256i& sum, __m256i x) {
#ifdef BITORCH_NO_ASM
  sum = _mm256_add_epi32(sum, x);
#else
  __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(x));
#endif
}

// Sums of two words each. The words of 1 stay in memory: all registers are in use.
alignas(32) constexpr int16_t kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
__m256i add_pairs(__m256i words) {
#ifdef BITORCH_NO_ASM
  return _mm256_madd_epi16(words, load(kOnes));
#else
  __asm__("vpmaddwd %1, %0, %0" : "+x"(words) : "m"(kOnes));
  return words;
#endif
}

enum class Method { kWords, kDwords, kWide };

// What a tile multiplies: pixel p's codes of a row are a run of dwords from in + offset[p] on, and its weights are a
// run of steps.
struct Walk {
  const uint8_t* in;
  int64_t in_row;
  const int64_t* offset;
  const int8_t* weights;
  int64_t weight_row;
  int32_t rows, steps;
  int32_t fit;  // steps whose products fit into words
};

// Whether words cannot hold all steps.
bool words_fill(const Walk& k) { return k.rows * k.steps > k.fit; }

template <int P, int V>
using Sums = __m256i[P][V];

// visit(p, v) for all sums, unrolled.
template <int P, int V, class F>
__attribute__((always_inline)) inline void for_sums(const F& visit) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) visit(p, v);
  }
}

template <Method method, int P, int V>
__attribute__((always_inline)) inline void add_step(const uint8_t* in, const int64_t* offset, const int8_t* weights,
                                                    Sums<P, V>& sum) {
  __m256i w[V], odd[V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    w[v] = load(weights + 32 * v);
    if (method != Method::kWide) continue;
    odd[v] = _mm256_srai_epi16(w[v], 8);
    w[v] = _mm256_srai_epi16(_mm256_slli_epi16(w[v], 8), 8);
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const __m256i codes = _mm256_set1_epi32(dword(in + offset[p]));
    const __m256i even_codes = _mm256_and_si256(codes, _mm256_set1_epi16(255));
    const __m256i odd_codes = _mm256_srli_epi16(codes, 8);
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      if (method == Method::kWords) add_words(sum[p][v], _mm256_maddubs_epi16(codes, w[v]));
      if (method == Method::kDwords) add_dwords(sum[p][v], add_pairs(_mm256_maddubs_epi16(codes, w[v])));
      if (method != Method::kWide) continue;
      add_dwords(sum[p][v], _mm256_madd_epi16(even_codes, w[v]));
      add_dwords(sum[p][v], _mm256_madd_epi16(odd_codes, odd[v]));
    }
  }
}

// `rows` rows of `steps` steps.
template <Method method, int P, int V>
__attribute__((always_inline)) inline void add_rows(const Walk& k, const uint8_t* in_row, const int8_t* weight_row,
                                                    int32_t rows, int32_t row_steps, const int64_t* offset,
                                                    Sums<P, V>& sum) {
  do {
    const uint8_t* in = in_row;
    const int8_t* weights = weight_row;
    int32_t steps = row_steps;
    do {
      add_step<method, P, V>(in, offset, weights, sum);
      in += 4;
      weights += kStepBytes;
    } while (--steps != 0);
    in_row += k.in_row;
    weight_row += k.weight_row;
  } while (--rows != 0);
}

// For more steps than fit into words: as many whole rows as fit, or parts of each, are added in words and then to
// `tile`, [P][pitch] on a 32-byte boundary, which is 0 before and after.
template <int P, int V, int pitch>
__attribute__((always_inline)) inline void add_parts(const Walk& k, const int64_t* offset, int32_t* tile,
                                                     Sums<P, V>& sum) {
  const int32_t rows_fit = k.fit / k.steps;
  int32_t row = 0, done = 0;
  do {
    const int32_t left = k.rows - row, steps = k.steps - done < k.fit ? k.steps - done : k.fit;
    const int32_t rows = rows_fit == 0 ? 1 : rows_fit < left ? rows_fit : left;
    add_rows<Method::kWords, P, V>(k, k.in + row * k.in_row + 4 * done,
                                   k.weights + row * k.weight_row + kStepBytes * done, rows, steps, offset, sum);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        int32_t* const at = tile + p * pitch + kVector * v;
        store(at, _mm256_add_epi32(load(at), add_pairs(sum[p][v])));
        sum[p][v] = _mm256_setzero_si256();
      }
    }
    done += steps;
    if (done == k.steps) {
      done = 0;
      row += rows;
    }
  } while (row < k.rows);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      int32_t* const at = tile + p * pitch + kVector * v;
      sum[p][v] = load(at);
      store(at, _mm256_setzero_si256());
    }
  }
}

// The sums of a tile in 32 bits; tile: as add_parts() has it where words_fill().
template <Method method, int P, int V, int pitch>
__attribute__((always_inline)) inline void multiply(const Walk& k, int32_t* tile, Sums<P, V>& sum) {
  int64_t offset[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    offset[p] = k.offset[p];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[p][v] = _mm256_setzero_si256();
  }
  if (k.rows == 0) return;
  if (method == Method::kWords && words_fill(k)) {
    add_parts<P, V, pitch>(k, offset, tile, sum);
    return;
  }
  add_rows<method, P, V>(k, k.in, k.weights, k.rows, k.steps, offset, sum);
  if (method != Method::kWords) return;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[p][v] = add_pairs(sum[p][v]);
  }
}

// How products up to `largest` are added, and how many steps of two fit into a word.
struct Choice {
  Method method;
  int32_t fit;
};

Choice choose(int32_t largest, int64_t steps) {
  constexpr int kMost = 32767, kFewSteps = 4;
  const int32_t fit = kMost / (2 * largest);
  if (fit >= kFewSteps || fit >= steps) return {Method::kWords, fit};
  return {fit > 0 ? Method::kDwords : Method::kWide, fit};
}

template <Method method, int P, int V>
__attribute__((noinline)) void dots_tile(const TrainingDots* t, int32_t first, int32_t fit) {
  int64_t offset[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) offset[p] = p * t->in_step;
  const Walk walk{t->in, t->in_row, offset, t->weights + 4 * first, t->weight_row, t->rows, t->steps, fit};
  int32_t* const tile = t->tile + first;
  if (method == Method::kWords && words_fill(walk)) {
    for_sums<P, V>([&](int p, int v) { store(tile + p * kTileChannels + kVector * v, _mm256_setzero_si256()); });
  }
  Sums<P, V> sum;
  multiply<method, P, V, kTileChannels>(walk, tile, sum);
  for_sums<P, V>([&](int p, int v) { store(tile + p * kTileChannels + kVector * v, sum[p][v]); });
}

// What was loaded before is loaded again. GCC 12 would keep numbers of the job in vector registers where it has no
// others left, and put vectors on the stack.
void forget_loads() { __asm__ volatile("" ::: "memory"); }

// Of channels from `first` on.
template <Method method, int P, int V>
__attribute__((noinline)) void weight_tile(const WeightDots* w, int32_t first, int32_t fit) {
  alignas(32) int32_t tile[P * kStrip] = {};
  int64_t sample = 0;
  do {
    const Walk walk{w->q + sample * w->q_step,       w->row_step, w->offset, w->g + sample * w->g_step + 4 * first,
                    int64_t{w->groups} * kStepBytes, w->rows,     w->groups, fit};
    Sums<P, V> sum;
    multiply<method, P, V, kStrip>(walk, tile, sum);
    if (w->halves != nullptr) {
      const int32_t* halves = w->halves + sample * w->halves_step;
      for_sums<P, V>([&](int p, int v) { sum[p][v] = twice_and(sum[p][v], _mm256_set1_epi32(halves[p])); });
    }
    if (w->border != nullptr) {
      const int32_t* border = w->border + sample * w->border_step + first;
      for_sums<P, V>([&](int p, int v) { sum[p][v] = _mm256_add_epi32(sum[p][v], load(border + kVector * v)); });
    }
    const __m256 scale = _mm256_set1_ps(w->scale[sample]);
    float* const sums = w->sums + first;
    for_sums<P, V>([&](int p, int v) {
      float* const at = sums + p * kTileChannels + kVector * v;
      _mm256_store_ps(at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[p][v]), scale, _mm256_load_ps(at)));
    });
    forget_loads();
  } while (++sample != w->samples);
}

template <int P, int V>
__attribute__((noinline)) void outer_tile(const OuterProduct* o, int32_t first) {
  __m256 sum[P][V];
  for_sums<P, V>([&](int p, int v) { sum[p][v] = _mm256_setzero_ps(); });
  const float *q = o->q + first, *g = o->g;
  int64_t samples = o->samples;
  if (samples > 0) do {
      __m256 of[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) of[v] = _mm256_load_ps(q + kVector * v);
      q += kTileChannels;
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256 value = _mm256_set1_ps(g[p]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[p][v] = _mm256_fmadd_ps(value, of[v], sum[p][v]);
      }
      g += o->g_step;
    } while (--samples != 0);
  const __m256 scale = _mm256_set1_ps(o->scale);
  for_sums<P, V>([&](int p, int v) {
    const int32_t c = first + kVector * v;
    store_floats(o->out + p * o->out_step + c, o->channels - c, _mm256_mul_ps(scale, sum[p][v]));
  });
}

// Wide products take three more registers: 4 pixels at most.
constexpr int kWidePixels = 4;

template <class Job>
using Tile = void (*)(const Job*, int32_t first, int32_t fit);

template <Method method>
constexpr Tile<TrainingDots> kDots[kTilePixels][2] = {
    {dots_tile<method, 1, 1>, dots_tile<method, 1, 2>}, {dots_tile<method, 2, 1>, dots_tile<method, 2, 2>},
    {dots_tile<method, 3, 1>, dots_tile<method, 3, 2>}, {dots_tile<method, 4, 1>, dots_tile<method, 4, 2>},
    {dots_tile<method, 5, 1>, dots_tile<method, 5, 2>}, {dots_tile<method, 6, 1>, dots_tile<method, 6, 2>}};
constexpr Tile<TrainingDots> kWideDots[kWidePixels][2] = {
    {dots_tile<Method::kWide, 1, 1>, dots_tile<Method::kWide, 1, 2>},
    {dots_tile<Method::kWide, 2, 1>, dots_tile<Method::kWide, 2, 2>},
    {dots_tile<Method::kWide, 3, 1>, dots_tile<Method::kWide, 3, 2>},
    {dots_tile<Method::kWide, 4, 1>, dots_tile<Method::kWide, 4, 2>}};
template <Method method>
constexpr Tile<WeightDots> kWeights[kTilePixels][2] = {
    {weight_tile<method, 1, 1>, weight_tile<method, 1, 2>}, {weight_tile<method, 2, 1>, weight_tile<method, 2, 2>},
    {weight_tile<method, 3, 1>, weight_tile<method, 3, 2>}, {weight_tile<method, 4, 1>, weight_tile<method, 4, 2>},
    {weight_tile<method, 5, 1>, weight_tile<method, 5, 2>}, {weight_tile<method, 6, 1>, weight_tile<method, 6, 2>}};
constexpr Tile<WeightDots> kWideWeights[kWidePixels][2] = {
    {weight_tile<Method::kWide, 1, 1>, weight_tile<Method::kWide, 1, 2>},
    {weight_tile<Method::kWide, 2, 1>, weight_tile<Method::kWide, 2, 2>},
    {weight_tile<Method::kWide, 3, 1>, weight_tile<Method::kWide, 3, 2>},
    {weight_tile<Method::kWide, 4, 1>, weight_tile<Method::kWide, 4, 2>}};
constexpr void (*kOuter[kTilePixels][2])(const OuterProduct*, int32_t) = {
    {outer_tile<1, 1>, outer_tile<1, 2>}, {outer_tile<2, 1>, outer_tile<2, 2>}, {outer_tile<3, 1>, outer_tile<3, 2>},
    {outer_tile<4, 1>, outer_tile<4, 2>}, {outer_tile<5, 1>, outer_tile<5, 2>}, {outer_tile<6, 1>, outer_tile<6, 2>}};

// run(first, v) for strips of 16 channels, of which v + 1 vectors are there.
template <class F>
void for_strips(int32_t channels, const F& run) {
  for (int32_t first = 0; first < channels; first += kStrip) run(first, channels - first > kVector ? 1 : 0);
}

void wide_dots(const TrainingDots& t, int32_t pixels) {
  for_strips(t.channels, [&](int32_t first, int v) { kWideDots[pixels - 1][v](&t, first, 0); });
}

void dots(const TrainingDots* t) {
  const Choice choice = choose(t->largest, int64_t{t->rows} * t->steps);
  if (choice.method != Method::kWide) {
    const auto& tiles = choice.method == Method::kWords ? kDots<Method::kWords> : kDots<Method::kDwords>;
    for_strips(t->channels, [&](int32_t first, int v) { tiles[t->pixels - 1][v](t, first, choice.fit); });
    return;
  }
  const int32_t pixels = t->pixels > kWidePixels ? (t->pixels + 1) / 2 : t->pixels;
  wide_dots(*t, pixels);
  if (pixels == t->pixels) return;
  TrainingDots others = *t;
  others.in += pixels * t->in_step;
  others.tile += pixels * kTileChannels;
  wide_dots(others, t->pixels - pixels);
}

void wide_weight_dots(const WeightDots& w, int32_t taps) {
  for_strips(w.channels, [&](int32_t first, int v) { kWideWeights[taps - 1][v](&w, first, 0); });
}

void weight_dots(const WeightDots* w) {
  const Choice choice = choose(w->largest, int64_t{w->rows} * w->groups);
  if (choice.method != Method::kWide) {
    const auto& tiles = choice.method == Method::kWords ? kWeights<Method::kWords> : kWeights<Method::kDwords>;
    for_strips(w->channels, [&](int32_t first, int v) { tiles[w->taps - 1][v](w, first, choice.fit); });
    return;
  }
  const int32_t taps = w->taps > kWidePixels ? (w->taps + 1) / 2 : w->taps;
  wide_weight_dots(*w, taps);
  if (taps == w->taps) return;
  WeightDots others = *w;
  others.offset += taps;
  others.sums += taps * kTileChannels;
  if (w->halves != nullptr) others.halves += taps;
  wide_weight_dots(others, w->taps - taps);
}

void outer(const OuterProduct* o) {
  for_strips(o->channels, [&](int32_t first, int v) { kOuter[o->rows - 1][v](o, first); });
}
