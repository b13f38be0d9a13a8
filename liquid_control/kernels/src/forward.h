// The forward pass of a tile.
//
// A chunk of steps is computed block by block. First come the sums over synapses from outside the
// block, for all steps at once along the rows: samples and steps together fill the widest registers
// for any batch. Then the neurons are updated. This needs a loop over steps only in a block with
// synapses among its own neurons; in other blocks each neuron is computed for all steps.
#pragma once

#include "bundles.h"
#include "tile.h"

namespace liquid {

template <class T, int V>
class Forward {
    using Vector = Lanes<T, V>;

  public:
    explicit Forward(Tile<T, V>& tile) : tile_(tile), plan_(tile.plan), chunk_(tile.chunk) {}

    void run() {
        load_state();
        for (std::size_t begin = 0; begin < tile_.call.time; begin += chunk_.steps) {
            if (!chunk_.keeps && begin > 0) {
                hand_over_state();
            }
            tile_.begin_chunk(begin);
            for (const Block& block : plan_.blocks) {
                for (int l = block.first; l < block.last; ++l) {
                    sum_outside(plan_.layers[l]);
                }
                block.coupled ? update_together(block) : update_alone(block);
            }
            tile_.from_rows(tile_.call.outputs, plan_.neurons - tile_.first_output(), chunk_.now,
                            tile_.first_output(), chunk_.origin());
        }
        store_state();
    }

  private:
    /// The state before the first step, zero where an episode starts there.
    void load_state() {
        const Call<T>& call = tile_.call;
        const auto number = [&](std::size_t column, std::size_t lane) {
            const std::size_t sample = tile_.first + lane;
            const bool is_new = lane >= tile_.samples || !call.state ||
                                (call.starts && call.time > 0 && call.starts[sample]);
            return is_new ? T(0) : call.state[sample * plan_.state_size() + column];
        };
        for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
            // Only visible neurons are carried; a hidden neuron's past is its cell.
            const std::size_t column = plan_.carried[i] - plan_.hidden;
            for (int lane = 0; lane < V; ++lane) {
                chunk_.before[i][lane] = number(column, lane);
            }
        }
        for (int c = 0; c < plan_.cells; ++c) {
            for (int lane = 0; lane < V; ++lane) {
                chunk_.cell[c][lane] = number(plan_.visible + c, lane);
            }
        }
    }

    /// Rows of one chunk begin with the state that the chunk before ended with.
    void hand_over_state() {
        for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
            Vector::load(chunk_.before[i] + tile_.chunk_steps * plan_.substeps * V)
                .store(chunk_.before[i]);
        }
        for (int c = 0; c < plan_.cells; ++c) {
            Vector::load(chunk_.cell[c] + tile_.chunk_steps * V).store(chunk_.cell[c]);
        }
    }

    /// The state after the last step.
    void store_state() {
        const Call<T>& call = tile_.call;
        const std::size_t last = (chunk_.keeps ? call.time - 1 : chunk_.steps - 1) * V;
        for (std::size_t lane = 0; lane < tile_.samples; ++lane) {
            T* to = call.final_state + (tile_.first + lane) * plan_.state_size();
            for (int n = 0; n < plan_.visible; ++n) {
                to[n] = chunk_.now[plan_.hidden + n][last + lane];
            }
            for (int c = 0; c < plan_.cells; ++c) {
                to[plan_.visible + c] = chunk_.cell[c][last + V + lane];
            }
        }
    }

    /// A layer's sums over synapses from outside its block, for all steps of the chunk.
    void sum_outside(const Layer& layer) {
        with_model(layer.kind, [&](auto model) {
            using Synapse = typename decltype(model)::Outside;
            T* rows[Synapse::sums];
            for (int row = layer.row; row < layer.row + layer.size() * Synapse::sums; ++row) {
                std::fill(chunk_.sums[row], chunk_.sums[row] + chunk_.length(),
                          tile_.weights.flat[plan_.bias[row]]);
            }
            for (const Bundle& bundle : layer.sensory) {
                layer.rows_of(bundle.near[0], chunk_.sums, rows);
                add_along<Synapse, T, V>(bundle, tile_.weights.forward, tile_.value, rows,
                                         chunk_.length());
            }
            if (plan_.substeps > 1) {
                for (int r = 0; r < layer.size() * Synapse::sums; ++r) {
                    repeat(chunk_.sums[layer.row + r]);
                }
            }
            for (const Bundle& bundle : layer.upstream) {
                layer.rows_of(bundle.near[0], chunk_.sums, rows);
                add_along<Synapse, T, V>(bundle, tile_.weights.forward, tile_.value, rows,
                                         chunk_.substep_length());
            }
        });
    }

    /// Repeat each step's vector for all of its substeps, in place.
    void repeat(T* row) {
        for (std::size_t t = chunk_.steps; t-- > 0;) {
            const Vector number = Vector::load(row + t * V);
            for (int k = plan_.substeps; k-- > 0;) {
                number.store(row + (t * plan_.substeps + k) * V);
            }
        }
    }

    /// All steps of a block without synapses of its own, one neuron after the other.
    void update_alone(const Block& block) {
        for (int l = block.first; l < block.last; ++l) {
            with_model(plan_.layers[l].kind, [&, chunk = chunk_](auto model) {
                using Cell = typename decltype(model)::Cell;
                const int last = plan_.layers[l].last;
                for (Neuron neuron(plan_.layers[l]); neuron.number < last; neuron.next<Cell>()) {
                    if constexpr (Cell::past == Past::none) {
                        T* const now = chunk.now[neuron.number] + chunk.origin();
                        along<T, V, 1>(chunk.length(), [&](auto lanes, auto, std::size_t i) {
                            using X = decltype(lanes);
                            chunk.template update<Cell, X>(neuron, i, i).store(now + i);
                        });
                    } else {
                        for (std::size_t t = 0; t < chunk.steps; ++t) {
                            for (int k = 0; k < chunk.substeps; ++k) {
                                chunk.template advance<Cell>(neuron, t, k);
                            }
                        }
                    }
                }
            });
        }
    }

    /// All steps of a block with synapses among its neurons, step by step.
    void update_together(const Block& block) {
        for (std::size_t t = 0; t < chunk_.steps; ++t) {
            for (int k = 0; k < plan_.substeps; ++k) {
                for (int l = block.first; l < block.last; ++l) {
                    const Layer& layer = plan_.layers[l];
                    with_model(layer.kind, [&, chunk = chunk_](auto model) {
                        using Cell = typename decltype(model)::Cell;
                        add_within<typename decltype(model)::Within>(layer, t, k);
                        const int last = layer.last;
                        for (Neuron neuron(layer); neuron.number < last; neuron.next<Cell>()) {
                            chunk.template advance<Cell>(neuron, t, k);
                        }
                    });
                }
            }
        }
    }

    /// Add what a layer receives in one substep from the neurons of its block.
    template <class Synapse>
    void add_within(const Layer& layer, std::size_t t, int k) {
        constexpr int sums = Synapse::sums, most = std::max(1, kTile / sums);
        const std::size_t i = (t * plan_.substeps + k) * V;
        T* rows[most][sums];
        for (const Bundle& bundle : layer.within) {
            const int near = static_cast<int>(bundle.near.size());
            for (int m = 0; m < near; ++m) {
                layer.rows_of(bundle.near[m], chunk_.sums, rows[m]);
            }
            if (near == 1) {
                add_step<Synapse, Vector, 1>(bundle, tile_.weights.forward, tile_.value, rows, i);
            } else if constexpr (most > 1 && !Synapse::opens) {
                add_step<Synapse, Vector, most>(bundle, tile_.weights.forward, tile_.value, rows,
                                                i);
            }
        }
    }

    Tile<T, V>& tile_;
    const Plan& plan_;
    Chunk<T, V>& chunk_;
};

}  // namespace liquid
