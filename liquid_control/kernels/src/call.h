// The arguments and results of one call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace liquid {

/// One call. Tensors are row-major, with the shapes of the neurons package.
template <class T>
struct Call {
    std::size_t time, batch;
    T time_scale;
    int first_output;            // the first visible neuron whose activity is wanted
    bool wants_time;             // whether the gradient of elapsed time is wanted
    const T* inputs;             // (time, batch, inputs)
    const T* state;              // (batch, visible + cells), or null: zeros
    const T* elapsed;            // (time, batch) seconds, or null: one time scale each
    const std::uint8_t* starts;  // (time, batch), or null: no resets
    T* kept;                     // values for the backward pass; null: there is none
    T* outputs;                  // (time, batch, visible - first_output)
    T* final_state;              // like state
    const T* d_outputs;          // or null: zeros; likewise the next
    const T* d_final_state;
    T* d_inputs;  // or null: not wanted; likewise the next two
    T* d_state;
    T* d_elapsed;
};

}  // namespace liquid
