// Rows of numbers in memory, and loops along them in the widest registers.
#pragma once

#include <algorithm>
#include <type_traits>

#include "lanes.h"

namespace liquid {

/// Rows of equal length, one after the other, each shifted by a cache line against the one before:
/// rows of a power of two would all fall into the same few sets of the cache.
template <class T>
class Rows {
  public:
    static std::size_t size(std::size_t count, std::size_t length) { return count * pitch(length); }

    Rows() = default;
    /// Take the rows off the front of `memory`.
    Rows(T*& memory, std::size_t count, std::size_t length)
        : data_(memory), pitch_(pitch(length)), size_(size(count, length)) {
        memory += size_;
    }
    T* operator[](std::size_t row) const { return data_ + row * pitch_; }
    std::size_t step() const { return pitch_; }  // from one row to the next
    void clear() const { std::fill(data_, data_ + size_, T(0)); }

  private:
    static std::size_t pitch(std::size_t length) {
        constexpr std::size_t line = 64 / sizeof(T);
        return (length + line - 1) / line * line + line;
    }
    T* data_ = nullptr;
    std::size_t pitch_ = 0, size_ = 0;
};

/// Call `body(lanes, count, i)` for all positions i of a row: `count` of the widest vectors at a
/// time while they fit, then one, then vectors of V, which the length is a multiple of.
template <class T, int V, int count, class Body>
LIQUID_INLINE void along(std::size_t length, Body body) {
    using Wide = Lanes<T, kWidest<T>>;
    std::size_t i = 0;
    if constexpr (count > 1) {
        for (; i + count * Wide::width <= length; i += count * Wide::width) {
            body(Wide(), std::integral_constant<int, count>(), i);
        }
    }
    for (; i + Wide::width <= length; i += Wide::width) {
        body(Wide(), std::integral_constant<int, 1>(), i);
    }
    for (; i < length; i += V) {
        body(Lanes<T, V>(), std::integral_constant<int, 1>(), i);
    }
}

/// Add up the numbers in a row whose length is a multiple of V.
template <class T, int V>
T sum_along(const T* row, std::size_t length) {
    using Wide = Lanes<T, kWidest<T>>;
    Wide wide[1] = {T(0)};
    Lanes<T, V> rest[1] = {T(0)};
    along<T, V, 1>(length, [&](auto lanes, auto, std::size_t i) {
        using X = decltype(lanes);
        if constexpr (std::is_same_v<X, Wide>) {
            wide[0] += X::load(row + i);
        } else {
            rest[0] += X::load(row + i);
        }
    });
    T sum = 0;
    add_sums(wide, &sum, 1);
    add_sums(rest, &sum, 1);
    return sum;
}

}  // namespace liquid
