// Work on several threads. Threads wait for the next call, because starting one takes as long as a
// small call; they stay awake for a while, because waking up takes as long as well. A thread that
// wakes up late finds no task left. A forked process starts new threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif
#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif

namespace liquid {

/// Tell the processor that a loop waits for another thread.
inline void relax() {
#if defined(__SSE2__) || defined(_M_X64)
    _mm_pause();
#endif
}

/// Wait for a condition without falling asleep, but for 0.1 ms at most.
template <class Condition>
void spin_until(Condition holds) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + std::chrono::microseconds(100);
    for (int i = 1; !holds(); ++i) {
        relax();
        if (i % 16 == 0 && Clock::now() > end) {
            return;
        }
    }
}

/// A number of tasks, and a function that does one of them: do_task(work, task, worker).
class Job {
  public:
    template <class Work>
    Job(std::size_t tasks, Work& work) : tasks_(tasks), work_(&work) {
        do_task_ = [](void* of, std::size_t task, std::size_t worker) {
            (*static_cast<Work*>(of))(task, worker);
        };
    }

    /// Do tasks until all have been started, or one has thrown.
    void help(std::size_t worker) {
        try {
            for (std::size_t task; (task = next_.fetch_add(1)) < tasks_;) {
                do_task_(work_, task, worker);
            }
        } catch (...) {
            next_ = tasks_;
            if (!has_thrown_.exchange(true)) {
                thrown_ = std::current_exception();
            }
        }
    }

    /// Throw what a task has thrown, once no thread helps any more.
    void rethrow() const {
        if (thrown_) {
            std::rethrow_exception(thrown_);
        }
    }

  private:
    const std::size_t tasks_;
    std::atomic<std::size_t> next_{0};
    std::atomic<bool> has_thrown_{false};
    std::exception_ptr thrown_;  // by the first task that threw, such as for want of memory
    void* const work_;
    void (*do_task_)(void*, std::size_t, std::size_t);
};

/// Threads that wait to help with a job.
class Team {
  public:
    /// The team of this process. It is never destroyed: its threads wait until the process ends.
    static Team& ours() {
        static std::atomic<Team*> team{nullptr};
#ifndef _WIN32
        static const int watched = pthread_atfork(nullptr, nullptr, [] { team = nullptr; });
        static_cast<void>(watched);
#endif
        Team* found = team;
        if (!found) {
            Team* fresh = new Team;
            if (team.compare_exchange_strong(found, fresh)) {
                return *fresh;
            }
            delete fresh;  // another thread was faster
        }
        return *found;
    }

    /// Do a job with `helpers` threads besides the caller, or alone if another job has the team.
    void work_on(Job& job, std::size_t helpers) {
        const std::unique_lock<std::mutex> engaged(engaged_, std::try_to_lock);
        if (!engaged) {
            job.help(0);
            return;
        }
        {
            const std::lock_guard<std::mutex> guard(mutex_);
            hire(helpers);
            job_ = &job;
            seats_ = std::min(helpers, hired_);
        }
        begun_.notify_all();
        job.help(0);
        spin_until([this] { return helping_ == 0; });
        std::unique_lock<std::mutex> guard(mutex_);
        seats_ = 0;  // threads that have not started yet are not needed
        ended_.wait(guard, [this] { return helping_ == 0; });
    }

  private:
    /// Start threads until there are `helpers` of them, or as many as the system allows.
    void hire(std::size_t helpers) {
        try {
            for (; hired_ < helpers; ++hired_) {
                std::thread([this] { wait_and_help(); }).detach();
            }
        } catch (const std::system_error&) {
            // The system allows no more threads: the existing ones share the work.
        }
    }

    [[noreturn]] void wait_and_help() {
        for (;;) {
            spin_until([this] { return seats_ > 0; });
            std::unique_lock<std::mutex> guard(mutex_);
            begun_.wait(guard, [this] { return seats_ > 0; });
            const std::size_t worker = seats_--;
            ++helping_;
            Job& job = *job_;
            guard.unlock();
            job.help(worker);
            guard.lock();
            if (--helping_ == 0) {
                ended_.notify_one();
            }
        }
    }

    std::mutex engaged_;  // held while a job has the team
    std::mutex mutex_;    // held where a member below changes
    std::condition_variable begun_, ended_;
    Job* job_ = nullptr;
    std::size_t hired_ = 0;                           // threads that were started,
    std::atomic<std::size_t> seats_{0}, helping_{0};  // that are wanted, and that are at work
};

/// Call work(task, worker) for every task; worker < threads is the number of the thread. Results of
/// tasks must not depend on the worker. What a task throws is thrown here; others may be left out.
template <class Work>
void in_parallel(std::size_t tasks, std::size_t threads, Work work) {
    Job job(tasks, work);
    threads = std::min(tasks, threads);
    if (threads > 1) {
        Team::ours().work_on(job, threads - 1);
    } else {
        job.help(0);
    }
    job.rethrow();
}

}  // namespace liquid
