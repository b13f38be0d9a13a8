// A call from start to end: pack the parameters, cut the batch into tiles, run tiles on threads.
#pragma once

#include "aligned.h"
#include "backward.h"
#include "forward.h"
#include "threads.h"

namespace liquid {

/// Part of a batch: samples from `first` on in vectors of `width`.
struct Cut {
    std::size_t first;
    int width;
};

/// Call `function` with the tile type for vectors of `width`: the widest, a half or a quarter of
/// it.
template <class T, class Function>
auto with_width(int width, Function function) {
    constexpr int widest = kWidest<T>, least = 16 / static_cast<int>(sizeof(T));
    if constexpr (widest >= 4 * least) {
        if (width == widest / 4) {
            return function(std::integral_constant<int, widest / 4>());
        }
    }
    if constexpr (widest >= 2 * least) {
        if (width == widest / 2) {
            return function(std::integral_constant<int, widest / 2>());
        }
    }
    return function(std::integral_constant<int, widest>());
}

/// Cut a batch into tiles, the last one as narrow as possible. Threads have no influence on it.
template <class T>
std::vector<Cut> cut(std::size_t batch) {
    constexpr std::size_t widest = kWidest<T>, least = 16 / sizeof(T);
    std::vector<Cut> cuts;
    for (std::size_t first = 0; first < batch; first += widest) {
        std::size_t width = widest;
        while (width / 2 >= least && width / 2 >= batch - first) {
            width /= 2;
        }
        cuts.push_back({first, static_cast<int>(width)});
    }
    return cuts;
}

/// One call, for the whole batch.
template <class T>
class Engine {
  public:
    /// `packed` are the parameters for a forward pass, if they were packed before.
    Engine(const Plan& plan, const std::vector<const T*>& parameters, const Call<T>& call,
           std::size_t threads, const Weights<T>* packed = nullptr)
        : plan_(plan),
          parameters_(parameters),
          call_(call),
          cuts_(cut<T>(call.batch)),
          packed_(packed) {
        threads_ = std::max<std::size_t>(1, std::min(threads, cuts_.size()));
        std::size_t kept = 0;
        for (const Cut& each : cuts_) {
            with_width<T>(each.width, [&](auto width) {
                using Part = Tile<T, decltype(width)::value>;
                kept_.push_back(kept);
                kept += Part::kept_size(plan, call.time);
                scratch_ = std::max(scratch_, Part::scratch_size(plan, call.time));
            });
        }
    }

    /// Numbers of `Call::kept` for a whole batch.
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
        gather(false);
        on_tiles([](auto& tile, std::size_t) { Forward(tile).run(); });
    }

    /// Also writes the gradients of the parameters, tensor by tensor.
    void backward(const std::vector<T*>& d_parameters) {
        gather(true);
        const std::size_t synapses = plan_.forward.size(), rows = plan_.rows;
        const std::size_t size = synapses + rows + plan_.own * plan_.visible;
        std::vector<T> gradients(size * cuts_.size());
        on_tiles([&](auto& tile, std::size_t i) {
            T* mine = gradients.data() + i * size;
            Backward(tile, mine, mine + synapses, mine + synapses + rows).run();
        });
        // Tile by tile, so that the sum does not depend on which thread computed which.
        std::vector<T> total(plan_.parameter_count());
        for (std::size_t i = 0; i < cuts_.size(); ++i) {
            const T* from = gradients.data() + i * size;
            for (std::size_t j = 0; j < synapses; ++j) {
                total[plan_.forward[j]] += *from++;
            }
            for (std::size_t j = 0; j < rows; ++j) {
                total[plan_.bias[j]] += *from++;
            }
            for (int j = 0; j < plan_.own * plan_.visible; ++j) {
                total[plan_.own_start + j] += *from++;
            }
        }
        const T* from = total.data();
        if (plan_.conductances) {
            Conductances<T>(plan_, parameters_).back(from, d_parameters);
            return;
        }
        for (std::size_t i = 0; i < d_parameters.size(); ++i) {
            if (d_parameters[i]) {
                std::copy_n(from, plan_.parameter_sizes[i], d_parameters[i]);
            }
            from += plan_.parameter_sizes[i];
        }
    }

  private:
    /// Memory of the calling thread, reused by its next call: allocating it again takes too long.
    struct Memory {
        Aligned<T> numbers;
        std::vector<T*> pointers;
    };

    /// Lay out the memory: the scratch, the parameters, and these as packed for tiles.
    void gather(bool goes_back) {
        thread_local Memory memory;
        const std::size_t synapses = plan_.forward.size() + plan_.backward.size();
        const std::size_t parameters = packed_ ? 0 : plan_.parameter_count() + synapses;
        const std::size_t numbers = parameters + threads_ * scratch_;
        if (memory.numbers.size() < numbers) {
            memory.numbers.resize(numbers);
        }
        const std::size_t pointers = threads_ * 2 * plan_.slots();
        if (memory.pointers.size() < pointers) {
            memory.pointers.resize(pointers);
        }

        scratch_memory_ = memory.numbers.data();
        pointers_ = memory.pointers.data();
        T* to = scratch_memory_ + threads_ * scratch_;
        if (packed_) {
            weights_ = *packed_;
            return;
        }
        weights_.flat = to;
        to = flatten(plan_, parameters_, to);
        weights_.forward = to;
        to = pack(plan_, plan_.forward, weights_.flat, to);
        weights_.backward = to;
        if (goes_back) {
            pack(plan_, plan_.backward, weights_.flat, to);
        }
    }

    template <class Work>
    void on_tiles(Work work) {
        in_parallel(cuts_.size(), threads_, [&](std::size_t i, std::size_t worker) {
            with_width<T>(cuts_[i].width, [&](auto width) {
                Tile<T, decltype(width)::value> tile(plan_, weights_, call_, cuts_[i].first,
                                                     call_.kept ? call_.kept + kept_[i] : nullptr,
                                                     scratch_memory_ + worker * scratch_,
                                                     pointers_ + worker * 2 * plan_.slots());
                work(tile, i);
            });
        });
    }

    const Plan& plan_;
    const std::vector<const T*>& parameters_;
    const Call<T> call_;
    const std::vector<Cut> cuts_;
    const Weights<T>* const packed_;
    std::size_t threads_, scratch_ = 0;  // how many threads, and numbers of scratch for each
    std::vector<std::size_t> kept_;      // where each tile's part of Call::kept begins
    Weights<T> weights_;
    T* scratch_memory_ = nullptr;
    T** pointers_ = nullptr;
};

}  // namespace liquid
