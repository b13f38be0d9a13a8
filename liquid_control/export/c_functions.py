"""The functions that policies in C use instead of those of math.h.

They are branch-free, so that compilers vectorise them, and give the same bits on every machine with
single-precision arithmetic. Their errors over all floats, in units in the last place of the exact
result: exp_of at most 1.1 within +-87, beyond which it saturates; tanh_of at most 2.7; sigmoid_of
at most 2.5 above -87, below which it stays at e^-87.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

BITS = """
static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
"""
FROM_BITS = """
static inline float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
"""
ALL_FINITE = """
/* Whether no number is infinite or NaN, by their bits: compilers may not assume that. */
static int all_finite(const float numbers[], int count) {
    uint32_t found = 0;
    for (int i = 0; i < count; ++i) {
        found |= (bits_of(numbers[i]) & 0x7f800000u) == 0x7f800000u;
    }
    return !found;
}
"""
IS_INDEX = """
/* Whether x is a whole number from 0 to below count. */
static inline int is_index(float x, int count) {
    return x >= 0.0f && x < (float)count && x == (float)(int)x;
}
"""
LIMITED = """
/* x within +-limit; NaN stays. By its bits, because compilers vectorise that. */
static inline float limited(float x, float limit) {
    const uint32_t bits = bits_of(x), sign = bits & 0x80000000u, size = bits ^ sign;
    const uint32_t most = bits_of(limit);
    const int exceeds = (size > most) & (size <= 0x7f800000u);
    return from_bits(sign | (exceeds ? most : size));
}
"""
EXPONENTIAL = """
/* Returns s, a power of two, and sets r, so that e^x = s + s r. |x| is at most 87. */
static inline float exponential(float x, float *r) {
    /* So large a number leaves the nearest integer, plus the exponent's bias, in the last bits. */
    const float shifted = x * 1.44269504f + 12583039.0f;
    const float whole = shifted - 12583039.0f;
    const float rest = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
    /* (e^rest - 1 - rest) / rest^2 as a polynomial, within 1.4e-8 of e^rest - 1. */
    float q = 1.3882521e-3f;
    q = q * rest + 8.3665205e-3f;
    q = q * rest + 4.16672e-2f;
    q = q * rest + 1.6666543e-1f;
    q = q * rest + 4.9999997e-1f;
    *r = rest + rest * rest * q;
    return from_bits(bits_of(shifted) << 23);
}
"""
EXP = """
static inline float exp_of(float x) {
    float r;
    const float s = exponential(limited(x, 87.0f), &r);
    return s + s * r;
}
"""
SIGMOID = """
static inline float sigmoid_of(float x) {
    float r;
    const float s = exponential(limited(-x, 87.0f), &r);
    return 1.0f / (1.0f + (s + s * r));
}
"""
TANH = """
static inline float tanh_of(float x) {
    float r;
    const float s = exponential(limited(2.0f * x, 20.0f), &r);
    const float above = (s - 1.0f) + s * r; /* e^2x - 1 */
    return above / (above + 2.0f);
}
"""
MAGNITUDE = """
static inline float magnitude(float x) {
    return from_bits(bits_of(x) & 0x7fffffffu);
}
"""
AT_MOST = """
static inline float at_most(float x, float bound) {
    return x > bound ? bound : x;
}
"""
AT_LEAST = """
static inline float at_least(float x, float bound) {
    return x < bound ? bound : x;
}
"""
WEIGHT_AT = """
/* A weight of four bits in two's complement; the first of two is in the lower bits of a byte. */
static inline float weight_at(const uint8_t pairs[], int index) {
    const int bits = (pairs[index >> 1] >> (4 * (index & 1))) & 15;
    return (float)((bits ^ 8) - 8);
}
"""
FUNCTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "bits_of": (BITS, ()),
    "from_bits": (FROM_BITS, ()),
    "all_finite": (ALL_FINITE, ("bits_of",)),
    "is_index": (IS_INDEX, ()),
    "limited": (LIMITED, ("bits_of", "from_bits")),
    "exponential": (EXPONENTIAL, ("bits_of", "from_bits")),
    "exp_of": (EXP, ("limited", "exponential")),
    "sigmoid_of": (SIGMOID, ("limited", "exponential")),
    "tanh_of": (TANH, ("limited", "exponential")),
    "magnitude": (MAGNITUDE, ("bits_of", "from_bits")),
    "at_most": (AT_MOST, ()),
    "at_least": (AT_LEAST, ()),
    "weight_at": (WEIGHT_AT, ()),
}
"""Text of each function, and the functions that it calls, which precede it."""


def functions_text(names: Collection[str]) -> str:
    """Return the text of functions and of those they call, each once."""
    wanted: set[str] = set()

    def want(name: str) -> None:
        wanted.add(name)
        for each in FUNCTIONS[name][1]:
            want(each)

    for name in names:
        want(name)
    return "".join(text for name, (text, _) in FUNCTIONS.items() if name in wanted).strip() + "\n"
