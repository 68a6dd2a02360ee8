// Products of bytes, 4 to a lane, written such that GCC 12 neither copies nor reloads registers. Included inside a
// namespace of the kernel file's own.

// sum += the products of four codes and weights in each lane. GCC 12 copies a register for the intrinsic; an
// instruction of its own does not.
static inline __attribute__((always_inline)) void add_products(__m512i& sum, __m512i codes, __m512i weights) {
#ifdef BITORCH_NO_ASM
  sum = _mm512_dpbusd_epi32(sum, codes, weights);
#else
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(weights));
#endif
}

// A vector that is used several times stays in its register: GCC 12 would rather load it again for each use.
static inline __attribute__((always_inline)) void pin(__m512i& x) {
#ifdef BITORCH_NO_ASM
  static_cast<void>(x);
#else
  __asm__("" : "+v"(x));
#endif
}
