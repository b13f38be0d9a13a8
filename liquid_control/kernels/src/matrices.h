// Products of matrices, in registers.
#pragma once

#include "rows.h"

namespace liquid {

/// Numbers at data[row * row_step + column * column_step].
template <class T>
struct Strided {
    const T* data;
    std::size_t row_step, column_step;
};

/// How many rows and vectors of a product registers hold.
constexpr int kProductRows = 6, kProductVectors = kRegisters / 8;

/// `rows` rows and `vectors` vectors of a product: to = start + a b, rows of b, start and to `step`
/// apart.
template <int rows, int vectors, class T>
LIQUID_INLINE void multiply_block(const Strided<T>& a, const T* b, std::size_t b_step,
                                  std::size_t inner, const T* start, std::size_t start_step, T* to,
                                  std::size_t to_step) {
    using X = Lanes<T, kWidest<T>>;
    X sum[rows][vectors];
    for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v) {
            sum[r][v] = start ? X::load(start + r * start_step + v * X::width) : X(T(0));
        }
    }
    const T* left = a.data;
    for (std::size_t k = 0; k < inner; ++k, left += a.column_step, b += b_step) {
        X right[vectors];
        for (int v = 0; v < vectors; ++v) {
            right[v] = X::load(b + v * X::width);
        }
        for (int r = 0; r < rows; ++r) {
            const X factor(left[r * a.row_step]);
            for (int v = 0; v < vectors; ++v) {
                sum[r][v] += factor * right[v];
            }
        }
    }
    for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v) {
            sum[r][v].store(to + r * to_step + v * X::width);
        }
    }
}

/// to = start + a b, where a is (count, inner) and b (inner, columns). start may be null; its rows
/// are `start_step` apart, which is zero where one row is added to all. Rows of b, start and to are
/// padded to whole vectors.
template <class T, int rows = kProductRows>
void multiply(Strided<T> a, const T* b, std::size_t b_step, std::size_t count, std::size_t inner,
              std::size_t columns, const T* start, T* to, std::size_t to_step,
              std::size_t start_step = 0) {
    constexpr std::size_t width = kWidest<T>, wide = width * kProductVectors;
    for (; count >= rows; count -= rows) {
        std::size_t i = 0;
        const auto block = [&](auto vectors) {
            constexpr int n = decltype(vectors)::value;
            multiply_block<rows, n>(a, b + i, b_step, inner, start ? start + i : start, start_step,
                                    to + i, to_step);
            i += n * width;
        };
        while (i + wide < columns + width) {
            block(std::integral_constant<int, kProductVectors>());
        }
        if constexpr (kProductVectors == 4) {
            if (i + 2 * width < columns + width) {
                block(std::integral_constant<int, 2>());
            }
        }
        while (i < columns) {
            block(std::integral_constant<int, 1>());
        }
        a.data += rows * a.row_step, to += rows * to_step;
        start += start ? rows * start_step : 0;
    }
    if constexpr (rows > 1) {
        multiply<T, rows - 1>(a, b, b_step, count, inner, columns, start, to, to_step, start_step);
    }
}

/// `rows` numbers of a product with a vector: to = bias + weight x, where rows of weight are not
/// padded.
template <int rows, class T>
LIQUID_INLINE void multiply_one_block(const T* weight, const T* bias, const T* x,
                                      std::size_t inputs, T* to) {
    using X = Lanes<T, kWidest<T>>;
    const std::size_t wide = inputs / X::width * X::width;
    X sum[rows];
    for (int r = 0; r < rows; ++r) {
        sum[r] = X(T(0));
        to[r] = bias[r];
    }
    for (std::size_t k = 0; k < wide; k += X::width) {
        const X factor = X::load(x + k);
        for (int r = 0; r < rows; ++r) {
            sum[r] += factor * X::load(weight + r * inputs + k);
        }
    }
    add_sums(sum, to, 1);
    for (std::size_t k = wide; k < inputs; ++k) {
        for (int r = 0; r < rows; ++r) {
            to[r] += x[k] * weight[r * inputs + k];
        }
    }
}

/// to = bias + weight x, where weight is (outputs, inputs).
template <class T>
void multiply_one(const T* weight, const T* bias, const T* x, std::size_t inputs,
                  std::size_t outputs, T* to) {
    constexpr int rows = std::min(kWidest<T>, kRegisters / 2);
    std::size_t j = 0;
    for (; j + rows <= outputs; j += rows) {
        multiply_one_block<rows>(weight + j * inputs, bias + j, x, inputs, to + j);
    }
    for (; j < outputs; ++j) {
        multiply_one_block<1>(weight + j * inputs, bias + j, x, inputs, to + j);
    }
}

}  // namespace liquid
