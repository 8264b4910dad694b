// SPDX-License-Identifier: MIT
#pragma once
// What a call of a layer would do, without doing it: who takes part, how the attention is cut into
// tasks, for how many operations and in how much memory. It prints what the call itself would make
// and follow: its participation (layer/participation.hpp) and its plan (kernels/schedule/plan.hpp).
#include <algorithm>
#include <array>
#include <cstdint>
#include <ostream>
#include <type_traits>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>                     // projection_work
#include <eigenheads/isa.hpp>                             // InstructionSet
#include <eigenheads/kernels/schedule/attend_packed.hpp>  // PackedShares
#include <eigenheads/kernels/schedule/plan.hpp>           // AttentionPlan
#include <eigenheads/layer/checks.hpp>                    // checked_call
#include <eigenheads/layer/participation.hpp>             // Participation
#include <eigenheads/mask.hpp>                            // Mask, BoundMask
#include <eigenheads/multi_head_attention.hpp>            // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI {

// Operations count 2 for a multiply-add, and only those that the mask and the gates leave; softmax
// and packing count 0.
struct Explanation {
  InstructionSet instruction_set{};
  detail::AttentionPath path{};  // of the attention
  // That take part in the attention and in the largest projection: as many as the work is
  // worth, if they are awake (context.hpp).
  int threads = 1, projection_threads = 1;
  Index tasks = 0;  // that the attention is cut into
  Index tile_rows = 0, tile_columns = 0;
  Index query_block = 0, key_block = 0;  // rows that share a task, keys between two merges
  double projection_flops = 0, attention_flops = 0;
  Index projected_queries = 0, projected_keys = 0;  // rows
  Index scratch_bytes = 0;                          // that the context holds afterwards, at least
};

namespace detail {

[[nodiscard]] constexpr const char* name_of(AttentionPath path) {
  switch (path) {
    case AttentionPath::packed_by_task:
      return "packed by each task";
    case AttentionPath::cut_along_keys:
      return "packed by each task, which is one block of them";
    case AttentionPath::packed_once:
      return "packed once for all rows of a head";
    case AttentionPath::cached:
      return "packed before the call";
  }
  return "";
}

// Pairs of query and key that attend to each other, of all heads that take part. O(B H Q), times K
// where keys are hidden one by one.
template <class T>
[[nodiscard]] double count_pairs(const ParticipationCall<T>& call) {
  double pairs = 0;
  for (Index b = 0; b < call.shape.B; ++b)
    for (Index h = 0; h < call.shape.H; ++h) {
      if (!call.takes_part(b, h)) continue;
      const Index original = call.heads.originals()[static_cast<std::size_t>(h)];
      for (Index q = 0; q < call.mask.query_count(b); ++q) {
        const auto [begin, end] = call.mask.key_range(b, original, q);
        const std::uint8_t* allowed = call.mask.allowed_row(b, original, q);
        const auto seen = [allowed](Index from, Index to) {
          return allowed == nullptr ? to - from
                                    : to - from - std::count(allowed + from, allowed + to, 0);
        };
        const KeyRange gap = begin < end ? call.mask.gap(b, q) : KeyRange{};
        pairs += static_cast<double>(seen(begin, end) - seen(gap.begin, gap.end));
      }
    }
  return pairs;
}

// Multiply-adds of a projection of so many rows, counted twice.
[[nodiscard]] inline double product_flops(Index rows, Index in, Index out) {
  return 2 * product(rows, in, out);
}

// How an attention is carried out: of packed sequences, the path is that of the longest.
struct CarriedOut {
  AttentionPath path{};
  int threads = 1;
  Index tasks = 0, scratch_elements = 0;
};
template <class T>
[[nodiscard]] CarriedOut carried_out(const AttentionCall<T>& call, const Context& context) {
  if (!call.mask->is_packed()) {
    const AttentionPlan one = plan(call, context);
    return {one.path, one.threads.most, one.tasks(),
            one.tasks() == 0 ? Index{0} : one.scratch_elements()};
  }
  const PackedShares shares = PackedShares::of(call, context);
  CarriedOut all{.threads = shares.threads.most};
  Index task_elements = 0, packed_elements = 0, longest = -1;
  for (Index b = 0; b < call.shape.B; ++b) {
    const AttentionCall<T> one = call_of(call, b);
    const bool is_shared = shares.is_shared(one, context);
    const AttentionPlan own = is_shared ? plan(one, context) : plan(one, Threads{});
    if (one.shape.Q == 0) continue;
    all.tasks += is_shared ? own.tasks() : own.heads;
    if (one.shape.K > longest) {
      longest = one.shape.K;
      all.path = own.path;
    }
    if (is_shared) {
      all.scratch_elements = (std::max)(all.scratch_elements, own.scratch_elements());
    } else {
      task_elements = (std::max)(task_elements, own.task_elements);
      packed_elements = (std::max)(packed_elements, own.blocks_at_once * own.block_elements);
    }
  }
  all.scratch_elements =
      (std::max)(all.scratch_elements, shares.threads.most * (task_elements + packed_elements));
  return all;
}

template <Scalar T>
[[nodiscard]] Explanation explain_call(const MultiHeadAttention<T>& layer,
                                       const LayerInputs<T>& inputs, const Mask& mask,
                                       const Context& context) {
  const LayerParts<T> parts = layer.parts();
  require_initialized(parts);
  const auto call = checked_call<T>(parts, layer.head_size(), layer.num_hiddens(), inputs, mask);
  const auto [B, H, G, Q, K, D, V] = call.shape;
  Context own;  // for the tables
  const Frame frame(own);
  const ParticipationCall<T> who{call.shape, call.mask, parts.heads, parts.gates, Mode::inference};
  const Participation part = participation(who, frame);
  const HeadTensors<T> none{nullptr, nullptr, nullptr, nullptr};
  const CarriedOut attention = carried_out(attention_call<T>(call, part, none, {}), context);
  const auto kernels = attention_kernels<T>();

  Explanation explanation;
  explanation.instruction_set = instruction_set();
  explanation.path = attention.path;
  explanation.threads = attention.threads;
  explanation.tasks = attention.tasks;
  explanation.tile_rows = kernels.tile_rows;
  explanation.tile_columns = kernels.panel_width;
  explanation.query_block = query_block;
  explanation.key_block = kernels.key_block;
  explanation.projected_queries = total(part.queries);
  explanation.projected_keys = total(part.keys);
  explanation.attention_flops = 4 * count_pairs(who) * static_cast<double>(D);
  const Index columns = total(part.columns), kv_columns = total(part.kv_columns);
  const auto add_projection = [&](Index rows, Index in, Index out) {
    explanation.projection_flops += product_flops(rows, in, out);
    explanation.projection_threads =
        (std::max)(explanation.projection_threads,
                   context.threads_for(projection_work<T>(rows, in, out)).most);
  };
  add_projection(explanation.projected_queries, layer.W_q.in_features(), columns);
  add_projection(explanation.projected_keys, layer.W_k.in_features(), kv_columns);
  add_projection(explanation.projected_keys, layer.W_v.in_features(), kv_columns);
  for (const OutputGroup& group : part.outputs)
    add_projection(total(group.rows), total(group.inputs), layer.num_hiddens());
  const Index of_queries = call.mask.query_rows().total() * H * (D + V),
              of_keys = call.mask.key_rows().total() * G * (D + V);
  explanation.scratch_bytes =
      static_cast<Index>(sizeof(T)) * (of_queries + of_keys + attention.scratch_elements);
  return explanation;
}

}  // namespace detail

// queries: [B, Q, query_size], keys: [B, K, key_size], values: [B, K, value_size], of which only the
// shapes matter. Throws as the call itself would.
template <Scalar T>
[[nodiscard]] Explanation explain(const MultiHeadAttention<T>& layer,
                                  std::type_identity_t<TensorView<T, 3>> queries,
                                  std::type_identity_t<TensorView<T, 3>> keys,
                                  std::type_identity_t<TensorView<T, 3>> values,
                                  const Mask& mask = {},
                                  const Context& context = default_context()) {
  return detail::explain_call<T>(layer, {queries, keys, values}, mask, context);
}
// Where the values are the keys.
template <Scalar T>
[[nodiscard]] Explanation explain(const MultiHeadAttention<T>& layer,
                                  std::type_identity_t<TensorView<T, 3>> queries,
                                  std::type_identity_t<TensorView<T, 3>> keys,
                                  const Mask& mask = {},
                                  const Context& context = default_context()) {
  return explain<T>(layer, queries, keys, keys, mask, context);
}
// Of packed sequences: x, [N, size], or queries, [N, query_size], and keys and values of as many
// sequences.
template <Scalar T>
[[nodiscard]] Explanation explain(const MultiHeadAttention<T>& layer,
                                  std::type_identity_t<TensorView<T, 2>> x,
                                  const Sequences& sequences, const Mask& mask = {},
                                  const Context& context = default_context()) {
  using Inputs = detail::LayerInputs<T>;
  return detail::explain_call<T>(layer, Inputs::packed(x, sequences, x, x, sequences), mask,
                                 context);
}
template <Scalar T>
[[nodiscard]] Explanation explain(const MultiHeadAttention<T>& layer,
                                  std::type_identity_t<TensorView<T, 2>> queries,
                                  const Sequences& query_sequences,
                                  std::type_identity_t<TensorView<T, 2>> keys,
                                  std::type_identity_t<TensorView<T, 2>> values,
                                  const Sequences& key_sequences, const Mask& mask = {},
                                  const Context& context = default_context()) {
  using Inputs = detail::LayerInputs<T>;
  return detail::explain_call<T>(
      layer, Inputs::packed(queries, query_sequences, keys, values, key_sequences), mask, context);
}

namespace detail {

struct ThreadCount {
  int count;
};
inline std::ostream& operator<<(std::ostream& out, ThreadCount threads) {
  return out << threads.count << (threads.count == 1 ? " thread" : " threads");
}

}  // namespace detail

inline std::ostream& operator<<(std::ostream& out, const Explanation& explanation) {
  using detail::ThreadCount;
  return out << "instruction set  " << name_of(explanation.instruction_set) << ", tiles of "
             << explanation.tile_rows << " x " << explanation.tile_columns << "\nattention        "
             << explanation.tasks << " tasks on " << ThreadCount{explanation.threads} << ", keys "
             << detail::name_of(explanation.path) << ", " << explanation.query_block << " rows by "
             << explanation.key_block << " keys at a time, " << explanation.attention_flops / 1e6
             << " Mflop\nprojections      " << explanation.projected_queries << " rows of queries, "
             << explanation.projected_keys << " of keys, on "
             << ThreadCount{explanation.projection_threads} << ", "
             << explanation.projection_flops / 1e6 << " Mflop\nscratch memory   "
             << static_cast<double>(explanation.scratch_bytes) / 1024 << " KiB";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
