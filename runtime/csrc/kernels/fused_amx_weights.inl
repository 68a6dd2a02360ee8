// The weights of tiles: how they lie, and what writes them at load. Included in fused_amx.cpp.
//
// A tile of weights is 16 rows of 64 bytes, a dword of 4 inputs for each of 16 channels. Weights of up to 4 bits lie in
// fields of 1, 2 or 4 bits, as many rows in a vector as a byte has fields:
//
//   field 2     vector 0   | row 3 | row 2 | row 1 | row 0 |       bits 7 6, 5 4, 3 2, 1 0 of each byte
//               vector 1   | row 7 | row 6 | row 5 | row 4 |
//
// so that a row is one shift and one look-up of bytes, whose index may have anything above the field. They are widened
// a few tiles before they are used, each time: vectors have nothing else to do while tiles are multiplied.

// rows 0 .. 15 of 16 dwords: what was row i and dword j is row j and dword i.
static inline __attribute__((always_inline)) void transpose_dwords(__m512i (&row)[16]) {
  __m512i x[16];
  For<0, 8>::each([&](auto i) __attribute__((always_inline)) {
    x[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    x[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  });
  For<0, 4>::each([&](auto i) __attribute__((always_inline)) {
    row[4 * i] = _mm512_unpacklo_epi64(x[4 * i], x[4 * i + 2]);
    row[4 * i + 1] = _mm512_unpackhi_epi64(x[4 * i], x[4 * i + 2]);
    row[4 * i + 2] = _mm512_unpacklo_epi64(x[4 * i + 1], x[4 * i + 3]);
    row[4 * i + 3] = _mm512_unpackhi_epi64(x[4 * i + 1], x[4 * i + 3]);
  });
  // Now dword j of rows 4 i .. 4 i + 3 is in lane j / 4 of row 4 i + j % 4.
  For<0, 4>::each([&](auto j) __attribute__((always_inline)) {
    x[j] = _mm512_shuffle_i32x4(row[j], row[4 + j], 0x88);
    x[4 + j] = _mm512_shuffle_i32x4(row[j], row[4 + j], 0xdd);
    x[8 + j] = _mm512_shuffle_i32x4(row[8 + j], row[12 + j], 0x88);
    x[12 + j] = _mm512_shuffle_i32x4(row[8 + j], row[12 + j], 0xdd);
  });
  For<0, 4>::each([&](auto j) __attribute__((always_inline)) {
    row[j] = _mm512_shuffle_i32x4(x[j], x[8 + j], 0x88);
    row[8 + j] = _mm512_shuffle_i32x4(x[j], x[8 + j], 0xdd);
    row[4 + j] = _mm512_shuffle_i32x4(x[4 + j], x[12 + j], 0x88);
    row[12 + j] = _mm512_shuffle_i32x4(x[4 + j], x[12 + j], 0xdd);
  });
}

// What tiles take for m.
static inline __m512i weights_of(const FusedSpec* s, __m512i m) {
  if (fused_halved(s)) return _mm512_xor_si512(m, _mm512_set1_epi8(-128));
  for (int step = 1; step < s->code_step; step *= 2) m = _mm512_add_epi8(m, m);
  return _mm512_add_epi8(m, _mm512_set1_epi8(static_cast<char>(s->lowest_code)));
}

// One tile: m of up to 16 channels, `next` bytes from one to the next, and of up to 64 inputs.
template <int field>
static __attribute__((noinline)) void write_tile(const FusedSpec* s, const uint8_t* m, int64_t next, int channels,
                                                 int inputs, uint8_t* to) {
  const __mmask64 lanes = first_lanes(inputs);
  __m512i row[16];
  For<0, 16>::each([&](auto c) __attribute__((always_inline)) {
    row[c] = c < channels ? _mm512_maskz_loadu_epi8(lanes, m + c * next) : _mm512_setzero_si512();
    if (field == 8) row[c] = _mm512_maskz_mov_epi8(lanes, weights_of(s, row[c]));
  });
  transpose_dwords(row);
  constexpr int kFields = 8 / field;
  For<0, 2 * field>::each([&](auto v) __attribute__((always_inline)) {
    __m512i x = row[v * kFields];
    For<1, kFields>::each([&](auto j) __attribute__((always_inline)) {
      x = _mm512_or_si512(x, _mm512_slli_epi16(row[v * kFields + j], field * j));
    });
    _mm512_store_si512(to + 64 * v, x);
  });
}

template <int field>
static void write_tiles(const FusedSpec* s, const Plan& p, const uint8_t* m, uint8_t* to) {
  for (int c = 0; c < s->out_channels; c += kRows) {
    const int channels = s->out_channels - c < kRows ? s->out_channels - c : kRows;
    for (int i = 0; i < p.chunks; ++i, to += kTileBytes / 8 * field) {
      const int64_t first = chunk_k(s, p, i), left = p.k - first;
      const int inputs = left < kRowBytes ? static_cast<int>(left) : kRowBytes;
      write_tile<field>(s, m + c * p.k + first, p.k, channels, inputs, to);
    }
  }
}

static void write_weights(const FusedSpec* s, const Plan& p, const uint8_t* m, uint8_t* to) {
  switch (p.field) {
    case 1:
      return write_tiles<1>(s, p, m, to);
    case 2:
      return write_tiles<2>(s, p, m, to);
    case 4:
      return write_tiles<4>(s, p, m, to);
    default:
      return write_tiles<8>(s, p, m, to);
  }
}

static WeightForm weight_form(const FusedSpec* s, const Plan& p, const uint8_t* ones_as_far) {
  WeightForm form;
  alignas(64) int8_t of_m[64];
  for (int i = 0; i < 64; ++i) of_m[i] = static_cast<int8_t>(fused_weight(s, i & ((1 << p.field) - 1)));
  form.weights = _mm512_load_si512(of_m);
  for (int i = 0; i < kRows; ++i) {
    const __m512i ones = _mm512_load_si512(ones_as_far + i * kRowBytes);
    form.last[i] = _mm512_test_epi8_mask(ones, ones);
  }
  form.tile_bytes = kTileBytes / 8 * p.field;
  return form;
}
