// Numbers side by side: one register holds the same quantity of several samples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__GNUC__)
#define LIQUID_INLINE inline __attribute__((always_inline))
#else
#define LIQUID_INLINE __forceinline
#endif

// GCC and Clang have vector types; other compilers get loops, which they may vectorise.
#if defined(__GNUC__) && !defined(LIQUID_NO_VECTOR_TYPES)
#define LIQUID_VECTOR_TYPES 1
#else
#define LIQUID_VECTOR_TYPES 0
#endif
#if LIQUID_VECTOR_TYPES && (defined(__clang__) || __GNUC__ >= 12)
#define LIQUID_SHUFFLES 1
#else
#define LIQUID_SHUFFLES 0
#endif

namespace liquid {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kRegisters = 32;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

/// How many numbers the widest register of this instruction set holds.
template <class T>
constexpr int kWidest = kVectorBytes / static_cast<int>(sizeof(T));

/// The unsigned integer of the same size.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

#if LIQUID_VECTOR_TYPES
template <class T, int Width>
struct VectorOf {
    typedef T Type __attribute__((vector_size(sizeof(T) * Width)));
};
#endif

/// `Width` numbers of type T; arithmetic works lane by lane, and NaN stays NaN throughout.
template <class T, int Width>
struct Lanes {
    using Number = T;
    static constexpr int width = Width;

#if LIQUID_VECTOR_TYPES
    using Register = typename VectorOf<T, Width>::Type;
    Register lane;

    friend LIQUID_INLINE Lanes operator+(Lanes a, Lanes b) { return {a.lane + b.lane}; }
    friend LIQUID_INLINE Lanes operator-(Lanes a, Lanes b) { return {a.lane - b.lane}; }
    friend LIQUID_INLINE Lanes operator*(Lanes a, Lanes b) { return {a.lane * b.lane}; }
    friend LIQUID_INLINE Lanes operator/(Lanes a, Lanes b) { return {a.lane / b.lane}; }
    LIQUID_INLINE Lanes(T number) : lane(number - Register{}) {}
    LIQUID_INLINE Lanes(Register value) : lane(value) {}

    /// The smaller of each lane and `bound`.
    LIQUID_INLINE Lanes at_most(T bound) const {
        const Register limit = bound - Register{};
        return {lane > limit ? limit : lane};
    }
    /// The larger of each lane and `bound`.
    LIQUID_INLINE Lanes at_least(T bound) const {
        const Register limit = bound - Register{};
        return {lane < limit ? limit : lane};
    }
    LIQUID_INLINE Lanes magnitude() const { return {lane < 0 ? -lane : lane}; }
    /// -1, 0 or 1.
    LIQUID_INLINE Lanes sign() const {
        const Register one = T(1) - Register{};
        return {lane > 0 ? one : (lane < 0 ? -one : lane)};
    }
    /// These lanes, but zero where `mask` is not zero; a NaN does not get through there.
    LIQUID_INLINE Lanes unless(Lanes mask) const { return {mask.lane != 0 ? Register{} : lane}; }
    /// The numbers whose bits are those of these, moved up by `places`.
    LIQUID_INLINE Lanes bits_up(int places) const {
        using Integers = typename VectorOf<Bits<T>, Width>::Type;
        return {reinterpret_cast<Register>(reinterpret_cast<Integers>(lane) << places)};
    }
#else
    T lane[Width];

    template <class Function>
    static LIQUID_INLINE Lanes each(Function function) {
        Lanes result;
        for (int i = 0; i < Width; ++i) {
            result.lane[i] = function(i);
        }
        return result;
    }
    friend LIQUID_INLINE Lanes operator+(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.lane[i] + b.lane[i]; });
    }
    friend LIQUID_INLINE Lanes operator-(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.lane[i] - b.lane[i]; });
    }
    friend LIQUID_INLINE Lanes operator*(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.lane[i] * b.lane[i]; });
    }
    friend LIQUID_INLINE Lanes operator/(const Lanes& a, const Lanes& b) {
        return each([&](int i) { return a.lane[i] / b.lane[i]; });
    }
    LIQUID_INLINE Lanes(T number) {
        for (int i = 0; i < Width; ++i) {
            lane[i] = number;
        }
    }
    LIQUID_INLINE Lanes at_most(T bound) const {
        return each([&](int i) { return lane[i] > bound ? bound : lane[i]; });
    }
    LIQUID_INLINE Lanes at_least(T bound) const {
        return each([&](int i) { return lane[i] < bound ? bound : lane[i]; });
    }
    LIQUID_INLINE Lanes magnitude() const {
        return each([&](int i) { return lane[i] < 0 ? -lane[i] : lane[i]; });
    }
    LIQUID_INLINE Lanes sign() const {
        return each([&](int i) { return lane[i] > 0 ? T(1) : lane[i] < 0 ? T(-1) : lane[i]; });
    }
    LIQUID_INLINE Lanes unless(const Lanes& mask) const {
        return each([&](int i) { return mask.lane[i] != 0 ? T(0) : lane[i]; });
    }
    LIQUID_INLINE Lanes bits_up(int places) const {
        return each([&](int i) {
            Bits<T> bits;
            std::memcpy(&bits, &lane[i], sizeof bits);
            bits <<= places;
            T number;
            std::memcpy(&number, &bits, sizeof number);
            return number;
        });
    }
#endif
    LIQUID_INLINE Lanes() = default;
    LIQUID_INLINE Lanes& operator+=(const Lanes& other) { return *this = *this + other; }

    static LIQUID_INLINE Lanes load(const T* from) {
        Lanes result;
        std::memcpy(&result.lane, from, sizeof result.lane);
        return result;
    }
    LIQUID_INLINE void store(T* to) const { std::memcpy(to, &lane, sizeof lane); }
};

#if LIQUID_SHUFFLES

/// Halve blocks of `block` lanes in a and in b, add the halves, and lay the sums in turns.
template <int block, class T, int Width, std::size_t... position>
LIQUID_INLINE Lanes<T, Width> fold(Lanes<T, Width> a, Lanes<T, Width> b,
                                   std::index_sequence<position...>) {
    constexpr int half = block / 2;
    constexpr auto from = [](int p) { return p / half % 2 * Width + p / block * block + p % half; };
    return {__builtin_shufflevector(a.lane, b.lane, from(position)...) +
            __builtin_shufflevector(a.lane, b.lane, (from(position) + half)...)};
}

/// The least power of two that is not below `count`.
constexpr int power_of_two_from(int count) {
    int power = 1;
    while (power < count) {
        power *= 2;
    }
    return power;
}

/// The sums over the lanes of `count` vectors, a power of two: that of the i-th is in lane
/// i * Width / count.
template <int block, int count, class T, int Width>
LIQUID_INLINE Lanes<T, Width> fold_all(const Lanes<T, Width> (&vectors)[count]) {
    constexpr int pairs = count > 1 ? count / 2 : 1;
    if constexpr (block == 1) {
        return vectors[0];
    } else {
        Lanes<T, Width> folded[pairs];
        for (int i = 0; i < pairs; ++i) {
            folded[i] = fold<block>(vectors[i], vectors[(i + pairs) % count],
                                    std::make_index_sequence<Width>());
        }
        return fold_all<block / 2, pairs>(folded);
    }
}

#endif

/// Add the sum over the lanes of each vector to its number, `stride` apart.
template <int count, class T, int Width>
LIQUID_INLINE void add_sums(const Lanes<T, Width> (&vectors)[count], T* to, int stride) {
#if LIQUID_SHUFFLES
    constexpr int padded = power_of_two_from(count);
    if constexpr (padded <= Width) {
        Lanes<T, Width> all[padded];
        for (int i = 0; i < padded; ++i) {
            all[i] = i < count ? vectors[i] : Lanes<T, Width>(T(0));
        }
        T sums[Width];
        fold_all<Width, padded>(all).store(sums);
        for (int i = 0; i < count; ++i) {
            to[i * stride] += sums[i * (Width / padded)];
        }
        return;
    }
#endif
    for (int i = 0; i < count; ++i) {
        T numbers[Width], sum = 0;
        vectors[i].store(numbers);
        for (const T number : numbers) {
            sum += number;
        }
        to[i * stride] += sum;
    }
}

}  // namespace liquid
