// What fused_stem_amx.cpp says, included there.

constexpr int kMostStemChannels = 4, kMostLines = 8;

// ---- What is prepared ----

// How codes are made; a tile whose column i has ones where line i of a window has weights; the weights, [groups of 64
// channels][tiles of 16][lines][16][16][4].

struct Plan {
  int32_t slots, slot_bytes;      // of a line: 4 x 16 or 8 x 8
  int32_t columns;                // of a window that a line serves
  int32_t lines, step;            // of a window, and from one of them to the next
  int32_t padded, tiles, groups;  // channels, tiles of 16 of them, groups of 64
  int32_t pixels, kept;           // of a row, lines that are kept: whole tiles
  int64_t ones_at, weights_at, bytes;
};

// Lines of `slots` rows, if a window can be made of them.
static bool plan_lines(const FusedSpec* s, int slots, Plan* p) {
  p->slots = slots;
  p->slot_bytes = kRowBytes / slots;
  if (s->kernel_h > slots) return false;
  const int whole = p->slot_bytes / s->in_channels;  // columns of a slot
  p->columns = whole >= s->kernel_w ? s->kernel_w : whole / s->stride_w * s->stride_w;
  if (p->columns == 0) return false;
  p->step = p->columns >= s->kernel_w ? 0 : p->columns / s->stride_w;
  p->lines = (s->kernel_w + p->columns - 1) / p->columns;
  return p->lines <= kMostLines;
}

static inline int whole_tiles(int pixels) { return (pixels + kRows - 1) / kRows * kRows; }

static bool plan_of(const FusedSpec* s, Plan* p) {
  Plan few = {}, many = {};
  const bool fits_few = plan_lines(s, 4, &few), fits_many = plan_lines(s, 8, &many);
  if (!fits_few && !fits_many) return false;
  *p = fits_few && (!fits_many || few.lines <= many.lines) ? few : many;
  p->padded = fused_padded(s);
  p->groups = p->padded / kGroup;
  p->tiles = (s->out_channels + kRows - 1) / kRows;
  p->pixels = whole_tiles(s->width);
  p->kept = whole_tiles(p->pixels + (p->lines - 1) * p->step);
  p->ones_at = prepared_line_bytes(s);
  p->weights_at = p->ones_at + kTileBytes;
  p->bytes = p->weights_at + int64_t{p->groups} * kGroupTiles * p->lines * kTileBytes;
  return true;
}

static Plan plan_of(const FusedSpec* s) {
  Plan p = {};
  plan_of(s, &p);
  return p;
}

static int64_t prepared_bytes(const FusedSpec* s) { return plan_of(s).bytes; }

static void prepare_channel(const FusedSpec* s, const Plan& p, int c, const uint8_t* m, uint8_t* base) {
  uint8_t* const ones = base + p.ones_at;
  uint8_t* const weights = base + p.weights_at + int64_t{c / kRows} * p.lines * kTileBytes + c % kRows * 4;
  for (int ky = 0; ky < s->kernel_h; ++ky) {
    for (int kx = 0; kx < s->kernel_w; ++kx) {
      for (int channel = 0; channel < s->in_channels; ++channel) {
        const int line = kx / p.columns, byte = ky * p.slot_bytes + kx % p.columns * s->in_channels + channel;
        const int in_tile = byte / 4 * kRowBytes + byte % 4;
        weights[line * kTileBytes + in_tile] = static_cast<uint8_t>(fused_weight(s, *m++));
        ones[in_tile + line * 4] = 1;
      }
    }
  }
}

static bool prepare(const FusedSpec* s, const uint8_t* m, void* prepared) {
  const Plan p = plan_of(s);
  if (!prepare_line(s, prepared)) return false;
  uint8_t* const base = static_cast<uint8_t*>(prepared);
  const int64_t inputs = int64_t{s->kernel_h} * s->kernel_w * s->in_channels;
  for (int c = 0; c < s->out_channels; ++c) prepare_channel(s, p, c, m + c * inputs, base);
  return true;
}

// ---- Running ----

constexpr int kPoolPixels = 2 * kRows;  // at a time, so that their sums stay in the first-level cache

static inline int64_t rounded(int64_t bytes) { return (bytes + 63) & -64; }
static inline int64_t sums_bytes(const FusedSpec* s) {
  return fused_pools(s) ? pool_scratch_bytes(s, kPoolPixels) : int64_t{kListPixels} * kSumRow * 4;
}

static int64_t scratch_bytes(const FusedSpec* s) {
  const Plan p = plan_of(s);
  return int64_t{p.kept} * kRowBytes * 2 + sums_bytes(s) + int64_t{p.pixels} * 4 + rounded(sizeof(FusedList));
}

struct Run {
  const FusedSpec* s;
  const FusedBand* b;
  Plan p;
  FusedLineRule line;
  uint8_t* kept;
  int32_t *sums, *window_sums, *parts;
  FusedList* list;
  int32_t line_at[kMostLines];
  int32_t y, channel;

  Run(const FusedSpec* spec, const FusedBand* band) : s(spec), b(band), p(plan_of(spec)), y(-1), channel(-1) {
    line = prepared_line(s, band->prepared);
    uint8_t* at = band->scratch;
    const auto take = [&](int64_t bytes) {
      at += bytes;
      return at - bytes;
    };
    sums = reinterpret_cast<int32_t*>(take(sums_bytes(s)));
    kept = take(int64_t{p.kept} * kRowBytes);
    parts = reinterpret_cast<int32_t*>(take(int64_t{p.kept} * kRowBytes));
    window_sums = reinterpret_cast<int32_t*>(take(int64_t{p.pixels} * 4));
    list = reinterpret_cast<FusedList*>(take(rounded(sizeof(FusedList))));
    for (int i = 0; i < p.lines; ++i) line_at[i] = i * p.step * kRowBytes;
  }

  template <int bytes>
  void move_lines(int moved) const;
  void sum_windows() const;
  void begin(int row, int c);
  const int32_t* windows() const { return window_sums; }
  int window_step() const { return 1; }
  void multiply(int x, int count, int32_t* to) const;
  void run_row();
};

// The last `moved` rows of output row y's windows come into the lines, behind what was there. What lies behind the last
// window meets weights of 0.
template <int bytes>
void Run::move_lines(int moved) const {
  constexpr int kWords = bytes / 8;
  const __m512i order = _mm512_and_si512(
      _mm512_add_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(int64_t{moved} * kWords)),
      _mm512_set1_epi64(7));
  const int next = s->stride_w * s->in_channels, count = s->width + (p.lines - 1) * p.step;
  const int first = s->kernel_h - moved;
  const uint8_t* from = b->input + (int64_t{y} * s->stride_h + first) * b->row_bytes;
  uint8_t* to = kept;
  for (int i = 0; i < count; ++i, from += next, to += kRowBytes) {
    __m512i all = _mm512_permutexvar_epi64(order, _mm512_load_si512(to));
    const uint8_t* at = from;
    for (int row = first; row < s->kernel_h; ++row, at += b->row_bytes) {
      if (bytes == 8) {
        int64_t word;
        __builtin_memcpy(&word, at, 8);
        all = _mm512_mask_set1_epi64(all, static_cast<__mmask8>(1 << row), word);
      } else {
        const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
        all = _mm512_mask_broadcast_i64x2(all, static_cast<__mmask8>(3 << 2 * row), words);
      }
    }
    _mm512_store_si512(to, all);
  }
}

// The sum of the codes in each window. A product gives, of 16 lines, the sums that each of them has as line 0, 1, .. of
// a window.
void Run::sum_windows() const {
  const uint8_t* const ones = static_cast<const uint8_t*>(b->prepared) + p.ones_at;
  tile_load<6>(ones, kRowBytes);
  int x = 0;
  // Several at a time: a store waits for its product.
  const auto sum = [&](auto tiles) __attribute__((always_inline)) {
    For<0, tiles.value>::each([&](auto t) __attribute__((always_inline)) {
      tile_zero<t>();
      tile_load<4 + t % 2>(kept + int64_t{x + t * kRows} * kRowBytes, kRowBytes);
      tile_product<t, 4 + t % 2, 6>();
    });
    For<0, tiles.value>::each(
        [&](auto t) __attribute__((always_inline)) { tile_store<t>(parts + (x + t * kRows) * kRows, kRowBytes); });
    x += tiles.value * kRows;
  };
  while (x + 4 * kRows <= p.kept) sum(Index<4>());
  while (x < p.kept) sum(Index<1>());
  for (x = 0; x < s->width; ++x) {
    const int32_t* part = parts + x * kRows;
    int32_t sum = 0;
    for (int i = 0; i < p.lines; ++i, part += p.step * kRows + 1) sum += *part;
    window_sums[x] = sum;
  }
}

// Row `row` of the outputs, from the band's input on, and the channels from c on are next.
void Run::begin(int row, int c) {
  const bool follows = row == y + 1 && c == channel && s->stride_h < s->kernel_h;
  y = row;
  channel = c;
  const int moved = follows ? s->stride_h : s->kernel_h;
  p.slot_bytes == 8 ? move_lines<8>(moved) : move_lines<16>(moved);
  if (fused_halved(s)) sum_windows();
}

// Sums of columns x .. x + count - 1; of whole tiles, in fact.
void Run::multiply(int x, int count, int32_t* to) const {
  const int tiles = whole_tiles(count) / kRows;
  const int left = (b->first_channel + b->channels - channel + kRows - 1) / kRows;
  WeightForm form = {};
  form.tile_bytes = kTileBytes;
  const uint8_t* const weights = static_cast<const uint8_t*>(b->prepared) + p.weights_at;
  const ColumnTiles columns = {weights + int64_t{channel / kRows} * p.lines * kTileBytes, &form, nullptr};
  CodeTiles codes;
  codes.stride = kRowBytes;
  for (int i = 0; i < tiles; ++i) codes.at[i] = kept + int64_t{x + i * kRows} * kRowBytes;
  multiply_group(&codes, tiles, line_at, p.lines, columns, left < kGroupTiles ? left : kGroupTiles, kRows, to);
}

void Run::run_row() {
  const int first = channel;
  for (int x = 0; x < s->width; x += kListPixels) {
    const int count = s->width - x < kListPixels ? s->width - x : kListPixels;
    list->count = 0;
    list_pixels(s, b, y, x, count, 0, list);
    for (channel = first; channel < b->first_channel + b->channels; channel += kGroup) {
      multiply(x, count, sums);
      finish_first(s, b, &line, list, sums, fused_halved(s) ? window_sums + x : nullptr, 1, channel);
    }
  }
  channel = first;
}

static void run(const FusedSpec* s, const FusedBand* b) {
  Run r(s, b);
  configure(kRows);
  for (int y = 0; y < b->rows && !fused_pools(s); ++y) {
    r.begin(y, b->first_channel);
    r.run_row();
  }
  if (fused_pools(s)) run_pooled(PoolRun(s, b, &r.line, r.list, kPoolPixels, b->scratch), &r);
  release();
}

// ---- Cost ----

// Nanoseconds of a product of tiles; of a tile of sums to memory; of a line that is kept, and of its sums; of 16
// channels of a pixel that become codes of D, codes of y and nothing else, or floats, which are written to memory
// unless they are pooled; of 16 channels of a pixel that is pooled; of a call. Fitted on Emerald Rapids.
constexpr double kProduct = 9.9, kSums = 11.2, kLine = 2.6, kLineSums = 3.1, kCodes = 0.76, kUnit = 1.25;
constexpr double kFloats = 2.6, kPooledFloats = 1.5, kPooled = 1.4, kCall = 130;

static double cost(const FusedSpec* s, Machine) {
  if (!fused_fits_bytes(s) || !pool_suits(s) || s->groups != 1 || s->input_planes) return -1;
  if (s->in_channels > kMostStemChannels || s->dilation_h != 1 || s->dilation_w != 1) return -1;
  Plan p = {};
  if (!plan_of(s, &p)) return -1;
  const FusedEpilogue* const e = &s->epilogue;
  const double tiles = double{1} * p.tiles * p.pixels / kRows;
  const double row = tiles * (p.lines * kProduct + kSums) + p.kept * (kLine + (fused_halved(s) ? kLineSums : 0));
  const double all = kCall + s->height * row, pixels = double{1} * s->height * s->width;
  const bool alone = e->wants_codes && !e->codes_from_int && !e->wants_float && e->rule == kFusedLine;
  const double floats = !e->has_float ? 0 : fused_pools(s) ? kPooledFloats : kFloats;
  const double finish = p.tiles * (alone ? kUnit : (e->wants_codes ? kCodes : 0) + floats);
  if (!fused_pools(s)) return all + pixels * finish;
  return all + pixels * p.tiles * kPooled + double{1} * s->pool.height * s->pool.width * finish;
}

constexpr FusedKernel kKernel = {"stem amx-int8", cost, prepared_bytes, prepare, scratch_bytes, run, false, true};
