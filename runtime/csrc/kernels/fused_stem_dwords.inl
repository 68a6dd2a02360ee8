// First layers by dwords of their kernel rows. Included after fused_stem.inl.

// [64 channels][kernel row][dword][4 x 16 channels]
static inline int64_t stem_weights_of(const FusedSpec* s, int vector, int ky, int k) {
  const int64_t step = int64_t{vector / 4} * stem_steps(s) + ky * stem_dwords(s) + k;
  return (step * 4 + vector % 4) * 64;
}

// ---- Products ----

struct StemTile {
  const int8_t* weights;  // of the group's first vector
  int64_t row_bytes;      // from one kernel row to the next
  int64_t pixel_bytes;    // from one output to the next
  int32_t rows, dwords;
};

// acc[p][16 v ..] of P outputs side by side, 64 channels apart.
template <int P, int V>
static __attribute__((noinline)) void multiply_stem(const StemTile* t, const uint8_t* x, int32_t* acc) {
  __m512i sum[P * V];
  For<0, P * V>::each([&](auto i) __attribute__((always_inline)) { sum[i] = _mm512_setzero_si512(); });
  const int8_t* w = t->weights;
  const int64_t next = t->pixel_bytes;
  for (int ky = t->rows; ky > 0; --ky, x += t->row_bytes) {
    const uint8_t* at = x;
    for (int k = t->dwords; k > 0; --k, at += 4, w += 4 * kFusedChannels) {
      __m512i weights[V];
      For<0, V>::each([&](auto v) __attribute__((always_inline)) {
        weights[v] = _mm512_load_si512(w + 64 * v);
        pin(weights[v]);
      });
      const uint8_t* pixel = at;
      For<0, P>::each([&](auto p) __attribute__((always_inline)) {
        int32_t dword;
        __builtin_memcpy(&dword, pixel, 4);
        pixel += next;
        const __m512i codes = _mm512_set1_epi32(dword);
        For<0, V>::each([&](auto v)
                            __attribute__((always_inline)) { add_products(sum[p * V + v], codes, weights[v]); });
      });
    }
  }
  For<0, P>::each([&](auto p) __attribute__((always_inline)) {
    For<0, V>::each([&](auto v) __attribute__((always_inline)) {
      _mm512_store_si512(acc + p * kFusedChannels + 16 * v, sum[p * V + v]);
    });
  });
}

template <int P, int Q, int V>
static void multiply_stem_row(const StemTile* t, const uint8_t* x, int pixels, int32_t* acc) {
  for (; pixels >= P; pixels -= P, x += P * t->pixel_bytes, acc += P * kFusedChannels) multiply_stem<P, V>(t, x, acc);
  for (; pixels >= Q; pixels -= Q, x += Q * t->pixel_bytes, acc += Q * kFusedChannels) multiply_stem<Q, V>(t, x, acc);
  for (; pixels > 0; --pixels, x += t->pixel_bytes, acc += kFusedChannels) multiply_stem<1, V>(t, x, acc);
}

static void multiply_stem_of(const StemTile* t, int vectors, const uint8_t* x, int pixels, int32_t* acc) {
  switch (vectors) {
    case 1:
      return multiply_stem_row<16, 4, 1>(t, x, pixels, acc);
    case 2:
      return multiply_stem_row<12, 4, 2>(t, x, pixels, acc);
    case 3:
      return multiply_stem_row<8, 3, 3>(t, x, pixels, acc);
    default:
      multiply_stem_row<6, 2, 4>(t, x, pixels, acc);
  }
}

// ---- Running ----

// Whole tiles of every shape, and no more than a list holds.
constexpr int kChunkPixels = 60;
static_assert(kChunkPixels <= kListPixels && kChunkPixels % 12 == 0, "chunks are rounded up to 12");

// The sums of a chunk, or of a pool; a list of pixels, the window sums of a row, and two rows of numbers.
static inline int64_t stem_sums_bytes(const FusedSpec* s) {
  return fused_pools(s) ? pool_scratch_bytes(s, kChunkPixels) : kListPixels * kFusedChannels * 4;
}

static int64_t scratch_bytes(const FusedSpec* s) {
  return stem_sums_bytes(s) + rounded(sizeof(FusedList)) + rounded(int64_t{s->width} * 4) + stem_room_bytes(s);
}

struct StemRun {
  const FusedSpec* s;
  const FusedBand* b;
  FusedLineRule line;
  int32_t *sums, *window_sums;
  FusedList* list;
  uint16_t* room;
  int32_t y, channel;

  StemRun(const FusedSpec* spec, const FusedBand* band) : s(spec), b(band), line(prepared_line(spec, band->prepared)) {
    uint8_t* at = band->scratch;
    const auto take = [&](int64_t bytes) {
      at += bytes;
      return at - bytes;
    };
    sums = reinterpret_cast<int32_t*>(take(stem_sums_bytes(s)));
    list = reinterpret_cast<FusedList*>(take(rounded(sizeof(FusedList))));
    window_sums = reinterpret_cast<int32_t*>(take(rounded(int64_t{s->width} * 4)));
    room = reinterpret_cast<uint16_t*>(take(stem_room_bytes(s)));
    if (fused_halved(s)) clear_stem_room(s, room);
  }

  // Row `row` of the outputs, from the band's input on, and the channels from c on are next.
  void begin(int row, int c) {
    y = row;
    channel = c;
    if (fused_halved(s)) stem_window_sums(s, input(), b->row_bytes, room, window_sums);
  }
  const uint8_t* input() const { return b->input + int64_t{y} * s->stride_h * b->row_bytes; }
  const int32_t* windows() const { return window_sums; }
  int window_step() const { return 1; }
  // Sums of columns x .. x + count - 1.
  void multiply(int x, int count, int32_t* to) const {
    StemTile t = {nullptr, s->dilation_h * b->row_bytes, s->stride_w * b->pixel_bytes, s->kernel_h, stem_dwords(s)};
    t.weights = static_cast<const int8_t*>(b->prepared) + stem_weights_at(s) + int64_t{channel} * stem_steps(s) * 4;
    const int left = b->first_channel + b->channels - channel;
    const int vectors = left >= kFusedChannels ? kFusedChannels / 16 : (left + 15) / 16;
    multiply_stem_of(&t, vectors, input() + x * t.pixel_bytes, count, to);
  }
  void run_row();
};

void StemRun::run_row() {
  const int chunks = (s->width + kChunkPixels - 1) / kChunkPixels;
  const int step = ((s->width + chunks - 1) / chunks + 11) / 12 * 12;
  for (int x = 0; x < s->width; x += step) {
    const int count = s->width - x < step ? s->width - x : step;
    list->count = 0;
    list_pixels(s, b, y, x, count, 0, list);
    for (channel = b->first_channel; channel < b->first_channel + b->channels; channel += kFusedChannels) {
      multiply(x, count, sums);
      finish_first(s, b, &line, list, sums, fused_halved(s) ? window_sums + x : nullptr, 1, channel);
    }
  }
}

static void run(const FusedSpec* s, const FusedBand* b) {
  StemRun r(s, b);
  if (fused_pools(s)) {
    const PoolRun pool(s, b, &r.line, r.list, kChunkPixels, b->scratch);
    return run_pooled(pool, &r);
  }
  for (int y = 0; y < b->rows; ++y) {
    r.begin(y, b->first_channel);
    r.run_row();
  }
}

// ---- Cost ----

// Nanoseconds of a vpdpbusd on 64 bytes; of 16 channels of a pixel that become codes of D, codes of y and nothing else,
// or floats; of a window's sum; of 16 channels of a pixel that is pooled; of what a pixel takes besides. Zen 5
// measured: 7 x 7, 64 channels at 112 x 112 as floats 328 us, 3 x 3, 32 channels as codes 52. Emerald Rapids fitted.
struct StemCost {
  double product, codes, unit, floats, window, pooled, pixel;
};
static inline StemCost stem_cost_of(Machine machine) {
  switch (machine) {
    case Machine::kZen5:
      return {0.133, 0.35, 0.7, 0.62, 0.7, 0.4, 0};
    case Machine::kZen4:
      return {0.22, 0.5, 1, 0.88, 1.0, 0.6, 0};
    default:
      return {0.216, 1.22, 1.82, 3.09, 2.2, 0.9, 1.25};
  }
}

// Of 16 channels of a pixel.
static double stem_finish(const FusedEpilogue* e, const StemCost& ns) {
  const bool alone = e->wants_codes && !e->codes_from_int && !e->wants_float && e->rule == kFusedLine;
  return alone ? ns.unit : (e->wants_codes ? ns.codes : 0) + (e->has_float ? ns.floats : 0);
}

static double cost(const FusedSpec* s, Machine machine) {
  if (!stem_suits(s)) return -1;
  const StemCost ns = stem_cost_of(machine);
  const double vectors = (s->out_channels + 15) / 16, finish = vectors * stem_finish(&s->epilogue, ns);
  const double pixel = vectors * stem_steps(s) * ns.product + (fused_halved(s) ? ns.window : 0) + ns.pixel;
  const double pixels = double{1} * s->height * s->width;
  if (!fused_pools(s)) return pixels * (pixel + finish);
  return pixels * (pixel + vectors * ns.pooled) + double{1} * s->pool.height * s->pool.width * finish;
}

constexpr FusedKernel kKernel = {"stem avx512", cost, prepared_bytes, prepare, scratch_bytes, run, false, true};
