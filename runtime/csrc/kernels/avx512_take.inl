// Channels picked from pixels of floats (kernels.h, TakeRow), AVX-512. Included inside a namespace of the kernel file's
// own.

static void take_floats(const TakeRow* t) {
  for (int64_t g = 0; g < t->groups; ++g) {
    const TakeWindows* const w = t->windows + g;
    const __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w->index)));
    const auto first = static_cast<__mmask16>(w->first_channels), second = static_cast<__mmask16>(w->second_channels);
    const auto taken = static_cast<__mmask16>(w->taken);
    const uint8_t* in = t->in;
    uint8_t* out = t->out + g * 64;
    for (int64_t p = 0; p < t->pixels; ++p, in += t->in_step, out += t->out_step) {
      const __m512 low = _mm512_maskz_loadu_ps(first, in + int64_t{w->first} * 4);
      const __m512 high = _mm512_maskz_loadu_ps(second, in + int64_t{w->second} * 4);
      _mm512_mask_storeu_ps(out, taken, _mm512_permutex2var_ps(low, index, high));
    }
  }
}
