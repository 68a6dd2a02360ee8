// From sums to floats.

void finish_forward(const FinishForward* f) {
  for (int32_t p = 0; p < f->pixels; ++p) {
    for (int32_t c = 0; c < f->channels; c += kVector) {
      __m256i sum = load(f->tile + p * kTileChannels + c);
      if (f->halves != nullptr) sum = twice_and(sum, _mm256_set1_epi32(f->halves[p]));
      if (f->border != nullptr) sum = _mm256_add_epi32(sum, load(f->border + c));
      __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_load_ps(f->scale + c));
      if (f->bias != nullptr) y = _mm256_add_ps(y, _mm256_load_ps(f->bias + c));
      store_floats(f->out + p * f->out_step + c, f->channels - c, y);
    }
  }
}

// All ones in lanes whose bit is set, from the lowest on.
__m256 lanes_of(int32_t bits) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits), bit), bit));
}

void finish_gradient(const FinishGradient* f) {
  for (int32_t p = 0; p < f->pixels; ++p) {
    const __m256 scale = _mm256_set1_ps(f->scale[p * f->scale_step]);
    for (int32_t c = 0; c < f->channels; c += kVector) {
      __m256i sum = load(f->tile + p * kTileChannels + c);
      if (f->halves != nullptr) sum = twice_and(sum, _mm256_set1_epi32(f->halves[p]));
      if (f->twice) sum = _mm256_add_epi32(sum, sum);
      sum = _mm256_add_epi32(sum, load(f->border[p] + c));
      __m256 dx = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale);
      if (f->mask != nullptr) {
        const int64_t bit = f->first_bit + p * f->bit_step + c;
        dx = _mm256_and_ps(dx, lanes_of(dword(f->mask + bit / 8) >> (bit % 8)));
      }
      store_floats(f->out + p * f->out_step + c, f->channels - c, dx);
    }
  }
}

// 8 vectors as a matrix, with rows and columns exchanged: pairs of rows, of pairs, and halves of vectors.
void exchange(__m256* v) {
  __m256 pairs[kVector];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pairs[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    pairs[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  __m256 fours[kVector];  // half k of fours[4 * i + j]: rows 4i .. 4i+3 of column 4k + j
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m256 a = pairs[4 * i], b = pairs[4 * i + 1], c = pairs[4 * i + 2], d = pairs[4 * i + 3];
    fours[4 * i] = _mm256_shuffle_ps(a, c, 0x44);
    fours[4 * i + 1] = _mm256_shuffle_ps(a, c, 0xee);
    fours[4 * i + 2] = _mm256_shuffle_ps(b, d, 0x44);
    fours[4 * i + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
    v[4 + j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
  }
}

void transpose(const Transpose* t) {
  const __m256 scale = _mm256_set1_ps(t->scale);
  for (int32_t c = 0; c < t->channels; c += kVector) {
    for (int64_t r = 0; r < t->rows; r += kVector) {
      __m256 v[kVector];
#pragma GCC unroll 8
      for (int i = 0; i < kVector; ++i) {
        v[i] = r + i < t->rows ? _mm256_mul_ps(_mm256_load_ps(t->in + (r + i) * t->in_step + c), scale)
                               : _mm256_setzero_ps();
      }
      exchange(v);
#pragma GCC unroll 8
      for (int i = 0; i < kVector; ++i) {
        if (c + i < t->channels) store_floats(t->out + (c + i) * t->out_step + r, t->rows - r, v[i]);
      }
    }
  }
}
