// Loops over the synapses of a bundle: along the rows of a chunk, or for one step.
#pragma once

#include "plan.h"
#include "rows.h"

namespace liquid {

/// Add a bundle to the rows of sums of its one target, along rows of `length`.
template <class Synapse, class T, int V>
void add_along(const Bundle& bundle, const T* weights, T* const* value, T* const* sums,
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
            const T* source = value[slot] + i;
            for (int v = 0; v < n; ++v) {
                Synapse::add(X::load(source + v * X::width), weight, 1, sum[v]);
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

/// Add a bundle to the sums of its `near` targets at position i; `rows` are those of each target.
template <class Synapse, class X, int near, class T>
void add_step(const Bundle& bundle, const T* weights, T* const* value,
              T* const (*rows)[Synapse::sums], std::size_t i) {
    X sum[near][Synapse::sums];
    for (int m = 0; m < near; ++m) {
        for (int s = 0; s < Synapse::sums; ++s) {
            sum[m][s] = X::load(rows[m][s] + i);
        }
    }
    const T* weight = weights + bundle.weight;
    for (const int slot : bundle.far) {
        const X source = X::load(value[slot] + i);
        for (int m = 0; m < near; ++m) {
            Synapse::add(source, weight + m, near, sum[m]);
        }
        weight += Synapse::parameters * near;
    }
    for (int m = 0; m < near; ++m) {
        for (int s = 0; s < Synapse::sums; ++s) {
            sum[m][s].store(rows[m][s] + i);
        }
    }
}

/// Add the gradients of the `near` sources of a bundle by source at position i, from `d_sums`, the
/// rows of gradients of the sums of the layer that its targets are in.
template <class Synapse, class X, int near, class T>
void d_source_step(const Bundle& bundle, const T* weights, T* const* value, T* const* grad,
                   const Rows<T>& d_sums, const Layer& layer, std::size_t i) {
    const int first_row = layer.row, first_target = layer.first;
    X d_source[near];
    for (int m = 0; m < near; ++m) {
        d_source[m] = X::load(grad[bundle.near[m]] + i);
    }
    const T* weight = weights + bundle.weight;
    for (const int target : bundle.far) {
        X d_sum[Synapse::sums];
        for (int s = 0; s < Synapse::sums; ++s) {
            const int row = first_row + (target - first_target) * Synapse::sums + s;
            d_sum[s] = X::load(d_sums[row] + i);
        }
        for (int m = 0; m < near; ++m) {
            const X source = X::load(value[bundle.near[m]] + i);
            d_source[m] += Synapse::d_source(source, weight + m, near, d_sum);
        }
        weight += Synapse::parameters * near;
    }
    for (int m = 0; m < near; ++m) {
        d_source[m].store(grad[bundle.near[m]] + i);
    }
}

/// From position `begin` to `end`, add the gradients of `count` synapses of one target to
/// `d_weights` and, if `by_source`, those of their sources to `grad`.
template <class Synapse, class X, int count, bool by_source, class T>
void d_weights_between(const int* slots, const T* weights, T* const* value, T* const* grad,
                       const T* const* d_sums, std::size_t begin, std::size_t end, T* d_weights,
                       int apart) {
    constexpr int parameters = Synapse::parameters;
    const T* sources[count];
    T* to[count];
    X d_weight[count * parameters];
    for (int c = 0; c < count; ++c) {
        sources[c] = value[slots[c]], to[c] = grad[slots[c]];
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
            const X d_source = Synapse::d_weights(X::load(sources[c] + i), weights + c * parameters,
                                                  d_sum, d_weight + c * parameters);
            if constexpr (by_source) {
                (X::load(to[c] + i) + d_source).store(to[c] + i);
            }
        }
    }
    add_sums(d_weight, d_weights, apart);
}

/// Add the gradients of the synapses from sources `first` to `last` to the m-th target of a bundle,
/// along rows of `length`, and if `by_source` those of their sources.
template <class Synapse, bool by_source, class T, int V>
void d_weights_along(const Bundle& bundle, int m, std::size_t first, std::size_t last,
                     const T* weights, T* const* value, T* const* grad, const T* const* d_sums,
                     std::size_t length, T* d_weights) {
    using Wide = Lanes<T, kWidest<T>>;
    // As many synapses at a time as registers hold.
    constexpr int most = std::max(1, kTile / Synapse::parameters / (by_source ? 2 : 1));
    constexpr int count = Synapse::opens ? 2 : std::min(4, most);
    const std::size_t wide = length / Wide::width * Wide::width;
    const int apart = static_cast<int>(bundle.near.size());
    const auto add = [&](auto synapses, std::size_t j) {
        constexpr int n = decltype(synapses)::value;
        const int offset = bundle.weight + static_cast<int>(j) * Synapse::parameters * apart + m;
        d_weights_between<Synapse, Wide, n, by_source>(&bundle.far[j], weights + offset, value,
                                                       grad, d_sums, 0, wide, d_weights + offset,
                                                       apart);
        d_weights_between<Synapse, Lanes<T, V>, n, by_source>(&bundle.far[j], weights + offset,
                                                              value, grad, d_sums, wide, length,
                                                              d_weights + offset, apart);
    };
    std::size_t j = first;
    for (; j + count <= last; j += count) {
        add(std::integral_constant<int, count>(), j);
    }
    for (; j < last; ++j) {
        add(std::integral_constant<int, 1>(), j);
    }
}

}  // namespace liquid
