// The program of a circuit: its layers in the order of computation, and the synapses of each.
//
// Python describes a circuit by slots, layers and banks (see docs/kernels.md). A plan sorts its
// synapses by when they can be computed, and groups them so that registers are used well.
#pragma once

#include <algorithm>
#include <map>
#include <stdexcept>
#include <vector>

#include "models.h"

namespace liquid {

/// How many vectors of sums are kept in registers at a time.
constexpr int kTile = kRegisters / 2;

/// Synapses with the same far ends: `near` ones are computed together, in registers. The numbers of
/// the synapse between far[j] and near[m] start at weight + j * parameters * near.size() + m and
/// are near.size() apart.
struct Bundle {
    std::vector<int> near, far;
    int weight;
};
using Bundles = std::vector<Bundle>;

/// Synapses of one bank in the order of its tensor: number p of wire w is at w.index + p * apart.
struct Strand {
    struct Wire {
        int slot, target, index;  // the target counts from the first neuron of the layer
    };
    int bank, apart;
    bool within;  // from the layer's own block
    std::vector<Wire> wires;
};

/// Neurons that are updated at once. `row` is the first of their rows of sums: sum s of neuron i
/// of the layer is row + i * sums + s. `saved` is likewise the first of their rows that are saved
/// for the backward pass.
struct Layer {
    Kind kind;
    int first, last, block;
    int row, saved;
    Bundles sensory, upstream, within;  // by target: from inputs and clock, earlier blocks, its own
    Bundles back;                       // those within, by source
    std::vector<Strand> strands;        // all of them, in the order of the tensors
    int bias, bias_first, bias_apart;   // tensor of biases; sum s starts at first + s * apart

    int size() const { return last - first; }

    /// The rows of sums of one of its neurons, out of those of all.
    template <class Rows, class T, int sums>
    void rows_of(int neuron, const Rows& all, T* (&rows)[sums]) const {
        for (int s = 0; s < sums; ++s) {
            rows[s] = all[row + (neuron - first) * sums + s];
        }
    }
};

/// Consecutive layers that are computed together, step by step, because of synapses among them. If
/// there are none (not coupled), each neuron is computed for all steps of a chunk on its own.
struct Block {
    int first, last;
    bool coupled;
};

/// The synapses of one parameter tensor (parameters, count): their sources' slots and targets.
struct Bank {
    std::vector<int> slots, targets;
    int parameters;
};

/// The program of one circuit, and the order of computation that follows from it.
struct Plan {
    /// A slot is a source of synapses: an input, the elapsed time, a neuron's activity now, or that
    /// of the step before. Neurons are the hidden ones of a mixed memory, then the visible ones.
    /// Neurons with a cell besides their activity come first; the state is the visible neurons'
    /// activities, then the cells. The parameters of a call are the banks, the biases (sums,
    /// neurons) of hidden and of visible neurons, and the neurons' own parameters. Those of an LTC
    /// are computed from other tensors (conductances.h).
    struct Description {
        int inputs, hidden, visible, substeps;
        std::vector<Layer> layers;
        std::vector<Bank> banks;
    };

    int inputs, hidden, visible, neurons, substeps;
    int cells = 0, rows = 0, saved_rows = 0, own = 0, own_start = 0;
    bool conductances = false, clocked = false;  // clocked: a synapse leads from the elapsed time
    int opening = 0;  // numbers of a synapse, if it computes a sigmoid of its source
    std::vector<Layer> layers;
    std::vector<Block> blocks;
    std::vector<Bank> banks;
    std::vector<int> parameter_sizes;    // of each bank, biases and own parameters
    std::vector<int> forward, backward;  // parameter of each packed number, by target, by source
    std::vector<int> bias;               // parameter of each row of sums
    std::vector<int> carried;            // neurons whose activity the next step needs
    std::vector<int> carried_row;        // of each neuron, its place among those, or -1

    explicit Plan(Description from)
        : inputs(from.inputs),
          hidden(from.hidden),
          visible(from.visible),
          neurons(from.hidden + from.visible),
          substeps(from.substeps),
          layers(std::move(from.layers)),
          banks(std::move(from.banks)) {
        lay_out();
        connect();
    }

    int parameter_count() const {
        int count = 0;
        for (int size : parameter_sizes) {
            count += size;
        }
        return count;
    }
    int state_size() const { return visible + cells; }
    int slots() const { return inputs + 1 + 2 * neurons; }
    /// Elapsed time over the time scale, minus one: zero at the nominal rate.
    int clock() const { return inputs; }
    int now(int neuron) const { return inputs + 1 + neuron; }
    int before(int neuron) const { return now(neurons + neuron); }

  private:
    void lay_out() {
        for (Layer& layer : layers) {
            layer.row = rows;
            layer.saved = saved_rows;
            with_model(layer.kind, [&](auto model) {
                using Cell = typename decltype(model)::Cell;
                rows += layer.size() * Cell::sums;
                saved_rows += layer.size() * Cell::saved_with_time;
                own = std::max(own, Cell::own);
                if (decltype(model)::Outside::opens) {
                    opening = decltype(model)::Outside::parameters;
                }
                if (Cell::past == Past::cell) {
                    if (layer.first != cells) {
                        throw std::invalid_argument("neurons with a cell must come first");
                    }
                    cells = layer.last;
                }
            });
            conductances = conductances || layer.kind == Kind::ltc;
            if (blocks.size() <= static_cast<std::size_t>(layer.block)) {
                blocks.resize(layer.block + 1);
            }
        }
        for (int b = 0; b < static_cast<int>(blocks.size()); ++b) {
            const auto in_block = [b](const Layer& layer) { return layer.block == b; };
            const auto first = std::find_if(layers.begin(), layers.end(), in_block);
            const auto last = std::find_if_not(first, layers.end(), in_block);
            blocks[b] = {int(first - layers.begin()), int(last - layers.begin()), false};
        }
    }

    struct Synapse {
        int parameter, apart;  // its first parameter, and how far apart they lie
    };
    using Ends = std::map<int, std::map<int, Synapse>>;  // near end to far ends

    void connect() {
        std::vector<int> layer_of(neurons, -1);
        for (int l = 0; l < static_cast<int>(layers.size()); ++l) {
            for (int n = layers[l].first; n < layers[l].last; ++n) {
                layer_of.at(n) = l;
            }
        }
        std::vector<Ends> sensory(layers.size()), upstream(layers.size()), within(layers.size()),
            back(layers.size());
        std::vector<bool> is_carried(neurons, false);
        int start = 0;
        for (const Bank& bank : banks) {
            const int count = static_cast<int>(bank.targets.size());
            const int number = static_cast<int>(parameter_sizes.size());
            for (Layer& layer : layers) {
                layer.strands.push_back({number, count, false, {}});
                layer.strands.push_back({number, count, true, {}});
            }
            for (int i = 0; i < count; ++i) {
                const int slot = bank.slots[i], target = bank.targets[i];
                if (slot < 0 || slot >= slots() || target < 0 || target >= neurons ||
                    layer_of[target] < 0) {
                    throw std::invalid_argument("a synapse leads out of the circuit");
                }
                const int l = layer_of[target];
                const Synapse synapse{start + i, count};
                const int source = slot < now(0) ? -1 : (slot - now(0)) % neurons;
                const bool is_within =
                    source >= 0 && layers[layer_of[source]].block == layers[l].block;
                const Strand::Wire wire{slot, target - layers[l].first, i};
                layers[l].strands.end()[is_within ? -1 : -2].wires.push_back(wire);
                if (source < 0) {
                    clocked = clocked || slot == clock();
                    sensory[l][target][slot] = synapse;
                    continue;
                }
                if (slot >= before(0)) {
                    is_carried[source] = true;
                }
                if (is_within) {
                    within[l][target][slot] = synapse;
                    back[l][slot][target] = synapse;
                    blocks[layers[l].block].coupled = true;
                } else {
                    upstream[l][target][slot] = synapse;
                }
            }
            parameter_sizes.push_back(bank.parameters * count);
            start += parameter_sizes.back();
        }
        add_biases(start);
        for (std::size_t l = 0; l < layers.size(); ++l) {
            Layer& layer = layers[l];
            with_model(layer.kind, [&](auto model) {
                using Cell = typename decltype(model)::Cell;
                constexpr int parameters = decltype(model)::Outside::parameters;
                const int tile = opening ? 1 : kTile;
                layer.sensory = bundle(sensory[l], parameters, 1, forward);
                layer.upstream = bundle(upstream[l], parameters, 1, forward);
                layer.within =
                    bundle(within[l], parameters, std::max(1, tile / Cell::sums), forward);
                layer.back = bundle(back[l], parameters, tile, backward);
                for (int n = layer.first; n < layer.last; ++n) {
                    if (Cell::past == Past::activity) {
                        is_carried[n] = true;
                    }
                }
            });
        }
        for (int n = 0; n < neurons; ++n) {
            carried_row.push_back(is_carried[n] ? static_cast<int>(carried.size()) : -1);
            if (is_carried[n]) {
                carried.push_back(n);
            }
        }
    }

    void add_biases(int start) {
        bias.resize(rows);
        for (const auto& [first, count] : {std::pair{0, hidden}, std::pair{hidden, visible}}) {
            int sums = 0;
            for (Layer& layer : layers) {
                if (layer.first < first || layer.first >= first + count) {
                    continue;
                }
                layer.bias = static_cast<int>(parameter_sizes.size());
                layer.bias_first = layer.first - first;
                layer.bias_apart = count;
                with_model(layer.kind, [&](auto model) { sums = decltype(model)::Cell::sums; });
                for (int n = layer.first; n < layer.last; ++n) {
                    for (int s = 0; s < sums; ++s) {
                        bias[layer.row + (n - layer.first) * sums + s] =
                            start + s * count + (n - first);
                    }
                }
            }
            if (count > 0) {
                parameter_sizes.push_back(sums * count);
            }
            start += sums * count;
        }
        own_start = start;
        if (own > 0) {
            parameter_sizes.push_back(own * visible);
        }
    }

    /// Group near ends that have the same far ends, `tile` at a time, and lay out their numbers.
    static Bundles bundle(const Ends& ends, int parameters, int tile, std::vector<int>& order) {
        Bundles bundles;
        for (auto first = ends.begin(); first != ends.end();) {
            auto last = first;
            int count = 0;
            while (last != ends.end() && count < tile && same_ends(first->second, last->second)) {
                ++last, ++count;
            }
            if (count < tile) {
                last = std::next(first), count = 1;
            }
            Bundle made;
            made.weight = static_cast<int>(order.size());
            for (auto near = first; near != last; ++near) {
                made.near.push_back(near->first);
            }
            for (const auto& [far, unused] : first->second) {
                made.far.push_back(far);
                for (int p = 0; p < parameters; ++p) {
                    for (auto near = first; near != last; ++near) {
                        const Synapse synapse = near->second.at(far);
                        order.push_back(synapse.parameter + p * synapse.apart);
                    }
                }
            }
            bundles.push_back(std::move(made));
            first = last;
        }
        return bundles;
    }

    static bool same_ends(const std::map<int, Synapse>& a, const std::map<int, Synapse>& b) {
        return a.size() == b.size() &&
               std::equal(a.begin(), a.end(), b.begin(),
                          [](const auto& x, const auto& y) { return x.first == y.first; });
    }
};

}  // namespace liquid
