// The loss of proximal policy optimisation for Gaussian actions, and its gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace liquid {

struct SurrogateOptions {
    double clip_range, value_clip_range;  // no value is clipped if the latter is negative
    double entropy_share, value_share;    // of the loss
    bool normalize;                       // whether to normalise the advantages
};

/// A minibatch, what the policy computed for it, and the results; row-major tensors.
template <class T>
struct Surrogate {
    std::size_t samples, actions;
    const T *mean, *log_std, *values;  // (samples, actions), (actions,) and (samples,)
    const T* action;                   // (samples, actions)
    const T *log_prob, *old_values, *advantages, *returns;  // (samples,) each
    T *d_mean, *d_log_std, *d_values;                       // gradients of the loss
    T* losses;  // in all, of policy, value and entropy; divergence; share of clipped samples

    /// Schulman et al. 2017, eq. 9, with sums in double precision. NaN gets into the loss.
    void compute(const SurrogateOptions& options) const {
        const double n = static_cast<double>(samples);
        double center = 0, scale = 1;
        if (options.normalize && samples > 1) {
            center = mean_over([&](std::size_t i) { return double(advantages[i]); });
            const double variance = mean_over([&](std::size_t i) {
                return (advantages[i] - center) * (advantages[i] - center);
            });
            scale = std::sqrt(variance * n / (n - 1)) + 1e-8;
        }
        std::vector<double> precision(actions), by_log_std(actions);
        double constant = 0.9189385332046727 * static_cast<double>(actions);  // log(2 pi) / 2
        for (std::size_t j = 0; j < actions; ++j) {
            precision[j] = std::exp(-double(log_std[j])), constant += log_std[j];
        }

        double policy_loss = 0, value_loss = 0, divergence = 0, clipped_samples = 0;
        for (std::size_t i = 0; i < samples; ++i) {
            const auto deviation = [&](std::size_t j) {
                const std::size_t at = i * actions + j;
                return (double(action[at]) - mean[at]) * precision[j];
            };
            double squares = 0;
            for (std::size_t j = 0; j < actions; ++j) {
                squares += deviation(j) * deviation(j);
            }
            const double log_ratio = -squares / 2 - constant - log_prob[i];
            const double ratio = std::exp(log_ratio), low = 1 - options.clip_range,
                         high = 1 + options.clip_range;
            const double advantage = (advantages[i] - center) / scale;
            const double free = advantage * ratio, bound = advantage * std::clamp(ratio, low, high);
            policy_loss -= (bound < free ? bound : free) / n;
            divergence += (ratio - 1 - log_ratio) / n;  // Schulman's estimator k3
            clipped_samples += std::abs(ratio - 1) > options.clip_range;
            const double by_log_prob = bound < free ? 0 : -free / n;
            for (std::size_t j = 0; j < actions; ++j) {
                const double z = deviation(j);
                d_mean[i * actions + j] = T(by_log_prob * z * precision[j]);
                by_log_std[j] += by_log_prob * (z * z - 1);
            }

            double change = double(values[i]) - old_values[i];
            bool passes = true;
            if (options.value_clip_range >= 0) {
                const double most = options.value_clip_range;
                passes = !(std::abs(change) > most);
                change = std::clamp(change, -most, most);
            }
            const double error = old_values[i] + change - returns[i];
            value_loss += error * error / n;
            d_values[i] = passes ? T(options.value_share * 2 * error / n) : T(0);
        }
        for (std::size_t j = 0; j < actions; ++j) {
            d_log_std[j] = T(by_log_std[j] - options.entropy_share);
        }
        const double entropy = constant + 0.5 * static_cast<double>(actions);
        const double loss = policy_loss + options.value_share * value_loss -
                            options.entropy_share * entropy;
        const double all[] = {loss,     policy_loss, value_loss,
                              -entropy, divergence,  clipped_samples / n};
        std::copy(std::begin(all), std::end(all), losses);
    }

  private:
    template <class Function>
    double mean_over(Function function) const {
        double sum = 0;
        for (std::size_t i = 0; i < samples; ++i) {
            sum += function(i);
        }
        return sum / static_cast<double>(samples);
    }
};

}  // namespace liquid
