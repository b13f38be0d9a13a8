// A call from start to end: weights gathered, the batch cut into tiles, tiles on threads.
#pragma once

#include <numeric>

#include "threads.h"
#include "tile.h"

namespace liquid {

/// Part of a batch: samples from `first` on in vectors of `width`.
struct Cut {
    std::size_t first;
    int width;
};

/// Call `function` with the tile type for vectors of `width`: the widest, a half or a quarter of it.
template <class T, class Function>
auto with_width(int width, Function function) {
    constexpr int widest = kWidest<T>, least = 16 / static_cast<int>(sizeof(T));
    if constexpr (widest >= 4 * least) {
        if (width == widest / 4) return function(std::integral_constant<int, widest / 4>());
    }
    if constexpr (widest >= 2 * least) {
        if (width == widest / 2) return function(std::integral_constant<int, widest / 2>());
    }
    return function(std::integral_constant<int, widest>());
}

/// Cut a batch into tiles, the last as narrow as it may be. It does not depend on threads.
template <class T>
std::vector<Cut> cut(std::size_t batch) {
    constexpr std::size_t widest = kWidest<T>, least = 16 / sizeof(T);
    std::vector<Cut> cuts;
    for (std::size_t first = 0; first < batch; first += widest) {
        std::size_t width = widest;
        while (width / 2 >= least && width / 2 >= batch - first) width /= 2;
        cuts.push_back({first, static_cast<int>(width)});
    }
    return cuts;
}

template <class T>
class Engine {
  public:
    Engine(const Plan& plan, const std::vector<const T*>& parameters, const Call<T>& call,
           std::size_t threads)
        : plan_(plan), call_(call), threads_(threads), cuts_(cut<T>(call.batch)) {
        gather(parameters);
        std::size_t kept = 0, scratch = 0;
        for (const Cut& each : cuts_) {
            with_width<T>(each.width, [&](auto width) {
                using Part = Tile<T, decltype(width)::value>;
                kept_.push_back(kept);
                kept += Part::kept_size(plan, call.time);
                scratch = std::max(scratch, Part::scratch_size(plan, call.time));
            });
        }
        scratch_size_ = scratch;
    }

    static std::size_t kept_size(const Plan& plan, std::size_t time, std::size_t batch) {
        std::size_t size = 0;
        for (const Cut& each : cut<T>(batch)) {
            with_width<T>(each.width, [&](auto width) {
                size += Tile<T, decltype(width)::value>::kept_size(plan, time);
            });
        }
        return size;
    }

    void forward() {
        on_tiles([](auto& tile, std::size_t) { tile.forward(); });
    }

    /// Also writes the gradients by the parameters, tensor by tensor.
    void backward(const std::vector<T*>& d_parameters) {
        const std::size_t synapses = plan_.forward.size(), rows = plan_.rows;
        const std::size_t size = synapses + rows + plan_.own * plan_.visible;
        std::vector<T> learned(size * cuts_.size());
        on_tiles([&](auto& tile, std::size_t i) {
            T* mine = learned.data() + i * size;
            tile.backward(mine, mine + synapses, mine + synapses + rows);
        });
        // Tile by tile, so that the sum is the same whoever computed them.
        std::vector<T> total(weights_.flat.size());
        for (std::size_t i = 0; i < cuts_.size(); ++i) {
            const T* from = learned.data() + i * size;
            for (std::size_t j = 0; j < synapses; ++j) total[plan_.forward[j]] += *from++;
            for (std::size_t j = 0; j < rows; ++j) total[plan_.bias[j]] += *from++;
            for (int j = 0; j < plan_.own * plan_.visible; ++j) {
                total[plan_.own_start + j] += *from++;
            }
        }
        const T* from = total.data();
        for (std::size_t i = 0; i < d_parameters.size(); ++i) {
            if (d_parameters[i]) std::copy_n(from, plan_.parameter_sizes[i], d_parameters[i]);
            from += plan_.parameter_sizes[i];
        }
    }

  private:
    void gather(const std::vector<const T*>& parameters) {
        if (parameters.size() != plan_.parameter_sizes.size()) {
            throw std::invalid_argument("the circuit has another number of parameter tensors");
        }
        weights_.flat.resize(plan_.parameter_count());
        T* to = weights_.flat.data();
        for (std::size_t i = 0; i < parameters.size(); ++i) {
            to = std::copy_n(parameters[i], plan_.parameter_sizes[i], to);
        }
        pack(plan_.forward, weights_.forward);
        if (call_.kept) pack(plan_.backward, weights_.backward);
    }

    void pack(const std::vector<int>& order, std::vector<T>& packed) {
        packed.resize(order.size());
        for (std::size_t i = 0; i < order.size(); ++i) packed[i] = weights_.flat[order[i]];
        if (plan_.conductances) {
            for (std::size_t i = 0; i < order.size(); ++i) {
                packed[i] = Conductance::prepare(static_cast<int>(i % Conductance::parameters), packed[i]);
            }
        }
    }

    template <class Work>
    void on_tiles(Work work) {
        // The caller's memory, kept for its next call; the threads of this call take parts of it.
        thread_local std::vector<T> scratch;
        const std::size_t threads = std::max<std::size_t>(1, std::min(threads_, cuts_.size()));
        if (scratch.size() < scratch_size_ * threads) scratch.resize(scratch_size_ * threads);
        T* const memory = scratch.data();
        in_parallel(cuts_.size(), threads, [&](std::size_t i, std::size_t worker) {
            with_width<T>(cuts_[i].width, [&](auto width) {
                Tile<T, decltype(width)::value> tile(
                    plan_, weights_, call_, cuts_[i].first,
                    call_.kept ? call_.kept + kept_[i] : nullptr, memory + worker * scratch_size_);
                work(tile, i);
            });
        });
    }

    const Plan& plan_;
    const Call<T> call_;
    const std::size_t threads_;
    const std::vector<Cut> cuts_;
    std::vector<std::size_t> kept_;
    std::size_t scratch_size_ = 0;
    Weights<T> weights_;
};

}  // namespace liquid
