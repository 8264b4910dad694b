// SPDX-License-Identifier: MIT
#pragma once
// Training on many ranks, all of which have the whole model, each a part of every batch:
//   eh::mpi::DataParallel<eh::AdamRule<float>> adam(model, {.learning_rate = 1e-3},
//                                                   {.shards = 8}, &ranks);
//   const auto [loss, norm] = adam.step(model, gradients, batch_size, [&](Index first, Index last) {
//     ...                                   // forward and backward of these members of the batch
//     return loss;                          // their part of the loss of the whole batch
//   });
// A step:
//   1. The batch is cut into shards, whose number is an option, and each rank has neighbouring ones.
//   2. Gradients are added up in a fixed order (shard_tree.hpp). The parameters are one row of numbers,
//      a slice of it for each rank: it receives that slice of all gradients.
//   3. It clips and steps that slice, and it alone has the optimizer's state of it.
//   4. All receive the new parameters.
// The model's bits depend on the number of shards, and on no number of ranks or threads: without
// ranks they are the same. With one shard they are those of clip_gradient_norm and Optimizer::step.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                   // refuse
#include <eigenheads/kernels/loops.hpp>           // run_on_this_cpu
#include <eigenheads/mpi/data_parallel_plan.hpp>  // DataParallelPlan
#include <eigenheads/mpi/flat_parameters.hpp>     // FlatParameters, hash_of
#include <eigenheads/mpi/ranks.hpp>               // Ranks, Term
#include <eigenheads/mpi/shard_sums.hpp>          // ShardSums
#include <eigenheads/parameter.hpp>               // Parameter, HasParameters
#include <eigenheads/tensor.hpp>                  // Index, TensorSpan
#include <eigenheads/train/optimizer.hpp>         // Optimizer, OptimizerState

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

struct DataParallelOptions {
  Index shards = 8;          // of a batch; a smaller one has one a member
  double gradient_norm = 0;  // at most, of all gradients together; 0: they are not clipped
};

struct DataParallelStep {
  double loss = 0;           // of the whole batch, before the step
  double gradient_norm = 0;  // as it was before it was clipped
};

// Of a Rule of optim.hpp. Ranks beyond the shards of a batch have no gradients to compute, but a
// slice.
template <class Rule>
class DataParallel {
 public:
  using T = typename Rule::Value;
  using Options = typename Rule::Options;

  // Of this module's parameters, as they are called and shaped by now. Throws std::invalid_argument
  // for invalid options, std::logic_error while the module is lazy. Without ranks: one; with them, they
  // must outlive this.
  template <HasParameters Module>
  DataParallel(const Module& module, const Options& options,
               const DataParallelOptions& parallel = {}, Ranks* ranks = nullptr)
      : ranks_(ranks),
        options_(parallel),
        parameters_(module),
        plan_({parameters_.size(), parallel.shards, size()}),
        optimizer_(options),
        stepped_(options) {
    eigenheads::detail::require_option("DataParallel", "gradient_norm", options_.gradient_norm,
                                       options_.gradient_norm >= 0, "0 or more");
    for (int rank = 0; rank < size(); ++rank) counts_.push_back(plan_.slice(rank).count());
  }

  [[nodiscard]] const Options& options() const { return optimizer_.options(); }
  [[nodiscard]] const DataParallelPlan& plan() const { return plan_; }
  [[nodiscard]] std::int64_t step_count() const { return optimizer_.step_count(); }
  void set_learning_rate(double learning_rate) { optimizer_.set_learning_rate(learning_rate); }

  // loss_of(first, last) leaves the gradients of these members of the batch in `gradients`, and
  // returns their loss: what makes a mean of it divides by the whole batch's count. A round of all
  // ranks, whose modules have the same bits (the first step after the constructor or restore()
  // compares them). Throws std::invalid_argument unless all make the same step, for a batch_size
  // of less than 1, and for gradients that are not the module's; and what loss_of throws. Then
  // nothing has changed on any rank: the step is made of copies, of the parameters and of the slice's
  // state, which take their places when the round is over.
  template <HasParameters Module, class Gradients, class LossOf>
  requires HasParameters<const Gradients>
  DataParallelStep step(Module& module, const Gradients& gradients, Index batch_size,
                        const LossOf& loss_of) {
    const std::initializer_list<Term> terms{
        {"batch_size", batch_size},
        {"shards", options_.shards},
        {"elements of the parameters", parameters_.size()},
        {"the hash of the parameters",
         size() > 1 ? detail::hash_of(std::as_const(module), !is_known_same_) : 0},
        {"the step", static_cast<Index>(step_count())},
        {"the bits of learning_rate", bits_of(options().learning_rate)},
        {"the hash of the optimizer's options", hash_of_options()},
        {"the bits of gradient_norm", bits_of(options_.gradient_norm)}};
    DataParallelStep result;
    std::vector<Place> places;
    together("DataParallel::step", terms, [&] {
      if (batch_size < 1)
        eigenheads::detail::refuse(
            {"DataParallel: batch_size is ", batch_size, "; expected 1 or more"});
      parameters_.require_same(std::as_const(module), "DataParallel: the module's parameters");
      losses_.clear();
      const auto gradients_of = [&](Index shard) -> const Gradients& {
        const Range members = plan_.members_of(shard, batch_size);
        losses_.push_back(loss_of(members.begin, members.end));
        if (size() > 1) ranks_->progress();
        return gradients;
      };
      sums_.add_up(plan_.shards_of(rank(), batch_size), plan_.shards(batch_size), parameters_,
                   gradients_of);
      const std::span<T> slope = sums_.reduce(plan_, batch_size, ranks_);
      result = gather_sums(batch_size, slope);
      if (options_.gradient_norm > 0) clip(slope, result.gradient_norm);
      places = update(module, slope);
    });
    for (const Place& place : places) place.parameter.copy_from(place.values);
    std::swap(optimizer_, stepped_);
    is_known_same_ = true;
    return result;
  }

  // As Optimizer's, of all slices together: a round of all ranks, which visits on rank 0 alone.
  template <class Visitor>
  void for_each_state(Visitor&& visit) const {
    together("DataParallel::for_each_state", {{"the step", static_cast<Index>(step_count())}}, [&] {
      if (step_count() == 0) return;
      const std::vector<std::vector<T>> moments = gather_moments();
      if (rank() != 0) return;
      for (const auto& part : parameters_.parts())
        for (std::size_t k = 0; k < moments.size(); ++k)
          visit(state_name(part.name, k),
                detail::FlatParameters::values_of(part, std::span<const T>(moments[k])));
    });
  }

  // As Optimizer's: goes on, on any number of ranks, where an optimizer or another of this class
  // was. A round of all ranks, which are given all states, and keep their slice. Throws
  // std::invalid_argument, and then changes nothing on any rank, unless they are those of the
  // parameters on all.
  void restore(std::int64_t step_count, const std::vector<OptimizerState<T>>& states) {
    together("DataParallel::restore", {{"the step", Index{step_count}}}, [&] {
      stepped_ = optimizer_;
      stepped_.restore(step_count, slices_of(step_count, states));
    });
    std::swap(optimizer_, stepped_);
    is_known_same_ = false;
  }

 private:
  using Range = DataParallelPlan::Range;
  static constexpr const char* kSlice = "slice";  // the optimizer's one parameter

  struct Place {
    Parameter<T> parameter;
    std::span<const T> values;  // that it is to have
  };

  // This rank's part of the states.
  [[nodiscard]] std::vector<OptimizerState<T>> slices_of(
      std::int64_t step_count, const std::vector<OptimizerState<T>>& states) const {
    std::map<std::string_view, const std::vector<T>*> by_name;
    for (const auto& state : states) by_name[state.name] = &state.values;
    const std::size_t moments = step_count > 0 ? Rule::moment_count(options()) : 0;
    if (states.size() != moments * parameters_.parts().size())
      eigenheads::detail::refuse({Rule::name, ": there are ", states.size(), " states; expected ",
                                  moments * parameters_.parts().size()});
    const Range slice = plan_.slice(rank());
    std::vector<OptimizerState<T>> mine;
    std::vector<T> all(static_cast<std::size_t>(parameters_.size()));
    for (std::size_t k = 0; k < moments; ++k) {
      for (const auto& part : parameters_.parts()) {
        const auto state = by_name.find(state_name(part.name, k));
        if (state == by_name.end())
          eigenheads::detail::refuse(
              {Rule::name, ": state ", state_name(part.name, k), " is missing"});
        const std::vector<T>& values = *state->second;
        if (std::ssize(values) != part.range.count())
          eigenheads::detail::refuse({Rule::name, ": state ", state->first, " has ", values.size(),
                                      " elements; expected ", part.range.count()});
        std::ranges::copy(values, all.begin() + part.range.begin);
      }
      if (slice.count() > 0)
        mine.push_back(
            {state_name(kSlice, k), {all.begin() + slice.begin, all.begin() + slice.end}});
    }
    return mine;
  }

  [[nodiscard]] int rank() const { return ranks_ == nullptr ? 0 : ranks_->rank(); }
  [[nodiscard]] int size() const { return ranks_ == nullptr ? 1 : ranks_->size(); }
  template <class Run>
  void together(std::string_view what, std::initializer_list<Term> terms, const Run& run) const {
    if (size() == 1)
      run();
    else
      ranks_->together(what, terms, run);
  }
  [[nodiscard]] static Index bits_of(double value) { return std::bit_cast<Index>(value); }
  [[nodiscard]] Index hash_of_options() const {
    detail::Hash hash;
    for (const double number : Rule::numbers(options()))
      hash.add(std::bit_cast<std::uint64_t>(number));
    return hash.term();
  }
  [[nodiscard]] static std::string state_name(const std::string& parameter, std::size_t moment) {
    return parameter + "." + std::string(Rule::moments[moment]);
  }

  // The loss and the norm, which all ranks learn: slope is this rank's slice of the gradient.
  [[nodiscard]] DataParallelStep gather_sums(Index batch_size, std::span<const T> slope) {
    const auto block_size = static_cast<std::size_t>(plan_.block_size());
    eigenheads::detail::run_on_this_cpu([&] {
      for (std::size_t begin = 0; begin < slope.size(); begin += block_size) {
        double sum = 0;
        for (const T g : slope.subspan(begin, (std::min)(block_size, slope.size() - begin)))
          sum = std::fma(static_cast<double>(g), static_cast<double>(g), sum);
        losses_.push_back(sum);
      }
    });
    // Of each rank: the losses of its shards, and then its blocks.
    std::vector<Index> counts(static_cast<std::size_t>(size()));
    for (int r = 0; r < size(); ++r)
      counts[static_cast<std::size_t>(r)] =
          plan_.shards_of(r, batch_size).count() + plan_.blocks(r);
    const Index count = std::accumulate(counts.begin(), counts.end(), Index{0});
    all_sums_.resize(static_cast<std::size_t>(count));
    if (size() > 1)
      ranks_->all_gather(std::span<const double>(losses_), counts, std::span(all_sums_));
    else
      all_sums_ = losses_;
    DataParallelStep result;
    double squares = 0;
    auto next = all_sums_.begin();
    for (int r = 0; r < size(); ++r) {
      const Index shards = plan_.shards_of(r, batch_size).count(), blocks = plan_.blocks(r);
      for (Index i = 0; i < shards; ++i) result.loss += *next++;
      for (Index i = 0; i < blocks; ++i) squares += *next++;
    }
    result.gradient_norm = std::sqrt(squares);
    return result;
  }

  // As clip_gradient_norm does.
  void clip(std::span<T> slope, double norm) const {
    if (!eigenheads::detail::is_finite(norm) || norm <= options_.gradient_norm) return;
    const double scale = options_.gradient_norm / norm;
    for (T& g : slope) g = static_cast<T>(scale * static_cast<double>(g));
  }

  // The step, in stepped_ and flat_: what is then left to do cannot fail.
  template <class Module>
  [[nodiscard]] std::vector<Place> update(Module& module, std::span<const T> slope) {
    flat_.resize(static_cast<std::size_t>(parameters_.size()));
    const Range slice = plan_.slice(rank());
    parameters_.read(std::as_const(module), slice, std::span<T>(flat_));
    stepped_ = optimizer_;
    stepped_.begin_step();
    const std::span<T> x = std::span(flat_).subspan(static_cast<std::size_t>(slice.begin),
                                                    static_cast<std::size_t>(slice.count()));
    if (!x.empty())
      stepped_.update(Parameter<T>(kSlice, TensorSpan<T, 1>(x.data(), {std::ssize(x)})), slope);
    if (size() > 1) ranks_->all_gather(std::span<const T>(x), counts_, std::span<T>(flat_));
    std::vector<Place> places;
    parameters_.for_each(module, "the parameters", [&](const auto& parameter, const auto& part) {
      places.push_back(
          {parameter, detail::FlatParameters::values_of(part, std::span<const T>(flat_))});
    });
    return places;
  }

  // All slices of each moment, on rank 0.
  [[nodiscard]] std::vector<std::vector<T>> gather_moments() const {
    std::vector<std::span<const T>> mine(Rule::moment_count(options()));
    std::size_t next = 0;
    optimizer_.for_each_state(
        [&](const std::string&, std::span<const T> values) { mine[next++] = values; });
    std::vector<std::vector<T>> all(mine.size());
    for (std::size_t k = 0; k < mine.size(); ++k) {
      if (rank() == 0) all[k].resize(static_cast<std::size_t>(parameters_.size()));
      if (size() > 1)
        ranks_->gather(0, mine[k], counts_, std::span<T>(all[k]));
      else
        std::ranges::copy(mine[k], all[k].begin());
    }
    return all;
  }

  Ranks* ranks_;
  DataParallelOptions options_;
  detail::FlatParameters parameters_;
  DataParallelPlan plan_;
  Optimizer<Rule> optimizer_;  // of the slice
  Optimizer<Rule> stepped_;    // as it is to be after the round under way; else unused
  std::vector<Index> counts_;  // of the slices' elements
  bool is_known_same_ = false;
  detail::ShardSums<T> sums_;
  std::vector<double> losses_, all_sums_;  // of the rank's shards, then of its blocks; of all ranks
  std::vector<T> flat_;                    // all parameters
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
