// Memory that begins at a cache line, so that no register is loaded from two of them.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace liquid {

constexpr std::size_t kLine = 64;  // bytes

/// An allocator of whole cache lines.
template <class T>
struct LineAllocator {
    using value_type = T;
    LineAllocator() = default;
    template <class Other>
    LineAllocator(const LineAllocator<Other>&) {}

    T* allocate(std::size_t count) {
        return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(kLine)));
    }
    void deallocate(T* memory, std::size_t) { ::operator delete(memory, std::align_val_t(kLine)); }
    template <class Other>
    bool operator==(const LineAllocator<Other>&) const {
        return true;
    }
    template <class Other>
    bool operator!=(const LineAllocator<Other>&) const {
        return false;
    }
};

/// A vector that begins at a cache line.
template <class T>
using Aligned = std::vector<T, LineAllocator<T>>;

}  // namespace liquid
