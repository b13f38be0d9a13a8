// A tile: up to V samples of a batch, which one thread computes on its own.
//
// Every quantity of a neuron, a sum or an input is a row: one vector of V samples for each step, in
// the order of time. The steps are processed in chunks, so that the rows of a chunk fit into the
// processor's caches. forward.h and backward.h compute; this file holds what both of them share.
#pragma once

#include "chunk.h"
#include "packing.h"

namespace liquid {

template <class T, int V>
struct Tile {
    using Vector = Lanes<T, V>;

    const Plan& plan;
    const Weights<T>& weights;
    const Call<T>& call;
    const std::size_t first, samples, chunk_steps;
    T** const value;  // where the row of each slot begins in the chunk,
    T** const grad;   // and the row of its gradients
    Chunk<T, V> chunk{};

    /// Numbers of `Call::kept` for one tile.
    static std::size_t kept_size(const Plan& plan, std::size_t time) {
        return trajectory_size(plan, time);
    }
    /// Numbers of scratch memory for one tile.
    static std::size_t scratch_size(const Plan& plan, std::size_t time) {
        const std::size_t steps = steps_of_chunk(plan, time);
        return trajectory_size(plan, steps) + chunk_size(plan, steps);
    }

    /// Samples from `first` on, at most V. If `kept` is null, there is no backward pass. `scratch`
    /// holds scratch_size numbers, `pointers` two for each slot of the plan.
    Tile(const Plan& plan, const Weights<T>& weights, const Call<T>& call, std::size_t first,
         T* kept, T* scratch, T** pointers)
        : plan(plan),
          weights(weights),
          call(call),
          first(first),
          samples(std::min<std::size_t>(V, call.batch - first)),
          chunk_steps(steps_of_chunk(plan, call.time)),
          value(pointers),
          grad(pointers + plan.slots()) {
        chunk.carried_row = plan.carried_row.data();
        chunk.own = weights.flat + plan.own_start;
        chunk.hidden = plan.hidden;
        chunk.visible = plan.visible;
        chunk.substeps = plan.substeps;
        chunk.keeps = kept != nullptr;
        chunk.wants_time = call.wants_time;

        T*& trajectory = kept ? kept : scratch;
        const std::size_t steps = kept ? call.time : chunk_steps;
        const std::size_t substeps = steps * plan.substeps;
        chunk.now = Rows<T>(trajectory, plan.neurons, steps * V);
        chunk.before = Rows<T>(trajectory, plan.carried.size(), (substeps + 1) * V);
        chunk.cell = Rows<T>(trajectory, plan.cells, (steps + 1) * V);
        chunk.saved = Rows<T>(trajectory, plan.saved_rows, substeps * V);

        const std::size_t along = chunk_steps * V, along_substeps = along * plan.substeps;
        chunk.inputs = Rows<T>(scratch, plan.inputs, along);
        chunk.time = Rows<T>(scratch, 1, along);
        chunk.clock = Rows<T>(scratch, plan.clocked, along);
        chunk.starts = Rows<T>(scratch, 1, along + V);
        chunk.sums = Rows<T>(scratch, plan.rows, along_substeps);
        chunk.d_now = Rows<T>(scratch, plan.neurons, along);
        chunk.d_before = Rows<T>(scratch, plan.carried.size(), along_substeps);
        chunk.d_inputs = Rows<T>(scratch, plan.inputs, along);
        chunk.d_time = Rows<T>(scratch, 1, along);
        chunk.d_own = Rows<T>(scratch, plan.own * plan.visible, along_substeps);
        chunk.d_carried = Rows<T>(scratch, plan.carried.size(), V);
        chunk.d_cell = Rows<T>(scratch, plan.cells, V);
    }

    /// Move on to the chunk that begins at step `begin`: load what the call brings for its steps,
    /// and point every slot to its row.
    void begin_chunk(std::size_t begin) {
        chunk.begin = begin;
        chunk.steps = std::min(chunk_steps, call.time - begin);
        to_rows(call.inputs, plan.inputs, chunk.inputs, 0, chunk.steps);
        load_time();
        // The step after the chunk as well, for the state that the chunk hands on.
        std::fill(chunk.starts[0], chunk.starts[0] + (chunk.steps + 1) * V, T(0));
        if (call.starts) {
            to_rows(call.starts, 1, chunk.starts, 0, std::min(chunk.steps + 1, call.time - begin));
        }
        point();
    }

    int first_output() const { return plan.hidden + call.first_output; }

    /// Samples (time, batch, columns) of the chunk into rows; lanes without a sample are zero.
    template <class Number>
    void to_rows(const Number* tensor, std::size_t columns, const Rows<T>& rows,
                 std::size_t first_row, std::size_t steps) {
        for (std::size_t t = 0; t < steps; ++t) {
            for (std::size_t lane = 0; lane < samples; ++lane) {
                const Number* from =
                    tensor + ((chunk.begin + t) * call.batch + first + lane) * columns;
                for (std::size_t i = 0; i < columns; ++i) {
                    rows[first_row + i][t * V + lane] = from[i];
                }
            }
            for (std::size_t lane = samples; lane < V; ++lane) {
                for (std::size_t i = 0; i < columns; ++i) {
                    rows[first_row + i][t * V + lane] = 0;
                }
            }
        }
    }

    /// Rows, from position `offset` on, into samples (time, batch, columns) of the chunk.
    void from_rows(T* tensor, std::size_t columns, const Rows<T>& rows, std::size_t first_row,
                   std::size_t offset) {
        for (std::size_t t = 0; t < chunk.steps; ++t) {
            for (std::size_t lane = 0; lane < samples; ++lane) {
                T* to = tensor + ((chunk.begin + t) * call.batch + first + lane) * columns;
                for (std::size_t i = 0; i < columns; ++i) {
                    to[i] = rows[first_row + i][offset + t * V + lane];
                }
            }
        }
    }

  private:
    static std::size_t steps_of_chunk(const Plan& plan, std::size_t time) {
        // About 32 of the widest vectors: long enough to sum up along, short enough for the caches.
        const std::size_t steps = 32 * kWidest<T> / (V * plan.substeps);
        return std::min(time, std::max<std::size_t>(steps, 1));
    }
    static std::size_t trajectory_size(const Plan& plan, std::size_t steps) {
        const std::size_t substeps = steps * plan.substeps;
        return Rows<T>::size(plan.neurons, steps * V) +
               Rows<T>::size(plan.carried.size(), (substeps + 1) * V) +
               Rows<T>::size(plan.cells, (steps + 1) * V) +
               Rows<T>::size(plan.saved_rows, substeps * V);
    }
    static std::size_t chunk_size(const Plan& plan, std::size_t steps) {
        const std::size_t along = steps * V, substeps = along * plan.substeps;
        return Rows<T>::size(2 * plan.inputs + plan.neurons + 2 + plan.clocked, along) +
               Rows<T>::size(1, along + V) +
               Rows<T>::size(plan.rows + plan.carried.size() + plan.own * plan.visible, substeps) +
               Rows<T>::size(plan.carried.size() + plan.cells, V);
    }

    /// The length of each substep in time scales, and what the synapses of the clock see.
    void load_time() {
        if (call.elapsed) {
            to_rows(call.elapsed, 1, chunk.time, 0, chunk.steps);
        } else {
            std::fill(chunk.time[0], chunk.time[0] + chunk.length(), call.time_scale);
        }
        const Vector scale(call.time_scale), substeps(plan.substeps), one(T(1));
        for (std::size_t i = 0; i < chunk.length(); i += V) {
            const Vector step = Vector::load(chunk.time[0] + i) / scale / substeps;
            step.store(chunk.time[0] + i);
            if (plan.clocked) {
                (step - one).store(chunk.clock[0] + i);
            }
        }
    }

    void point() {
        for (int i = 0; i < plan.inputs; ++i) {
            value[i] = chunk.inputs[i];
            grad[i] = chunk.d_inputs[i];
        }
        value[plan.clock()] = chunk.clock[0];
        grad[plan.clock()] = chunk.d_time[0];
        for (int n = 0; n < plan.neurons; ++n) {
            value[plan.now(n)] = chunk.now[n] + chunk.origin();
            grad[plan.now(n)] = chunk.d_now[n];
        }
        for (std::size_t i = 0; i < plan.carried.size(); ++i) {
            value[plan.before(plan.carried[i])] = chunk.before[i] + chunk.substep_origin();
            grad[plan.before(plan.carried[i])] = chunk.d_before[i];
        }
    }
};

}  // namespace liquid
