// Instructions of AVX-512 that vector types do not offer, for single precision.
#pragma once

#include "lanes.h"

#if LIQUID_VECTOR_TYPES && defined(__AVX512F__) && defined(__AVX512VL__)
#include <immintrin.h>
#define LIQUID_AVX512 1
#else
#define LIQUID_AVX512 0
#endif

namespace liquid {

/// Whether `Native` has instructions for such lanes.
template <class X>
constexpr bool kNative = LIQUID_AVX512 && std::is_same_v<typename X::Number, float>;

template <class X>
struct Native;

#if LIQUID_AVX512

// Of two operands, minimum and maximum return the second if either is NaN.
#define LIQUID_NATIVE(width, prefix)                                                        \
    template <>                                                                             \
    struct Native<Lanes<float, width>> {                                                    \
        using X = Lanes<float, width>;                                                      \
        static LIQUID_INLINE X at_most(X x, X bound) {                                      \
            return {prefix##_min_ps(bound.lane, x.lane)};                                   \
        }                                                                                   \
        static LIQUID_INLINE X at_least(X x, X bound) {                                     \
            return {prefix##_max_ps(bound.lane, x.lane)};                                   \
        }                                                                                   \
        static LIQUID_INLINE X rounded(X x) { return {prefix##_roundscale_ps(x.lane, 8)}; } \
        static LIQUID_INLINE X scaled(X x, X exponent) {                                    \
            return {prefix##_scalef_ps(x.lane, exponent.lane)};                             \
        }                                                                                   \
    };

LIQUID_NATIVE(16, _mm512)
LIQUID_NATIVE(8, _mm256)
LIQUID_NATIVE(4, _mm)
#undef LIQUID_NATIVE

#endif

}  // namespace liquid
