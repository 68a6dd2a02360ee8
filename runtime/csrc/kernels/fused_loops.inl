// Loops over arrays of vectors whose indices are constants from the first pass of the compiler on. Unrolled later, by a
// pragma, such arrays have been given memory by then, and GCC 12 leaves their elements there.

template <int I>
struct Index {
  static constexpr int value = I;
  constexpr operator int() const { return I; }
};

template <int I, int N>
struct For {
  template <class F>
  static inline __attribute__((always_inline)) void each(const F& f) {
    f(Index<I>{});
    For<I + 1, N>::each(f);
  }
};
template <int N>
struct For<N, N> {
  template <class F>
  static inline __attribute__((always_inline)) void each(const F&) {}
};
