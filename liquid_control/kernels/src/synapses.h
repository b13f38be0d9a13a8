// Synapses: contributions of a source to the sums of a target, and their gradients.
//
// A synapse has `parameters` numbers and adds to the `sums` of its target. `add` is the forward
// pass. In the backward pass both functions take the gradients of the target's sums: `d_source`
// returns the gradient of the source; `d_weights` adds to those of the parameters and returns it as
// well. All of them take the parameters as `prepare` returned them.
#pragma once

#include "functions.h"

namespace liquid {

/// A weight for each sum of the target but `skipped`, or for each of them.
template <int weights, int all = weights, int skipped = all>
struct Linear {
    static constexpr int sums = all, parameters = weights;
    static constexpr bool opens = false;  // whether it computes a sigmoid of the source

    /// The sum that a weight adds to.
    static constexpr int sum_of(int weight) { return weight < skipped ? weight : weight + 1; }

    template <class T>
    static T prepare(int, T parameter) {
        return parameter;
    }
    template <class X, class T>
    static LIQUID_INLINE void add(X source, const T* weight, int stride, X* sum) {
        for (int p = 0; p < parameters; ++p) {
            sum[sum_of(p)] += source * X(weight[p * stride]);
        }
    }
    template <class X, class T>
    static LIQUID_INLINE X d_source(X, const T* weight, int stride, const X* d_sums) {
        X result = d_sums[sum_of(0)] * X(weight[0]);
        for (int p = 1; p < parameters; ++p) {
            result += d_sums[sum_of(p)] * X(weight[p * stride]);
        }
        return result;
    }
    template <class X, class T>
    static LIQUID_INLINE X d_weights(X source, const T* weight, const X* d_sums, X* d_weight) {
        for (int p = 0; p < parameters; ++p) {
            d_weight[p] += source * d_sums[sum_of(p)];
        }
        return d_source(source, weight, 1, d_sums);
    }
};

/// A graded chemical synapse (Lechner et al. 2020): sigmoid(steepness * source + threshold), times
/// one number into the target's drive and one into its decay; in this order.
struct Conductance {
    static constexpr int sums = 2, parameters = 4;
    static constexpr bool opens = true;

    template <class T>
    static T prepare(int which, T parameter) {
        return which < 2 ? parameter * -kLog2E<T> : parameter;
    }
    template <class X, class T>
    static LIQUID_INLINE X opening(X source, const T* p, int stride) {
        return sigmoid_of_power(source * X(p[0]) + X(p[stride]));
    }
    template <class X, class T>
    static LIQUID_INLINE void add(X source, const T* p, int stride, X* sum) {
        const X open = opening(source, p, stride);
        sum[0] += open * X(p[2 * stride]);
        sum[1] += open * X(p[3 * stride]);
    }
    template <class X, class T>
    static LIQUID_INLINE X d_source(X source, const T* p, int stride, const X* d_sums) {
        const X open = opening(source, p, stride);
        const X d_open = d_sums[0] * X(p[2 * stride]) + d_sums[1] * X(p[3 * stride]);
        return d_open * (open - open * open) * X(p[0] * (T(-1) / kLog2E<T>));
    }
    template <class X, class T>
    static LIQUID_INLINE X d_weights(X source, const T* p, const X* d_sums, X* d_p) {
        const X open = opening(source, p, 1);
        const X d_open = d_sums[0] * X(p[2]) + d_sums[1] * X(p[3]);
        const X slope = d_open * (open - open * open);
        d_p[0] += slope * source;
        d_p[1] += slope;
        d_p[2] += open * d_sums[0];
        d_p[3] += open * d_sums[1];
        return slope * X(p[0] * (T(-1) / kLog2E<T>));
    }
};

/// A synapse of an LRC (Farsang et al. 2024): like `Conductance`, and one more number, times the
/// source itself, into the elastance of the target.
struct Elastance {
    static constexpr int sums = 3, parameters = 5;
    static constexpr bool opens = true;

    template <class X, class T>
    static LIQUID_INLINE void add(X source, const T* p, int stride, X* sum) {
        Conductance::add(source, p, stride, sum);
        sum[2] += source * X(p[4 * stride]);
    }
    template <class X, class T>
    static LIQUID_INLINE X d_source(X source, const T* p, int stride, const X* d_sums) {
        return Conductance::d_source(source, p, stride, d_sums) + d_sums[2] * X(p[4 * stride]);
    }
    template <class X, class T>
    static LIQUID_INLINE X d_weights(X source, const T* p, const X* d_sums, X* d_p) {
        d_p[4] += source * d_sums[2];
        return Conductance::d_weights(source, p, d_sums, d_p) + d_sums[2] * X(p[4]);
    }
};

}  // namespace liquid
