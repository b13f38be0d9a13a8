// The kinds of neurons: which cell and which synapses each of them has.
#pragma once

#include <map>
#include <string>

#include "cells.h"
#include "synapses.h"

namespace liquid {

enum class Kind { cfc_default, cfc_no_gate, cfc_pure, lstm, gru, ctrnn, ltc, lrc };

/// The kind that programs.py calls `name`; throws std::out_of_range for any other name.
inline Kind kind_of(const std::string& name) {
    static const std::map<std::string, Kind> kinds{{"cfc_default", Kind::cfc_default},
                                                   {"cfc_no_gate", Kind::cfc_no_gate},
                                                   {"cfc_pure", Kind::cfc_pure},
                                                   {"lstm", Kind::lstm},
                                                   {"gru", Kind::gru},
                                                   {"ctrnn", Kind::ctrnn},
                                                   {"ltc", Kind::ltc},
                                                   {"lrc", Kind::lrc}};
    return kinds.at(name);
}

/// A cell, the synapses that reach it from outside its block, and those from within.
template <class CellType, class OutsideSynapse, class WithinSynapse = OutsideSynapse>
struct Model {
    using Cell = CellType;
    using Outside = OutsideSynapse;
    using Within = WithinSynapse;
    static_assert(Cell::sums == Outside::sums && Cell::sums == Within::sums);
    static_assert(Outside::parameters == Within::parameters);
};

/// Call `function` with the model of a kind of neuron.
template <class Function>
LIQUID_INLINE auto with_model(Kind kind, Function function) {
    switch (kind) {
        case Kind::cfc_default:
            return function(Model<ClosedForm<true>, Linear<4>>{});
        case Kind::cfc_no_gate:
            return function(Model<ClosedForm<false>, Linear<4>>{});
        case Kind::cfc_pure:
            return function(Model<PureClosedForm, Linear<1>>{});
        case Kind::lstm:
            return function(Model<LongShortTerm, Linear<4>>{});
        case Kind::gru:
            // The candidate's weight adds to sum 2, but from within the block to sum 3, which the
            // reset gate scales.
            return function(Model<GatedRecurrent, Linear<3, 4, 3>, Linear<3, 4, 2>>{});
        case Kind::ctrnn:
            return function(Model<Leaky, Linear<1>>{});
        case Kind::ltc:
            return function(Model<Liquid, Conductance>{});
        default:
            return function(Model<LiquidCapacitance, Elastance>{});
    }
}

}  // namespace liquid
