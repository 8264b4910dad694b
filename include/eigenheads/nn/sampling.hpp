// SPDX-License-Identifier: MIT
#pragma once
// From logits to the next token's id.
//   const Sampler sampler({.temperature = 0.8, .top_k = 40, .top_p = 0.95, .seed = 1});
//   Index id = sampler(logits, {.sequence = 3, .position = std::ssize(text), .seen = text});
// The filters in the order of Hugging Face's transformers, each on what the one before it left:
//   1. repetition penalty r: a logit whose id is in the text becomes x / r above 0 and x r below,
//      once, however often it is there (Keskar et al., "CTRL", 2019)
//   2. temperature t: x / t; 0 is the largest logit and nothing random
//   3. top-k: the k largest; 4. top-p: of these the fewest that have p of the probability (Holtzman et
//      al., 2020), to 2^-36 of it, and at least one; 5. min-p: of these those with m times the largest
//      one's or more
// Of equal logits those with the lower ids count as the larger. Whatever the type of the logits the
// rest is done in double. The id is a function of the row of logits, the options and (seed, sequence,
// position) alone: of no batch, no thread, and on every CPU with a fused multiply-add the same (on one
// without, weights may differ by a rounding).
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/float_bits.hpp>  // is_nan, is_negative_infinity
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>             // product, multiply_adds_per_score
#include <eigenheads/nn/detail/sampling_row.hpp>  // SamplingRow, SamplingScratch
#include <eigenheads/random.hpp>                  // random_bits
#include <eigenheads/shape.hpp>                   // require_shape, require_disjoint
#include <eigenheads/tensor.hpp>                  // TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

// As they stand here nothing is filtered.
struct SamplingOptions {
  double temperature = 1;         // 0 or more
  Index top_k = 0;                // 0: of all
  double top_p = 1;               // 0 to 1, where 0 keeps the most likely id, and 1 all
  double min_p = 0;               // 0 to 1
  double repetition_penalty = 1;  // above 0
  std::uint64_t seed = 0;
};

// What is drawn: of which row of the logits, with which random number, that of this position in this
// sequence, and after which text. A sequence has the same ids in every batch if it keeps its number.
struct SamplingDraw {
  Index row = 0;
  std::uint64_t sequence = 0;
  Index position = 0;
  std::span<const Index> seen{};  // for the repetition penalty
};

// Draws ids from logits, by the filters above, in their order.
class Sampler {
 public:
  // Throws std::invalid_argument for an option that is out of range.
  explicit Sampler(const SamplingOptions& options = {}) : options_(options) {
    const auto require = [](const char* name, double value, bool is_good, const char* expected) {
      if (!detail::is_finite(value) || !is_good)
        detail::refuse(
            {"Sampler: ", name, " is ", detail::number_text(value), "; expected ", expected});
    };
    const SamplingOptions& o = options;
    require("temperature", o.temperature, o.temperature >= 0, "0 or more");
    if (o.top_k < 0)
      detail::refuse({"Sampler: top_k is ", o.top_k, "; expected 1 or more, or 0 for all"});
    require("top_p", o.top_p, o.top_p >= 0 && o.top_p <= 1, "0 to 1");
    require("min_p", o.min_p, o.min_p >= 0 && o.min_p <= 1, "0 to 1");
    require("repetition_penalty", o.repetition_penalty, o.repetition_penalty > 0, "more than 0");
  }

  [[nodiscard]] const SamplingOptions& options() const { return options_; }

  // logits: [vocabulary]. -inf is an id that is never drawn. Throws std::invalid_argument for NaN, if
  // all are -inf, and for a seen id that is outside the vocabulary.
  template <TensorOfRank<1> Logits>
  [[nodiscard]] Index operator()(const Logits& logits, const SamplingDraw& draw = {},
                                 Context& context = default_context()) const {
    const TensorView<element_of<Logits>, 1> row(logits);
    const TensorView<element_of<Logits>, 2> rows(row.data(), {1, row.dimension(0)});
    Index id = 0;
    sample_into({&id, 1}, rows, {&draw, 1}, context);
    return id;
  }

  // logits: [B, vocabulary] -> an id for each draw. Rows that none is drawn from are not read.
  template <TensorOfRank<2> Logits>
  [[nodiscard]] std::vector<Index> operator()(const Logits& logits,
                                              std::span<const SamplingDraw> draws,
                                              Context& context = default_context()) const {
    std::vector<Index> ids(draws.size());
    sample_into(ids, logits, draws, context);
    return ids;
  }
  // The same into ids, of which nothing is written if the call is refused. Allocates nothing once the
  // context has seen such a call.
  template <TensorOfRank<2> Logits>
  void sample_into(std::span<Index> ids, const Logits& logits, std::span<const SamplingDraw> draws,
                   Context& context = default_context()) const {
    using T = element_of<Logits>;
    const TensorView<T, 2> view(logits);
    require(view, draws);
    if (ids.size() != draws.size())
      detail::refuse(
          {"ids has ", ids.size(), " elements; expected one for each of ", draws.size(), " draws"});
    detail::require_disjoint("ids", TensorView<Index, 1>(ids.data(), {std::ssize(ids)}), "logits",
                             view);
    const Index count = std::ssize(draws), V = view.dimension(1);
    const auto threads = context.threads_for(
        detail::floats_per<double> * detail::multiply_adds_per_score * detail::product(count, V));
    const Index size = detail::SamplingScratch::size(V);
    const detail::Frame frame(context);
    double* const scratch = frame.take<double>(threads.most * size);
    context.parallel_for(count, threads, [&](Index i, int thread) {
      const SamplingDraw& draw = draws[static_cast<std::size_t>(i)];
      detail::Cutter<double> memory(scratch + thread * size);
      const detail::SamplingScratch to(memory, V);
      const detail::KeptIds kept = kept_of(view.data() + draw.row * V, V, draw.seen, to);
      ids[static_cast<std::size_t>(i)] =
          kept.id(detail::drawn_of(kept.weights, uniform(draw), to.block_sums));
    });
  }

  // What is drawn from: logits: [vocabulary] -> the probability of each id, 0 of those that the filters
  // leave out. Allocates nothing once the context has seen such a call.
  template <TensorOfRank<1> Logits>
  void probabilities_into(TensorSpan<double, 1> probabilities, const Logits& logits,
                          std::span<const Index> seen = {},
                          Context& context = default_context()) const {
    using T = element_of<Logits>;
    const TensorView<T, 1> row(logits);
    const SamplingDraw draw{.seen = seen};
    require(TensorView<T, 2>(row.data(), {1, row.dimension(0)}), {&draw, 1});
    const TensorView<double, 1> written(probabilities);
    require_shape("probabilities", written, "[vocabulary]", row.dimensions());
    detail::require_disjoint("probabilities", written, "logits", row);
    const Index V = row.dimension(0);
    const detail::Frame frame(context);
    detail::Cutter<double> memory(frame.take<double>(detail::SamplingScratch::size(V)));
    const detail::SamplingScratch to(memory, V);
    const detail::KeptIds kept = kept_of(row.data(), V, seen, to);
    const double sum = detail::sum_of(kept.weights, to.block_sums);
    std::fill_n(probabilities.data(), V, 0.0);
    for (Index i = 0; i < std::ssize(kept.weights); ++i)
      probabilities(kept.id(i)) = kept.weights[static_cast<std::size_t>(i)] / sum;
  }

 private:
  // A multiple of 2^-53 on [0, 1).
  [[nodiscard]] double uniform(const SamplingDraw& draw) const {
    constexpr std::uint64_t stream = random_stream("sampling");
    const auto bits = random_bits(options_.seed, stream + draw.sequence, draw.position);
    return static_cast<double>(bits >> 11) * 0x1p-53;
  }

  template <class T>
  [[nodiscard]] detail::KeptIds kept_of(const T* logits, Index V, std::span<const Index> seen,
                                        const detail::SamplingScratch& to) const {
    const auto& [temperature, top_k, top_p, min_p, penalty, seed] = options_;
    std::copy_n(logits, V, to.values);
    if (penalty != 1)  // of the logit as it was given, so once
      for (const Index id : seen)
        to.values[id] = detail::penalized(static_cast<double>(logits[id]), penalty);
    const detail::SamplingRow row(V, to);
    return temperature > 0 ? row.kept(temperature, top_k, top_p, min_p) : row.largest();
  }

  template <class T>
  static void require(TensorView<T, 2> logits, std::span<const SamplingDraw> draws) {
    static_assert(Scalar<T>, "Logits are of float or double.");
    require_shape("logits", logits, "[B, vocabulary]", {any_size, any_size});
    const Index B = logits.dimension(0), V = logits.dimension(1);
    for (std::size_t i = 0; i < draws.size(); ++i) {
      const auto& [row, sequence, position, seen] = draws[i];
      if (row < 0 || row >= B)
        detail::refuse({"draw ", i, " is from row ", row, "; expected 0 to ", B - 1,
                        ", the last row of the logits"});
      if (position < 0)
        detail::refuse({"draw ", i, " is at position ", position, "; expected 0 or more"});
      require_row(logits, row);
      for (std::size_t n = 0; n < seen.size(); ++n)
        if (seen[n] < 0 || seen[n] >= V)
          detail::refuse({"draw ", i, ": seen[", n, "] is ", seen[n], "; expected 0 to ", V - 1,
                          ", the last id of the vocabulary"});
    }
  }
  template <class T>
  static void require_row(TensorView<T, 2> logits, Index row) {
    const Index V = logits.dimension(1);
    const T* const x = logits.data() + row * V;
    bool has_any = false, has_nan = false;
    for (Index id = 0; id < V; ++id) {
      has_any |= !detail::is_negative_infinity(x[id]);
      has_nan |= detail::is_nan(x[id]);
    }
    if (has_any && !has_nan) return;
    const Index at =
        std::find_if(x, x + V, [](const T& logit) { return detail::is_nan(logit); }) - x;
    if (has_nan) detail::refuse({"logits[", row, ", ", at, "] is NaN; expected a number"});
    detail::refuse({"logits: row ", row, V == 0 ? " has no" : " has -inf for all",
                    " ids; expected ", "one or more that can be drawn"});
  }

  SamplingOptions options_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
