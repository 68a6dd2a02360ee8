// Normalisations and reductions of float32: core/norm_kernels.h says what. The same source for every instruction set,
// with vectors as long as it has them; compiled without errno for square roots. Included inside a namespace of the
// kernel file's own.

#if defined(__AVX512F__)
#define BITORCH_VECTOR_BYTES 64
#elif defined(__AVX__)
#define BITORCH_VECTOR_BYTES 32
#else
#define BITORCH_VECTOR_BYTES 16
#endif
typedef float Floats __attribute__((vector_size(BITORCH_VECTOR_BYTES)));
typedef float FloatHalf __attribute__((vector_size(BITORCH_VECTOR_BYTES / 2)));
typedef double Doubles __attribute__((vector_size(BITORCH_VECTOR_BYTES)));
#undef BITORCH_VECTOR_BYTES

template <typename Vector, typename Number>
static inline Vector load(const Number* from) {
  Vector x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}

template <typename Vector, typename Number>
static inline void store(Number* to, Vector x) {
  __builtin_memcpy(to, &x, sizeof(x));
}

#include "norm_sums.inl"

#include "norm_extremes.inl"

#include "norm_pixels.inl"

static constexpr NormKernels norm_kernels() {
  NormKernels k = {};
  k.sum = sum_of_floats;
  k.sum_of_doubles = sum_of_doubles;
  k.squares = squares_of_floats;
  k.extreme = extreme;
  k.add_columns = add_columns;
  k.add_squares = add_squares;
  k.extreme_columns = extreme_columns;
  k.extreme_places = extreme_places;
  k.factor_of = factor_of;
  k.normalize = normalize;
  k.standardize = standardize;
  return k;
}
