#include "core/format/sha256.h"

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace bitorch {

namespace {

constexpr uint32_t kRounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

uint32_t rotated(uint32_t x, int n) { return x >> n | x << (32 - n); }

uint32_t big_endian(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 | static_cast<uint32_t>(p[2]) << 8 |
         p[3];
}

// One round; the caller turns the names of the eight words instead of moving them.
inline void step(uint32_t a, uint32_t b, uint32_t c, uint32_t* d, uint32_t e, uint32_t f, uint32_t g, uint32_t* h,
                 uint32_t word) {
  const uint32_t first = *h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + (g ^ (e & (f ^ g))) + word;
  *d += first;
  *h = first + (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) | (c & (a | b)));
}

// Word i of the schedule from the 16 before it, in a ring.
inline uint32_t next_word(uint32_t* w, int i) {
  const uint32_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];
  w[i & 15] +=
      (rotated(x, 7) ^ rotated(x, 18) ^ x >> 3) + w[(i + 9) & 15] + (rotated(y, 17) ^ rotated(y, 19) ^ y >> 10);
  return w[i & 15];
}

}  // namespace

void sha256_portable(uint32_t* state, const uint8_t* data, size_t blocks) {
  for (; blocks > 0; --blocks, data += 64) {
    uint32_t w[16];
    for (int i = 0; i < 16; ++i) w[i] = big_endian(data + 4 * i);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6],
             h = state[7];
    const auto eight = [&](int i, auto word) {
      step(a, b, c, &d, e, f, g, &h, kRounds[i + 0] + word(i + 0));
      step(h, a, b, &c, d, e, f, &g, kRounds[i + 1] + word(i + 1));
      step(g, h, a, &b, c, d, e, &f, kRounds[i + 2] + word(i + 2));
      step(f, g, h, &a, b, c, d, &e, kRounds[i + 3] + word(i + 3));
      step(e, f, g, &h, a, b, c, &d, kRounds[i + 4] + word(i + 4));
      step(d, e, f, &g, h, a, b, &c, kRounds[i + 5] + word(i + 5));
      step(c, d, e, &f, g, h, a, &b, kRounds[i + 6] + word(i + 6));
      step(b, c, d, &e, f, g, h, &a, kRounds[i + 7] + word(i + 7));
    };
    for (int i = 0; i < 16; i += 8) eight(i, [&](int k) { return w[k]; });
    for (int i = 16; i < 64; i += 16) {
      eight(i, [&](int k) { return next_word(w, k); });
      eight(i + 8, [&](int k) { return next_word(w, k); });
    }
    const uint32_t words[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) state[i] += words[i];
  }
}

#if defined(__x86_64__)

namespace {

// The state in the two registers that the instructions want, highest words first: a b e f and c d g h. Four rounds at a
// time.
__attribute__((target("sha,sse4.1"))) void blocks_x86(uint32_t* state, const uint8_t* data, size_t blocks) {
  const auto vector = [](uint32_t x, uint32_t y, uint32_t z, uint32_t w) __attribute__((target("sha,sse4.1"))) {
    return _mm_set_epi32(static_cast<int>(x), static_cast<int>(y), static_cast<int>(z), static_cast<int>(w));
  };
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  __m128i abef = vector(state[0], state[1], state[4], state[5]);
  __m128i cdgh = vector(state[2], state[3], state[6], state[7]);
  for (; blocks > 0; --blocks, data += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];
    for (int i = 0; i < 16; ++i) {
      __m128i& words = w[i % 4];
      if (i < 4) {
        words = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data) + i), big_endian);
      } else {
        const __m128i last = w[(i + 3) % 4];
        const __m128i seven_before = _mm_alignr_epi8(last, w[(i + 2) % 4], 4);
        words = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(words, w[(i + 1) % 4]), seven_before), last);
      }
      const __m128i sum = _mm_add_epi32(words, _mm_loadu_si128(reinterpret_cast<const __m128i*>(kRounds) + i));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  uint32_t words[8];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words), abef);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words + 4), cdgh);
  const int place[8] = {3, 2, 7, 6, 1, 0, 5, 4};  // of a .. h
  for (int i = 0; i < 8; ++i) state[i] = words[place[i]];
}

}  // namespace

Sha256Blocks sha256_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_SSE4_1) == 0 || (c & bit_SSSE3) == 0) return nullptr;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b & bit_SHA) == 0) return nullptr;
  return blocks_x86;
}

#else

Sha256Blocks sha256_instructions() { return nullptr; }

#endif

Sha256Blocks sha256_fastest() {
  static const Sha256Blocks blocks = sha256_instructions() != nullptr ? sha256_instructions() : sha256_portable;
  return blocks;
}

void Sha256::update(const void* data, size_t size) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  const size_t held = bytes_ % 64;
  bytes_ += size;
  if (held > 0) {
    const size_t taken = std::min(size, 64 - held);
    std::copy(bytes, bytes + taken, block_ + held);
    bytes += taken;
    size -= taken;
    if (held + taken < 64) return;
    blocks_(state_, block_, 1);
  }
  blocks_(state_, bytes, size / 64);
  std::copy(bytes + size / 64 * 64, bytes + size, block_);
}

Sha256::Digest Sha256::finish() {
  const uint64_t bits = bytes_ * 8;
  uint8_t end[128] = {0x80};  // 0x80, zeros up to 56 modulo 64, the number of bits
  const size_t zeros = (bytes_ % 64 < 56 ? 56 : 120) - bytes_ % 64;
  for (size_t i = 0; i < 8; ++i) end[zeros + i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
  update(end, zeros + 8);
  Digest digest;
  for (size_t i = 0; i < 32; ++i) digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - i % 4 * 8));
  return digest;
}

std::string hex_text(const Sha256::Digest& digest) {
  static const char* const kHex = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : digest) {
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

}  // namespace bitorch
