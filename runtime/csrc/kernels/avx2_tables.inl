// kTables with AVX2: products of codes by looking up sums. Text of avx2.cpp.
//
// stage_tables turns each 4 channels of a pixel into the 16 sums of their codes' subsets: byte e is the sum of
// the codes k whose bit k is set in e. A vpshufb looks up 32 output channels' indices, four weight bits each, in one
// table.
//
//   table of a pixel's four codes (16 bytes, in both halves)    indices of a step: a byte for each output channel
//   entry  0  1   2   3      4   ...  15                        lane   c0     c1     ...  c31
//          0  q0  q1  q0+q1  q2  ...  q0+q1+q2+q3               index  0101b  1100b  ...
//
// A look-up and its addition are 128 products of a bit by a code, 0.61 cycles on Zen 4 in blocks of four, 210 products
// a cycle at most; loads of tables and moves to 16 bits leave 175 at one bit. Index bits are weights alone, so the cost
// grows with W and hardly with A.

constexpr int kTableChannels = 4;
constexpr int kTableBytes = 16;
constexpr int kTableBlock = 64;

// sums += 2^plane * the 32 channels' 16-bit sums, given in pairs: whole = even + 256 * odd modulo 2^16.
static inline void add_pairs(int32_t* sums, __m256i whole, __m256i odd, int plane) {
  const __m256i even = _mm256_sub_epi16(whole, _mm256_slli_epi16(odd, 8));
  const __m256i low = _mm256_unpacklo_epi16(even, odd);   // channels 0 .. 7 and 16 .. 23
  const __m256i high = _mm256_unpackhi_epi16(even, odd);  // channels 8 .. 15 and 24 .. 31
  add_to(sums, _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(low)), plane));
  add_to(sums + 8, _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(high)), plane));
  add_to(sums + 16, _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(low, 1)), plane));
  add_to(sums + 24, _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(high, 1)), plane));
}

// One weight plane and the steps begin .. end - 1, whose sums fit 16 bits.
struct LookUp {
  const int32_t* step;
  const uint8_t* weights;  // [step][32] of that plane
  int64_t part_weights;    // from one part of 32 channels to the next
  int part_sums;           // the same, in the tile
  int begin, end;
  int byte_steps;  // steps whose sums fit 8 bits
  int plane;
};

template <int pixels, int parts>
static inline void add_all_pairs(const LookUp* l, const __m256i (&whole)[pixels][parts],
                                 const __m256i (&odd)[pixels][parts], int32_t* sums) {
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) add_pairs(sums + b * l->part_sums + p * kBlock, whole[p][b], odd[p][b], l->plane);
  }
}

// Full bytes go to 16 bits, in pairs and the odd ones alone.
template <int pixels, int parts>
static inline void move_bytes(const __m256i (&sum)[pixels][parts], __m256i (&whole)[pixels][parts],
                              __m256i (&odd)[pixels][parts]) {
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) {
      whole[p][b] = _mm256_add_epi16(whole[p][b], sum[p][b]);
      odd[p][b] = _mm256_add_epi16(odd[p][b], _mm256_srli_epi16(sum[p][b], 8));
    }
  }
}

// One load of a table serves `parts` parts of 32 channels. The look-ups go in blocks of four before their additions,
// which AMD cores run faster than alternating ones. 8 pixels x 1 part or 4 x 2: 8 sums, 4 products, 1 or 2 vectors of
// indices and a table fit 16 registers; `whole` and `odd` lie in memory and are touched when bytes are full.
template <int pixels, int parts>
static inline void look_up(const LookUp* l, const uint8_t* const* pixel, int32_t* sums) {
  constexpr int kAtOnce = pixels * parts > 4 ? 4 / parts : pixels;
  const int64_t part_weights = l->part_weights;
  const int32_t* step_offset = l->step;
  const uint8_t* w = l->weights + static_cast<int64_t>(l->begin) * kBlock;
  __m256i whole[pixels][parts], odd[pixels][parts];
  const uint8_t* x[pixels];
#pragma GCC unroll 8
  for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 2
    for (int b = 0; b < parts; ++b) whole[p][b] = odd[p][b] = _mm256_setzero_si256();
    x[p] = pixel[p];
  }
  for (int s = l->begin; s < l->end;) {
    const int stop = s + smaller(l->byte_steps, l->end - s);
    __m256i sum[pixels][parts];
#pragma GCC unroll 8
    for (int p = 0; p < pixels; ++p) {
#pragma GCC unroll 2
      for (int b = 0; b < parts; ++b) sum[p][b] = pin(_mm256_setzero_si256());
    }
    for (; s < stop; ++s, w += kBlock) {
      const int64_t step = step_offset[s];
      __m256i index[parts];
#pragma GCC unroll 2
      for (int b = 0; b < parts; ++b) index[b] = pin(load(w + b * part_weights));
#pragma GCC unroll 8
      for (int first = 0; first < pixels; first += kAtOnce) {
        __m256i found[kAtOnce][parts];
#pragma GCC unroll 8
        for (int p = 0; p < kAtOnce; ++p) {
          const __m256i table =
              _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x[first + p] + step)));
#pragma GCC unroll 2
          for (int b = 0; b < parts; ++b) found[p][b] = pin(_mm256_shuffle_epi8(table, index[b]));
        }
#pragma GCC unroll 8
        for (int p = 0; p < kAtOnce; ++p) {
#pragma GCC unroll 2
          for (int b = 0; b < parts; ++b) sum[first + p][b] = _mm256_add_epi8(sum[first + p][b], found[p][b]);
        }
      }
    }
    move_bytes<pixels, parts>(sum, whole, odd);
  }
  add_all_pairs<pixels, parts>(l, whole, odd, sums);
}

// All weight planes and steps of one part of 32 channels, or of two.
template <int parts>
static inline void look_up_parts(const DotTile* t, const uint8_t* weights, int32_t* sums) {
  const int most = kTableChannels * ((1 << t->activation_bits) - 1);
  const int word_steps = 65535 / most;
  const int64_t plane_weights = static_cast<int64_t>(t->steps) * kBlock;
  for (int begin = 0; begin < t->steps; begin += word_steps) {
    const int end = begin + smaller(word_steps, t->steps - begin);
    for (int j = 0; j < t->weight_bits; ++j) {
      const LookUp l = {t->step,
                        weights + j * plane_weights,
                        t->weight_bits * plane_weights,
                        t->pixels * kBlock,
                        begin,
                        end,
                        255 / most,
                        j};
      int p = 0;
      for (; parts == 1 && p + 8 <= t->pixels; p += 8) look_up<8, parts>(&l, t->pixel + p, sums + p * kBlock);
      for (; p + 4 <= t->pixels; p += 4) look_up<4, parts>(&l, t->pixel + p, sums + p * kBlock);
      for (; p + 2 <= t->pixels; p += 2) look_up<2, parts>(&l, t->pixel + p, sums + p * kBlock);
      if (p < t->pixels) look_up<1, parts>(&l, t->pixel + p, sums + p * kBlock);
    }
  }
}

static void dot_tables(const DotTile* t, void* out) {
  int32_t* tile = static_cast<int32_t*>(out);
  const uint8_t* weights = static_cast<const uint8_t*>(t->weights);
  if (t->channels > kBlock) {
    clear_tile(tile, 2 * t->pixels);
    look_up_parts<2>(t, weights, tile);
  } else {
    clear_tile(tile, t->pixels);
    look_up_parts<1>(t, weights, tile);
  }
}

// 32 codes from bit planes, channel k in byte k.
static inline __m256i codes_of_planes(const uint8_t* planes, int64_t plane_bytes, int bits) {
  const __m256i spread =
      _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201u));
  __m256i codes = _mm256_setzero_si256();
  for (int i = bits - 1; i >= 0; --i) {
    const __m256i bytes = _mm256_shuffle_epi8(broadcast_u32(planes + i * plane_bytes), spread);
    const __m256i ones = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);  // -1 where the bit is set
    codes = _mm256_sub_epi8(_mm256_add_epi8(codes, codes), ones);
  }
  return codes;
}

// The last, incomplete 32 codes of a pixel; zero from `channels` on.
static inline __m256i last_codes_of_planes(const uint8_t* planes, int64_t plane_bytes, int bits, int64_t channels) {
  uint8_t words[8][4] = {};
  for (int i = 0; i < bits; ++i) {
    for (int64_t k = 0; k < (channels + 7) / 8; ++k) words[i][k] = planes[i * plane_bytes + k];
  }
  return codes_of_planes(words[0], 4, bits);
}

static inline __m256i last_codes(const uint8_t* bytes, int64_t channels) {
  uint8_t block[32] = {};
  for (int64_t k = 0; k < channels; ++k) block[k] = bytes[k];
  return load(block);
}

// Four tables from 16 codes, which both lanes hold. First {0, a, b, a + b} of each pair of codes, the pairs of tables 0
// and 2 in the low lane, of 1 and 3 in the high lane; then the 16 sums of two such quadruples.
static inline void four_tables(__m256i codes, __m256i* tables) {
  const __m256i first = _mm256_setr_epi8(-1, 0, -1, 0, -1, 2, -1, 2, -1, 8, -1, 8, -1, 10, -1, 10, -1, 4, -1, 4, -1, 6,
                                         -1, 6, -1, 12, -1, 12, -1, 14, -1, 14);
  const __m256i second = _mm256_setr_epi8(-1, -1, 1, 1, -1, -1, 3, 3, -1, -1, 9, 9, -1, -1, 11, 11, -1, -1, 5, 5, -1,
                                          -1, 7, 7, -1, -1, 13, 13, -1, -1, 15, 15);
  const __m256i low = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3));
  const __m256i high = _mm256_broadcastsi128_si256(_mm_setr_epi8(4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7));
  const __m256i eight = _mm256_set1_epi8(8);
  const __m256i pairs = _mm256_add_epi8(_mm256_shuffle_epi8(codes, first), _mm256_shuffle_epi8(codes, second));
  tables[0] = _mm256_add_epi8(_mm256_shuffle_epi8(pairs, low), _mm256_shuffle_epi8(pairs, high));
  tables[1] = _mm256_add_epi8(_mm256_shuffle_epi8(pairs, _mm256_add_epi8(low, eight)),
                              _mm256_shuffle_epi8(pairs, _mm256_add_epi8(high, eight)));
}

// The tables of 32 codes, of which `count` are stored.
static inline void put_tables(__m256i codes, int count, uint8_t* out) {
  __m256i tables[4];  // 0 and 1, 2 and 3, ...
  four_tables(_mm256_permute2x128_si256(codes, codes, 0x00), tables);
  four_tables(_mm256_permute2x128_si256(codes, codes, 0x11), tables + 2);
  for (int k = 0; k < 4 && 2 * k < count; ++k, out += 2 * kTableBytes) {
    if (2 * k + 1 < count) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), tables[k]);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(tables[k]));
    }
  }
}

static void stage_tables(const TableStage* t) {
  for (int x = 0; x < t->pixels; ++x) {
    const uint8_t* in = t->row + x * t->pixel_bytes;
    uint8_t* out = t->out + x * t->out_pixel_bytes;
    int c = 0;
    for (; c + 32 <= t->channels; c += 32, out += 8 * kTableBytes) {
      put_tables(t->planes ? codes_of_planes(in + c / 8, t->plane_bytes, t->bits) : load(in + c), 8, out);
    }
    const int rest = t->channels - c;
    if (rest == 0) continue;
    const __m256i codes =
        t->planes ? last_codes_of_planes(in + c / 8, t->plane_bytes, t->bits, rest) : last_codes(in + c, rest);
    put_tables(codes, (rest + kTableChannels - 1) / kTableChannels, out);
  }
}

static constexpr void set_tables(KernelTable* t) {
  t->stage_tables = stage_tables;
  t->table_channels = kTableChannels;
  t->table_bytes = kTableBytes;
  t->table_lanes = kBlock;
  t->table_block = kTableBlock;
}
