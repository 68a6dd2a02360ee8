// Tiles of weights as they lie: in bytes, or in fields of 1, 2 or 4 bits, which are widened before they are multiplied.
// Included in the files of kernels for AMX, before fused_amx_products.inl; fused_amx_weights.inl says how fields lie.

// How weights lie, and how they are widened.
struct alignas(64) WeightForm {
  __m512i weights;     // of m, whatever stands above the field
  __mmask64 last[16];  // rows of the last tile of a column, as far as K goes: weights beyond are 0
  int64_t tile_bytes;

  inline bool packed() const { return tile_bytes != kTileBytes; }
};

template <int field, bool last>
static inline __attribute__((always_inline)) void widen_rows(const WeightForm& form, const uint8_t* from, int8_t* to) {
  constexpr int kFields = 8 / field;
  For<0, 2 * field>::each([&](auto v) __attribute__((always_inline)) {
    const __m512i x = _mm512_load_si512(from + 64 * v);
    For<0, kFields>::each([&](auto j) __attribute__((always_inline)) {
      constexpr int row = v * kFields + j;
      const __m512i index = j == 0 ? x : _mm512_srli_epi16(x, field * j);
      const __m512i weights = last ? _mm512_maskz_permutexvar_epi8(form.last[row], index, form.weights)
                                   : _mm512_permutexvar_epi8(index, form.weights);
      _mm512_store_si512(to + 64 * row, weights);
    });
  });
}

template <int field>
static inline __attribute__((always_inline)) void widen_fields(const WeightForm& form, const uint8_t* from, bool last,
                                                               int8_t* to) {
  last ? widen_rows<field, true>(form, from, to) : widen_rows<field, false>(form, from, to);
}

// last: of its column.
static __attribute__((noinline)) void widen_tile(const WeightForm& form, const uint8_t* from, bool last, int8_t* to) {
  if (form.tile_bytes == kTileBytes / 8) return widen_fields<1>(form, from, last, to);
  if (form.tile_bytes == kTileBytes / 4) return widen_fields<2>(form, from, last, to);
  widen_fields<4>(form, from, last, to);
}
