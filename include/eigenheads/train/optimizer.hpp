// SPDX-License-Identifier: MIT
#pragma once
// What all optimizers share: a layer's parameters and their gradients are paired and checked before
// any of them changes, and what is remembered of each parameter can be stored and put back.
//   optimizer.step(layer, gradients);            // one layer
//   optimizer.begin_step();                      // several
//   optimizer.update(encoder, encoder_gradients, "encoder.");
//   optimizer.update(decoder, decoder_gradients, "decoder.");
// A Rule is the formula of one: Sgd and Adam are in optim.hpp.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>          // number_text, refuse
#include <eigenheads/kernels/loops.hpp>  // run_on_this_cpu
#include <eigenheads/parameter.hpp>      // Parameter, HasParameters
#include <eigenheads/tensor.hpp>         // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// One moment of one parameter, as a checkpoint holds it: "W_q.weight.m" and its values in the order
// of the parameter's elements.
template <Scalar T>
struct OptimizerState {
  std::string name;
  std::vector<T> values;
};

namespace detail {

// For options: a number that is not finite never holds, whatever the compiler assumes of it.
inline void require_option(std::string_view owner, std::string_view name, double value, bool holds,
                           std::string_view expected) {
  if (!is_finite(value) || !holds)
    refuse({owner, ": ", name, " is ", number_text(value), "; expected ", expected});
}
template <class T>
[[nodiscard]] bool has_number(double value) {
  return value <= static_cast<double>((std::numeric_limits<T>::max)());
}
// And, of 0 or more, one of the element type.
template <class T>
void require_number(std::string_view owner, std::string_view name, double value, bool holds,
                    std::string_view expected) {
  require_option(owner, name, value, holds, expected);
  require_option(owner, name, value, has_number<T>(value), "a number that the element type has");
}

}  // namespace detail

// A Rule has
//   Value, Options (with learning_rate), name, moments: what it is called, and what it remembers;
//   numbers(options): all of them, by which ranks know that theirs are the same;
//   require_valid(options), and moment_count(options): how many of the moments it then uses;
//   Rule(options, step)(x, g, moments, i): the new x, where g is its gradient and moments[k][i],
//   which it updates, was 0 before the first step.
// Everything is serial and element by element: the bits depend on no thread count.
template <class Rule>
class Optimizer {
 public:
  using T = typename Rule::Value;
  using Options = typename Rule::Options;

  // Throws std::invalid_argument for invalid options.
  explicit Optimizer(const Options& options = {}) : options_(options) {
    Rule::require_valid(options);
  }

  [[nodiscard]] const Options& options() const { return options_; }
  // From the next update on. 0, where schedules end, is allowed here.
  void set_learning_rate(double learning_rate) {
    detail::require_option(Rule::name, "learning_rate", learning_rate, learning_rate >= 0,
                           "0 or more");
    Options options = options_;
    options.learning_rate = learning_rate;
    if (learning_rate > 0) Rule::require_valid(options);
    options_ = options;
  }
  [[nodiscard]] std::int64_t step_count() const { return step_count_; }

  // One step of a model that is one module. Throws std::invalid_argument, and then changes nothing,
  // unless the gradients have the names and the shapes of the parameters, in their order, and every
  // parameter the size that it had in earlier steps.
  template <HasParameters Module, class Gradients>
  requires HasParameters<const Gradients>
  void step(Module& module, const Gradients& gradients) {
    const auto updates = paired(module, gradients, "");
    require_fit(updates, step_count_ + 1);
    make_slots(updates);
    begin_step();
    apply(updates);
  }

  // One step of several modules: begin_step, then update for each of them, with a prefix that makes
  // their parameters' names unique. A parameter may be left out.
  void begin_step() { ++step_count_; }
  template <HasParameters Module, class Gradients>
  requires HasParameters<const Gradients>
  void update(Module& module, const Gradients& gradients, std::string_view prefix = "") {
    const auto updates = paired(module, gradients, prefix);
    require_fit(updates, step_count_);
    make_slots(updates);
    apply(updates);
  }
  // gradient: an element for each of the parameter's.
  void update(const Parameter<T>& parameter, std::span<const T> gradient) {
    if (static_cast<Index>(gradient.size()) != parameter.size())
      detail::refuse({Rule::name, ": the gradient of ", parameter.name(), " has ", gradient.size(),
                      " elements; expected ", parameter.size()});
    const std::vector<Update> one{{parameter, gradient}};
    require_fit(one, step_count_);
    make_slots(one);
    apply(one);
  }

  // visit(name, std::span<const T>) for all that is remembered: parameters in the order of their
  // first update, the moments of one together. With step_count() this is the whole checkpoint.
  template <class Visitor>
  void for_each_state(Visitor&& visit) const {
    for (const Slot& slot : slots_)
      for (std::size_t k = 0; k < moment_count(); ++k)
        visit(state_name(slot.name, k), std::span<const T>(slot.moments[k]));
  }

  // Continues where another optimizer of the same options was: with its step count and its states,
  // in the order in which it gave them, every later step has the same bits. Throws
  // std::invalid_argument, and then changes nothing, unless they are such.
  void restore(std::int64_t step_count, const std::vector<OptimizerState<T>>& states) {
    constexpr std::int64_t most = (std::numeric_limits<std::int64_t>::max)() / 2;
    if (step_count < 0 || step_count > most)
      detail::refuse({Rule::name, ": step_count is ", step_count, "; expected 0 to ", most});
    Optimizer restored;
    restored.options_ = options_;
    restored.step_count_ = step_count;
    const std::size_t count = moment_count();
    for (std::size_t i = 0; i < states.size(); i += count) {
      const std::string& first = states[i].name;
      const std::string ending = count == 0 ? "" : state_name("", 0);
      if (count == 0 || !first.ends_with(ending))
        detail::refuse({Rule::name, ": state ", first, " is none that these options have here"});
      const std::string name = first.substr(0, first.size() - ending.size());
      if (restored.find(name) != nullptr)
        detail::refuse({Rule::name, ": state ", first, " is there twice"});
      Slot slot = new_slot(name, static_cast<Index>(states[i].values.size()));
      slot.last_step = step_count;
      for (std::size_t k = 0; k < count; ++k) {
        const std::string expected = state_name(name, k);
        if (i + k >= states.size() || states[i + k].name != expected)
          detail::refuse({Rule::name, ": state ", expected, " is missing after ", first});
        const std::vector<T>& values = states[i + k].values;
        if (static_cast<Index>(values.size()) != slot.size)
          detail::refuse({Rule::name, ": state ", expected, " has ", values.size(),
                          " elements; expected ", slot.size});
        slot.moments[k] = values;
      }
      restored.index_.emplace(name, restored.slots_.size());
      restored.slots_.push_back(std::move(slot));
    }
    *this = std::move(restored);
  }

 private:
  static constexpr std::size_t most_moments = Rule::moments.size();

  // What is remembered of one parameter.
  struct Slot {
    std::string name;
    Index size;
    std::int64_t last_step;
    std::array<std::vector<T>, most_moments> moments;  // of them the first moment_count()
  };
  struct Update {
    Parameter<T> parameter;
    std::span<const T> gradient;
  };

  [[nodiscard]] std::size_t moment_count() const { return Rule::moment_count(options_); }
  [[nodiscard]] static std::string state_name(const std::string& parameter, std::size_t moment) {
    return parameter + "." + std::string(Rule::moments[moment]);
  }

  template <class Module, class Gradients>
  [[nodiscard]] static std::vector<Update> paired(Module& module, const Gradients& gradients,
                                                  std::string_view prefix) {
    std::vector<Parameter<const T>> slopes;
    gradients.for_each_parameter(
        [&](const Parameter<const T>& gradient) { slopes.push_back(gradient); }, prefix);
    std::vector<Update> updates;
    module.for_each_parameter(
        [&](const Parameter<T>& parameter) {
          const std::string& name = parameter.name();
          if (updates.size() == slopes.size())
            detail::refuse({Rule::name, ": the gradients end before that of ", name});
          const Parameter<const T>& gradient = slopes[updates.size()];
          if (gradient.name() != name)
            detail::refuse({Rule::name, ": the gradients have ", gradient.name(),
                            " where the parameters have ", name});
          if (!std::ranges::equal(gradient.shape(), parameter.shape()))
            detail::refuse({Rule::name, ": the gradient of ", name, " has shape ", gradient.shape(),
                            "; expected ", parameter.shape()});
          updates.push_back({parameter, gradient.elements()});
        },
        prefix);
    if (updates.size() < slopes.size())
      detail::refuse({Rule::name, ": the gradients have ", slopes[updates.size()].name(),
                      ", which is no parameter"});
    return updates;
  }

  void require_fit(const std::vector<Update>& updates, std::int64_t step) const {
    if (step == 0)
      detail::refuse<std::logic_error>({Rule::name, ": call begin_step() before update()"});
    std::vector<std::string_view> names;
    for (const Update& update : updates) {
      const Parameter<T>& parameter = update.parameter;
      const Slot* slot = find(parameter.name());
      if (slot != nullptr && slot->size != parameter.size())
        detail::refuse({Rule::name, ": parameter ", parameter.name(), " has ", parameter.size(),
                        " elements; in earlier steps it had ", slot->size});
      names.push_back(parameter.name());
      if ((slot != nullptr && slot->last_step == step) ||
          std::ranges::count(names, names.back()) > 1)
        detail::refuse({Rule::name, ": parameter ", parameter.name(), " comes twice in step ", step,
                        "; give every layer a prefix of its own"});
    }
  }

  void apply(const std::vector<Update>& updates) {
    const Rule rule(options_, step_count_);
    for (const Update& update : updates) {
      Slot& slot = slots_[index_.find(update.parameter.name())->second];  // as make_slots() made it
      slot.last_step = step_count_;
      std::array<T*, most_moments> moments;
      for (std::size_t k = 0; k < most_moments; ++k) moments[k] = slot.moments[k].data();
      const T* gradient = update.gradient.data();
      const auto element = [=](Index i, T x) { return rule(x, gradient[i], moments, i); };
      detail::run_on_this_cpu([&] { update.parameter.update(element); });
    }
  }

  [[nodiscard]] const Slot* find(std::string_view name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &slots_[found->second];
  }
  // 0, of a parameter that no step has seen.
  [[nodiscard]] Slot new_slot(const std::string& name, Index size) const {
    Slot slot{name, size, 0, {}};
    for (std::size_t k = 0; k < moment_count(); ++k)
      slot.moments[k].resize(static_cast<std::size_t>(size));
    return slot;
  }
  // For all parameters that have none, or for none: what takes memory comes first.
  void make_slots(const std::vector<Update>& updates) {
    std::vector<Slot> slots;
    decltype(index_) index;
    for (const auto& [parameter, gradient] : updates)
      if (find(parameter.name()) == nullptr) {
        slots.push_back(new_slot(parameter.name(), parameter.size()));
        index.emplace(parameter.name(), slots_.size() + slots.size() - 1);
      }
    if (slots_.size() + slots.size() > slots_.capacity())
      slots_.reserve((std::max)(slots_.size() + slots.size(), 2 * slots_.capacity()));
    std::ranges::move(slots, std::back_inserter(slots_));
    index_.merge(index);
  }

  Options options_;
  std::int64_t step_count_ = 0;
  std::vector<Slot> slots_;
  std::map<std::string, std::size_t, std::less<>> index_;  // of slots_, by name
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
