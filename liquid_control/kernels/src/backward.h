// The backward pass of a tile: chunks, blocks and steps in reverse.
//
// The loop over steps carries the gradient of the state and nothing else. The gradients of
// parameters, inputs and earlier blocks follow from the gradients of the sums, for all steps of a
// chunk at once.
#pragma once

#include "bundles.h"
#include "tile.h"

namespace liquid {

template <class T, int V>
class Backward {
    using Vector = Lanes<T, V>;

  public:
    /// `run` adds to the gradients of the parameters: `d_forward` (by target, as packed), `d_bias`
    /// (by row of sums) and `d_own`.
    Backward(Tile<T, V>& tile, T* d_forward, T* d_bias, T* d_own)
        : tile_(tile),
          plan_(tile.plan),
          call_(tile.call),
          chunk_(tile.chunk),
          d_forward_(d_forward),
          d_bias_(d_bias),
          d_own_(d_own) {}

    void run() {
        chunk_.d_carried.clear();
        chunk_.d_cell.clear();
        const std::size_t chunks = (call_.time + tile_.chunk_steps - 1) / tile_.chunk_steps;
        for (std::size_t c = chunks; c-- > 0;) {
            tile_.begin_chunk(c * tile_.chunk_steps);
            load_gradients();
            for (auto block = plan_.blocks.rbegin(); block != plan_.blocks.rend(); ++block) {
                block->coupled ? update_together(*block) : update_alone(*block);
                for (int l = block->first; l < block->last; ++l) {
                    add_gradients(plan_.layers[l]);
                }
            }
            if (call_.d_inputs) {
                tile_.from_rows(call_.d_inputs, plan_.inputs, chunk_.d_inputs, 0, 0);
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
    /// Copy the gradients of outputs and last state into the rows of the chunk, zero elsewhere.
    void load_gradients() {
        chunk_.d_now.clear();
        chunk_.d_before.clear();
        chunk_.d_inputs.clear();
        chunk_.d_time.clear();
        if (call_.d_outputs) {
            tile_.to_rows(call_.d_outputs, plan_.neurons - tile_.first_output(), chunk_.d_now,
                          tile_.first_output(), chunk_.steps);
        }
        if (call_.d_final_state && chunk_.begin + chunk_.steps == call_.time) {
            const std::size_t last = (chunk_.steps - 1) * V;
            for (std::size_t lane = 0; lane < tile_.samples; ++lane) {
                const T* from = call_.d_final_state + (tile_.first + lane) * plan_.state_size();
                for (int n = 0; n < plan_.visible; ++n) {
                    chunk_.d_now[plan_.hidden + n][last + lane] += from[n];
                }
                for (int c = 0; c < plan_.cells; ++c) {
                    chunk_.d_cell[c][lane] = from[plan_.visible + c];
                }
            }
        }
    }

    void update_alone(const Block& block) {
        for (int l = block.first; l < block.last; ++l) {
            with_model(plan_.layers[l].kind, [&, chunk = chunk_](auto model) {
                using Cell = typename decltype(model)::Cell;
                const int last = plan_.layers[l].last;
                for (Neuron neuron(plan_.layers[l]); neuron.number < last; neuron.next<Cell>()) {
                    if constexpr (Cell::past == Past::none) {
                        const T* const d_now = chunk.d_now[neuron.number];
                        along<T, V, 1>(chunk.length(), [&](auto lanes, auto, std::size_t i) {
                            using X = decltype(lanes);
                            X d_past(T(0));
                            chunk.template differentiate<Cell>(neuron, i, i, X::load(d_now + i),
                                                               d_past);
                        });
                    } else {
                        for (std::size_t t = chunk.steps; t-- > 0;) {
                            for (int k = chunk.substeps; k-- > 0;) {
                                chunk.template retreat<Cell>(neuron, t, k);
                                chunk.hand_back(neuron.number, t, k);
                            }
                        }
                    }
                }
            });
        }
    }

    void update_together(const Block& block) {
        for (std::size_t t = chunk_.steps; t-- > 0;) {
            for (int k = plan_.substeps; k-- > 0;) {
                for (int l = block.last; l-- > block.first;) {
                    const Layer& layer = plan_.layers[l];
                    with_model(layer.kind, [&, chunk = chunk_](auto model) {
                        using Cell = typename decltype(model)::Cell;
                        const int last = layer.last;
                        for (Neuron neuron(layer); neuron.number < last; neuron.next<Cell>()) {
                            chunk.template retreat<Cell>(neuron, t, k);
                        }
                        add_to_sources<typename decltype(model)::Within>(layer, t, k);
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

    /// Add the gradients of the neurons of its block that a layer passes on in one substep.
    template <class Synapse>
    void add_to_sources(const Layer& layer, std::size_t t, int k) {
        const std::size_t i = (t * plan_.substeps + k) * V;
        for (const Bundle& bundle : layer.back) {
            if (bundle.near.size() == 1) {
                d_source_step<Synapse, Vector, 1>(bundle, tile_.weights.backward, tile_.value,
                                                  tile_.grad, chunk_.sums, layer, i);
            } else if constexpr (!Synapse::opens) {
                d_source_step<Synapse, Vector, kTile>(bundle, tile_.weights.backward, tile_.value,
                                                      tile_.grad, chunk_.sums, layer, i);
            }
        }
    }

    /// Add the gradients of a layer's parameters, and of its sources outside the block, over the
    /// chunk.
    void add_gradients(const Layer& layer) {
        with_model(layer.kind, [&](auto model) {
            using Cell = typename decltype(model)::Cell;
            using Outside = typename decltype(model)::Outside;
            const std::size_t length = chunk_.substep_length();
            for (int n = layer.first; n < layer.last; ++n) {
                for (int o = 0; o < Cell::own; ++o) {
                    const int row = chunk_.own_row(n, o);
                    d_own_[row] += sum_along<T, V>(chunk_.d_own[row], length);
                }
            }
            for (const Bundle& bundle : layer.within) {
                add_gradients_by<typename decltype(model)::Within>(layer, bundle, 0,
                                                                   sources(bundle), false, length);
            }
            for (const Bundle& bundle : layer.upstream) {
                add_gradients_by<Outside>(layer, bundle, 0, sources(bundle), true, length);
            }
            const int last_row = layer.row + layer.size() * Cell::sums;
            if (plan_.substeps > 1) {
                for (int row = layer.row; row < last_row; ++row) {
                    gather(chunk_.sums[row]);
                }
            }
            for (const Bundle& bundle : layer.sensory) {
                // If the clock is a source, it is the last one.
                const std::size_t all = sources(bundle);
                const std::size_t inputs = all - (bundle.far.back() == plan_.clock());
                add_gradients_by<Outside>(layer, bundle, 0, inputs, call_.d_inputs != nullptr,
                                          chunk_.length());
                add_gradients_by<Outside>(layer, bundle, inputs, all, call_.d_elapsed != nullptr,
                                          chunk_.length());
            }
            for (int row = layer.row; row < last_row; ++row) {
                d_bias_[row] += sum_along<T, V>(chunk_.sums[row], chunk_.length());
            }
        });
    }

    static std::size_t sources(const Bundle& bundle) { return bundle.far.size(); }

    /// Add the gradients of the weights of a bundle from sources `first` to `last` and, if
    /// `by_source`, those of the sources.
    template <class Synapse>
    void add_gradients_by(const Layer& layer, const Bundle& bundle, std::size_t first,
                          std::size_t last, bool by_source, std::size_t length) {
        const auto add = by_source ? d_weights_along<Synapse, true, T, V>
                                   : d_weights_along<Synapse, false, T, V>;
        T* rows[Synapse::sums];
        for (std::size_t m = 0; m < bundle.near.size(); ++m) {
            layer.rows_of(bundle.near[m], chunk_.sums, rows);
            add(bundle, static_cast<int>(m), first, last, tile_.weights.forward, tile_.value,
                tile_.grad, rows, length, d_forward_);
        }
    }

    /// The reverse of `Forward::repeat`: the sum over the substeps of each step, in place.
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
        tile_.from_rows(call_.d_elapsed, 1, chunk_.d_time, 0, 0);
    }

    /// The gradient of the state before the first step, zero where an episode starts there.
    void store_state_gradient() {
        for (std::size_t lane = 0; lane < tile_.samples; ++lane) {
            T* to = call_.d_state + (tile_.first + lane) * plan_.state_size();
            std::fill(to, to + plan_.state_size(), T(0));
            for (std::size_t i = 0; i < plan_.carried.size(); ++i) {
                to[plan_.carried[i] - plan_.hidden] = chunk_.d_carried[i][lane];
            }
            for (int c = 0; c < plan_.cells; ++c) {
                to[plan_.visible + c] = chunk_.d_cell[c][lane];
            }
        }
    }

    Tile<T, V>& tile_;
    const Plan& plan_;
    const Call<T>& call_;
    Chunk<T, V>& chunk_;
    T *const d_forward_, *const d_bias_, *const d_own_;
};

}  // namespace liquid
