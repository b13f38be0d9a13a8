// The rows of a chunk of steps, and what one neuron does along them.
#pragma once

#include "call.h"
#include "plan.h"
#include "rows.h"

namespace liquid {

/// A neuron, and the first of its rows of sums and of its rows that are kept for going backward.
struct Neuron {
    int number, sums, saved;
};

/// Call `body` for each neuron of a layer.
template <class Cell, class Body>
LIQUID_INLINE void each_neuron(const Layer& layer, Body body) {
    Neuron neuron{layer.first, layer.row, layer.saved};
    const int last = layer.last;
    for (; neuron.number < last; ++neuron.number) {
        body(neuron);
        neuron.sums += Cell::sums;
        neuron.saved += Cell::saved_with_time;
    }
}

/// Steps are vectors of V samples. A position in a row is that of the step's vector, or the
/// substep's where the row has one for each. Loops take a copy of the chunk: what they write can
/// then not be mistaken for a change of it, and it stays in registers.
template <class T, int V>
struct Chunk {
    using Vector = Lanes<T, V>;

    const int* carried_row;
    const T* own;  // the neurons' own parameters, (own, visible)
    int memories, visible, substeps;
    bool keeps, wants_time;
    std::size_t begin, steps;            // control steps
    Rows<T> now, before, memory, saved;  // of the whole sequence if they are kept
    Rows<T> inputs, time, starts, sums;  // sums become their gradients
    Rows<T> d_now, d_before, d_inputs, d_time, d_own;
    Rows<T> d_carried, d_memory;  // one vector each, handed from chunk to chunk

    /// Where the chunk begins in rows of the whole sequence.
    LIQUID_INLINE std::size_t origin() const { return keeps ? begin * V : 0; }
    LIQUID_INLINE std::size_t substep_origin() const { return origin() * substeps; }
    std::size_t length() const { return steps * V; }
    std::size_t substep_length() const { return length() * substeps; }

    /// One substep of one neuron, and its activity to where it is heard.
    template <class Cell>
    LIQUID_INLINE void advance(Neuron neuron, std::size_t t, int k) const {
        const std::size_t substep = (t * substeps + k) * V;
        const Vector value = update<Cell, Vector>(neuron, t * V, substep);
        const int row = carried_row[neuron.number];
        if (k + 1 < substeps) {
            value.store(before[row] + substep_origin() + substep + V);
            return;
        }
        value.store(now[neuron.number] + origin() + t * V);
        if (row >= 0) {
            const Vector is_new = Vector::load(starts[0] + (t + 1) * V);
            value.unless(is_new).store(before[row] + substep_origin() + substep + V);
        }
    }

    /// The new activity of a neuron, X::width numbers from positions `step` and `substep` on.
    template <class Cell, class X>
    LIQUID_INLINE X update(Neuron neuron, std::size_t step, std::size_t substep) const {
        X sum[Cell::sums], kept[Cell::saved_with_time], mine[Cell::own + 1], past(T(0));
        for (int s = 0; s < Cell::sums; ++s) {
            sum[s] = X::load(sums[neuron.sums + s] + substep);
        }
        load_own<Cell>(neuron, mine);
        load_past<Cell>(neuron, step, substep, past);
        const X value = Cell::forward(sum, past, X::load(time[0] + step), mine, kept);
        if constexpr (Cell::past == Past::memory) {
            const X is_new = X::load(starts[0] + step + V);
            past.unless(is_new).store(memory[neuron.number] + origin() + step + V);
        }
        if (keeps) {
            const int count = wants_time ? Cell::saved_with_time : Cell::saved;
            for (int s = 0; s < count; ++s) {
                kept[s].store(saved[neuron.saved + s] + substep_origin() + substep);
            }
        }
        return value;
    }

    /// `advance` in reverse: from the gradient by a neuron's activity to that by its sums and past.
    template <class Cell>
    LIQUID_INLINE void retreat(Neuron neuron, std::size_t t, int k) const {
        const std::size_t substep = (t * substeps + k) * V;
        const int row = carried_row[neuron.number];
        Vector d_value = row >= 0 ? Vector::load(d_carried[row]) : Vector(T(0));
        if (k + 1 == substeps) {
            d_value += Vector::load(d_now[neuron.number] + t * V);
        }
        Vector d_past(T(0));
        if constexpr (Cell::past == Past::memory) {
            d_past = Vector::load(d_memory[neuron.number]);
        }
        back<Cell>(neuron, t * V, substep, d_value, d_past);
        if constexpr (Cell::past == Past::memory) {
            d_past.unless(Vector::load(starts[0] + t * V)).store(d_memory[neuron.number]);
        } else if constexpr (Cell::past == Past::activity) {
            (Vector::load(d_before[row] + substep) + d_past).store(d_before[row] + substep);
        }
    }

    /// What the activity before this substep gets, carried to the substep before.
    LIQUID_INLINE void hand_back(int neuron, std::size_t t, int k) const {
        const int row = carried_row[neuron];
        if (row < 0) {
            return;
        }
        const Vector value = Vector::load(d_before[row] + (t * substeps + k) * V);
        if (k > 0) {
            value.store(d_carried[row]);
        } else {
            value.unless(Vector::load(starts[0] + t * V)).store(d_carried[row]);
        }
    }

    /// The gradients by a neuron's sums, own parameters and past, from that by its activity.
    template <class Cell, class X>
    LIQUID_INLINE void back(Neuron neuron, std::size_t step, std::size_t substep, X d_value,
                            X& d_past) const {
        X kept[Cell::saved_with_time], mine[Cell::own + 1], past(T(0)), value(T(0));
        X d_sum[Cell::sums], d_mine[Cell::own + 1], d_elapsed(T(0));
        const int count = wants_time ? Cell::saved_with_time : Cell::saved;
        for (int s = 0; s < count; ++s) {
            kept[s] = X::load(saved[neuron.saved + s] + substep_origin() + substep);
        }
        load_own<Cell>(neuron, mine);
        load_past<Cell>(neuron, step, substep, past);
        if constexpr (Cell::past == Past::activity) {
            // Not where the next step begins: a reset may have come in between.
            const bool is_last = substep + V == (step + V) * substeps;
            value = X::load(is_last ? now[neuron.number] + origin() + step
                                    : before[carried_row[neuron.number]] + substep_origin() +
                                          substep + V);
        }
        for (int o = 0; o < Cell::own; ++o) {
            d_mine[o] = X(T(0));
        }
        Cell::backward(d_value, value, past, kept, X::load(time[0] + step), mine, d_sum, d_past,
                       wants_time ? &d_elapsed : nullptr, d_mine);
        for (int s = 0; s < Cell::sums; ++s) {
            d_sum[s].store(sums[neuron.sums + s] + substep);
        }
        for (int o = 0; o < Cell::own; ++o) {
            d_mine[o].store(d_own[own_row(neuron.number, o)] + substep);
        }
        if (wants_time) {
            (X::load(d_time[0] + step) + d_elapsed).store(d_time[0] + step);
        }
    }

    int own_row(int neuron, int which) const { return which * visible + neuron - memories; }

  private:
    template <class Cell, class X>
    LIQUID_INLINE void load_own(Neuron neuron, X* mine) const {
        for (int o = 0; o < Cell::own; ++o) {
            mine[o] = X(own[own_row(neuron.number, o)]);
        }
    }

    template <class Cell, class X>
    LIQUID_INLINE void load_past(Neuron neuron, std::size_t step, std::size_t substep,
                                 X& past) const {
        if constexpr (Cell::past == Past::activity) {
            past = X::load(before[carried_row[neuron.number]] + substep_origin() + substep);
        } else if constexpr (Cell::past == Past::memory) {
            past = X::load(memory[neuron.number] + origin() + step);
        }
    }
};

}  // namespace liquid
