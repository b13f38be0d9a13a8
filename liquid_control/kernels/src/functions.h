// The nonlinearities of neurons, all from one polynomial for powers of two.
#pragma once

#include "avx512.h"

namespace liquid {

/// How a floating-point type lays out its bits, and (2^f - 1) / f on [-1/2, 1/2] as a polynomial,
/// highest power first: interpolated at Chebyshev nodes, within 1.6e-7 (float), 7e-18 (double).
template <class T>
struct Exponential;

template <>
struct Exponential<float> {
    static constexpr int mantissa_bits = 23;
    static constexpr float bias = 127, largest = 126, saturated = 30;
    static constexpr float polynomial[] = {1.338130254e-3f, 9.666368515e-3f, 5.550381014e-2f,
                                           2.402234904e-1f, 6.931471806e-1f};
};

template <>
struct Exponential<double> {
    static constexpr int mantissa_bits = 52;
    static constexpr double bias = 1023, largest = 1022, saturated = 60;
    static constexpr double polynomial[] = {
        4.45496059818651839e-10, 7.0725859492692237e-9,  1.01780624458457735e-7,
        1.32154425879216897e-6,  1.52527338298361184e-5, 1.54035304417360502e-4,
        1.33335581464169353e-3,  9.61812910760688853e-3, 5.55041086648215943e-2,
        2.40226506959100982e-1,  6.93147180559945309e-1};
};

template <class X>
LIQUID_INLINE X at_most(X x, typename X::Number bound) {
    if constexpr (kNative<X>) {
        return Native<X>::at_most(x, bound);
    } else {
        return x.at_most(bound);
    }
}

template <class X>
LIQUID_INLINE X at_least(X x, typename X::Number bound) {
    if constexpr (kNative<X>) {
        return Native<X>::at_least(x, bound);
    } else {
        return x.at_least(bound);
    }
}

/// 2^x = scale + rest, where scale is a whole power of two: 2^x - 1 is then exact for small x too.
template <class X>
struct Power {
    X scale, rest;
};

/// 2^x for x within +-Exponential::largest.
template <class X>
LIQUID_INLINE Power<X> power_of_two(X x) {
    using T = typename X::Number;
    using E = Exponential<T>;
    // So large a number leaves the nearest integer, plus the exponent's bias, in the lowest bits.
    constexpr T shift = T(3) * T(std::uint64_t(1) << (E::mantissa_bits - 1)) + E::bias;
    X fraction, scale;
    if constexpr (kNative<X>) {
        const X whole = Native<X>::rounded(x);
        fraction = x - whole;
        scale = Native<X>::scaled(X(1), whole);
    } else {
        const X shifted = x + X(shift);
        fraction = x - (shifted - X(shift));
        scale = shifted.bits_up(E::mantissa_bits);
    }
    X quotient = E::polynomial[0];
    for (std::size_t i = 1; i < sizeof E::polynomial / sizeof(T); ++i) {
        quotient = quotient * fraction + X(E::polynomial[i]);
    }
    return {scale, scale * (quotient * fraction)};
}

template <class T>
constexpr T kLog2E = T(1.4426950408889634074);

/// e^-x for x >= 0.
template <class X>
LIQUID_INLINE X decay(X x) {
    using T = typename X::Number;
    const Power<X> power = power_of_two(at_least(x * X(-kLog2E<T>), -Exponential<T>::largest));
    return power.scale + power.rest;
}

/// 1 / (1 + 2^x): the sigmoid of an argument that is scaled by -log2(e) already.
template <class X>
LIQUID_INLINE X sigmoid_of_power(X x) {
    constexpr auto largest = Exponential<typename X::Number>::largest;
    const Power<X> power = power_of_two(at_least(at_most(x, largest), -largest));
    return X(1) / ((X(1) + power.scale) + power.rest);
}

template <class X>
LIQUID_INLINE X sigmoid(X x) {
    return sigmoid_of_power(x * X(-kLog2E<typename X::Number>));
}

template <class X>
LIQUID_INLINE X tanh(X x) {
    using T = typename X::Number;
    constexpr T saturated = Exponential<T>::saturated;
    const X doubled = at_least(at_most(x * X(2 * kLog2E<T>), saturated), -saturated);
    const Power<X> power = power_of_two(doubled);
    const X above_one = (power.scale - X(1)) + power.rest;
    return above_one / (above_one + X(2));
}

}  // namespace liquid
