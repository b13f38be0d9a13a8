// The parameters of a circuit, in the orders in which its synapses are computed.
#pragma once

#include <cstring>

#include "conductances.h"

namespace liquid {

/// The parameters of a call, in their own order and packed in the orders in which tiles read them.
template <class T>
struct Weights {
    const T *flat, *forward, *backward;
};

/// Write parameters one after the other, those of an LTC as its kernels use them; return the end.
template <class T>
T* flatten(const Plan& plan, const std::vector<const T*>& parameters, T* to) {
    if (plan.conductances) {
        Conductances<T>(plan, parameters).derive(to);
        return to + plan.parameter_count();
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        to = std::copy_n(parameters[i], plan.parameter_sizes[i], to);
    }
    return to;
}

/// Write the numbers of synapses in an order of the plan; return the end.
template <class T>
T* pack(const Plan& plan, const std::vector<int>& order, const T* flat, T* to) {
    for (std::size_t i = 0; i < order.size(); ++i) {
        to[i] = flat[order[i]];
    }
    if (plan.opening > 0) {
        for (std::size_t i = 0; i < order.size(); ++i) {
            to[i] = Conductance::prepare(static_cast<int>(i % plan.opening), to[i]);
        }
    }
    return to + order.size();
}

/// Parameters that are packed for forward passes, and repacked only if they have changed: comparing
/// them takes a fraction of that.
template <class T>
class Packed {
  public:
    /// `sizes` are the numbers in each of the parameters, of which some may be missing.
    Packed(const Plan& plan, std::vector<std::size_t> sizes)
        : plan_(plan),
          sizes_(std::move(sizes)),
          flat_(plan.parameter_count()),
          forward_(plan.forward.size()) {
        for (const std::size_t size : sizes_) {
            known_.emplace_back(size);
        }
    }

    Weights<T> of(const std::vector<const T*>& parameters) {
        bool is_known = is_packed_;
        for (std::size_t i = 0; is_known && i < sizes_.size(); ++i) {
            is_known = !parameters[i] || std::memcmp(known_[i].data(), parameters[i],
                                                     sizes_[i] * sizeof(T)) == 0;
        }
        if (!is_known) {
            for (std::size_t i = 0; i < sizes_.size(); ++i) {
                std::copy_n(parameters[i], parameters[i] ? sizes_[i] : 0, known_[i].data());
            }
            flatten(plan_, parameters, flat_.data());
            pack(plan_, plan_.forward, flat_.data(), forward_.data());
            is_packed_ = true;
        }
        return {flat_.data(), forward_.data(), nullptr};
    }

  private:
    const Plan& plan_;
    const std::vector<std::size_t> sizes_;
    std::vector<std::vector<T>> known_;
    std::vector<T> flat_, forward_;
    bool is_packed_ = false;
};

}  // namespace liquid
