// Loops over the synapses of a bundle: along the rows of a chunk, or for one step.
#pragma once

#include "plan.h"
#include "rows.h"

namespace liquid {

/// Add what one target hears along rows of `length` to its rows of sums.
template <class Synapse, class T, int V>
void hear_along(const Bundle& bundle, const T* weights, T* const* heard, T* const* sums,
                std::size_t length) {
    constexpr int count = std::min(4, kTile / Synapse::sums);
    along<T, V, count>(length, [&](auto lanes, auto vectors, std::size_t i) {
        using X = decltype(lanes);
        constexpr int n = decltype(vectors)::value;
        X sum[n][Synapse::sums];
        for (int v = 0; v < n; ++v) {
            for (int s = 0; s < Synapse::sums; ++s) {
                sum[v][s] = X::load(sums[s] + i + v * X::width);
            }
        }
        const T* weight = weights + bundle.weight;
        for (const int slot : bundle.far) {
            const T* source = heard[slot] + i;
            for (int v = 0; v < n; ++v) {
                Synapse::hear(X::load(source + v * X::width), weight, 1, sum[v]);
            }
            weight += Synapse::parameters;
        }
        for (int v = 0; v < n; ++v) {
            for (int s = 0; s < Synapse::sums; ++s) {
                sum[v][s].store(sums[s] + i + v * X::width);
            }
        }
    });
}

/// Add what the `near` targets of a bundle hear at position i; sums[m * sums + s] are their rows.
template <class Synapse, class X, int near, class T>
void hear_step(const Bundle& bundle, const T* weights, T* const* heard, T* const* sums,
               std::size_t i) {
    X sum[near][Synapse::sums];
    for (int m = 0; m < near; ++m) {
        for (int s = 0; s < Synapse::sums; ++s) {
            sum[m][s] = X::load(sums[m * Synapse::sums + s] + i);
        }
    }
    const T* weight = weights + bundle.weight;
    for (const int slot : bundle.far) {
        const X source = X::load(heard[slot] + i);
        for (int m = 0; m < near; ++m) {
            Synapse::hear(source, weight + m, near, sum[m]);
        }
        weight += Synapse::parameters * near;
    }
    for (int m = 0; m < near; ++m) {
        for (int s = 0; s < Synapse::sums; ++s) {
            sum[m][s].store(sums[m * Synapse::sums + s] + i);
        }
    }
}

/// Add what the `near` sources of a bundle by source get at position i from their targets, whose
/// rows of gradients by the sums are d_sums[far * sums + s].
template <class Synapse, class X, int near, class T>
void back_step(const Bundle& bundle, const T* weights, T* const* heard, T* const* taught,
               const Rows<T>& d_sums, int first_row, int first_target, std::size_t i) {
    X d_source[near];
    for (int m = 0; m < near; ++m) {
        d_source[m] = X::load(taught[bundle.near[m]] + i);
    }
    const T* weight = weights + bundle.weight;
    for (const int target : bundle.far) {
        X d_sum[Synapse::sums];
        for (int s = 0; s < Synapse::sums; ++s) {
            const int row = first_row + (target - first_target) * Synapse::sums + s;
            d_sum[s] = X::load(d_sums[row] + i);
        }
        for (int m = 0; m < near; ++m) {
            const X source = X::load(heard[bundle.near[m]] + i);
            d_source[m] += Synapse::d_source(source, weight + m, near, d_sum);
        }
        weight += Synapse::parameters * near;
    }
    for (int m = 0; m < near; ++m) {
        d_source[m].store(taught[bundle.near[m]] + i);
    }
}

/// From position `begin` to `end`, add what `count` synapses of one target learn to d_weights, and
/// if `teaches` what their sources get to taught.
template <class Synapse, class X, int count, bool teaches, class T>
void learn_between(const int* slots, const T* weights, T* const* heard, T* const* taught,
                   const T* const* d_sums, std::size_t begin, std::size_t end, T* d_weights,
                   int apart) {
    constexpr int parameters = Synapse::parameters;
    const T* sources[count];
    T* to[count];
    X d_weight[count * parameters];
    for (int c = 0; c < count; ++c) {
        sources[c] = heard[slots[c]], to[c] = taught[slots[c]];
    }
    for (X& each : d_weight) {
        each = X(T(0));
    }
    for (std::size_t i = begin; i < end; i += X::width) {
        X d_sum[Synapse::sums];
        for (int s = 0; s < Synapse::sums; ++s) {
            d_sum[s] = X::load(d_sums[s] + i);
        }
        for (int c = 0; c < count; ++c) {
            const X d_source = Synapse::learn(X::load(sources[c] + i), weights + c * parameters,
                                              d_sum, d_weight + c * parameters);
            if constexpr (teaches) {
                (X::load(to[c] + i) + d_source).store(to[c] + i);
            }
        }
    }
    add_sums(d_weight, d_weights, apart);
}

/// What the synapses of the m-th near target of a bundle learn along rows of `length`.
template <class Synapse, bool teaches, class T, int V>
void learn_along(const Bundle& bundle, int m, const T* weights, T* const* heard, T* const* taught,
                 const T* const* d_sums, std::size_t length, T* d_weights) {
    using Wide = Lanes<T, kWidest<T>>;
    // As many synapses at a time as registers hold.
    constexpr int most = std::max(1, kTile / Synapse::parameters / (teaches ? 2 : 1));
    constexpr int count = Synapse::sums == Synapse::parameters ? std::min(4, most) : 2;
    const std::size_t wide = length / Wide::width * Wide::width;
    const int apart = static_cast<int>(bundle.near.size());
    const auto learn = [&](auto synapses, std::size_t j) {
        constexpr int n = decltype(synapses)::value;
        const int offset = bundle.weight + static_cast<int>(j) * Synapse::parameters * apart + m;
        learn_between<Synapse, Wide, n, teaches>(&bundle.far[j], weights + offset, heard, taught,
                                                 d_sums, 0, wide, d_weights + offset, apart);
        learn_between<Synapse, Lanes<T, V>, n, teaches>(&bundle.far[j], weights + offset, heard,
                                                        taught, d_sums, wide, length,
                                                        d_weights + offset, apart);
    };
    std::size_t j = 0;
    for (; j + count <= bundle.far.size(); j += count) {
        learn(std::integral_constant<int, count>(), j);
    }
    for (; j < bundle.far.size(); ++j) {
        learn(std::integral_constant<int, 1>(), j);
    }
}

}  // namespace liquid
