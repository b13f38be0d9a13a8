// Some samples of a batch, through all steps and back: what one thread does on its own.
//
// Whatever belongs to one neuron, sum or input is a row: a vector of V samples for each step, in the
// order of time. What does not depend on the step before is computed for a chunk of steps at once,
// along the rows, where samples and steps together fill the widest registers whatever the batch.
// Only synapses within a block are taken step by step. A chunk's rows fit the processor's caches.
//
// Going backward, the loop over steps carries the gradient of the state and nothing else; what the
// parameters and the inputs get of it forms chunk by chunk afterwards.
#pragma once

#include "bundles.h"
#include "call.h"

namespace liquid {

/// The parameters of a call, as they came and gathered in the order in which tiles need them.
template <class T>
struct Weights {
    const T *flat, *forward, *backward;
};

template <class T, int V>
class Tile {
    using Vector = Lanes<T, V>;

  public:
    /// Numbers of `Call::kept` for one tile.
    static std::size_t kept_size(const Plan& plan, std::size_t time) {
        return trajectory_size(plan, time);
    }
    /// Numbers of scratch memory for one tile.
    static std::size_t scratch_size(const Plan& plan, std::size_t time) {
        const std::size_t steps = chunk_steps(plan, time);
        return trajectory_size(plan, steps) + chunk_size(plan, steps);
    }

    /// Samples from `first` on, at most V; `kept` may be null, and then there is no way back.
    /// `scratch` holds scratch_size numbers, `pointers` two for each slot of the plan.
    Tile(const Plan& plan, const Weights<T>& weights, const Call<T>& call, std::size_t first,
         T* kept, T* scratch, T** pointers)
        : plan_(plan),
          weights_(weights),
          call_(call),
          first_(first),
          samples_(std::min<std::size_t>(V, call.batch - first)),
          chunk_(chunk_steps(plan, call.time)),
          keeps_(kept != nullptr),
          heard_(pointers),
          taught_(pointers + plan.slots()) {
        T*& trajectory = keeps_ ? kept : scratch;
        const std::size_t steps = keeps_ ? call.time : chunk_, substeps = steps * plan.substeps;
        now_ = Rows<T>(trajectory, plan.neurons, steps * V);
        before_ = Rows<T>(trajectory, plan.carried.size(), (substeps + 1) * V);
        memory_ = Rows<T>(trajectory, plan.memory, (steps + 1) * V);
        saved_ = Rows<T>(trajectory, plan.saved_rows, substeps * V);

        const std::size_t along = chunk_ * V, along_substeps = along * plan.substeps;
        inputs_ = Rows<T>(scratch, plan.inputs, along);
        time_ = Rows<T>(scratch, 1, along);
        starts_ = Rows<T>(scratch, 1, along + V);
        sums_ = Rows<T>(scratch, plan.rows, along_substeps);
        d_now_ = Rows<T>(scratch, plan.neurons, along);
        d_before_ = Rows<T>(scratch, plan.carried.size(), along_substeps);
        d_inputs_ = Rows<T>(scratch, plan.inputs, along);
        d_time_ = Rows<T>(scratch, 1, along);
        d_own_ = Rows<T>(scratch, plan.own * plan.visible, along_substeps);
        d_carried_ = Rows<T>(scratch, plan.carried.size(), V);
        d_memory_ = Rows<T>(scratch, plan.memory, V);
    }

    void forward() {
        start();
        for (begin_ = 0; begin_ < call_.time; begin_ += steps_) {
            steps_ = std::min(chunk_, call_.time - begin_);
            if (!keeps_ && begin_ > 0) move_to_front();
            load_chunk();
            for (const Block& block : plan_.blocks) {
                for (int l = block.first; l < block.last; ++l) hear_outside(plan_.layers[l]);
                block.coupled ? run_together(block) : run_alone(block);
            }
            from_rows(call_.outputs, plan_.neurons - first_output(), now_, first_output(), origin());
        }
        finish();
    }

    /// Adds what the parameters get to `d_forward` (by target, as packed), `d_bias` (by row of sums)
    /// and `d_own`.
    void backward(T* d_forward, T* d_bias, T* d_own) {
        d_forward_ = d_forward;
        d_bias_ = d_bias;
        d_parameters_own_ = d_own;
        d_carried_.clear();
        d_memory_.clear();
        const std::size_t chunks = (call_.time + chunk_ - 1) / chunk_;
        for (std::size_t c = chunks; c-- > 0;) {
            begin_ = c * chunk_;
            steps_ = std::min(chunk_, call_.time - begin_);
            load_chunk();
            load_gradients();
            for (auto block = plan_.blocks.rbegin(); block != plan_.blocks.rend(); ++block) {
                block->coupled ? back_together(*block) : back_alone(*block);
                for (int l = block->first; l < block->last; ++l) learn(plan_.layers[l]);
            }
            if (call_.d_inputs) from_rows(call_.d_inputs, plan_.inputs, d_inputs_, 0, 0);
            if (call_.d_elapsed) store_time_gradient();
        }
        if (call_.d_state) store_state_gradient();
    }

  private:
    static std::size_t chunk_steps(const Plan& plan, std::size_t time) {
        // Some 32 of the widest vectors: long enough to sum up along, short enough for the caches.
        const std::size_t steps = 32 * kWidest<T> / (V * plan.substeps);
        return std::min(time, std::max<std::size_t>(steps, 1));
    }
    static std::size_t trajectory_size(const Plan& plan, std::size_t steps) {
        const std::size_t substeps = steps * plan.substeps;
        return Rows<T>::size(plan.neurons, steps * V) +
               Rows<T>::size(plan.carried.size(), (substeps + 1) * V) +
               Rows<T>::size(plan.memory, (steps + 1) * V) +
               Rows<T>::size(plan.saved_rows, substeps * V);
    }
    static std::size_t chunk_size(const Plan& plan, std::size_t steps) {
        const std::size_t along = steps * V, substeps = along * plan.substeps;
        return Rows<T>::size(2 * plan.inputs + plan.neurons + 2, along) +
               Rows<T>::size(1, along + V) +
               Rows<T>::size(plan.rows + plan.carried.size() + plan.own * plan.visible, substeps) +
               Rows<T>::size(plan.carried.size() + plan.memory, V);
    }

    int first_output() const { return plan_.memory + call_.first_output; }
    /// Where the chunk begins in rows that are kept for the whole sequence.
    std::size_t origin() const { return keeps_ ? begin_ * V : 0; }
    std::size_t substep_origin() const { return origin() * plan_.substeps; }

    // Between tensors and rows.

    /// Samples (time, batch, columns) of the chunk into rows; lanes without a sample are zero.
    template <class Number>
    void to_rows(const Number* tensor, std::size_t columns, const Rows<T>& rows, std::size_t first,
                 std::size_t steps) {
        for (std::size_t t = 0; t < steps; ++t) {
            for (std::size_t lane = 0; lane < samples_; ++lane) {
                const Number* from = tensor + ((begin_ + t) * call_.batch + first_ + lane) * columns;
                for (std::size_t i = 0; i < columns; ++i) rows[first + i][t * V + lane] = from[i];
            }
            for (std::size_t lane = samples_; lane < V; ++lane) {
                for (std::size_t i = 0; i < columns; ++i) rows[first + i][t * V + lane] = 0;
            }
        }
    }

    void from_rows(T* tensor, std::size_t columns, const Rows<T>& rows, std::size_t first,
                   std::size_t offset) {
        for (std::size_t t = 0; t < steps_; ++t) {
            for (std::size_t lane = 0; lane < samples_; ++lane) {
                T* to = tensor + ((begin_ + t) * call_.batch + first_ + lane) * columns;
                for (std::size_t i = 0; i < columns; ++i) {
                    to[i] = rows[first + i][offset + t * V + lane];
                }
            }
        }
    }

    void load_chunk() {
        to_rows(call_.inputs, plan_.inputs, inputs_, 0, steps_);
        if (call_.elapsed) {
            to_rows(call_.elapsed, 1, time_, 0, steps_);
        } else {
            std::fill(time_[0], time_[0] + steps_ * V, call_.time_scale);
        }
        const Vector scale(call_.time_scale), substeps(plan_.substeps);
        for (std::size_t i = 0; i < steps_ * V; i += V) {
            (Vector::load(time_[0] + i) / scale / substeps).store(time_[0] + i);
        }
        // The step after the chunk as well, for the state that the chunk hands on.
        std::fill(starts_[0], starts_[0] + (steps_ + 1) * V, T(0));
        if (call_.starts) {
            to_rows(call_.starts, 1, starts_, 0, std::min(steps_ + 1, call_.time - begin_));
        }
        for (int i = 0; i < plan_.inputs; ++i) {
            heard_[i] = inputs_[i];
            taught_[i] = call_.d_inputs ? d_inputs_[i] : nullptr;
        }
        for (int n = 0; n < plan_.neurons; ++n) {
            heard_[plan_.now(n)] = now_[n] + origin();
            taught_[plan_.now(n)] = d_now_[n];
        }
        for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
            heard_[plan_.before(plan_.carried[i])] = before_[i] + substep_origin();
            taught_[plan_.before(plan_.carried[i])] = d_before_[i];
        }
    }

    /// The state before the first step, zero where an episode starts there.
    void start() {
        const auto value = [&](std::size_t column, std::size_t lane) {
            const std::size_t sample = first_ + lane;
            const bool is_new = lane >= samples_ || !call_.state ||
                                (call_.starts && call_.time > 0 && call_.starts[sample]);
            return is_new ? T(0) : call_.state[sample * state_size() + column];
        };
        for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
            // A neuron of the memory is never carried: its cell is.
            const std::size_t column = plan_.carried[i] - plan_.memory;
            for (int lane = 0; lane < V; ++lane) before_[i][lane] = value(column, lane);
        }
        for (int m = 0; m < plan_.memory; ++m) {
            for (int lane = 0; lane < V; ++lane) memory_[m][lane] = value(plan_.visible + m, lane);
        }
    }

    std::size_t state_size() const { return plan_.visible + plan_.memory; }

    /// Rows that hold one chunk begin the next with what the last one handed on.
    void move_to_front() {
        for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
            Vector::load(before_[i] + chunk_ * plan_.substeps * V).store(before_[i]);
        }
        for (int m = 0; m < plan_.memory; ++m) Vector::load(memory_[m] + chunk_ * V).store(memory_[m]);
    }

    /// The state after the last step.
    void finish() {
        const std::size_t last = (keeps_ ? call_.time - 1 : steps_ - 1) * V;
        for (std::size_t lane = 0; lane < samples_; ++lane) {
            T* to = call_.final_state + (first_ + lane) * state_size();
            for (int n = 0; n < plan_.visible; ++n) to[n] = now_[plan_.memory + n][last + lane];
            for (int m = 0; m < plan_.memory; ++m) {
                to[plan_.visible + m] = memory_[m][last + V + lane];
            }
        }
    }

    // Forward.

    /// Sums of a layer along the chunk, but for synapses within its block.
    void hear_outside(const Layer& layer) {
        with_kind(layer.kind, [&](auto cell, auto synapse) {
            using Synapse = decltype(synapse);
            constexpr int sums = decltype(cell)::sums;
            T* rows[sums];
            for (int row = layer.row; row < layer.row + layer.size() * sums; ++row) {
                std::fill(sums_[row], sums_[row] + steps_ * V, weights_.flat[plan_.bias[row]]);
            }
            for (const Bundle& bundle : layer.sensory) {
                sums_of(layer, bundle.near[0], rows);
                hear_along<Synapse, T, V>(bundle, weights_.forward, heard_, rows,
                                          steps_ * V);
            }
            if (plan_.substeps > 1) {
                for (int r = 0; r < layer.size() * sums; ++r) spread(sums_[layer.row + r]);
            }
            for (const Bundle& bundle : layer.upstream) {
                sums_of(layer, bundle.near[0], rows);
                hear_along<Synapse, T, V>(bundle, weights_.forward, heard_, rows,
                                          steps_ * plan_.substeps * V);
            }
        });
    }

    template <int sums>
    void sums_of(const Layer& layer, int neuron, T* (&rows)[sums]) {
        for (int s = 0; s < sums; ++s) rows[s] = sums_[layer.row + (neuron - layer.first) * sums + s];
    }

    /// Repeat each step's vector for all of its substeps, in place.
    void spread(T* row) {
        for (std::size_t t = steps_; t-- > 0;) {
            const Vector value = Vector::load(row + t * V);
            for (int k = plan_.substeps; k-- > 0;) value.store(row + (t * plan_.substeps + k) * V);
        }
    }

    /// All steps of a block whose neurons do not hear each other, one neuron after the other.
    void run_alone(const Block& block) {
        for (int l = block.first; l < block.last; ++l) run_alone(plan_.layers[l]);
    }

    void run_alone(const Layer& layer) {
        with_kind(layer.kind, [&](auto cell, auto) {
            using Cell = decltype(cell);
            for (int n = layer.first; n < layer.last; ++n) {
                if constexpr (Cell::past == Past::none) {
                    along<T, V, 1>(steps_ * V, [&](auto lanes, auto, std::size_t i) {
                        update<Cell, decltype(lanes)>(layer, n, i, i).store(now_[n] + origin() + i);
                    });
                } else {
                    for (std::size_t t = 0; t < steps_; ++t) {
                        for (int k = 0; k < plan_.substeps; ++k) advance<Cell>(layer, n, t, k);
                    }
                }
            }
        });
    }

    /// All steps of a block, in lockstep.
    void run_together(const Block& block) {
        for (std::size_t t = 0; t < steps_; ++t) {
            for (int k = 0; k < plan_.substeps; ++k) {
                for (int l = block.first; l < block.last; ++l) {
                    const Layer& layer = plan_.layers[l];
                    with_kind(layer.kind, [&](auto cell, auto synapse) {
                        hear_within<decltype(cell), decltype(synapse)>(layer, t, k);
                        for (int n = layer.first; n < layer.last; ++n) {
                            advance<decltype(cell)>(layer, n, t, k);
                        }
                    });
                }
            }
        }
    }

    template <class Cell, class Synapse>
    void hear_within(const Layer& layer, std::size_t t, int k) {
        constexpr int most = std::max(1, kTile / Cell::sums);
        const std::size_t i = (t * plan_.substeps + k) * V;
        T* rows[most * Cell::sums];
        for (const Bundle& bundle : layer.within) {
            const int near = static_cast<int>(bundle.near.size());
            for (int m = 0; m < near; ++m) {
                for (int s = 0; s < Cell::sums; ++s) {
                    rows[m * Cell::sums + s] =
                        sums_[layer.row + (bundle.near[m] - layer.first) * Cell::sums + s];
                }
            }
            if (near == 1) {
                hear_step<Synapse, Vector, 1>(bundle, weights_.forward, heard_, rows, i);
            } else if constexpr (most > 1 && !std::is_same_v<Synapse, Conductance>) {
                hear_step<Synapse, Vector, most>(bundle, weights_.forward, heard_, rows,
                                                 i);
            }
        }
    }

    /// One substep of one neuron, and its activity to where it is heard.
    template <class Cell>
    LIQUID_INLINE void advance(const Layer& layer, int n, std::size_t t, int k) {
        const std::size_t substep = t * plan_.substeps + k;
        const Vector now = update<Cell, Vector>(layer, n, t * V, substep * V);
        const int row = plan_.carried_row[n];
        if (k + 1 < plan_.substeps) {
            now.store(before_[row] + substep_origin() + (substep + 1) * V);
            return;
        }
        now.store(now_[n] + origin() + t * V);
        if (row >= 0) {
            const Vector is_new = Vector::load(starts_[0] + (t + 1) * V);
            now.unless(is_new).store(before_[row] + substep_origin() + (substep + 1) * V);
        }
    }

    /// The new activity of a neuron, X::width numbers from positions `step` and `substep` on.
    template <class Cell, class X>
    LIQUID_INLINE X update(const Layer& layer, int n, std::size_t step, std::size_t substep) {
        X sums[Cell::sums], saved[Cell::saved_with_time], own[Cell::own + 1], past(T(0));
        const int index = n - layer.first;
        for (int s = 0; s < Cell::sums; ++s) {
            sums[s] = X::load(sums_[layer.row + index * Cell::sums + s] + substep);
        }
        load_own<Cell>(n, own);
        load_past<Cell>(n, step, substep, past);
        const X now = Cell::forward(sums, past, X::load(time_[0] + step), own, saved);
        if constexpr (Cell::past == Past::memory) {
            const X is_new = X::load(starts_[0] + step + V);
            past.unless(is_new).store(memory_[n] + origin() + step + V);
        }
        if (keeps_) {
            const int count = call_.wants_time ? Cell::saved_with_time : Cell::saved;
            const int row = layer.saved + index * Cell::saved_with_time;
            for (int s = 0; s < count; ++s) saved[s].store(saved_[row + s] + substep_origin() + substep);
        }
        return now;
    }

    template <class Cell, class X>
    LIQUID_INLINE void load_own(int n, X* own) {
        for (int o = 0; o < Cell::own; ++o) {
            own[o] = X(weights_.flat[plan_.own_start + o * plan_.visible + n - plan_.memory]);
        }
    }

    template <class Cell, class X>
    LIQUID_INLINE void load_past(int n, std::size_t step, std::size_t substep, X& past) {
        if constexpr (Cell::past == Past::activity) {
            past = X::load(before_[plan_.carried_row[n]] + substep_origin() + substep);
        } else if constexpr (Cell::past == Past::memory) {
            past = X::load(memory_[n] + origin() + step);
        }
    }

    // Backward.

    /// The gradients that come from outside into the rows of the chunk, zero everywhere else.
    void load_gradients() {
        d_now_.clear();
        d_before_.clear();
        d_inputs_.clear();
        d_time_.clear();
        if (call_.d_outputs) {
            to_rows(call_.d_outputs, plan_.neurons - first_output(), d_now_, first_output(), steps_);
        }
        if (call_.d_final_state && begin_ + steps_ == call_.time) {
            const std::size_t last = (steps_ - 1) * V;
            for (std::size_t lane = 0; lane < samples_; ++lane) {
                const T* from = call_.d_final_state + (first_ + lane) * state_size();
                for (int n = 0; n < plan_.visible; ++n) {
                    d_now_[plan_.memory + n][last + lane] += from[n];
                }
                for (int m = 0; m < plan_.memory; ++m) {
                    d_memory_[m][lane] = from[plan_.visible + m];
                }
            }
        }
    }

    void back_alone(const Block& block) {
        for (int l = block.first; l < block.last; ++l) back_alone(plan_.layers[l]);
    }

    void back_alone(const Layer& layer) {
        with_kind(layer.kind, [&](auto cell, auto) {
            using Cell = decltype(cell);
            for (int n = layer.first; n < layer.last; ++n) {
                if constexpr (Cell::past == Past::none) {
                    along<T, V, 1>(steps_ * V, [&](auto lanes, auto, std::size_t i) {
                        using X = decltype(lanes);
                        X d_past(T(0));
                        back<Cell>(layer, n, i, i, X::load(d_now_[n] + i), d_past);
                    });
                } else {
                    for (std::size_t t = steps_; t-- > 0;) {
                        for (int k = plan_.substeps; k-- > 0;) {
                            retreat<Cell>(layer, n, t, k);
                            hand_back(n, t, k);
                        }
                    }
                }
                learn_own<Cell>(n);
            }
        });
    }

    void back_together(const Block& block) {
        for (std::size_t t = steps_; t-- > 0;) {
            for (int k = plan_.substeps; k-- > 0;) {
                for (int l = block.last; l-- > block.first;) {
                    const Layer& layer = plan_.layers[l];
                    with_kind(layer.kind, [&](auto cell, auto synapse) {
                        for (int n = layer.first; n < layer.last; ++n) {
                            retreat<decltype(cell)>(layer, n, t, k);
                        }
                        back_within<decltype(cell), decltype(synapse)>(layer, t, k);
                    });
                }
                for (int l = block.first; l < block.last; ++l) {
                    const Layer& layer = plan_.layers[l];
                    for (int n = layer.first; n < layer.last; ++n) hand_back(n, t, k);
                }
            }
        }
        for (int l = block.first; l < block.last; ++l) {
            const Layer& layer = plan_.layers[l];
            with_kind(layer.kind, [&](auto cell, auto) {
                for (int n = layer.first; n < layer.last; ++n) learn_own<decltype(cell)>(n);
            });
        }
    }

    /// `advance` in reverse: from the gradient by a neuron's activity to that by its sums and past.
    template <class Cell>
    LIQUID_INLINE void retreat(const Layer& layer, int n, std::size_t t, int k) {
        const std::size_t substep = (t * plan_.substeps + k) * V;
        const int row = plan_.carried_row[n];
        Vector d_now = row >= 0 ? Vector::load(d_carried_[row]) : Vector(T(0));
        if (k + 1 == plan_.substeps) d_now += Vector::load(d_now_[n] + t * V);
        Vector d_past(T(0));
        if constexpr (Cell::past == Past::memory) d_past = Vector::load(d_memory_[n]);
        back<Cell>(layer, n, t * V, substep, d_now, d_past);
        if constexpr (Cell::past == Past::memory) {
            d_past.unless(Vector::load(starts_[0] + t * V)).store(d_memory_[n]);
        } else if constexpr (Cell::past == Past::activity) {
            (Vector::load(d_before_[row] + substep) + d_past).store(d_before_[row] + substep);
        }
    }

    /// What the activity before this substep gets, carried to the substep before.
    LIQUID_INLINE void hand_back(int n, std::size_t t, int k) {
        const int row = plan_.carried_row[n];
        if (row < 0) return;
        const Vector d_before = Vector::load(d_before_[row] + (t * plan_.substeps + k) * V);
        if (k > 0) {
            d_before.store(d_carried_[row]);
        } else {
            d_before.unless(Vector::load(starts_[0] + t * V)).store(d_carried_[row]);
        }
    }

    template <class Cell, class X>
    LIQUID_INLINE void back(const Layer& layer, int n, std::size_t step, std::size_t substep, X d_now,
                            X& d_past) {
        X saved[Cell::saved_with_time], own[Cell::own + 1], past(T(0)), now(T(0));
        X d_sums[Cell::sums], d_own[Cell::own + 1], d_time(T(0));
        const int index = n - layer.first;
        const int row = layer.saved + index * Cell::saved_with_time;
        for (int s = 0; s < Cell::saved; ++s) {
            saved[s] = X::load(saved_[row + s] + substep_origin() + substep);
        }
        if (call_.wants_time) {
            for (int s = Cell::saved; s < Cell::saved_with_time; ++s) {
                saved[s] = X::load(saved_[row + s] + substep_origin() + substep);
            }
        }
        load_own<Cell>(n, own);
        load_past<Cell>(n, step, substep, past);
        if constexpr (Cell::past == Past::activity) {
            // Not where the next substep begins: a reset may have come in between.
            const bool is_last = substep + V == (step + V) * plan_.substeps;
            now = X::load(is_last ? now_[n] + origin() + step
                                  : before_[plan_.carried_row[n]] + substep_origin() + substep + V);
        }
        for (int o = 0; o < Cell::own; ++o) d_own[o] = X(T(0));
        Cell::backward(d_now, now, past, saved, X::load(time_[0] + step), own, d_sums, d_past,
                       call_.wants_time ? &d_time : nullptr, d_own);
        for (int s = 0; s < Cell::sums; ++s) {
            d_sums[s].store(sums_[layer.row + index * Cell::sums + s] + substep);
        }
        for (int o = 0; o < Cell::own; ++o) {
            d_own[o].store(d_own_[o * plan_.visible + n - plan_.memory] + substep);
        }
        if (call_.wants_time) (X::load(d_time_[0] + step) + d_time).store(d_time_[0] + step);
    }

    template <class Cell>
    void learn_own(int n) {
        for (int o = 0; o < Cell::own; ++o) {
            const int i = o * plan_.visible + n - plan_.memory;
            d_parameters_own_[i] += sum_along<T, V>(d_own_[i], steps_ * plan_.substeps * V);
        }
    }

    template <class Cell, class Synapse>
    void back_within(const Layer& layer, std::size_t t, int k) {
        const std::size_t i = (t * plan_.substeps + k) * V;
        for (const Bundle& bundle : layer.back) {
            const T* weights = weights_.backward;
            if (bundle.near.size() == 1) {
                back_step<Synapse, Vector, 1>(bundle, weights, heard_, taught_, sums_,
                                              layer.row, layer.first, i);
            } else if constexpr (!std::is_same_v<Synapse, Conductance>) {
                back_step<Synapse, Vector, kTile>(bundle, weights, heard_, taught_,
                                                  sums_, layer.row, layer.first, i);
            }
        }
    }

    /// What the parameters of a layer and the sources outside its block get along the chunk.
    void learn(const Layer& layer) {
        with_kind(layer.kind, [&](auto cell, auto synapse) {
            using Synapse = decltype(synapse);
            constexpr int sums = decltype(cell)::sums;
            const std::size_t length = steps_ * plan_.substeps * V;
            learn_from<Synapse, sums, false>(layer, layer.within, length);
            learn_from<Synapse, sums, true>(layer, layer.upstream, length);
            const int last_row = layer.row + layer.size() * sums;
            if (plan_.substeps > 1) {
                for (int row = layer.row; row < last_row; ++row) gather(sums_[row]);
            }
            if (call_.d_inputs) {
                learn_from<Synapse, sums, true>(layer, layer.sensory, steps_ * V);
            } else {
                learn_from<Synapse, sums, false>(layer, layer.sensory, steps_ * V);
            }
            for (int row = layer.row; row < last_row; ++row) {
                d_bias_[row] += sum_along<T, V>(sums_[row], steps_ * V);
            }
        });
    }

    template <class Synapse, int sums, bool teaches>
    void learn_from(const Layer& layer, const Bundles& bundles, std::size_t length) {
        T* rows[sums];
        for (const Bundle& bundle : bundles) {
            for (std::size_t m = 0; m < bundle.near.size(); ++m) {
                sums_of(layer, bundle.near[m], rows);
                learn_along<Synapse, teaches, T, V>(bundle, static_cast<int>(m),
                                                    weights_.forward, heard_,
                                                    taught_, rows, length, d_forward_);
            }
        }
    }

    /// `spread` in reverse: the sum over the substeps of each step, in place.
    void gather(T* row) {
        for (std::size_t t = 0; t < steps_; ++t) {
            Vector sum = Vector::load(row + t * plan_.substeps * V);
            for (int k = 1; k < plan_.substeps; ++k) {
                sum += Vector::load(row + (t * plan_.substeps + k) * V);
            }
            sum.store(row + t * V);
        }
    }

    void store_time_gradient() {
        const Vector scale(call_.time_scale), substeps(plan_.substeps);
        for (std::size_t i = 0; i < steps_ * V; i += V) {
            (Vector::load(d_time_[0] + i) / scale / substeps).store(d_time_[0] + i);
        }
        from_rows(call_.d_elapsed, 1, d_time_, 0, 0);
    }

    /// What the state before the first step gets; a reset there has let nothing through.
    void store_state_gradient() {
        for (std::size_t lane = 0; lane < samples_; ++lane) {
            T* to = call_.d_state + (first_ + lane) * state_size();
            std::fill(to, to + state_size(), T(0));
            for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
                to[plan_.carried[i] - plan_.memory] = d_carried_[i][lane];
            }
            for (int m = 0; m < plan_.memory; ++m) to[plan_.visible + m] = d_memory_[m][lane];
        }
    }

    const Plan& plan_;
    const Weights<T>& weights_;
    const Call<T>& call_;
    const std::size_t first_, samples_, chunk_;
    const bool keeps_;
    T** const heard_;                            // where the row of each slot is in the chunk,
    T** const taught_;                           // and the row of the gradients by it
    std::size_t begin_ = 0, steps_ = 0;          // of the chunk
    Rows<T> now_, before_, memory_, saved_;      // of the sequence if they are kept, or of the chunk
    Rows<T> inputs_, time_, starts_, sums_;      // of the chunk; sums become their gradients
    Rows<T> d_now_, d_before_, d_inputs_, d_time_, d_own_;
    Rows<T> d_carried_, d_memory_;               // one vector each, handed from chunk to chunk
    T *d_forward_ = nullptr, *d_bias_ = nullptr, *d_parameters_own_ = nullptr;
};

}  // namespace liquid
