// SPDX-License-Identifier: MIT
#pragma once
// Training on many ranks, all of which have the whole model, each a part of every batch:
//   eh::mpi::DataParallel<eh::AdamRule<float>> adam(model, {.learning_rate = 1e-3}, {.shards = 8}, &ranks);
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
// The model's bits depend on the number of shards, and on no number of ranks or threads: without ranks
// they are the same. With one shard they are those of clip_gradient_norm and Optimizer::step.
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
#include <eigenheads/kernels/nn/chosen.hpp>       // row_kernels
#include <eigenheads/mpi/data_parallel_plan.hpp>  // DataParallelPlan
#include <eigenheads/mpi/flat_parameters.hpp>     // FlatParameters, hash_of
#include <eigenheads/mpi/ranks.hpp>               // Ranks, Term
#include <eigenheads/mpi/shard_tree.hpp>          // ShardTree, ShardNode
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

// Of a Rule of optim.hpp. Ranks beyond the shards of a batch have no gradients to compute, but a slice.
template <class Rule>
class DataParallel {
 public:
  using T = typename Rule::Value;
  using Options = typename Rule::Options;

  // Of this module's parameters, as they are called and shaped by now. Throws std::invalid_argument for
  // invalid options, std::logic_error while the module is lazy. Without ranks: one.
  template <HasParameters Module>
  DataParallel(const Module& module, const Options& options,
               const DataParallelOptions& parallel = {}, Ranks* ranks = nullptr)
      : ranks_(ranks),
        options_(parallel),
        parameters_(module),
        plan_({parameters_.size(), parallel.shards, size()}),
        optimizer_(options) {
    eigenheads::detail::require_option("DataParallel", "gradient_norm", options_.gradient_norm,
                                       options_.gradient_norm >= 0, "0 or more");
    for (int rank = 0; rank < size(); ++rank) counts_.push_back(plan_.slice(rank).count());
  }

  [[nodiscard]] const Options& options() const { return optimizer_.options(); }
  [[nodiscard]] const DataParallelPlan& plan() const { return plan_; }
  [[nodiscard]] std::int64_t step_count() const { return optimizer_.step_count(); }
  void set_learning_rate(double learning_rate) { optimizer_.set_learning_rate(learning_rate); }

  // loss_of(first, last) leaves the gradients of these members of the batch in `gradients`, and returns
  // their loss: what makes a mean of it divides by the whole batch's count. A round of all ranks, whose
  // modules have the same bits. Throws std::invalid_argument unless they have, and all make the same
  // step; std::invalid_argument for gradients that are not the module's; and what loss_of throws. Then
  // nothing has changed on any rank.
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
        {"the bits of gradient_norm", bits_of(options_.gradient_norm)}};
    DataParallelStep result;
    together("DataParallel::step", terms, [&] {
      if (batch_size < 1)
        eigenheads::detail::refuse(
            {"DataParallel: batch_size is ", batch_size, "; expected 1 or more"});
      parameters_.require_same(std::as_const(module), "DataParallel: the module's parameters");
      losses_.clear();
      add_up(batch_size, [&](Index shard) -> const Gradients& {
        const Range members = plan_.members_of(shard, batch_size);
        losses_.push_back(loss_of(members.begin, members.end));
        return gradients;
      });
      const std::span<T> slope = reduce(batch_size);
      result = gather_sums(batch_size, slope);
      if (options_.gradient_norm > 0) clip(slope, result.gradient_norm);
      update(module, slope);
    });
    is_known_same_ = true;
    return result;
  }

  // As Optimizer's, of all slices together: a round of all ranks, which visits on rank 0 alone.
  template <class Visitor>
  void for_each_state(Visitor&& visit) const {
    if (step_count() == 0) return;
    together("DataParallel::for_each_state", {{"the step", static_cast<Index>(step_count())}}, [&] {
      const std::vector<std::vector<T>> moments = gather_moments();
      if (rank() != 0) return;
      for (const auto& part : parameters_.parts())
        for (std::size_t k = 0; k < moments.size(); ++k)
          visit(state_name(part.name, k),
                detail::FlatParameters::values_of(part, std::span<const T>(moments[k])));
    });
  }

  // As Optimizer's: goes on, on any number of ranks, where an optimizer or another of this class was.
  // All ranks are given all states, and keep their slice. Throws std::invalid_argument, and then changes
  // nothing, unless they are those of the parameters.
  void restore(std::int64_t step_count, const std::vector<OptimizerState<T>>& states) {
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
    optimizer_.restore(step_count, mine);
    is_known_same_ = false;
  }

 private:
  using Range = DataParallelPlan::Range;
  static constexpr const char* kSlice = "slice";  // the optimizer's one parameter

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
  [[nodiscard]] static std::string state_name(const std::string& parameter, std::size_t moment) {
    return parameter + "." + std::string(Rule::moments[moment]);
  }
  template <class Values>
  [[nodiscard]] auto in_slice(Values& values, int rank) const {
    const Range slice = plan_.slice(rank);
    return std::span(values).subspan(static_cast<std::size_t>(slice.begin),
                                     static_cast<std::size_t>(slice.count()));
  }

  // ---- 1. This rank's shards: sums_ are those of its nodes ----

  template <class GradientsOf>
  void add_up(Index batch_size, const GradientsOf& gradients_of) {
    detail::ShardTree tree(plan_.shards(batch_size));
    sum_count_ = 0;
    const Range mine = plan_.shards_of(rank(), batch_size);
    for (Index shard = mine.begin; shard < mine.end; ++shard) {
      const auto& gradients = gradients_of(shard);
      int merges = tree.add({0, shard});
      add_gradients(gradients, merges > 0);
      for (; merges > 1; --merges) {
        --sum_count_;
        add(sums_[sum_count_].data(), sums_[sum_count_ - 1].data(), parameters_.size());
      }
      if (size() > 1) ranks_->progress();
    }
  }
  // To the last sum, or as a new one.
  template <class Gradients>
  void add_gradients(const Gradients& gradients, bool to_last) {
    if (!to_last && ++sum_count_ > sums_.size())
      sums_.emplace_back(static_cast<std::size_t>(parameters_.size()));
    T* const sum = sums_[sum_count_ - 1].data();
    parameters_.for_each(gradients, "DataParallel: the gradients",
                         [&](const auto& gradient, const auto& part) {
                           const std::span<const T> values = gradient.elements();
                           if (to_last)
                             add(values.data(), sum + part.range.begin, part.range.count());
                           else
                             std::ranges::copy(values, sum + part.range.begin);
                         });
  }
  void add(const T* more, T* sum, Index count) const { kernels_.add_array(sum, more, sum, count); }

  // ---- 2. The slices of all ranks' nodes, added up: this rank's part of the gradient ----

  [[nodiscard]] std::span<T> reduce(Index batch_size) {
    std::vector<detail::ShardNode> nodes;
    std::vector<int> owners;
    for (int r = 0; r < size(); ++r)
      for (const detail::ShardNode& node : plan_.nodes(r, batch_size)) {
        nodes.push_back(node);
        owners.push_back(r);
      }
    const auto slice_size = static_cast<std::size_t>(plan_.slice(rank()).count());
    received_.resize(slice_size * (nodes.size() - sum_count_));
    std::span<T> room(received_);
    std::vector<std::span<T>> sums;
    std::vector<Ranks::Pending> pending;
    std::size_t own = 0;
    for (const int owner : owners) {
      if (owner == rank()) {
        sums.push_back(in_slice(sums_[own++], rank()));
        continue;
      }
      sums.push_back(room.first(slice_size));
      room = room.subspan(slice_size);
      pending.push_back(ranks_->receive(owner, std::as_writable_bytes(sums.back())));
    }
    for (int step = 1; step < size(); ++step) {  // not all to rank 0 at first
      const int to = (rank() + step) % size();
      for (std::size_t i = 0; i < sum_count_; ++i)
        pending.push_back(ranks_->send(to, std::as_bytes(in_slice(sums_[i], to))));
    }
    if (!pending.empty()) ranks_->wait(pending);
    detail::ShardTree tree(plan_.shards(batch_size));
    std::size_t last = 0;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      sums[last++] = sums[i];
      for (int merges = tree.add(nodes[i]); merges > 0; --merges) {
        --last;
        add(sums[last].data(), sums[last - 1].data(), std::ssize(sums[last]));
      }
    }
    return sums.front();
  }

  // ---- 3. The loss and the norm, which all ranks learn; then the slice ----

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
    std::vector<Index> counts;
    for (int r = 0; r < size(); ++r)
      counts.push_back(plan_.shards_of(r, batch_size).count() + plan_.blocks(r));
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

  // ---- 4. The new parameters ----

  template <class Module>
  void update(Module& module, std::span<const T> slope) {
    flat_.resize(static_cast<std::size_t>(parameters_.size()));
    parameters_.read(std::as_const(module), plan_.slice(rank()), std::span<T>(flat_));
    optimizer_.begin_step();
    const std::span<T> x = in_slice(flat_, rank());
    if (!x.empty())
      optimizer_.update(Parameter<T>(kSlice, TensorSpan<T, 1>(x.data(), {std::ssize(x)})), slope);
    if (size() > 1) ranks_->all_gather(std::span<const T>(x), counts_, std::span<T>(flat_));
    parameters_.write(std::span<const T>(flat_), module);
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
  eigenheads::detail::RowKernels<T> kernels_ = eigenheads::detail::row_kernels<T>();
  std::vector<Index> counts_;  // of the slices' elements
  bool is_known_same_ = false;
  // Kept from step to step:
  std::vector<std::vector<T>> sums_;  // of the rank's nodes, the first sum_count_
  std::size_t sum_count_ = 0;
  std::vector<double> losses_, all_sums_;  // of the rank's shards, then of its blocks; of all ranks
  std::vector<T> received_;                // the slice, of the others' nodes
  std::vector<T> flat_;                    // all parameters
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
