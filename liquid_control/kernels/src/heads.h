// Value heads of a soft critic: several networks of relu layers over what a circuit shows and an
// action, in single precision.
#pragma once

#include <stdexcept>
#include <utility>
#include <vector>

#include "addresses.h"
#include "aligned.h"
#include "network.h"

namespace liquid {

/// How large `heads` value heads are. They see neurons and inputs of a circuit, and an action.
struct HeadSizes {
    std::size_t heads, neurons, inputs, actions;
    std::vector<std::size_t> layers;

    std::size_t between() const { return layers.size() - 1; }
    /// Where a layer's bias is among the tensors of a head, and where its weight is. The first
    /// layer has two weights: that of neurons and inputs, and that of actions.
    std::size_t bias(std::size_t layer) const { return layer ? 2 + between() + layer : 2; }
    std::size_t weight(std::size_t layer) const { return 2 + layer; }
    std::size_t value_weight() const { return 3 + 2 * between(); }
    std::size_t value_bias() const { return 4 + 2 * between(); }

    /// Rows and columns of each tensor of one head, in the order of `SoftCritic.tensors`.
    std::vector<std::pair<std::size_t, std::size_t>> tensors() const {
        std::vector<std::pair<std::size_t, std::size_t>> shapes{
            {neurons + inputs, layers[0]}, {actions, layers[0]}, {1, layers[0]}};
        for (std::size_t i = 0; i < between(); ++i) {
            shapes.emplace_back(layers[i], layers[i + 1]);
        }
        for (std::size_t i = 0; i < between(); ++i) {
            shapes.emplace_back(1, layers[i + 1]);
        }
        shapes.emplace_back(1, layers.back());
        shapes.emplace_back(1, 1);
        return shapes;
    }
};

/// The tensors of one head, in padded rows.
using HeadRows = std::vector<Rows<float>>;

/// Heads, packed for products.
class Heads {
  public:
    /// A parameter has the tensors of all heads, one after the other.
    Heads(const HeadSizes& sizes, const std::vector<Address>& parameters)
        : sizes_(sizes), shapes_(sizes.tensors()), parameters_(all_at<const float>(parameters)) {
        if (parameters_.size() != shapes_.size()) {
            throw std::invalid_argument("the heads take other parameter tensors");
        }
        std::size_t numbers = 0;
        for (const auto& [rows, columns] : shapes_) {
            numbers += Rows<float>::size(rows, columns) + Rows<float>::size(columns, rows);
        }
        memory_.resize(sizes.heads * numbers);
        float* memory = memory_.data();
        for (std::size_t head = 0; head < sizes.heads; ++head) {
            packed_.push_back(rows_in(memory, shapes_));
            turned_.emplace_back();
            for (const auto& [rows, columns] : shapes_) {
                turned_.back().emplace_back(memory, columns, rows);
            }
        }
    }

    /// Copy the parameters into rows; `turns`: transposed as well.
    void pack(bool turns, std::size_t threads) {
        in_parallel(sizes_.heads, threads, [&](std::size_t head, std::size_t) {
            for (std::size_t i = 0; i < shapes_.size(); ++i) {
                const auto [rows, columns] = shapes_[i];
                const float* const from = parameters_[i] + head * rows * columns;
                for (std::size_t row = 0; row < rows; ++row) {
                    std::copy_n(from + row * columns, columns, packed_[head][i][row]);
                }
                for (std::size_t column = 0; turns && column < columns; ++column) {
                    for (std::size_t row = 0; row < rows; ++row) {
                        turned_[head][i][column][row] = from[row * columns + column];
                    }
                }
            }
        });
    }

    /// Rows for the tensors of one head.
    static HeadRows rows_in(float*& memory,
                            const std::vector<std::pair<std::size_t, std::size_t>>& shapes) {
        HeadRows rows;
        for (const auto& [count, length] : shapes) {
            rows.emplace_back(memory, count, length);
        }
        return rows;
    }

    /// Write the first layer's sums without the action's share, (count, layer). Inputs are rows of
    /// samples without padding.
    void context(std::size_t head, std::size_t count, const float* neurons, const float* inputs,
                 const Rows<float>& to) const {
        const HeadRows& own = packed_[head];
        const Rows<float>& weight = own[0];
        const std::size_t width = sizes_.layers[0];
        multiply<float>({neurons, sizes_.neurons, 1}, weight[0], weight.step(), count,
                        sizes_.neurons, width, own[sizes_.bias(0)][0], to[0], to.step());
        multiply<float>({inputs, sizes_.inputs, 1}, weight[sizes_.neurons], weight.step(), count,
                        sizes_.inputs, width, to[0], to[0], to.step(), to.step());
    }

    /// Write the activations of all layers, (count, layer) each, and the values of actions.
    void forward(std::size_t head, std::size_t count, const Rows<float>& context,
                 const float* actions, const std::vector<Rows<float>>& levels,
                 float* values) const {
        const HeadRows& own = packed_[head];
        for (std::size_t i = 0; i < sizes_.layers.size(); ++i) {
            const std::size_t width = sizes_.layers[i];
            const Rows<float>&to = levels[i], &weight = own[i ? sizes_.weight(i) : 1];
            if (i == 0) {
                multiply<float>({actions, sizes_.actions, 1}, weight[0], weight.step(), count,
                                sizes_.actions, width, context[0], to[0], to.step(),
                                context.step());
            } else {
                multiply<float>({levels[i - 1][0], levels[i - 1].step(), 1}, weight[0],
                                weight.step(), count, sizes_.layers[i - 1], width,
                                own[sizes_.bias(i)][0], to[0], to.step());
            }
            on_rows(to, count, width,
                    [](auto x, std::size_t, std::size_t) { return Relu::forward(x); });
        }
        const float* const weight = own[sizes_.value_weight()][0];
        const float* const bias = own[sizes_.value_bias()][0];
        for (std::size_t s = 0; s < count; ++s) {
            multiply_one_block<1>(weight, bias, levels.back()[s], sizes_.layers.back(), values + s);
        }
    }

    /// Turn gradients of values into those of the sums of every layer.
    void deltas(std::size_t head, std::size_t count, const float* d_values,
                const std::vector<Rows<float>>& levels,
                const std::vector<Rows<float>>& deltas) const {
        const float* const of_value = packed_[head][sizes_.value_weight()][0];
        for (std::size_t i = sizes_.layers.size(); i-- > 0;) {
            const Rows<float>&to = deltas[i], &level = levels[i];
            if (i == sizes_.between()) {
                on_rows(to, count, sizes_.layers[i], [&](auto x, std::size_t s, std::size_t j) {
                    using X = decltype(x);
                    return Relu::backward(X(d_values[s]) * X::load(of_value + j),
                                          X::load(level[s] + j));
                });
                continue;
            }
            const Rows<float>&from = deltas[i + 1], &weight = turned_[head][sizes_.weight(i + 1)];
            multiply<float>({from[0], from.step(), 1}, weight[0], weight.step(), count,
                            sizes_.layers[i + 1], sizes_.layers[i], nullptr, to[0], to.step());
            on_rows(to, count, sizes_.layers[i], [&](auto x, std::size_t s, std::size_t j) {
                return Relu::backward(x, decltype(x)::load(level[s] + j));
            });
        }
    }

    /// Write the gradient of actions, (count, actions), given that of the first layer's sums.
    void back_to_actions(std::size_t head, std::size_t count, const Rows<float>& delta,
                         const Rows<float>& to) const {
        const Rows<float>& weight = turned_[head][1];
        multiply<float>({delta[0], delta.step(), 1}, weight[0], weight.step(), count,
                        sizes_.layers[0], sizes_.actions, nullptr, to[0], to.step());
    }

    /// Add the gradient of neurons, (count, neurons), given that of the first layer's sums.
    void back_to_neurons(std::size_t head, std::size_t count, const Rows<float>& delta,
                         const Rows<float>& to) const {
        const Rows<float>& weight = turned_[head][0];
        multiply<float>({delta[0], delta.step(), 1}, weight[0], weight.step(), count,
                        sizes_.layers[0], sizes_.neurons, to[0], to[0], to.step(), to.step());
    }

    /// Write the gradients of a head's tensors.
    void back_to_weights(std::size_t count, const float* neurons, const float* inputs,
                         const float* actions, const float* d_values,
                         const std::vector<Rows<float>>& levels,
                         const std::vector<Rows<float>>& deltas, const HeadRows& gradients) const {
        const auto product = [&](const float* from, std::size_t rows, std::size_t step,
                                 const Rows<float>& right, std::size_t columns, float* to,
                                 std::size_t to_step) {
            multiply<float>({from, 1, step}, right[0], right.step(), rows, count, columns, nullptr,
                            to, to_step);
        };
        const std::size_t width = sizes_.layers[0];
        const Rows<float>&of_context = gradients[0], &of_actions = gradients[1];
        product(neurons, sizes_.neurons, sizes_.neurons, deltas[0], width, of_context[0],
                of_context.step());
        product(inputs, sizes_.inputs, sizes_.inputs, deltas[0], width, of_context[sizes_.neurons],
                of_context.step());
        product(actions, sizes_.actions, sizes_.actions, deltas[0], width, of_actions[0],
                of_actions.step());
        for (std::size_t i = 0; i < sizes_.layers.size(); ++i) {
            add_rows(deltas[i], 0, count, sizes_.layers[i], gradients[sizes_.bias(i)][0]);
            if (i > 0) {
                const Rows<float>& to = gradients[sizes_.weight(i)];
                product(levels[i - 1][0], sizes_.layers[i - 1], levels[i - 1].step(), deltas[i],
                        sizes_.layers[i], to[0], to.step());
            }
        }
        const Rows<float>& last = levels.back();
        multiply<float>({d_values, 0, 1}, last[0], last.step(), 1, count, sizes_.layers.back(),
                        nullptr, gradients[sizes_.value_weight()][0], 0);
        float& d_bias = *gradients[sizes_.value_bias()][0] = 0;
        for (std::size_t s = 0; s < count; ++s) {
            d_bias += d_values[s];
        }
    }

  private:
    /// Replace vectors x at column j of row s by function(x, s, j).
    template <class Function>
    static void on_rows(const Rows<float>& rows, std::size_t count, std::size_t width,
                        Function function) {
        using X = Lanes<float, kWidest<float>>;
        for (std::size_t s = 0; s < count; ++s) {
            for (std::size_t j = 0; j < width; j += X::width) {
                function(X::load(rows[s] + j), s, j).store(rows[s] + j);
            }
        }
    }

    const HeadSizes sizes_;
    const std::vector<std::pair<std::size_t, std::size_t>> shapes_;
    const std::vector<const float*> parameters_;
    Aligned<float> memory_;
    std::vector<HeadRows> packed_, turned_;
};

}  // namespace liquid
