// One step of one sample, as a policy computes it that acts in one environment. Registers hold
// neurons side by side, not samples. The parameters are read where they are, or packed as they were
// for an earlier step.
#pragma once

#include <vector>

#include "call.h"
#include "packing.h"
#include "rows.h"

namespace liquid {

template <class T>
class Solo {
    using X = Lanes<T, kWidest<T>>;

  public:
    /// Whether it can replace tiles. They compute sigmoids of synapses faster.
    static bool fits(const Plan& plan, const Call<T>& call) {
        return call.time == 1 && call.batch == 1 && !call.kept && plan.opening == 0;
    }

    /// `packed` may be null.
    Solo(const Plan& plan, const std::vector<const T*>& parameters, const Call<T>& call,
         const Weights<T>* packed)
        : plan_(plan), parameters_(parameters), call_(call), packed_(packed) {
        thread_local Aligned<T> memory;
        const std::size_t row = Rows<T>::size(1, plan.neurons);
        const std::size_t size = plan.slots() + plan.cells + (kMostRows + 1) * row;
        if (memory.size() < size) {
            memory.resize(size);
        }
        T* at = memory.data();
        sums_ = Rows<T>(at, kMostRows, plan.neurons);
        result_ = Rows<T>(at, 1, plan.neurons);
        value_ = at;
        cells_ = at + plan.slots();
    }

    void forward() {
        const bool is_new = !call_.state || (call_.starts && call_.starts[0]);
        const auto load_state = [&](T* to, int first, int count) {
            if (is_new) {
                std::fill_n(to, count, T(0));
            } else {
                std::copy_n(call_.state + first, count, to);
            }
        };
        std::copy_n(call_.inputs, plan_.inputs, value_);
        load_state(value_ + plan_.before(plan_.hidden), 0, plan_.visible);
        load_state(cells_, plan_.visible, plan_.cells);
        value_[plan_.clock()] = elapsed() - T(1);
        for (int k = 0; k < plan_.substeps; ++k) {
            if (k > 0) {
                std::copy_n(visible(), plan_.visible, value_ + plan_.before(plan_.hidden));
            }
            for (const Layer& layer : plan_.layers) {
                with_model(layer.kind, [&](auto model) { update<decltype(model)>(layer); });
            }
        }
        std::copy_n(visible() + call_.first_output, plan_.visible - call_.first_output,
                    call_.outputs);
        std::copy_n(visible(), plan_.visible, call_.final_state);
        std::copy_n(cells_, plan_.cells, call_.final_state + plan_.visible);
    }

  private:
    static constexpr int kMostRows = 8;  // sums, past and own parameters of any cell

    const T* visible() const { return value_ + plan_.now(plan_.hidden); }

    /// In time scales.
    T elapsed() const { return call_.elapsed ? call_.elapsed[0] / call_.time_scale : T(1); }

    template <class Model>
    void update(const Layer& layer) {
        using Cell = typename Model::Cell;
        constexpr int past_row = Cell::sums, own_row = past_row + 1;
        static_assert(own_row + Cell::own <= kMostRows);
        const int size = layer.size();
        add<Model>(layer);
        for (int o = 0; o < Cell::own; ++o) {
            const T* own = parameters_.back() + o * plan_.visible + layer.first - plan_.hidden;
            std::copy_n(own, size, sums_[own_row + o]);
        }
        T* const past_of_layer =
            Cell::past == Past::cell ? cells_ + layer.first : value_ + plan_.before(layer.first);
        std::copy_n(past_of_layer, size, sums_[past_row]);
        const X time(elapsed() / T(plan_.substeps));
        for (int i = 0; i < size; i += X::width) {
            X sums[Cell::sums], own[Cell::own + 1], saved[Cell::saved_with_time];
            for (int s = 0; s < Cell::sums; ++s) {
                sums[s] = X::load(sums_[s] + i);
            }
            for (int o = 0; o < Cell::own; ++o) {
                own[o] = X::load(sums_[own_row + o] + i);
            }
            X past = X::load(sums_[past_row] + i);
            Cell::forward(sums, past, time, own, saved).store(result_[0] + i);
            past.store(sums_[past_row] + i);
        }
        std::copy_n(result_[0], size, value_ + plan_.now(layer.first));
        if (Cell::past == Past::cell) {
            std::copy_n(sums_[past_row], size, past_of_layer);
        }
    }

    /// The sums of a layer over its synapses and biases.
    template <class Model>
    void add(const Layer& layer) {
        T* rows[Model::Cell::sums];
        for (int s = 0; s < Model::Cell::sums; ++s) {
            rows[s] = sums_[s];
            const T* bias = parameters_[layer.bias] + layer.bias_first + s * layer.bias_apart;
            std::copy_n(bias, layer.size(), rows[s]);
        }
        if constexpr (!Model::Outside::opens) {
            if (packed_) {
                add<typename Model::Outside>(layer.sensory, layer.first, rows);
                add<typename Model::Outside>(layer.upstream, layer.first, rows);
                add<typename Model::Within>(layer.within, layer.first, rows);
                return;
            }
            for (const Strand& strand : layer.strands) {
                strand.within ? add<typename Model::Within>(strand, rows)
                              : add<typename Model::Outside>(strand, rows);
            }
        }
    }

    template <class Synapse, int sums>
    void add(const Strand& strand, T* const (&rows)[sums]) {
        const T* const weights = parameters_[strand.bank];
        for (const Strand::Wire& wire : strand.wires) {
            const T source = value_[wire.slot];
            const T* weight = weights + wire.index;
            for (int p = 0; p < Synapse::parameters; ++p) {
                rows[Synapse::sum_of(p)][wire.target] += source * weight[p * strand.apart];
            }
        }
    }

    /// Add packed synapses to the sums of the layer whose first neuron is `first`.
    template <class Synapse, int sums>
    void add(const Bundles& bundles, int first, T* const (&rows)[sums]) {
        constexpr int most = std::max(1, kTile / sums);
        for (const Bundle& bundle : bundles) {
            if (bundle.near.size() == 1) {
                add<Synapse, 1>(bundle, first, rows);
            } else {
                add<Synapse, most>(bundle, first, rows);
            }
        }
    }

    template <class Synapse, int near, int sums>
    void add(const Bundle& bundle, int first, T* const (&rows)[sums]) {
        constexpr int width = Synapse::parameters * near, part = std::min(4, kWidest<T>);
        const T* weight = packed_->forward + bundle.weight;
        T sum[width] = {};
        if constexpr (width % part == 0) {
            using Part = Lanes<T, part>;
            Part parts[width / part];
            for (Part& each : parts) {
                each = Part(T(0));
            }
            for (const int slot : bundle.far) {
                const Part source(value_[slot]);
                for (Part& each : parts) {
                    each += source * Part::load(weight);
                    weight += part;
                }
            }
            for (int i = 0; i < width / part; ++i) {
                parts[i].store(sum + i * part);
            }
        } else {
            for (const int slot : bundle.far) {
                for (T& each : sum) {
                    each += value_[slot] * *weight++;
                }
            }
        }
        for (int p = 0; p < Synapse::parameters; ++p) {
            for (int m = 0; m < near; ++m) {
                rows[Synapse::sum_of(p)][bundle.near[m] - first] += sum[p * near + m];
            }
        }
    }

    const Plan& plan_;
    const std::vector<const T*>& parameters_;
    const Call<T>& call_;
    const Weights<T>* const packed_;
    Rows<T> sums_, result_;
    T *value_, *cells_;
};

}  // namespace liquid
