// Adam's step for all parameters in one pass, after clipping the norm of their gradient.
#pragma once

#include <cmath>
#include <type_traits>
#include <utility>
#include <vector>

#include "rows.h"

namespace liquid {

/// A parameter, its gradient and the state of Adam.
template <class T>
struct Trained {
    std::size_t size;
    T* weight;
    T* gradient;
    T *mean, *square;  // running means of the gradient and of its square
    float* step;       // how many have been made
    const T* share;    // of the step that each entry makes, or null: one
};

struct AdamRates {
    double rate, mean_decay, square_decay, epsilon;
};

/// The sum of squares.
template <class T>
double sum_of_squares(const T* numbers, std::size_t size) {
    using X = Lanes<T, kWidest<T>>;
    constexpr int count = 4;
    X sums[count] = {T(0), T(0), T(0), T(0)};
    std::size_t i = 0;
    for (; i + count * X::width <= size; i += count * X::width) {
        for (int v = 0; v < count; ++v) {
            const X number = X::load(numbers + i + v * X::width);
            sums[v] += number * number;
        }
    }
    X one[1] = {(sums[0] + sums[1]) + (sums[2] + sums[3])};
    T sum = 0;
    add_sums(one, &sum, 1);
    double total = sum;
    for (; i < size; ++i) {
        total += static_cast<double>(numbers[i]) * numbers[i];
    }
    return total;
}

/// One step (Kingma & Ba 2015, algorithm 1) with the gradient times `scale`, which it then holds.
template <class T>
void adam_step(const Trained<T>& trained, const AdamRates& rates, double scale) {
    const double steps = *trained.step += 1;
    const T rate = T(rates.rate / (1 - std::pow(rates.mean_decay, steps)));
    const T root = T(1 / std::sqrt(1 - std::pow(rates.square_decay, steps)));
    const T epsilon = T(rates.epsilon), factor = T(scale), decay = T(rates.square_decay);
    const T by_mean = T(1 - rates.mean_decay), by_square = T(1 - rates.square_decay);
    const auto update = [&](auto has_share) {
        T *const weight = trained.weight, *const mean = trained.mean, *const square = trained.square;
        const T *const gradient = trained.gradient, *const share = trained.share;
        for (std::size_t i = 0; i < trained.size; ++i) {
            const T each = gradient[i] * factor;
            mean[i] += by_mean * (each - mean[i]);
            square[i] = decay * square[i] + by_square * each * each;
            T change = rate * mean[i] / (std::sqrt(square[i]) * root + epsilon);
            if constexpr (decltype(has_share)::value) {
                change *= share[i];
            }
            weight[i] -= change;
        }
    };
    trained.share ? update(std::true_type()) : update(std::false_type());
    for (std::size_t i = 0; i < trained.size; ++i) {
        trained.gradient[i] *= factor;
    }
}

/// Norms of the gradient before a step, and of the weights after it.
using Norms = std::pair<double, double>;

/// Scale the gradient to a norm of at most `largest`, as PyTorch does, and make a step unless it is
/// not finite.
template <class T>
Norms clipped_adam_step(const std::vector<Trained<T>>& parameters, const AdamRates& rates,
                        double largest) {
    double gradients = 0, weights = 0;
    for (const Trained<T>& each : parameters) {
        gradients += sum_of_squares(each.gradient, each.size);
    }
    const double norm = std::sqrt(gradients);
    for (const Trained<T>& each : parameters) {
        if (std::isfinite(norm)) {
            adam_step(each, rates, std::min(1.0, largest / (norm + 1e-6)));
        }
        weights += sum_of_squares<T>(each.weight, each.size);
    }
    return {norm, std::sqrt(weights)};
}

}  // namespace liquid
