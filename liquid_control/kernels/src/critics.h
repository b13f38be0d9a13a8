// The losses of soft critics and what an actor gains by them, for samples in tiles.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "heads.h"
#include "parts.h"

namespace liquid {

/// What critics learn from, in rows of samples without padding, and where their gradients go.
struct CriticSamples {
    const float *neurons, *inputs;            // of the critics' circuit,
    const float *next_neurons, *next_inputs;  // and of the target's at the next step
    const float *taken, *chosen, *next;  // actions: of the replay, and of the policy, now and next
    const float *rewards, *discounts;    // discounts are zero where an episode terminated
    const float* next_entropy;           // cost of the next action's log-probability
    const float* weights;                // of the samples, with a sum of one
    float *d_neurons, *d_chosen;         // gradients of both losses
};

/// Sums over samples.
struct CriticSums {
    double loss = 0, value = 0;  // of the critics, and the least value of chosen actions
};

/// Value heads that learn, and slowly changing copies of them, whose values are their targets.
class Critics {
  public:
    Critics(HeadSizes sizes, const std::vector<Address>& parameters,
            const std::vector<Address>& gradients, const std::vector<Address>& targets)
        : sizes_(std::move(sizes)),
          shapes_(sizes_.tensors()),
          online_(sizes_, parameters),
          target_(sizes_, targets),
          gradients_(all_at<float>(gradients)) {}

    const HeadSizes& sizes() const { return sizes_; }

    /// Write all gradients, and return the losses (Haarnoja et al. 2018, eq. 5 and 7, without the
    /// actor's log-probabilities).
    CriticSums learn(std::size_t samples, const CriticSamples& from, std::size_t threads) {
        online_.pack(true, threads);
        target_.pack(false, threads);
        const std::size_t tiles = tile_count(samples);
        reserve_gradients(tiles);
        std::vector<CriticSums> sums(tiles);
        in_tiles(samples, threads, [&](std::size_t tile, std::size_t first, std::size_t count) {
            Slice slice(*this, from, first, count);
            sums[tile] = slice.learn(by_tile_[tile]);
        });
        add_gradients(threads);
        CriticSums total;
        for (const CriticSums& each : sums) {
            total.loss += each.loss, total.value += each.value;
        }
        return total;
    }

  private:
    /// Some of the samples, with scratch memory of the thread that computes them.
    class Slice {
      public:
        Slice(const Critics& critics, const CriticSamples& from, std::size_t first,
              std::size_t count)
            : critics_(critics), sizes_(critics.sizes_), from_(from), first_(first), count_(count) {
            const std::vector<std::size_t>& layers = sizes_.layers;
            std::size_t numbers = (2 * sizes_.heads + 3) * count +
                                  Rows<float>::size(count, sizes_.neurons) +
                                  Rows<float>::size(count, sizes_.actions) +
                                  sizes_.heads * Rows<float>::size(count, layers[0]);
            for (const std::size_t width : layers) {
                numbers += (2 * sizes_.heads + 2) * Rows<float>::size(count, width);
            }
            float* memory = reserve<float>(numbers);
            d_neurons_ = Rows<float>(memory, count, sizes_.neurons);
            d_actions_ = Rows<float>(memory, count, sizes_.actions);
            for (std::size_t head = 0; head < sizes_.heads; ++head) {
                context_.emplace_back(memory, count, layers[0]);
            }
            for (std::size_t i = 0; i < 2 * sizes_.heads + 2; ++i) {
                levels_.push_back({});
                for (const std::size_t width : layers) {
                    levels_.back().emplace_back(memory, count, width);
                }
            }
            values_ = memory, targets_ = values_ + sizes_.heads * count;
            d_values_ = targets_ + count, least_ = d_values_ + count;
            best_.resize(count);
        }

        CriticSums learn(const std::vector<HeadRows>& gradients) {
            find_targets();
            CriticSums sums;
            d_neurons_.clear();
            for (std::size_t head = 0; head < sizes_.heads; ++head) {
                critics_.online_.context(head, count_, of(from_.neurons, sizes_.neurons),
                                         of(from_.inputs, sizes_.inputs), context_[head]);
                sums.loss += learn_head(head, gradients[head]);
            }
            for (std::size_t s = 0; s < count_; ++s) {
                std::copy_n(d_neurons_[s], sizes_.neurons,
                            from_.d_neurons + (first_ + s) * sizes_.neurons);
            }
            sums.value = judge_chosen();
            return sums;
        }

      private:
        /// The rows of this tile.
        template <class Number>
        Number* of(Number* rows, std::size_t width) const {
            return rows + first_ * width;
        }

        /// Write targets (Haarnoja et al. 2018, eq. 3 and 8).
        void find_targets() {
            const std::vector<Rows<float>>& levels = levels_[0];
            std::fill_n(targets_, count_, std::numeric_limits<float>::infinity());
            for (std::size_t head = 0; head < sizes_.heads; ++head) {
                const Heads& target = critics_.target_;
                target.context(head, count_, of(from_.next_neurons, sizes_.neurons),
                               of(from_.next_inputs, sizes_.inputs), context_[0]);
                target.forward(head, count_, context_[0], of(from_.next, sizes_.actions), levels,
                               values_);
                for (std::size_t s = 0; s < count_; ++s) {
                    if (!(targets_[s] <= values_[s])) {  // also where it is NaN
                        targets_[s] = values_[s];
                    }
                }
            }
            for (std::size_t s = 0; s < count_; ++s) {
                const std::size_t i = first_ + s;
                const float soft = targets_[s] - from_.next_entropy[i];
                const float later = from_.discounts[i] == 0 ? 0 : from_.discounts[i] * soft;
                targets_[s] = from_.rewards[i] + later;
            }
        }

        /// Learn the values of the actions that were taken; return the loss.
        double learn_head(std::size_t head, const HeadRows& gradients) {
            const std::vector<Rows<float>>&levels = levels_[0], &deltas = levels_[1];
            const float* const taken = of(from_.taken, sizes_.actions);
            const Heads& online = critics_.online_;
            online.forward(head, count_, context_[head], taken, levels, values_);
            double loss = 0;
            for (std::size_t s = 0; s < count_; ++s) {
                const float error = values_[s] - targets_[s], weight = from_.weights[first_ + s];
                loss += 0.5 * weight * error * error;
                d_values_[s] = weight * error;
            }
            online.deltas(head, count_, d_values_, levels, deltas);
            online.back_to_weights(count_, of(from_.neurons, sizes_.neurons),
                                   of(from_.inputs, sizes_.inputs), taken, d_values_, levels,
                                   deltas, gradients);
            online.back_to_neurons(head, count_, deltas[0], d_neurons_);
            return loss;
        }

        /// Write the gradient of chosen actions by their least values; return the mean of these.
        double judge_chosen() {
            const Heads& online = critics_.online_;
            for (std::size_t head = 0; head < sizes_.heads; ++head) {
                online.forward(head, count_, context_[head], of(from_.chosen, sizes_.actions),
                               levels_[2 + head], values_ + head * count_);
            }
            double value = 0;
            for (std::size_t s = 0; s < count_; ++s) {
                best_[s] = 0, least_[s] = values_[s];
                for (std::size_t head = 1; head < sizes_.heads; ++head) {
                    if (const float other = values_[head * count_ + s]; !(least_[s] <= other)) {
                        best_[s] = head, least_[s] = other;
                    }
                }
                value += double(from_.weights[first_ + s]) * least_[s];
            }
            for (std::size_t head = 0; head < sizes_.heads; ++head) {
                back_to_chosen(head);
            }
            return value;
        }

        /// The samples for which this head has the least value, packed, back to their actions.
        void back_to_chosen(std::size_t head) {
            std::vector<Rows<float>>&levels = levels_[2 + head], &deltas = levels_[1];
            std::size_t found = 0;
            for (std::size_t s = 0; s < count_; ++s) {
                if (best_[s] != head) {
                    continue;
                }
                for (std::size_t i = 0; s != found && i < levels.size(); ++i) {
                    std::copy_n(levels[i][s], sizes_.layers[i], levels[i][found]);
                }
                d_values_[found++] = -from_.weights[first_ + s];
            }
            critics_.online_.deltas(head, found, d_values_, levels, deltas);
            critics_.online_.back_to_actions(head, found, deltas[0], d_actions_);
            found = 0;
            for (std::size_t s = 0; s < count_; ++s) {
                if (best_[s] == head) {
                    std::copy_n(d_actions_[found++], sizes_.actions,
                                from_.d_chosen + (first_ + s) * sizes_.actions);
                }
            }
        }

        const Critics& critics_;
        const HeadSizes& sizes_;
        const CriticSamples& from_;
        const std::size_t first_, count_;
        Rows<float> d_neurons_, d_actions_;
        std::vector<Rows<float>> context_;
        std::vector<std::vector<Rows<float>>> levels_;
        float *values_, *targets_, *d_values_, *least_;
        std::vector<std::size_t> best_;  // the head with the least value
    };

    /// Memory for the gradients of each tile and head.
    void reserve_gradients(std::size_t tiles) {
        if (by_tile_.size() == tiles) {
            return;
        }
        std::size_t numbers = 0;
        for (const auto& [rows, columns] : shapes_) {
            numbers += Rows<float>::size(rows, columns);
        }
        memory_.resize(tiles * sizes_.heads * numbers);
        by_tile_.assign(tiles, {});
        float* memory = memory_.data();
        for (std::vector<HeadRows>& heads : by_tile_) {
            for (std::size_t head = 0; head < sizes_.heads; ++head) {
                heads.push_back(Heads::rows_in(memory, shapes_));
            }
        }
    }

    void add_gradients(std::size_t threads) {
        in_parallel(sizes_.heads, threads, [&](std::size_t head, std::size_t) {
            std::vector<HeadRows> tiles;
            for (const std::vector<HeadRows>& each : by_tile_) {
                tiles.push_back(each[head]);
            }
            for (std::size_t i = 0; i < shapes_.size(); ++i) {
                const auto [rows, columns] = shapes_[i];
                float* const to = gradients_[i];
                add_tiles(tiles, i, rows, columns, to ? to + head * rows * columns : to);
            }
        });
    }

    const HeadSizes sizes_;
    const std::vector<std::pair<std::size_t, std::size_t>> shapes_;
    Heads online_, target_;
    const std::vector<float*> gradients_;
    Numbers memory_;
    std::vector<std::vector<HeadRows>> by_tile_;
};

}  // namespace liquid
