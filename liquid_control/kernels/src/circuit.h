// A circuit as Python sees it: addresses of tensors in, nothing out.
#pragma once

#include "addresses.h"
#include "engine.h"
#include "solo.h"

namespace liquid {

/// A circuit's plan, with its forward and backward pass in single and double precision.
class Circuit {
  public:
    using LayerTuple = std::tuple<std::string, int, int, int>;
    using BankTuple = std::tuple<std::vector<int>, std::vector<int>, int>;

    Circuit(int inputs, int hidden, int visible, int substeps,
            const std::vector<LayerTuple>& layers, const std::vector<BankTuple>& banks)
        : plan_(description(inputs, hidden, visible, substeps, layers, banks)),
          tensor_sizes_(plan_.parameter_sizes.begin(), plan_.parameter_sizes.end()) {
        if (plan_.conductances) {
            tensor_sizes_ = Conductances<float>::sizes(plan_);
        }
    }

    std::size_t kept_size(bool is_double, std::size_t time, std::size_t batch) const {
        return is_double ? Engine<double>::kept_size(plan_, time, batch)
                         : Engine<float>::kept_size(plan_, time, batch);
    }

    /// `tensors` are inputs, state, elapsed time and the parameters; zero for a missing one.
    void forward(bool is_double, std::size_t time, std::size_t batch, double time_scale,
                 int first_output, bool wants_time, const std::vector<Address>& tensors,
                 Address starts, Address kept, Address outputs, Address final_state,
                 std::size_t threads) const {
        const auto run = [&](auto zero) {
            using T = decltype(zero);
            Call<T> call =
                describe<T>(time, batch, time_scale, first_output, tensors, starts, kept);
            call.wants_time = wants_time;
            call.outputs = at<T>(outputs), call.final_state = at<T>(final_state);
            run_forward(call, parameters_of<T>(tensors), threads);
        };
        is_double ? run(0.0) : run(0.0f);
    }

    /// Like `forward`, with the parameters alone and everything else in `call`. `packed` are the
    /// parameters as well, if they were packed before.
    template <class T>
    void run_forward(const Call<T>& call, const std::vector<const T*>& parameters,
                     std::size_t threads, const Weights<T>* packed = nullptr) const {
        if (Solo<T>::fits(plan_, call)) {
            Solo<T>(plan_, parameters, call, packed).forward();
        } else {
            Engine<T>(plan_, parameters, call, threads, packed).forward();
        }
    }

    /// `gradients` are those of the tensors, in their order; zero for an unwanted one.
    void backward(bool is_double, std::size_t time, std::size_t batch, double time_scale,
                  int first_output, const std::vector<Address>& tensors, Address starts,
                  Address kept, Address d_outputs, Address d_final_state,
                  const std::vector<Address>& gradients, std::size_t threads) const {
        const auto run = [&](auto zero) {
            using T = decltype(zero);
            Call<T> call =
                describe<T>(time, batch, time_scale, first_output, tensors, starts, kept);
            call.d_outputs = at<T>(d_outputs), call.d_final_state = at<T>(d_final_state);
            call.d_inputs = at<T>(gradients.at(0)), call.d_state = at<T>(gradients.at(1));
            call.d_elapsed = at<T>(gradients.at(2));
            call.wants_time = call.d_elapsed != nullptr;
            std::vector<T*> d_parameters;
            for (std::size_t i = 3; i < gradients.size(); ++i) {
                d_parameters.push_back(at<T>(gradients[i]));
            }
            run_backward(call, parameters_of<T>(tensors), d_parameters, threads);
        };
        is_double ? run(0.0) : run(0.0f);
    }

    /// Like `backward`, with parameters and their gradients alone, and everything else in `call`.
    template <class T>
    void run_backward(const Call<T>& call, const std::vector<const T*>& parameters,
                      const std::vector<T*>& d_parameters, std::size_t threads) const {
        Engine<T>(plan_, parameters, call, threads).backward(d_parameters);
    }

    /// The parameters at addresses. Only empty and optional ones have no address.
    template <class T>
    std::vector<const T*> parameters_at(const std::vector<Address>& addresses) const {
        const std::vector<const T*> parameters = all_at<const T>(addresses);
        bool fits = parameters.size() == tensor_sizes_.size();
        for (std::size_t i = 0; fits && i < parameters.size() - optional_tensors(); ++i) {
            fits = parameters[i] || tensor_sizes_[i] == 0;
        }
        if (!fits) {
            throw std::invalid_argument("the plan takes other parameter tensors");
        }
        return parameters;
    }

    const Plan& plan() const { return plan_; }
    /// Numbers in each of the parameter tensors.
    const std::vector<std::size_t>& tensor_sizes() const { return tensor_sizes_; }
    /// How many of them, at the end, may be missing: those of an LTC's mapping.
    std::size_t optional_tensors() const { return plan_.conductances ? 2 : 0; }

  private:
    template <class T>
    Call<T> describe(std::size_t time, std::size_t batch, double time_scale, int first_output,
                     const std::vector<Address>& tensors, Address starts, Address kept) const {
        Call<T> call{};
        call.time = time, call.batch = batch;
        call.time_scale = static_cast<T>(time_scale);
        call.first_output = first_output;
        call.inputs = at<T>(tensors.at(0)), call.state = at<T>(tensors.at(1));
        call.elapsed = at<T>(tensors.at(2)), call.starts = at<std::uint8_t>(starts);
        call.kept = at<T>(kept);
        return call;
    }

    /// The parameters follow inputs, state and elapsed time.
    template <class T>
    std::vector<const T*> parameters_of(const std::vector<Address>& tensors) const {
        return parameters_at<T>({tensors.begin() + 3, tensors.end()});
    }

    static Plan::Description description(int inputs, int hidden, int visible, int substeps,
                                         const std::vector<LayerTuple>& layers,
                                         const std::vector<BankTuple>& banks) {
        Plan::Description made{inputs, hidden, visible, substeps, {}, {}};
        for (const auto& [kind, first, last, block] : layers) {
            Layer layer{};
            layer.kind = kind_of(kind);
            layer.first = first, layer.last = last, layer.block = block;
            made.layers.push_back(layer);
        }
        for (const auto& [slots, targets, parameters] : banks) {
            made.banks.push_back({slots, targets, parameters});
        }
        return made;
    }

    const Plan plan_;
    std::vector<std::size_t> tensor_sizes_;
};

}  // namespace liquid
