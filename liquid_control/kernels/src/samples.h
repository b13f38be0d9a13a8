// Samples of a batch in tiles, which threads compute side by side, and sums over them.
#pragma once

#include <vector>

#include "aligned.h"
#include "rows.h"
#include "threads.h"

namespace liquid {

/// The number of tiles of samples; threads have no influence on it, nor on results.
inline std::size_t tile_count(std::size_t samples) {
    constexpr std::size_t least_tile = 64, most_tiles = 8;
    return std::clamp<std::size_t>((samples + least_tile - 1) / least_tile, 1, most_tiles);
}

/// Call work(tile, first sample, samples) for each tile.
template <class Work>
void in_tiles(std::size_t samples, std::size_t threads, Work work) {
    const std::size_t tiles = tile_count(samples);
    in_parallel(tiles, threads, [&](std::size_t tile, std::size_t) {
        const std::size_t first = tile * samples / tiles;
        work(tile, first, (tile + 1) * samples / tiles - first);
    });
}

/// Memory of the calling thread, reused by its next call.
template <class T>
T* reserve(std::size_t numbers) {
    thread_local Aligned<T> memory;
    if (memory.size() < numbers) {
        memory.resize(numbers);
    }
    return memory.data();
}

/// Write the sum of rows.
template <class T>
void add_rows(const Rows<T>& rows, std::size_t first, std::size_t count, std::size_t width,
              T* sum) {
    using X = Lanes<T, kWidest<T>>;
    for (std::size_t j = 0; j < width; j += X::width) {
        X total(T(0));
        for (std::size_t s = first; s < first + count; ++s) {
            total += X::load(rows[s] + j);
        }
        total.store(sum + j);
    }
}

/// Add up a gradient tile by tile, so that it does not depend on which thread computed which.
template <class T>
void add_tiles(const std::vector<std::vector<Rows<T>>>& by_tile, std::size_t which,
               std::size_t rows, std::size_t width, T* to) {
    for (std::size_t row = 0; to && row < rows; ++row, to += width) {
        std::copy_n(by_tile[0][which][row], width, to);
        for (std::size_t tile = 1; tile < by_tile.size(); ++tile) {
            const T* from = by_tile[tile][which][row];
            for (std::size_t j = 0; j < width; ++j) {
                to[j] += from[j];
            }
        }
    }
}

}  // namespace liquid
