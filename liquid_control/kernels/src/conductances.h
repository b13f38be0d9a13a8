// Converts the parameters of an LTC to the numbers that its kernels use, with gradients.
//
// Each synapse has a conductance w and a reversal potential E, and opens as sigmoid(s (x - m)) with
// steepness s and midpoint m. Each neuron has a capacitance C, a leak g and its reversal potential.
// Conductances, leaks and capacitances are given before their softplus. The numbers for the kernels
// are divided by the capacitance of the neuron (Lechner et al. 2020). Inputs may be mapped
// affinely, by a gain and an offset each; the sensory synapses include that mapping.
#pragma once

#include <cmath>
#include <vector>

#include "plan.h"

namespace liquid {

constexpr std::size_t kLiquidTensors = 13;

/// The tensors of a call, in this order: steepness, midpoint, conductance and reversal of the
/// sensory synapses; the same of the recurrent ones; capacitance, leak and leak reversal of the
/// neurons; gain and offset of the inputs, of which either may be null. The numbers for the kernels
/// are those that the banks and biases of the plan describe.
template <class T>
class Conductances {
  public:
    Conductances(const Plan& plan, const std::vector<const T*>& parameters)
        : plan_(plan), parameters_(parameters), capacitance_(plan.neurons) {
        for (int n = 0; n < plan.neurons; ++n) {
            capacitance_[n] = softplus(parameters[8][n]);
        }
    }

    /// Numbers in each tensor.
    static std::vector<std::size_t> sizes(const Plan& plan) {
        std::vector<std::size_t> sizes;
        for (const Bank& bank : plan.banks) {
            sizes.insert(sizes.end(), 4, bank.targets.size());
        }
        sizes.insert(sizes.end(), 3, plan.neurons);
        sizes.insert(sizes.end(), 2, plan.inputs);
        return sizes;
    }

    void derive(T* to) const {
        for (int b = 0; b < 2; ++b) {
            const Bank& bank = plan_.banks[b];
            const std::size_t count = bank.targets.size();
            for (std::size_t i = 0; i < count; ++i) {
                const T decay = softplus(of(b, 2)[i]) / capacitance_[bank.targets[i]];
                to[i] = of(b, 0)[i] * gain(b, i);
                to[count + i] = of(b, 0)[i] * (offset(b, i) - of(b, 1)[i]);
                to[2 * count + i] = decay * of(b, 3)[i];
                to[3 * count + i] = decay;
            }
            to += 4 * count;
        }
        for (int n = 0; n < plan_.neurons; ++n) {
            const T decay = softplus(parameters_[9][n]) / capacitance_[n];
            to[n] = decay * parameters_[10][n];
            to[plan_.neurons + n] = decay;
        }
    }

    /// Writes the gradient of each tensor that is not null.
    void back(const T* d_derived, const std::vector<T*>& d_parameters) const {
        std::vector<std::vector<T>> all;
        for (const std::size_t size : sizes(plan_)) {
            all.emplace_back(size);
        }
        std::vector<T>& d_capacitance = all[8];
        for (int b = 0; b < 2; ++b) {
            const Bank& bank = plan_.banks[b];
            const std::size_t count = bank.targets.size();
            for (std::size_t i = 0; i < count; ++i) {
                const int target = bank.targets[i];
                const T d_steepness = d_derived[i], d_threshold = d_derived[count + i];
                const T d_drive = d_derived[2 * count + i], d_decay = d_derived[3 * count + i];
                const T steepness = of(b, 0)[i], conductance = of(b, 2)[i], reversal = of(b, 3)[i];
                const T decay = softplus(conductance) / capacitance_[target];
                const T d_total = d_decay + d_drive * reversal;
                all[4 * b][i] =
                    d_steepness * gain(b, i) + d_threshold * (offset(b, i) - of(b, 1)[i]);
                all[4 * b + 1][i] = -d_threshold * steepness;
                all[4 * b + 2][i] = d_total * softplus_slope(conductance) / capacitance_[target];
                all[4 * b + 3][i] = d_drive * decay;
                d_capacitance[target] -= d_total * decay / capacitance_[target];
                if (b == 0) {
                    all[11][bank.slots[i]] += d_steepness * steepness;
                    all[12][bank.slots[i]] += d_threshold * steepness;
                }
            }
            d_derived += 4 * count;
        }
        for (int n = 0; n < plan_.neurons; ++n) {
            const T leak = parameters_[9][n], decay = softplus(leak) / capacitance_[n];
            const T d_decay = d_derived[plan_.neurons + n] + d_derived[n] * parameters_[10][n];
            all[9][n] = d_decay * softplus_slope(leak) / capacitance_[n];
            all[10][n] = d_derived[n] * decay;
            d_capacitance[n] -= d_decay * decay / capacitance_[n];
            d_capacitance[n] *= softplus_slope(parameters_[8][n]);
        }
        for (std::size_t i = 0; i < kLiquidTensors; ++i) {
            if (d_parameters[i]) {
                std::copy(all[i].begin(), all[i].end(), d_parameters[i]);
            }
        }
    }

  private:
    // As PyTorch's: a straight line above 20.
    static T softplus(T x) { return x > 20 ? x : std::log1p(std::exp(x)); }
    static T softplus_slope(T x) { return x > 20 ? T(1) : 1 / (1 + std::exp(-x)); }

    const T* of(int bank, int which) const { return parameters_[4 * bank + which]; }
    T gain(int bank, std::size_t i) const {
        return bank == 0 && parameters_[11] ? parameters_[11][plan_.banks[0].slots[i]] : T(1);
    }
    T offset(int bank, std::size_t i) const {
        return bank == 0 && parameters_[12] ? parameters_[12][plan_.banks[0].slots[i]] : T(0);
    }

    const Plan& plan_;
    const std::vector<const T*>& parameters_;
    std::vector<T> capacitance_;
};

}  // namespace liquid
