// Gaussian actions squashed by tanh, their log-probabilities, and gradients through both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace liquid {

/// Bounds of the logarithm of a deviation, as in SB3; NaN stays NaN.
constexpr float kLeastLogStd = -20, kMostLogStd = 2;

/// Actions of one sample. The outputs of the head are means, then logarithms of deviations.
struct Squashed {
    std::size_t size;
    const float *outputs, *noise;

    float log_std(std::size_t j) const {
        const float raw = outputs[size + j];
        return raw < kLeastLogStd ? kLeastLogStd : raw > kMostLogStd ? kMostLogStd : raw;
    }

    /// Write the actions; return their log-probability (Haarnoja et al. 2018, appendix C).
    float sample(float* actions) const {
        constexpr float log_2 = 0.69314718f, half_log_2_pi = 0.91893853f;
        float log_prob = 0;
        for (std::size_t j = 0; j < size; ++j) {
            const float raw = outputs[j] + std::exp(log_std(j)) * noise[j];
            // The logarithm of tanh's slope, 1 - tanh^2, in a numerically stable form.
            const float size_of = std::abs(raw);
            const float slope = 2 * (log_2 - size_of - std::log1p(std::exp(-2 * size_of)));
            log_prob += -noise[j] * noise[j] / 2 - log_std(j) - half_log_2_pi - slope;
            actions[j] = std::tanh(raw);
        }
        return log_prob;
    }

    /// Write the gradient of the outputs, given those of the actions, or null for zeros, and of the
    /// log-probability.
    void backward(const float* actions, const float* d_actions, float d_log_prob,
                  float* d_outputs) const {
        for (std::size_t j = 0; j < size; ++j) {
            const float raw = outputs[size + j], action = actions[j];
            const float d_action = d_actions ? d_actions[j] : 0;
            const float d_raw = d_action * (1 - action * action) + d_log_prob * 2 * action;
            const bool passes = raw >= kLeastLogStd && raw <= kMostLogStd;
            d_outputs[j] = d_raw;
            d_outputs[size + j] = passes ? d_raw * std::exp(raw) * noise[j] - d_log_prob : 0;
        }
    }
};

}  // namespace liquid
