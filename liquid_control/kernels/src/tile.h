// Some samples of a batch, through all steps and back: what one thread does on its own.
//
// Whatever belongs to one neuron, sum or input is a row: a vector of V samples for each step, in
// the order of time. What does not depend on the step before is computed for a chunk of steps at
// once, along the rows, where samples and steps together fill the widest registers whatever the
// batch. Only synapses within a block are taken step by step. A chunk's rows fit the processor's
// caches.
//
// Going backward, the loop over steps carries the gradient of the state and nothing else; what the
// parameters and the inputs get of it forms chunk by chunk afterwards.
#pragma once

#include "bundles.h"
#include "chunk.h"

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
          chunk_steps_(chunk_steps(plan, call.time)),
          heard_(pointers),
          taught_(pointers + plan.slots()) {
        chunk_.carried_row = plan.carried_row.data();
        chunk_.own = weights.flat + plan.own_start;
        chunk_.memories = plan.memory;
        chunk_.visible = plan.visible;
        chunk_.substeps = plan.substeps;
        chunk_.keeps = kept != nullptr;
        chunk_.wants_time = call.wants_time;

        T*& trajectory = kept ? kept : scratch;
        const std::size_t steps = kept ? call.time : chunk_steps_;
        const std::size_t substeps = steps * plan.substeps;
        chunk_.now = Rows<T>(trajectory, plan.neurons, steps * V);
        chunk_.before = Rows<T>(trajectory, plan.carried.size(), (substeps + 1) * V);
        chunk_.memory = Rows<T>(trajectory, plan.memory, (steps + 1) * V);
        chunk_.saved = Rows<T>(trajectory, plan.saved_rows, substeps * V);

        const std::size_t along = chunk_steps_ * V, along_substeps = along * plan.substeps;
        chunk_.inputs = Rows<T>(scratch, plan.inputs, along);
        chunk_.time = Rows<T>(scratch, 1, along);
        chunk_.starts = Rows<T>(scratch, 1, along + V);
        chunk_.sums = Rows<T>(scratch, plan.rows, along_substeps);
        chunk_.d_now = Rows<T>(scratch, plan.neurons, along);
        chunk_.d_before = Rows<T>(scratch, plan.carried.size(), along_substeps);
        chunk_.d_inputs = Rows<T>(scratch, plan.inputs, along);
        chunk_.d_time = Rows<T>(scratch, 1, along);
        chunk_.d_own = Rows<T>(scratch, plan.own * plan.visible, along_substeps);
        chunk_.d_carried = Rows<T>(scratch, plan.carried.size(), V);
        chunk_.d_memory = Rows<T>(scratch, plan.memory, V);
    }

    void forward() {
        start();
        for (chunk_.begin = 0; chunk_.begin < call_.time; chunk_.begin += chunk_.steps) {
            chunk_.steps = std::min(chunk_steps_, call_.time - chunk_.begin);
            if (!chunk_.keeps && chunk_.begin > 0) {
                move_to_front();
            }
            load_chunk();
            for (const Block& block : plan_.blocks) {
                for (int l = block.first; l < block.last; ++l) {
                    hear_outside(plan_.layers[l]);
                }
                block.coupled ? run_together(block) : run_alone(block);
            }
            from_rows(call_.outputs, plan_.neurons - first_output(), chunk_.now, first_output(),
                      chunk_.origin());
        }
        finish();
    }

    /// Adds what the parameters get to `d_forward` (by target, as packed), `d_bias` (by row of
    /// sums) and `d_own`.
    void backward(T* d_forward, T* d_bias, T* d_own) {
        d_forward_ = d_forward;
        d_bias_ = d_bias;
        d_own_ = d_own;
        chunk_.d_carried.clear();
        chunk_.d_memory.clear();
        const std::size_t chunks = (call_.time + chunk_steps_ - 1) / chunk_steps_;
        for (std::size_t c = chunks; c-- > 0;) {
            chunk_.begin = c * chunk_steps_;
            chunk_.steps = std::min(chunk_steps_, call_.time - chunk_.begin);
            load_chunk();
            load_gradients();
            for (auto block = plan_.blocks.rbegin(); block != plan_.blocks.rend(); ++block) {
                block->coupled ? back_together(*block) : back_alone(*block);
                for (int l = block->first; l < block->last; ++l) {
                    learn(plan_.layers[l]);
                }
            }
            if (call_.d_inputs) {
                from_rows(call_.d_inputs, plan_.inputs, chunk_.d_inputs, 0, 0);
            }
            if (call_.d_elapsed) {
                store_time_gradient();
            }
        }
        if (call_.d_state) {
            store_state_gradient();
        }
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

    // Between tensors and rows.

    /// Samples (time, batch, columns) of the chunk into rows; lanes without a sample are zero.
    template <class Number>
    void to_rows(const Number* tensor, std::size_t columns, const Rows<T>& rows, std::size_t first,
                 std::size_t steps) {
        for (std::size_t t = 0; t < steps; ++t) {
            for (std::size_t lane = 0; lane < samples_; ++lane) {
                const Number* from =
                    tensor + ((chunk_.begin + t) * call_.batch + first_ + lane) * columns;
                for (std::size_t i = 0; i < columns; ++i) {
                    rows[first + i][t * V + lane] = from[i];
                }
            }
            for (std::size_t lane = samples_; lane < V; ++lane) {
                for (std::size_t i = 0; i < columns; ++i) {
                    rows[first + i][t * V + lane] = 0;
                }
            }
        }
    }

    void from_rows(T* tensor, std::size_t columns, const Rows<T>& rows, std::size_t first,
                   std::size_t offset) {
        for (std::size_t t = 0; t < chunk_.steps; ++t) {
            for (std::size_t lane = 0; lane < samples_; ++lane) {
                T* to = tensor + ((chunk_.begin + t) * call_.batch + first_ + lane) * columns;
                for (std::size_t i = 0; i < columns; ++i) {
                    to[i] = rows[first + i][offset + t * V + lane];
                }
            }
        }
    }

    void load_chunk() {
        to_rows(call_.inputs, plan_.inputs, chunk_.inputs, 0, chunk_.steps);
        if (call_.elapsed) {
            to_rows(call_.elapsed, 1, chunk_.time, 0, chunk_.steps);
        } else {
            std::fill(chunk_.time[0], chunk_.time[0] + chunk_.length(), call_.time_scale);
        }
        const Vector scale(call_.time_scale), substeps(plan_.substeps);
        for (std::size_t i = 0; i < chunk_.length(); i += V) {
            (Vector::load(chunk_.time[0] + i) / scale / substeps).store(chunk_.time[0] + i);
        }
        // The step after the chunk as well, for the state that the chunk hands on.
        std::fill(chunk_.starts[0], chunk_.starts[0] + (chunk_.steps + 1) * V, T(0));
        if (call_.starts) {
            to_rows(call_.starts, 1, chunk_.starts, 0,
                    std::min(chunk_.steps + 1, call_.time - chunk_.begin));
        }
        for (int i = 0; i < plan_.inputs; ++i) {
            heard_[i] = chunk_.inputs[i];
            taught_[i] = call_.d_inputs ? chunk_.d_inputs[i] : nullptr;
        }
        for (int n = 0; n < plan_.neurons; ++n) {
            heard_[plan_.now(n)] = chunk_.now[n] + chunk_.origin();
            taught_[plan_.now(n)] = chunk_.d_now[n];
        }
        for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
            heard_[plan_.before(plan_.carried[i])] = chunk_.before[i] + chunk_.substep_origin();
            taught_[plan_.before(plan_.carried[i])] = chunk_.d_before[i];
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
            for (int lane = 0; lane < V; ++lane) {
                chunk_.before[i][lane] = value(column, lane);
            }
        }
        for (int m = 0; m < plan_.memory; ++m) {
            for (int lane = 0; lane < V; ++lane) {
                chunk_.memory[m][lane] = value(plan_.visible + m, lane);
            }
        }
    }

    std::size_t state_size() const { return plan_.visible + plan_.memory; }

    /// Rows that hold one chunk begin the next with what the last one handed on.
    void move_to_front() {
        for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
            Vector::load(chunk_.before[i] + chunk_steps_ * plan_.substeps * V)
                .store(chunk_.before[i]);
        }
        for (int m = 0; m < plan_.memory; ++m) {
            Vector::load(chunk_.memory[m] + chunk_steps_ * V).store(chunk_.memory[m]);
        }
    }

    /// The state after the last step.
    void finish() {
        const std::size_t last = (chunk_.keeps ? call_.time - 1 : chunk_.steps - 1) * V;
        for (std::size_t lane = 0; lane < samples_; ++lane) {
            T* to = call_.final_state + (first_ + lane) * state_size();
            for (int n = 0; n < plan_.visible; ++n) {
                to[n] = chunk_.now[plan_.memory + n][last + lane];
            }
            for (int m = 0; m < plan_.memory; ++m) {
                to[plan_.visible + m] = chunk_.memory[m][last + V + lane];
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
                std::fill(chunk_.sums[row], chunk_.sums[row] + chunk_.length(),
                          weights_.flat[plan_.bias[row]]);
            }
            for (const Bundle& bundle : layer.sensory) {
                sums_of(layer, bundle.near[0], rows);
                hear_along<Synapse, T, V>(bundle, weights_.forward, heard_, rows, chunk_.length());
            }
            if (plan_.substeps > 1) {
                for (int r = 0; r < layer.size() * sums; ++r) {
                    spread(chunk_.sums[layer.row + r]);
                }
            }
            for (const Bundle& bundle : layer.upstream) {
                sums_of(layer, bundle.near[0], rows);
                hear_along<Synapse, T, V>(bundle, weights_.forward, heard_, rows,
                                          chunk_.substep_length());
            }
        });
    }

    template <int sums>
    void sums_of(const Layer& layer, int neuron, T* (&rows)[sums]) {
        for (int s = 0; s < sums; ++s) {
            rows[s] = chunk_.sums[layer.row + (neuron - layer.first) * sums + s];
        }
    }

    /// Repeat each step's vector for all of its substeps, in place.
    void spread(T* row) {
        for (std::size_t t = chunk_.steps; t-- > 0;) {
            const Vector value = Vector::load(row + t * V);
            for (int k = plan_.substeps; k-- > 0;) {
                value.store(row + (t * plan_.substeps + k) * V);
            }
        }
    }

    /// All steps of a block, one neuron after the other.
    void run_alone(const Block& block) {
        for (int l = block.first; l < block.last; ++l) {
            with_kind(plan_.layers[l].kind, [&, chunk = chunk_](auto cell, auto) {
                using Cell = decltype(cell);
                each_neuron<Cell>(plan_.layers[l], [&](Neuron neuron) {
                    if constexpr (Cell::past != Past::none) {
                        for (std::size_t t = 0; t < chunk.steps; ++t) {
                            for (int k = 0; k < chunk.substeps; ++k) {
                                chunk.template advance<Cell>(neuron, t, k);
                            }
                        }
                        return;
                    }
                    T* const now = chunk.now[neuron.number] + chunk.origin();
                    along<T, V, 1>(chunk.length(), [&](auto lanes, auto, std::size_t i) {
                        using X = decltype(lanes);
                        chunk.template update<Cell, X>(neuron, i, i).store(now + i);
                    });
                });
            });
        }
    }

    /// All steps of a block, in lockstep.
    void run_together(const Block& block) {
        for (std::size_t t = 0; t < chunk_.steps; ++t) {
            for (int k = 0; k < plan_.substeps; ++k) {
                for (int l = block.first; l < block.last; ++l) {
                    const Layer& layer = plan_.layers[l];
                    with_kind(layer.kind, [&, chunk = chunk_](auto cell, auto synapse) {
                        using Cell = decltype(cell);
                        hear_within<Cell, decltype(synapse)>(layer, t, k);
                        each_neuron<Cell>(layer, [&](Neuron neuron) {
                            chunk.template advance<Cell>(neuron, t, k);
                        });
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
                        chunk_.sums[layer.row + (bundle.near[m] - layer.first) * Cell::sums + s];
                }
            }
            if (near == 1) {
                hear_step<Synapse, Vector, 1>(bundle, weights_.forward, heard_, rows, i);
            } else if constexpr (most > 1 && !std::is_same_v<Synapse, Conductance>) {
                hear_step<Synapse, Vector, most>(bundle, weights_.forward, heard_, rows, i);
            }
        }
    }

    // Backward.

    /// The gradients that come from outside into the rows of the chunk, zero everywhere else.
    void load_gradients() {
        chunk_.d_now.clear();
        chunk_.d_before.clear();
        chunk_.d_inputs.clear();
        chunk_.d_time.clear();
        if (call_.d_outputs) {
            to_rows(call_.d_outputs, plan_.neurons - first_output(), chunk_.d_now, first_output(),
                    chunk_.steps);
        }
        if (call_.d_final_state && chunk_.begin + chunk_.steps == call_.time) {
            const std::size_t last = (chunk_.steps - 1) * V;
            for (std::size_t lane = 0; lane < samples_; ++lane) {
                const T* from = call_.d_final_state + (first_ + lane) * state_size();
                for (int n = 0; n < plan_.visible; ++n) {
                    chunk_.d_now[plan_.memory + n][last + lane] += from[n];
                }
                for (int m = 0; m < plan_.memory; ++m) {
                    chunk_.d_memory[m][lane] = from[plan_.visible + m];
                }
            }
        }
    }

    void back_alone(const Block& block) {
        for (int l = block.first; l < block.last; ++l) {
            with_kind(plan_.layers[l].kind, [&, chunk = chunk_](auto cell, auto) {
                using Cell = decltype(cell);
                each_neuron<Cell>(plan_.layers[l], [&](Neuron neuron) {
                    if constexpr (Cell::past != Past::none) {
                        for (std::size_t t = chunk.steps; t-- > 0;) {
                            for (int k = chunk.substeps; k-- > 0;) {
                                chunk.template retreat<Cell>(neuron, t, k);
                                chunk.hand_back(neuron.number, t, k);
                            }
                        }
                        return;
                    }
                    const T* const d_now = chunk.d_now[neuron.number];
                    along<T, V, 1>(chunk.length(), [&](auto lanes, auto, std::size_t i) {
                        using X = decltype(lanes);
                        X d_past(T(0));
                        chunk.template back<Cell>(neuron, i, i, X::load(d_now + i), d_past);
                    });
                });
            });
        }
    }

    void back_together(const Block& block) {
        for (std::size_t t = chunk_.steps; t-- > 0;) {
            for (int k = plan_.substeps; k-- > 0;) {
                for (int l = block.last; l-- > block.first;) {
                    const Layer& layer = plan_.layers[l];
                    with_kind(layer.kind, [&, chunk = chunk_](auto cell, auto synapse) {
                        using Cell = decltype(cell);
                        each_neuron<Cell>(layer, [&](Neuron neuron) {
                            chunk.template retreat<Cell>(neuron, t, k);
                        });
                        back_within<Cell, decltype(synapse)>(layer, t, k);
                    });
                }
                const Chunk<T, V> chunk = chunk_;
                const int last = plan_.layers[block.last - 1].last;
                for (int n = plan_.layers[block.first].first; n < last; ++n) {
                    chunk.hand_back(n, t, k);
                }
            }
        }
    }

    template <class Cell, class Synapse>
    void back_within(const Layer& layer, std::size_t t, int k) {
        const std::size_t i = (t * plan_.substeps + k) * V;
        for (const Bundle& bundle : layer.back) {
            const T* weights = weights_.backward;
            if (bundle.near.size() == 1) {
                back_step<Synapse, Vector, 1>(bundle, weights, heard_, taught_, chunk_.sums,
                                              layer.row, layer.first, i);
            } else if constexpr (!std::is_same_v<Synapse, Conductance>) {
                back_step<Synapse, Vector, kTile>(bundle, weights, heard_, taught_, chunk_.sums,
                                                  layer.row, layer.first, i);
            }
        }
    }

    /// What the parameters of a layer and the sources outside its block get along the chunk.
    void learn(const Layer& layer) {
        with_kind(layer.kind, [&](auto cell, auto synapse) {
            using Synapse = decltype(synapse);
            constexpr int sums = decltype(cell)::sums;
            const std::size_t length = chunk_.substep_length();
            for (int n = layer.first; n < layer.last; ++n) {
                for (int o = 0; o < decltype(cell)::own; ++o) {
                    const int row = chunk_.own_row(n, o);
                    d_own_[row] += sum_along<T, V>(chunk_.d_own[row], length);
                }
            }
            learn_from<Synapse, sums, false>(layer, layer.within, length);
            learn_from<Synapse, sums, true>(layer, layer.upstream, length);
            const int last_row = layer.row + layer.size() * sums;
            if (plan_.substeps > 1) {
                for (int row = layer.row; row < last_row; ++row) {
                    gather(chunk_.sums[row]);
                }
            }
            if (call_.d_inputs) {
                learn_from<Synapse, sums, true>(layer, layer.sensory, chunk_.length());
            } else {
                learn_from<Synapse, sums, false>(layer, layer.sensory, chunk_.length());
            }
            for (int row = layer.row; row < last_row; ++row) {
                d_bias_[row] += sum_along<T, V>(chunk_.sums[row], chunk_.length());
            }
        });
    }

    template <class Synapse, int sums, bool teaches>
    void learn_from(const Layer& layer, const Bundles& bundles, std::size_t length) {
        T* rows[sums];
        for (const Bundle& bundle : bundles) {
            for (std::size_t m = 0; m < bundle.near.size(); ++m) {
                sums_of(layer, bundle.near[m], rows);
                learn_along<Synapse, teaches, T, V>(bundle, static_cast<int>(m), weights_.forward,
                                                    heard_, taught_, rows, length, d_forward_);
            }
        }
    }

    /// `spread` in reverse: the sum over the substeps of each step, in place.
    void gather(T* row) {
        for (std::size_t t = 0; t < chunk_.steps; ++t) {
            Vector sum = Vector::load(row + t * plan_.substeps * V);
            for (int k = 1; k < plan_.substeps; ++k) {
                sum += Vector::load(row + (t * plan_.substeps + k) * V);
            }
            sum.store(row + t * V);
        }
    }

    void store_time_gradient() {
        const Vector scale(call_.time_scale), substeps(plan_.substeps);
        for (std::size_t i = 0; i < chunk_.length(); i += V) {
            (Vector::load(chunk_.d_time[0] + i) / scale / substeps).store(chunk_.d_time[0] + i);
        }
        from_rows(call_.d_elapsed, 1, chunk_.d_time, 0, 0);
    }

    /// What the state before the first step gets; a reset there has let nothing through.
    void store_state_gradient() {
        for (std::size_t lane = 0; lane < samples_; ++lane) {
            T* to = call_.d_state + (first_ + lane) * state_size();
            std::fill(to, to + state_size(), T(0));
            for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
                to[plan_.carried[i] - plan_.memory] = chunk_.d_carried[i][lane];
            }
            for (int m = 0; m < plan_.memory; ++m) {
                to[plan_.visible + m] = chunk_.d_memory[m][lane];
            }
        }
    }

    const Plan& plan_;
    const Weights<T>& weights_;
    const Call<T>& call_;
    const std::size_t first_, samples_, chunk_steps_;
    T** const heard_;   // where the row of each slot is in the chunk,
    T** const taught_;  // and the row of the gradients by it
    Chunk<T, V> chunk_{};
    T *d_forward_ = nullptr, *d_bias_ = nullptr, *d_own_ = nullptr;
};

}  // namespace liquid
