// The longest vector of floats that a kernel file's flags allow. Part of generic.inl and of functions.inl.

#if defined(__AVX512F__)
#define BITORCH_VECTOR_BYTES 64
#elif defined(__AVX__)
#define BITORCH_VECTOR_BYTES 32
#else
#define BITORCH_VECTOR_BYTES 16
#endif
typedef float Floats __attribute__((vector_size(BITORCH_VECTOR_BYTES)));
#undef BITORCH_VECTOR_BYTES
constexpr int64_t kFloatLanes = sizeof(Floats) / sizeof(float);

// The first `count` lanes at `from`; zero in the others, which is not read.
static inline Floats load_lanes(const float* from, int64_t count) {
  Floats x = {};
  __builtin_memcpy(&x, from, static_cast<unsigned long>(count) * sizeof(float));
  return x;
}
