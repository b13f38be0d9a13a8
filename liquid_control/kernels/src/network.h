// Feed-forward networks: linear layers with an activation after each, forward and backward.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "functions.h"
#include "matrices.h"
#include "samples.h"

namespace liquid {

struct Identity {
    template <class X>
    static LIQUID_INLINE X forward(X x) {
        return x;
    }
    template <class X>
    static LIQUID_INLINE X backward(X gradient, X) {
        return gradient;
    }
};

struct Tanh {
    template <class X>
    static LIQUID_INLINE X forward(X x) {
        return tanh(x);
    }
    template <class X>
    static LIQUID_INLINE X backward(X gradient, X y) {
        return gradient * (X(1) - y * y);
    }
};

struct Relu {
    template <class X>
    static LIQUID_INLINE X forward(X x) {
        return at_least(x, 0);
    }
    template <class X>
    static LIQUID_INLINE X backward(X gradient, X y) {
        return gradient * y.sign();
    }
};

/// Call `function` with the activation of that name.
template <class Function>
void with_activation(const std::string& name, Function function) {
    if (name == "tanh") {
        function(Tanh());
    } else if (name == "relu") {
        function(Relu());
    } else if (name == "identity") {
        function(Identity());
    } else {
        throw std::invalid_argument("unknown activation " + name);
    }
}

/// A tensor with some of the inputs of each sample.
template <class T>
struct Part {
    const T* inputs;
    std::size_t width, step;  // numbers of a sample, and from one sample to the next
    T* gradient;              // (samples, width), or null: not wanted
};

/// A network, which is applied to each sample alone.
class Network {
  public:
    /// `sizes` from the inputs to the last layer, and the activation after each layer.
    Network(std::vector<std::size_t> sizes, std::vector<std::string> activations)
        : sizes_(std::move(sizes)), activations_(std::move(activations)) {
        for (const std::string& name : activations_) {
            with_activation(name, [](auto) {});
        }
        if (sizes_.size() != activations_.size() + 1) {
            throw std::invalid_argument("a network has one activation for each layer");
        }
    }

    std::size_t layers() const { return activations_.size(); }
    std::size_t inputs() const { return sizes_.front(); }
    std::size_t outputs() const { return sizes_.back(); }

    /// Numbers in each of the parameter tensors: weight and bias of each layer.
    std::vector<std::size_t> tensor_sizes() const {
        std::vector<std::size_t> numbers;
        for (std::size_t i = 0; i < layers(); ++i) {
            numbers.insert(numbers.end(), {sizes_[i] * sizes_[i + 1], sizes_[i + 1]});
        }
        return numbers;
    }

    /// Numbers that `forward` keeps for `backward`.
    template <class T>
    std::size_t kept_size(std::size_t samples) const {
        std::size_t numbers = 0;
        for (const std::size_t size : sizes_) {
            numbers += Rows<T>::size(samples, size);
        }
        return numbers;
    }

    /// Parameters are weight (outputs, inputs) and bias of each layer; `kept` may be null.
    template <class T>
    void forward(std::size_t samples, const std::vector<Part<T>>& parts,
                 const std::vector<const T*>& parameters, T* kept, T* outputs,
                 std::size_t threads) const {
        T* memory = reserve<T>(parameter_size<T>() + (kept ? 0 : kept_size<T>(samples)));
        std::vector<Rows<T>> weights, biases;  // (inputs, outputs) and (1, outputs)
        for (std::size_t i = 0; i < layers(); ++i) {
            const std::size_t inputs = sizes_[i], outputs_ = sizes_[i + 1];
            weights.emplace_back(memory, inputs, outputs_);
            biases.emplace_back(memory, 1, outputs_);
            const T* weight = parameters[2 * i];
            for (std::size_t k = 0; k < inputs; ++k) {
                for (std::size_t j = 0; j < outputs_; ++j) {
                    weights[i][k][j] = weight[j * inputs + k];
                }
            }
            std::copy_n(parameters[2 * i + 1], outputs_, biases[i][0]);
        }
        const std::vector<Rows<T>> levels = levels_in(kept ? kept : memory, samples);
        in_tiles(samples, threads, [&](std::size_t, std::size_t first, std::size_t count) {
            gather(parts, first, count, levels[0]);
            for (std::size_t i = 0; i < layers(); ++i) {
                const Rows<T>&from = levels[i], &to = levels[i + 1];
                multiply<T>({from[first], from.step(), 1}, weights[i][0], weights[i].step(), count,
                            sizes_[i], sizes_[i + 1], biases[i][0], to[first], to.step());
                activate(i, to, first, count);
            }
            for (std::size_t s = first; s < first + count; ++s) {
                std::copy_n(levels.back()[s], sizes_.back(), outputs + s * sizes_.back());
            }
        });
    }

    /// Like `forward` for one sample. The weights are read where they are: packing them would take
    /// longer than the product does.
    template <class T>
    void forward_one(const T* inputs, const T* const* parameters, T* outputs) const {
        const std::size_t widest = *std::max_element(sizes_.begin(), sizes_.end());
        T* memory = reserve<T>(Rows<T>::size(2, widest));
        const Rows<T> rows(memory, 2, widest);
        for (std::size_t i = 0; i < layers(); ++i) {
            multiply_one(parameters[2 * i], parameters[2 * i + 1], inputs, sizes_[i], sizes_[i + 1],
                         rows[i % 2]);
            activate(i, rows, i % 2, 1);
            inputs = rows[i % 2];
        }
        std::copy_n(inputs, sizes_.back(), outputs);
    }

    /// Writes the gradients of the parts, and of the parameters; null for an unwanted one.
    template <class T>
    void backward(std::size_t samples, const std::vector<Part<T>>& parts,
                  const std::vector<const T*>& parameters, T* kept, const T* d_outputs,
                  const std::vector<T*>& d_parameters, std::size_t threads) const {
        const std::size_t tiles = tile_count(samples);
        T* memory = reserve<T>((1 + tiles) * parameter_size<T>() + kept_size<T>(samples));
        std::vector<Rows<T>> weights;  // (outputs, inputs)
        for (std::size_t i = 0; i < layers(); ++i) {
            weights.emplace_back(memory, sizes_[i + 1], sizes_[i]);
            for (std::size_t j = 0; j < sizes_[i + 1]; ++j) {
                std::copy_n(parameters[2 * i] + j * sizes_[i], sizes_[i], weights[i][j]);
            }
        }
        const std::vector<Rows<T>> levels = levels_in(kept, samples);
        std::vector<std::vector<Rows<T>>> by_tile;
        for (std::size_t tile = 0; tile < tiles; ++tile) {
            by_tile.push_back(gradients_in(memory));
        }
        const std::vector<Rows<T>> deltas = levels_in(memory, samples);
        const bool by_inputs = std::any_of(parts.begin(), parts.end(),
                                           [](const Part<T>& part) { return part.gradient; });
        in_tiles(samples, threads, [&](std::size_t tile, std::size_t first, std::size_t count) {
            for (std::size_t s = first; s < first + count; ++s) {
                std::copy_n(d_outputs + s * sizes_.back(), sizes_.back(), deltas.back()[s]);
            }
            for (std::size_t i = layers(); i-- > 0;) {
                const Rows<T>&delta = deltas[i + 1], &from = levels[i], &to = deltas[i];
                const Rows<T>&d_weight = by_tile[tile][2 * i], &d_bias = by_tile[tile][2 * i + 1];
                deactivate(i, delta, levels[i + 1], first, count);
                multiply<T>({delta[first], 1, delta.step()}, from[first], from.step(),
                            sizes_[i + 1], count, sizes_[i], nullptr, d_weight[0], d_weight.step());
                add_rows(delta, first, count, sizes_[i + 1], d_bias[0]);
                if (i > 0 || by_inputs) {
                    multiply<T>({delta[first], delta.step(), 1}, weights[i][0], weights[i].step(),
                                count, sizes_[i + 1], sizes_[i], nullptr, to[first], to.step());
                }
            }
            scatter(deltas[0], first, count, parts);
        });
        for (std::size_t i = 0; i < layers(); ++i) {
            add_tiles(by_tile, 2 * i, sizes_[i + 1], sizes_[i], d_parameters[2 * i]);
            add_tiles(by_tile, 2 * i + 1, 1, sizes_[i + 1], d_parameters[2 * i + 1]);
        }
    }

  private:
    /// Enough numbers for all parameters in padded rows, as they are or transposed.
    template <class T>
    std::size_t parameter_size() const {
        std::size_t numbers = 0;
        for (std::size_t i = 0; i < layers(); ++i) {
            const std::size_t inputs = sizes_[i], outputs = sizes_[i + 1];
            numbers += std::max(Rows<T>::size(outputs, inputs), Rows<T>::size(inputs, outputs));
            numbers += Rows<T>::size(1, outputs);
        }
        return numbers;
    }

    template <class T>
    std::vector<Rows<T>> gradients_in(T*& memory) const {
        std::vector<Rows<T>> gradients;
        for (std::size_t i = 0; i < layers(); ++i) {
            gradients.emplace_back(memory, sizes_[i + 1], sizes_[i]);
            gradients.emplace_back(memory, 1, sizes_[i + 1]);
        }
        return gradients;
    }

    /// The rows of inputs and of each layer's activations, one for each sample.
    template <class T>
    std::vector<Rows<T>> levels_in(T* memory, std::size_t samples) const {
        std::vector<Rows<T>> levels;
        for (const std::size_t size : sizes_) {
            levels.emplace_back(memory, samples, size);
        }
        return levels;
    }

    template <class T>
    static void gather(const std::vector<Part<T>>& parts, std::size_t first, std::size_t count,
                       const Rows<T>& rows) {
        for (std::size_t s = first; s < first + count; ++s) {
            T* to = rows[s];
            for (const Part<T>& part : parts) {
                to = std::copy_n(part.inputs + s * part.step, part.width, to);
            }
        }
    }

    template <class T>
    static void scatter(const Rows<T>& rows, std::size_t first, std::size_t count,
                        const std::vector<Part<T>>& parts) {
        std::size_t column = 0;
        for (const Part<T>& part : parts) {
            for (std::size_t s = first; part.gradient && s < first + count; ++s) {
                std::copy_n(rows[s] + column, part.width, part.gradient + s * part.width);
            }
            column += part.width;
        }
    }

    /// Apply the activation after layer i to its sums.
    template <class T>
    void activate(std::size_t i, const Rows<T>& rows, std::size_t first, std::size_t count) const {
        using X = Lanes<T, kWidest<T>>;
        with_activation(activations_[i], [&](auto kind) {
            for (std::size_t s = first; s < first + count; ++s) {
                for (std::size_t j = 0; j < sizes_[i + 1]; j += X::width) {
                    kind.forward(X::load(rows[s] + j)).store(rows[s] + j);
                }
            }
        });
    }

    /// Turn gradients of the activations `values` of layer i into those of its sums.
    template <class T>
    void deactivate(std::size_t i, const Rows<T>& gradients, const Rows<T>& values,
                    std::size_t first, std::size_t count) const {
        using X = Lanes<T, kWidest<T>>;
        with_activation(activations_[i], [&](auto kind) {
            for (std::size_t s = first; s < first + count; ++s) {
                for (std::size_t j = 0; j < sizes_[i + 1]; j += X::width) {
                    const X gradient = X::load(gradients[s] + j);
                    kind.backward(gradient, X::load(values[s] + j)).store(gradients[s] + j);
                }
            }
        });
    }

    const std::vector<std::size_t> sizes_;
    const std::vector<std::string> activations_;
};

}  // namespace liquid
