// SPDX-License-Identifier: MIT
#pragma once
// How much each head of a layer matters, by what it looks at, what it adds to the output, what the
// loss says of it, and what a metric loses without it:
//   HeadImportance<float> importance(layer);
//   for (each batch) {
//     const auto output = layer.forward(queries, keys, values, mask, saved);
//     importance.add(layer, saved);
//     importance.add(layer.backward(grad_output, saved));
//   }
//   for (const HeadMeasures& head : importance.measures()) ...
// Nothing of size queries x keys is kept. The same bits on any number of threads, however the
// sequences are cut into batches, and whatever is padding.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <vector>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/statistics.hpp>  // add_statistics, add_contributions
#include <eigenheads/layer/checks.hpp>                 // require_projections
#include <eigenheads/mask.hpp>                         // BoundMask
#include <eigenheads/multi_head_attention.hpp>         // MultiHeadAttention
#include <eigenheads/shape.hpp>                        // require_shape, refuse
#include <eigenheads/tensor.hpp>                       // Index, Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Of one head. What was never added is NaN; ranges are up to rounding.
struct HeadMeasures {
  // Means over rows of its attention weights p before dropout, one row a query that sees a key; n
  // is the number of keys that it sees. A mask hides keys, and so does a score of -inf. A NaN among
  // the scores of a row makes all of these NaN. The bounds are those of weights that sum to 1: beside
  // a learnt sink, the others go down to 0, the entropy up to ln(n + 1).

  // sum |p|: 1 for every softmax without a sink, so it tells no such heads apart; 1 less what the
  // sink takes. Here to check the others.
  double l1_norm;
  // sqrt(sum p^2), from 1 / sqrt(n), all keys alike, to 1, one key alone.
  double l2_norm;
  // -sum p ln p in nats, from 0, one key alone, to ln n, all keys alike. Clark et al., "What Does
  // BERT Look At?", 2019, section 3.3.
  double entropy;
  // sum (p - 1/n)^2 / n, from 0, all keys alike, to (n - 1) / n^2 <= 1/4, one key alone.
  double variance;
  // max p, from 1 / n to 1. Voita et al., "Analyzing Multi-Head Self-Attention", 2019, section 4,
  // but of every query, the last one too.
  double confidence;
  // The share of rows, 0 to 1, whose largest weight (the first, if several) is at the key before,
  // after or at the one that stands beside the query: key q, and with causal bottom_right key
  // q + K - Q, or where first_positions say. Voita et al. call a head positional if it is `previous` or
  // `next` for 0.9 of them.
  double previous, next, same;

  // Over all queries that are not padding, of what the head adds to the layer's output: c = gate *
  // W_o,h o, where o is its attention and W_o,h its columns of W_o. In units of the output.

  // Mean of |c|_2: 0 and above. Kobayashi et al., "Attention is Not Only a Weight", 2020, of a
  // whole head.
  double contribution_norm;
  // Mean of |c - mean c|_2^2, units squared: what the output changes by, in the mean square, if the
  // mean takes the head's place.
  double contribution_variance;

  // E |dL / dgate| over sequences, divided by the L2 norm of that over the heads of the layer: 0 to
  // 1, squares sum to 1; all 0 if no head has a gradient. Michel, Levy, Neubig, "Are Sixteen Heads
  // Really Better than One?", 2019, equation 2 and section 4.1. Where a model is sure of most
  // sequences, a cross entropy is flat and few of them make most of it: then take the gradients of
  // a margin (examples/prune_heads compares the two).
  double gradient;
};

struct HeadMeasure {
  const char* name;
  double HeadMeasures::*value;
};
inline constexpr std::array head_measures{
    HeadMeasure{"l1_norm", &HeadMeasures::l1_norm},
    HeadMeasure{"l2_norm", &HeadMeasures::l2_norm},
    HeadMeasure{"entropy", &HeadMeasures::entropy},
    HeadMeasure{"variance", &HeadMeasures::variance},
    HeadMeasure{"confidence", &HeadMeasures::confidence},
    HeadMeasure{"previous", &HeadMeasures::previous},
    HeadMeasure{"next", &HeadMeasures::next},
    HeadMeasure{"same", &HeadMeasures::same},
    HeadMeasure{"contribution_norm", &HeadMeasures::contribution_norm},
    HeadMeasure{"contribution_variance", &HeadMeasures::contribution_variance},
    HeadMeasure{"gradient", &HeadMeasures::gradient},
};

namespace detail {

// Where each RowMeasure goes, in the order of that enumeration.
inline constexpr std::array<double HeadMeasures::*, static_cast<std::size_t>(RowMeasure::count)>
    row_measures{&HeadMeasures::l1_norm,  &HeadMeasures::l2_norm,    &HeadMeasures::entropy,
                 &HeadMeasures::variance, &HeadMeasures::confidence, &HeadMeasures::previous,
                 &HeadMeasures::next,     &HeadMeasures::same};

}  // namespace detail

// Measures of the heads of one layer, over as many batches as are added. Memory: H * num_hiddens
// numbers, and while adding some of the context's, linear in B, Q and num_hiddens.
template <Scalar T>
class HeadImportance {
 public:
  using Layer = MultiHeadAttention<T>;

  explicit HeadImportance(const Layer& layer)
      : num_hiddens_(layer.num_hiddens()),
        rows_(static_cast<std::size_t>(layer.num_heads())),
        sums_(rows_.size()),
        means_(rows_.size() * static_cast<std::size_t>(num_hiddens_)),
        slopes_(rows_.size()) {}

  [[nodiscard]] Index num_heads() const { return static_cast<Index>(rows_.size()); }

  // All measures but `gradient`, from one call of layer.forward(..., saved). The weights must be
  // those of that call. Throws std::logic_error if nothing is saved or the layer has other sizes,
  // std::invalid_argument if it is not one of as many heads as this was made for, if its parts do not
  // fit each other, or if the batch has no sequences or no queries.
  void add(const Layer& layer, const typename Layer::Activations& saved,
           Context& context = default_context()) {
    if (!saved.is_saved())
      detail::refuse<std::logic_error>(
          {"HeadImportance: add needs the activations of a forward call"});
    const auto [B, H, G, Q, K, D, V] = saved.shape();
    const detail::SequenceRows queries = saved.query_rows(), keys = saved.key_rows();
    if (layer.num_heads() != num_heads() || layer.num_hiddens() != num_hiddens_)
      detail::refuse({"HeadImportance: the layer has [num_heads, num_hiddens] = ",
                      std::array{layer.num_heads(), layer.num_hiddens()}, "; expected ",
                      std::array{num_heads(), num_hiddens_}});
    const detail::LayerParts<T> parts = layer.parts();
    if (saved.head_set() != parts.heads || D != layer.head_size() ||
        H * V != layer.W_o.in_features() || num_hiddens_ != layer.W_o.out_features())
      detail::refuse<std::logic_error>(
          {"HeadImportance: the activations are those of a layer of other sizes or heads"});
    detail::require_projections(parts, D, num_hiddens_);
    if (B == 0 || Q == 0)
      detail::refuse({"HeadImportance: the activations are of [B, Q] = ", std::array{B, Q},
                      "; expected at least one sequence and one query"});
    using Layout = detail::StridedMatrix<const T>;
    const BoundMask mask = saved.bound_mask(layer.num_original_heads());
    const detail::Frame frame(context);
    const detail::AttentionCall<T> attention{
        .shape = {B, H, G, Q, K, D, 0},
        .scale = detail::default_scale<T>(D),
        .mask = &mask,
        .queries = Layout::heads_apart(saved.q().data(), queries, H, D),
        .keys = Layout::heads_apart(saved.k().data(), keys, G, D),
        .values = Layout::heads_apart(nullptr, keys, G, 0),
        .output = {},
        .score = saved.score().forward(),
        .heads = detail::head_table<T>(
            {saved.shape(), mask, parts.heads, saved.head_gates(), detail::Mode::training}, frame),
        .sinks = parts.sinks()};
    // A copy, until nothing can fail any more.
    const std::span<detail::RowStatistics> rows(frame.take<detail::RowStatistics>(H), rows_.size());
    std::ranges::copy(rows_, rows.begin());
    detail::add_statistics<T>({attention, Layout::heads_apart(saved.lse().data(), queries, H, 1)},
                              rows, context);
    detail::add_contributions<T>({saved.shape(), &mask, saved.heads().data(), layer.W_o.panels(),
                                  saved.head_gates().table()},
                                 contributions(), context);
    std::ranges::copy(rows, rows_.begin());
    is_empty_ = false;
  }

  // `gradient`, from one call of layer.backward. Throws std::invalid_argument if it is not of as
  // many heads, or of no sequences.
  void add(const typename Layer::Gradients& gradients) {
    const TensorView<T, 2> gates(gradients.gates);
    require_shape("gradients.gates", gates, "[B, H]", {any_size, num_heads()});
    const Index B = gates.dimension(0), H = num_heads();
    if (B == 0)
      detail::refuse(
          {"gradients.gates has shape ", gates.dimensions(), "; expected at least one sequence"});
    for (Index h = 0; h < H; ++h)
      for (Index b = 0; b < B; ++b)
        slopes_[static_cast<std::size_t>(h)] +=
            std::abs(static_cast<double>(gates.data()[b * H + h]));
    sequences_ += B;
    is_empty_ = false;
  }

  // One of every head. Throws std::logic_error before anything was added.
  [[nodiscard]] std::vector<HeadMeasures> measures() const {
    if (is_empty_)
      detail::refuse<std::logic_error>({"HeadImportance: measures needs a batch; add one first"});
    const auto sum_of_squares = [&](double unit) {
      double sum = 0;
      for (const double slope : slopes_) sum = std::fma(slope / unit, slope / unit, sum);
      return sum;
    };
    double unit = 1, squares = sum_of_squares(1);
    // Of very small or large slopes the squares have digits only if the largest is the unit.
    double largest = 0;
    for (const double slope : slopes_) largest = (std::max)(largest, slope);
    if ((squares < 1e-280 || squares > 1e280) && largest > 0 && detail::is_finite(largest)) {
      unit = largest;
      squares = sum_of_squares(unit);
    }
    const double gradient_norm = std::sqrt(squares);
    const auto mean = [](double sum, double count) {
      return count == 0 ? detail::quiet_nan<double> : sum / count;
    };
    std::vector<HeadMeasures> measures(rows_.size());
    for (std::size_t h = 0; h < measures.size(); ++h) {
      for (std::size_t i = 0; i < detail::row_measures.size(); ++i)
        measures[h].*detail::row_measures[i] = mean(rows_[h].values[i], rows_[h].rows);
      measures[h].contribution_norm = mean(sums_[h].norms, sums_[h].rows);
      measures[h].contribution_variance = mean(sums_[h].squares, sums_[h].rows);
      measures[h].gradient =
          squares == 0 && sequences_ > 0 ? 0 : mean(slopes_[h] / unit, gradient_norm);
    }
    return measures;
  }

 private:
  // Their means lie in means_, whose place in memory changes when this is copied.
  [[nodiscard]] std::span<detail::Contributions> contributions() {
    for (std::size_t h = 0; h < sums_.size(); ++h)
      sums_[h].mean = means_.data() + h * static_cast<std::size_t>(num_hiddens_);
    return sums_;
  }

  bool is_empty_ = true;
  Index num_hiddens_, sequences_ = 0;
  std::vector<detail::RowStatistics> rows_;  // [H], their sums
  std::vector<detail::Contributions> sums_;  // [H]
  std::vector<double> means_;                // [H, num_hiddens]
  std::vector<double> slopes_;               // [H], sums of |dL / dgate|
};

namespace detail {

// Puts the gates of a layer back.
template <Scalar T>
class KeepGates {
 public:
  explicit KeepGates(MultiHeadAttention<T>& layer) : layer_(layer), gates_(layer.gates_) {}
  KeepGates(const KeepGates&) = delete;
  KeepGates& operator=(const KeepGates&) = delete;
  ~KeepGates() { layer_.gates_ = std::move(gates_); }  // takes no memory

  // The gates with a 0 for head h.
  void close(Index h) {
    const Index H = layer_.num_heads();
    Tensor<T, 2> gates = gates_.values();
    if (gates.dimension(0) == 0) {
      gates = Tensor<T, 2>(1, H);
      std::fill_n(gates.data(), H, T(1));
    }
    for (Index b = 0; b < gates.dimension(0); ++b) gates(b, h) = T(0);
    layer_.set_gates(gates);
  }

 private:
  MultiHeadAttention<T>& layer_;
  HeadGates<T> gates_;
};

}  // namespace detail

// By trial: what metric() loses without each head, metric whole - metric without it. metric() is a
// number, higher is better, of a model that holds `layer`: it is called num_heads + 1 times, first
// with the layer as it is, then with one gate at 0 more. The gates are put back, also if it throws.
template <Scalar T, class Metric>
[[nodiscard]] std::vector<double> importance_by_trial(MultiHeadAttention<T>& layer,
                                                      const Metric& metric) {
  const auto whole = static_cast<double>(metric());
  detail::KeepGates<T> gates(layer);
  std::vector<double> importance(static_cast<std::size_t>(layer.num_heads()));
  for (std::size_t h = 0; h < importance.size(); ++h) {
    gates.close(static_cast<Index>(h));
    importance[h] = whole - static_cast<double>(metric());
  }
  return importance;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
