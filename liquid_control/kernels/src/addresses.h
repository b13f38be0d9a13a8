// Tensors as Python passes them: by the address of their first number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace liquid {

using Address = std::uintptr_t;  // zero for no tensor

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

/// Addresses as pointers.
template <class T>
std::vector<T*> all_at(const std::vector<Address>& addresses) {
    std::vector<T*> pointers(addresses.size());
    std::transform(addresses.begin(), addresses.end(), pointers.begin(), at<T>);
    return pointers;
}

}  // namespace liquid
