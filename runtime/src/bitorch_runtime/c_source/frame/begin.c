/* Every product, sum and quotient of floats rounds once, in the order that is written. */
#if defined(__FAST_MATH__)
#error "net_run: the numbers of this network need -ffast-math to be off"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ > 0
#error "net_run: this machine computes floats in other bits; with GCC on 32-bit x86 use -msse2 -mfpmath=sse"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif
