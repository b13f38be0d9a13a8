// The rows of a chunk of steps, and how one neuron is updated in them.
#pragma once

#include "call.h"
#include "plan.h"
#include "rows.h"

namespace liquid {

/// A neuron, the first of its rows of sums, and the first of its rows for the backward pass.
struct Neuron {
    int number, sums, saved;

    /// The first neuron of a layer.
    explicit Neuron(const Layer& layer)
        : number(layer.first), sums(layer.row), saved(layer.saved) {}

    /// Move on to the next neuron of the layer.
    template <class Cell>
    LIQUID_INLINE void next() {
        ++number;
        sums += Cell::sums;
        saved += Cell::saved_with_time;
    }
};

/// A step is one vector of V samples. A position in a row is that of the step's vector, or of the
/// substep's where the row has one for each. Loops over neurons use a copy of the chunk: a compiler
/// sees that their writes to memory do not change it, and keeps it in registers.
template <class T, int V>
struct Chunk {
    using Vector = Lanes<T, V>;

    const int* carried_row;
    const T* own;  // the neurons' own parameters, (own, visible)
    int hidden, visible, substeps;
    bool keeps, wants_time;
    std::size_t begin, steps;                   // control steps
    Rows<T> now, before, cell, saved;           // of the whole sequence if they are kept
    Rows<T> inputs, time, clock, starts, sums;  // sums become their gradients
    Rows<T> d_now, d_before, d_inputs, d_time, d_own;
    Rows<T> d_carried, d_cell;  // one vector each, handed from chunk to chunk

    /// Where the chunk begins in rows of the whole sequence.
    LIQUID_INLINE std::size_t origin() const { return keeps ? begin * V : 0; }
    LIQUID_INLINE std::size_t substep_origin() const { return origin() * substeps; }
    std::size_t length() const { return steps * V; }
    std::size_t substep_length() const { return length() * substeps; }

    /// Update one neuron in one substep, and store its activity wherever it is read.
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
        if constexpr (Cell::past == Past::cell) {
            const X is_new = X::load(starts[0] + step + V);
            past.unless(is_new).store(cell[neuron.number] + origin() + step + V);
        }
        if (keeps) {
            const int count = wants_time ? Cell::saved_with_time : Cell::saved;
            for (int s = 0; s < count; ++s) {
                kept[s].store(saved[neuron.saved + s] + substep_origin() + substep);
            }
        }
        return value;
    }

    /// The reverse of `advance`: from the gradient of the activity to those of sums and past.
    template <class Cell>
    LIQUID_INLINE void retreat(Neuron neuron, std::size_t t, int k) const {
        const std::size_t substep = (t * substeps + k) * V;
        const int row = carried_row[neuron.number];
        Vector d_value = row >= 0 ? Vector::load(d_carried[row]) : Vector(T(0));
        if (k + 1 == substeps) {
            d_value += Vector::load(d_now[neuron.number] + t * V);
        }
        Vector d_past(T(0));
        if constexpr (Cell::past == Past::cell) {
            d_past = Vector::load(d_cell[neuron.number]);
        }
        differentiate<Cell>(neuron, t * V, substep, d_value, d_past);
        if constexpr (Cell::past == Past::cell) {
            d_past.unless(Vector::load(starts[0] + t * V)).store(d_cell[neuron.number]);
        } else if constexpr (Cell::past == Past::activity) {
            (Vector::load(d_before[row] + substep) + d_past).store(d_before[row] + substep);
        }
    }

    /// Carry the gradient of the activity before this substep to the substep before.
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

    /// The gradients of a neuron's sums, own parameters and past, from that of its activity.
    template <class Cell, class X>
    LIQUID_INLINE void differentiate(Neuron neuron, std::size_t step, std::size_t substep,
                                     X d_value, X& d_past) const {
        X kept[Cell::saved_with_time], mine[Cell::own + 1], past(T(0)), value(T(0));
        X d_sum[Cell::sums], d_mine[Cell::own + 1], d_elapsed(T(0));
        const int count = wants_time ? Cell::saved_with_time : Cell::saved;
        for (int s = 0; s < count; ++s) {
            kept[s] = X::load(saved[neuron.saved + s] + substep_origin() + substep);
        }
        load_own<Cell>(neuron, mine);
        load_past<Cell>(neuron, step, substep, past);
        if constexpr (Cell::past == Past::activity) {
            // Not the activity that the next step begins with: a reset may lie in between.
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

    int own_row(int neuron, int which) const { return which * visible + neuron - hidden; }

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
        } else if constexpr (Cell::past == Past::cell) {
            past = X::load(cell[neuron.number] + origin() + step);
        }
    }
};

}  // namespace liquid
