// Work on several threads that live for one call only: nothing outlives it that a fork could break.
#pragma once

#include <algorithm>
#include <thread>
#include <vector>

namespace liquid {

/// Call work(task, worker) for every task; worker < threads says who does it. The tasks must not
/// throw, and what they compute must not depend on who does them.
template <class Work>
void in_parallel(std::size_t tasks, std::size_t threads, Work work) {
    threads = std::max<std::size_t>(1, std::min(tasks, threads));
    const auto share = [&](std::size_t worker) {
        const std::size_t end = tasks * (worker + 1) / threads;
        for (std::size_t task = tasks * worker / threads; task < end; ++task) {
            work(task, worker);
        }
    };
    std::vector<std::thread> others;
    others.reserve(threads - 1);
    std::size_t started = 1;
    try {
        for (; started < threads; ++started) {
            others.emplace_back(share, started);
        }
    } catch (const std::system_error&) {
        // The system gives no more threads: this one does the rest.
    }
    share(0);
    for (std::size_t worker = started; worker < threads; ++worker) {
        share(worker);
    }
    for (std::thread& other : others) {
        other.join();
    }
}

}  // namespace liquid
