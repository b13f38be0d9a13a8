// The equations of each kind of neuron, and their derivatives.
//
// A cell is two functions of lanes. `forward` takes the sums over a neuron's synapses, its own past
// and the elapsed time, returns the activity, and stores in `saved` what `backward` needs.
// `backward` takes the gradient of the activity and computes those of the sums, the past, the
// elapsed time (if `d_time` is not null) and the neuron's own parameters. Time is in time scales;
// for solvers it is one solver step. The equations are those of the neurons package.
#pragma once

#include "functions.h"

namespace liquid {

/// The part of its past that a neuron depends on: nothing, its activity, or its cell.
enum class Past { none, activity, cell };

/// CfC (Hasani 2022) of candidates g and h and a time gate s: g + s (h - g) in mode "default"; in
/// mode "no_gate" the gate does not hold g back, g + s h.
template <bool gates_both>
struct ClosedForm {
    static constexpr int sums = 4, saved = 3, saved_with_time = 4, own = 0;
    static constexpr Past past = Past::none;

    template <class X>
    static LIQUID_INLINE X forward(const X* sums, X&, X time, const X*, X* saved) {
        saved[0] = tanh(sums[0]);
        saved[1] = tanh(sums[1]);
        saved[2] = sigmoid(sums[2] * time + sums[3]);
        saved[3] = sums[2];
        return saved[0] + saved[2] * gated(saved);
    }
    template <class X>
    static LIQUID_INLINE void backward(X d_now, X, X, const X* saved, X time, const X*, X* d_sums,
                                       X&, X* d_time, X*) {
        const X g = saved[0], h = saved[1], s = saved[2];
        const X d_gated = d_now * s;
        d_sums[0] = (gates_both ? d_now - d_gated : d_now) * (X(1) - g * g);
        d_sums[1] = d_gated * (X(1) - h * h);
        d_sums[3] = d_gated * gated(saved) * (X(1) - s);
        d_sums[2] = d_sums[3] * time;
        if (d_time) {
            *d_time += d_sums[3] * saved[3];
        }
    }

  private:
    template <class X>
    static LIQUID_INLINE X gated(const X* saved) {
        return gates_both ? saved[1] - saved[0] : saved[1];
    }
};

/// CfC, mode "pure": A - A g exp(-t (|w| + |g|)); own parameters are the leak w and reversal A.
struct PureClosedForm {
    static constexpr int sums = 1, saved = 2, saved_with_time = 2, own = 2;
    static constexpr Past past = Past::none;

    template <class X>
    static LIQUID_INLINE X forward(const X* sums, X&, X time, const X* own, X* saved) {
        saved[0] = sums[0];
        saved[1] = decay(time * (own[0].magnitude() + sums[0].magnitude()));
        return own[1] - own[1] * saved[1] * saved[0];
    }
    template <class X>
    static LIQUID_INLINE void backward(X d_now, X, X, const X* saved, X time, const X* own,
                                       X* d_sums, X&, X* d_time, X* d_own) {
        const X g = saved[0], remaining = saved[1];
        const X slope = d_now * own[1] * remaining;
        d_sums[0] = slope * (time * g.magnitude() - X(1));
        d_own[0] += slope * g * time * own[0].sign();
        d_own[1] += d_now * (X(1) - remaining * g);
        if (d_time) {
            *d_time += slope * g * (own[0].magnitude() + g.magnitude());
        }
    }
};

/// Long short-term memory; sums are the input, forget, candidate and output gate.
struct LongShortTerm {
    static constexpr int sums = 4, saved = 5, saved_with_time = 5, own = 0;
    static constexpr Past past = Past::cell;

    template <class X>
    static LIQUID_INLINE X forward(const X* sums, X& cell, X, const X*, X* saved) {
        saved[0] = sigmoid(sums[0]);
        saved[1] = sigmoid(sums[1]);
        saved[2] = tanh(sums[2]);
        saved[3] = sigmoid(sums[3]);
        cell = saved[1] * cell + saved[0] * saved[2];
        saved[4] = tanh(cell);
        return saved[3] * saved[4];
    }
    template <class X>
    static LIQUID_INLINE void backward(X d_now, X, X cell, const X* saved, X, const X*, X* d_sums,
                                       X& d_cell, X*, X*) {
        const X write = saved[0], keep = saved[1], candidate = saved[2], read = saved[3];
        const X d_new = d_cell + d_now * read * (X(1) - saved[4] * saved[4]);
        d_sums[0] = d_new * candidate * write * (X(1) - write);
        d_sums[1] = d_new * cell * keep * (X(1) - keep);
        d_sums[2] = d_new * write * (X(1) - candidate * candidate);
        d_sums[3] = d_now * saved[4] * read * (X(1) - read);
        d_cell = d_new * keep;
    }
};

/// Gated recurrent unit; sums are the reset gate, the keep gate, the candidate, and what the reset
/// gate scales before it joins the candidate.
struct GatedRecurrent {
    static constexpr int sums = 4, saved = 4, saved_with_time = 4, own = 0;
    static constexpr Past past = Past::activity;

    template <class X>
    static LIQUID_INLINE X forward(const X* sums, X& past, X, const X*, X* saved) {
        saved[0] = sigmoid(sums[0]);
        saved[1] = sigmoid(sums[1]);
        saved[2] = tanh(sums[2] + saved[0] * sums[3]);
        saved[3] = sums[3];
        return past = saved[2] + saved[1] * (past - saved[2]);
    }
    template <class X>
    static LIQUID_INLINE void backward(X d_now, X, X past, const X* saved, X, const X*, X* d_sums,
                                       X& d_past, X*, X*) {
        const X reset = saved[0], keep = saved[1], candidate = saved[2];
        d_past = d_now * keep;
        d_sums[1] = d_past * (past - candidate) * (X(1) - keep);
        d_sums[2] = (d_now - d_past) * (X(1) - candidate * candidate);
        d_sums[3] = d_sums[2] * reset;
        d_sums[0] = d_sums[3] * saved[3] * (X(1) - reset);
    }
};

/// CT-RNN, dx/dt = decay (tanh(u) - x) under the semi-implicit step; the decay is its own
/// parameter.
struct Leaky {
    static constexpr int sums = 1, saved = 1, saved_with_time = 1, own = 1;
    static constexpr Past past = Past::activity;

    template <class X>
    static LIQUID_INLINE X forward(const X* sums, X& past, X step, const X* own, X* saved) {
        const X rate = step * own[0];
        saved[0] = tanh(sums[0]);
        return past = (past + rate * saved[0]) / (X(1) + rate);
    }
    template <class X>
    static LIQUID_INLINE void backward(X d_now, X now, X, const X* saved, X step, const X* own,
                                       X* d_sums, X& d_past, X* d_time, X* d_own) {
        const X rate = step * own[0];
        d_past = d_now / (X(1) + rate);
        d_sums[0] = rate * d_past * (X(1) - saved[0] * saved[0]);
        const X d_rate = d_past * (saved[0] - now);
        d_own[0] += d_rate * step;
        if (d_time) {
            *d_time += d_rate * own[0];
        }
    }
};

/// LTC, dx/dt = drive - decay x under the semi-implicit step; the sums are drive and decay.
struct Liquid {
    static constexpr int sums = 2, saved = 1, saved_with_time = 2, own = 0;
    static constexpr Past past = Past::activity;

    template <class X>
    static LIQUID_INLINE X forward(const X* sums, X& past, X step, const X*, X* saved) {
        saved[0] = X(1) / (X(1) + step * sums[1]);
        past = (past + step * sums[0]) * saved[0];
        saved[1] = sums[0] - sums[1] * past;
        return past;
    }
    template <class X>
    static LIQUID_INLINE void backward(X d_now, X now, X, const X* saved, X step, const X*,
                                       X* d_sums, X& d_past, X* d_time, X*) {
        d_past = d_now * saved[0];
        d_sums[0] = step * d_past;
        d_sums[1] = X(0) - d_sums[0] * now;
        if (d_time) {
            *d_time += d_past * saved[1];
        }
    }
};

/// LRC, dx/dt = r sigmoid(w) (E tanh(u) - sigmoid(f) x) under the semi-implicit step; the sums are
/// u, f and w, own parameters are the reversal E and the rate r.
struct LiquidCapacitance {
    static constexpr int sums = 3, saved = 3, saved_with_time = 3, own = 2;
    static constexpr Past past = Past::activity;

    template <class X>
    static LIQUID_INLINE X forward(const X* sums, X& past, X step, const X* own, X* saved) {
        saved[0] = tanh(sums[0]);
        saved[1] = sigmoid(sums[1]);
        saved[2] = sigmoid(sums[2]);
        const X length = step * own[1] * saved[2];
        return past = (past + length * own[0] * saved[0]) / (X(1) + length * saved[1]);
    }
    template <class X>
    static LIQUID_INLINE void backward(X d_now, X now, X, const X* saved, X step, const X* own,
                                       X* d_sums, X& d_past, X* d_time, X* d_own) {
        const X target = saved[0], leak = saved[1], elastance = saved[2];
        const X length = step * own[1] * elastance;
        d_past = d_now / (X(1) + length * leak);
        const X d_drive = d_past * length;
        const X d_length = d_past * (own[0] * target - leak * now);
        d_sums[0] = d_drive * own[0] * (X(1) - target * target);
        d_sums[1] = (X(0) - d_drive) * now * leak * (X(1) - leak);
        d_sums[2] = d_length * length * (X(1) - elastance);
        d_own[0] += d_drive * target;
        d_own[1] += d_length * step * elastance;
        if (d_time) {
            *d_time += d_length * own[1] * elastance;
        }
    }
};

}  // namespace liquid
