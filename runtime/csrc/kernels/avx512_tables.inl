// kTables with VBMI: products of codes by looking up sums.
//
// For one input pixel and six of its channels, with codes q0 .. q5, the 64 sums of every subset of them fill one
// register: a table. Six bits of one weight plane say which codes are added, so one vpermb looks up 64 output channels
// at once, 384 products of a bit with a whole code, however many bits that code has. A pixel's tables serve every
// kernel tap that reads the pixel and every output channel.
//
//   table of a pixel's six codes (64 bytes, one register)       indices of a step: a byte for each output channel
//   entry   0   1   2      3   4   ...  63                      lane    c0        c1        ...  c63
//           0   q0  q1  q0+q1  q2  ...  q0+q1+...+q5            index   000101b   110000b   ...
//   vpermb: lane c gets table[index[c]], the sum of the codes that weight bit plane adds for channel c: q0 + q2, q4 +
//   q5
//
// What binds, on Zen 4, where shuffles and whole loads take a cycle each and additions half of one: a look-up and its
// addition 1.00 cycles. A step of 4 pixels x 2 parts is 8 look-ups and loads 2 vectors of indices and 4 tables, each
// for two parts: 8 cycles. 8 pixels x 1 part load 1 + 8: 9 cycles, bound by loads, so that layers of more than 64
// channels take the former. 384 products of a bit by a code a cycle make 1.33 * W cycles per 512 products, and none for
// A but what moves sums out of bytes.
//
// Staged: [pixel][ceil(channels / 6)][64] bytes for each row; entry e of a table is the sum of the codes k with bit k
// set in e, at most 6 * 15 = 90: activations of up to 4 bits. Weights: [part of 64 channels][plane][step][64] index
// bytes.
//
// Accumulators: look-ups add up in bytes, as many as fit (255 / (6 * n_a), at least 2), which are then added to two
// vectors of uint16: `whole` sums the byte pairs as they lie, low + 256 * high modulo 2^16, and `high` the upper bytes,
// so that the lower ones are whole - 256 * high. Both are right while a sum is at most 65535; steps are taken in chunks
// of no more than 65535 / (6 * n_a * n_w), after which the sums move to int32.

constexpr int kTableChannels = 6;
constexpr int kTableBytes = 64;
constexpr int kTableLanes = 64;

// ---- Staging ----

// Codes of one run of pixels in bytes. Tables of surplus channels hold whatever lies behind; their index bits are zero.
constexpr int kStageCodes = 4096;
constexpr int kFourTables = 4 * kTableChannels;  // 8 triples of channels, whose subset sums fill one register

// The 8 subset sums of each of 8 triples of codes: byte 8 * k + e is the sum of the codes 3 * k + i with bit i set in
// e.
static inline __m512i triple_sums(__m512i codes) {
  const __m512i triple =
      _mm512_set_epi64(0x1515151515151515, 0x1212121212121212, 0x0f0f0f0f0f0f0f0f, 0x0c0c0c0c0c0c0c0c,
                       0x0909090909090909, 0x0606060606060606, 0x0303030303030303, 0);
  const __m512i second = _mm512_add_epi8(triple, _mm512_set1_epi8(1)),
                third = _mm512_add_epi8(triple, _mm512_set1_epi8(2));
  const __m512i a = _mm512_maskz_permutexvar_epi8(0xaaaaaaaaaaaaaaaaull, triple, codes);
  const __m512i b = _mm512_maskz_permutexvar_epi8(0xccccccccccccccccull, second, codes);
  const __m512i c = _mm512_maskz_permutexvar_epi8(0xf0f0f0f0f0f0f0f0ull, third, codes);
  return _mm512_add_epi8(_mm512_add_epi8(a, b), c);
}

// Entry e of a table: the lower triple's sum e % 8 plus the upper triple's sum e / 8.
static inline void stage_pixel(const uint8_t* codes, int channels, uint8_t* out) {
  const __m512i upper = _mm512_set_epi64(0x0707070707070707, 0x0606060606060606, 0x0505050505050505, 0x0404040404040404,
                                         0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  for (int c = 0; c < channels; c += kFourTables) {
    const __m512i sums = triple_sums(_mm512_loadu_si512(codes + c));
    for (int k = 0; k < 4 && c + k * kTableChannels < channels; ++k, out += kTableBytes) {
      const __m512i low = _mm512_permutexvar_epi64(_mm512_set1_epi64(2 * k), sums);
      const __m512i high =
          _mm512_permutexvar_epi8(_mm512_add_epi8(upper, _mm512_set1_epi8(static_cast<char>(16 * k + 8))), sums);
      _mm512_store_si512(out, _mm512_add_epi8(low, high));
    }
  }
}

static void stage_tables(const TableStage* t) {
  uint8_t codes[kStageCodes + 64];
  const int whole = kStageCodes / kFourTables * kFourTables;
  const int width = t->channels < whole ? t->channels : whole;
  const int run = kStageCodes / width;  // pixels that are unpacked before the first of them is read again
  for (int first = 0; first < t->channels; first += width) {
    const int channels = t->channels - first < width ? t->channels - first : width;
    uint8_t* out = t->out + first / kTableChannels * kTableBytes;
    for (int x = 0; x < t->pixels; x += run) {
      const int count = t->pixels - x < run ? t->pixels - x : run;
      const bool side_by_side = width == t->channels && t->pixel_bytes * 8 == width;
      if (t->planes && side_by_side)
        planes_to_bytes(codes, t->row + x * t->pixel_bytes, t->plane_bytes, static_cast<int64_t>(count) * width,
                        t->bits);
      for (int k = 0; k < count && t->planes && !side_by_side; ++k) {
        planes_to_bytes(codes + k * width, t->row + (x + k) * t->pixel_bytes + first / 8, t->plane_bytes, channels,
                        t->bits);
      }
      for (int k = 0; k < count; ++k) {
        const uint8_t* from = t->planes ? codes + k * width : t->row + (x + k) * t->pixel_bytes + first;
        stage_pixel(from, channels, out + (x + k) * t->out_pixel_bytes);
      }
    }
  }
}

// ---- Looking up ----

// Four look-ups before their four additions: alternating the two is a quarter slower on Zen 4, and compilers alternate.
#define BITORCH_TOGETHER(t) __asm__("" : "+v"((t)[0]), "+v"((t)[1]), "+v"((t)[2]), "+v"((t)[3]))

// Lane i of the interleaved vectors: even lanes from one vector, odd ones from another (index + 32).
alignas(64) static const uint16_t kInterleaveLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                        8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
alignas(64) static const uint16_t kInterleaveHigh[32] = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21,
                                                         53, 22, 54, 23, 55, 24, 56, 25, 57, 26, 58,
                                                         27, 59, 28, 60, 29, 61, 30, 62, 31, 63};

// P pixels x V parts of 64 channels, P * V a multiple of 4.
template <int P, int V>
struct TableSums {
  __m512i whole[P * V], high[P * V];  // uint16

  inline void clear() {
#pragma GCC unroll 8
    for (int i = 0; i < P * V; ++i) whole[i] = high[i] = _mm512_setzero_si512();
  }
  inline void twice() {
#pragma GCC unroll 8
    for (int i = 0; i < P * V; ++i) {
      whole[i] = _mm512_add_epi16(whole[i], whole[i]);
      high[i] = _mm512_add_epi16(high[i], high[i]);
    }
  }

  // `count` steps whose sums fit in bytes.
  inline void add(const uint8_t* const* pixel, const int32_t* step, int count, const uint8_t* const* w) {
    __m512i sum[P * V];
    look_up<true>(pixel, step[0], w, 0, sum);
    for (int s = 1; s < count; ++s) look_up<false>(pixel, step[s], w, s * kTableLanes, sum);
    flush(sum);
  }

  inline void flush(const __m512i* sum) {
#pragma GCC unroll 8
    for (int i = 0; i < P * V; ++i) {
      whole[i] = _mm512_add_epi16(whole[i], sum[i]);
      high[i] = _mm512_add_epi16(high[i], _mm512_srli_epi16(sum[i], 8));
    }
  }

  template <bool first>
  static inline void look_up(const uint8_t* const* pixel, int64_t at, const uint8_t* const* w, int64_t offset,
                             __m512i* sum) {
    __m512i index[V];
    for (int v = 0; v < V; ++v) index[v] = _mm512_load_si512(w[v] + offset);
#pragma GCC unroll 8
    for (int i = 0; i < P * V; i += 4) {
      __m512i found[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        found[k] = _mm512_permutexvar_epi8(index[(i + k) % V], _mm512_load_si512(pixel[(i + k) / V] + at));
      }
      BITORCH_TOGETHER(found);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sum[i + k] = first ? found[k] : _mm512_add_epi8(sum[i + k], found[k]);
    }
  }

  // tile[v][p][64 channels as two blocks] += sums
  inline void store(int32_t* tile, int64_t part_stride, int64_t block_stride, int pixels, int channels,
                    bool first) const {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      if (p >= pixels) break;
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const __m512i odd = high[p * V + v];
        const __m512i even = _mm512_sub_epi16(whole[p * V + v], _mm512_slli_epi16(odd, 8));
        // Bytes 2i and 2i + 1 are channels 2i and 2i + 1: interleave 16-bit lanes back into order.
        const __m512i order_low = _mm512_load_si512(kInterleaveLow), order_high = _mm512_load_si512(kInterleaveHigh);
        const __m512i halves[2] = {_mm512_permutex2var_epi16(even, order_low, odd),
                                   _mm512_permutex2var_epi16(even, order_high, odd)};
        for (int h = 0; h < 2; ++h) {
          if (v * kTableLanes + h * kBlock >= channels) break;
          int32_t* to = tile + v * part_stride + h * block_stride + p * kBlock;
          __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(halves[h]));
          __m512i up = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(halves[h], 1));
          if (!first) {
            low = _mm512_add_epi32(low, load_tile(to));
            up = _mm512_add_epi32(up, load_tile(to + kLanes));
          }
          _mm512_store_si512(to, low);
          _mm512_store_si512(to + kLanes, up);
        }
      }
    }
  }
};

// Pixels begin .. begin + P - 1 of the tile, or fewer: the last one is repeated then, and not stored again.
template <int P, int V>
static void table_tile(const DotTile* t, int begin, int32_t* tile) {
  const int valid = t->pixels - begin < P ? t->pixels - begin : P;
  const int n_a = (1 << t->activation_bits) - 1, n_w = (1 << t->weight_bits) - 1;
  const int in_bytes = 255 / (kTableChannels * n_a);
  const int chunk = 65535 / (kTableChannels * n_a * n_w) / in_bytes * in_bytes;
  const int64_t plane = static_cast<int64_t>(t->steps) * kTableLanes;
  const uint8_t* pixel[P];
  for (int p = 0; p < P; ++p) pixel[p] = t->pixel[begin + (p < valid ? p : valid - 1)];
  TableSums<P, V> sums;
  for (int first = 0; first < t->steps; first += chunk) {
    const int last = t->steps - first < chunk ? t->steps : first + chunk;
    sums.clear();
    for (int j = t->weight_bits - 1; j >= 0; --j) {
      const uint8_t* w[V];
      for (int v = 0; v < V; ++v) {
        w[v] = static_cast<const uint8_t*>(t->weights) + (v * t->weight_bits + j) * plane +
               static_cast<int64_t>(first) * kTableLanes;
      }
      if (j != t->weight_bits - 1) sums.twice();
      for (int s = first; s < last; s += in_bytes) {
        const int count = last - s < in_bytes ? last - s : in_bytes;
        sums.add(pixel, t->step + s, count, w);
        for (int v = 0; v < V; ++v) w[v] += count * kTableLanes;
      }
    }
    const int64_t block_stride = static_cast<int64_t>(t->pixels) * kBlock;
    sums.store(tile + begin * kBlock, 2 * block_stride, block_stride, valid, t->channels, first == 0);
  }
}

static void dot_tables(const DotTile* t, void* out) {
  int32_t* tile = static_cast<int32_t*>(out);
  const bool wide = t->channels > kTableLanes;
  for (int begin = 0; begin < t->pixels;) {
    if (wide) {
      table_tile<4, 2>(t, begin, tile);
      begin += 4;
    } else if (t->pixels - begin > 4) {
      table_tile<8, 1>(t, begin, tile);
      begin += 8;
    } else {
      table_tile<4, 1>(t, begin, tile);
      begin += 4;
    }
  }
}

static constexpr void set_tables(KernelTable* t) {
  t->stage_tables = stage_tables;
  t->table_channels = kTableChannels;
  t->table_bytes = kTableBytes;
  t->table_lanes = kTableLanes;
  t->table_block = 2 * kTableLanes;
}
