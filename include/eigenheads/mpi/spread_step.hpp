// SPDX-License-Identifier: MIT
#pragma once
// Steps of decoding with a cache that is spread over ranks: the bits of a step of one process.
//   mpi::SpreadCache<float> cache({.batch_size = 1, ..., .capacity = 1'000'000}, ranks);
//   Tensor<float, 3> y = mpi::step(layer, x, cache, ranks);    // x: [B, n, E], the same on all ranks
// Every rank projects the tokens, whoever owns their block keeps their keys and values, and every rank
// attends to the blocks that it holds, each block alone. What a block gives, (m, l, O) of each row,
// goes to one rank of each task, which merges the blocks from left to right as one process does; then
// the heads are gathered. A block of 256 keys of D numbers is 512 D numbers to read, and for each row
// D + 2 to send: so few rows, as in decoding, are mostly spared the wait for memory.
#include <algorithm>
#include <type_traits>

#include <eigenheads/call_options.hpp>  // CallOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/step.hpp>                   // require_step_inputs, rotate_tokens
#include <eigenheads/mpi/detail/fingerprint.hpp>       // fingerprint
#include <eigenheads/mpi/detail/spread_attention.hpp>  // SpreadAttention, SpreadCache
#include <eigenheads/multi_head_attention.hpp>         // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A step while it is executed.
template <class T>
struct SpreadStep {
  const LayerParts<T>& layer;
  const LayerCall<T>& call;
  mpi::SpreadCache<T>& cache;
  Context& context;

  [[nodiscard]] Index count(Index b) const { return call.mask.query_count(b); }

  // Those whose blocks are on this rank, into pages that nobody sees before they are committed.
  void write(const HeadTensors<T>& heads) const {
    const auto [B, H, G, Q, K, D, V] = call.shape;
    constexpr Index KB = mpi::SpreadCache<T>::key_block;
    const Frame frame(context);
    T *const keys = frame.take<T>(Q * D), *const values = frame.take<T>(Q * V);
    for (Index b = 0; b < B; ++b) {
      const Index length = cache.length(b), end = length + count(b);
      const Index here = cache.tokens_here(b, end) - cache.tokens_here(b, length);
      cache.heads().reserve(b, here);
      for (Index g = 0; g < G && here > 0; ++g) {
        T *key = keys, *value = values;
        for (Index token = length; token < end; ++token) {
          if (!cache.is_here(b, token / KB)) continue;
          const Index row = (b * G + g) * Q + token - length;
          key = std::copy_n(heads.k + row * D, D, key);
          value = std::copy_n(heads.v + row * V, V, value);
        }
        cache.heads().write(
            {.b = b, .g = g, .count = here, .keys = keys, .values = values, .stride = D});
      }
    }
  }

  void run(mpi::Ranks& ranks, T* output) const {
    using Layout = StridedMatrix<T>;
    const auto [B, H, G, Q, K, D, V] = call.shape;
    const SequenceRows& rows = call.mask.query_rows();
    const Frame frame(context);
    Participation part =
        participation<T>({call.shape, call.mask, layer.heads, layer.gates, Mode::inference}, frame);
    // A gate that is closed now may be open when a later token attends to this one.
    const Range kv_columns{0, G * D}, inputs{0, call.queries.dimension(2)};
    part.kv_columns = one(kv_columns);
    part.keys =
        join_ranges(rows, [&](Index b) { return Range{0, count(b)}; }, frame.take<Range>(B));
    const auto heads = HeadTensors<T>{.q = frame.take<T>(rows.total() * H * D),
                                      .k = frame.take<T>(rows.total() * G * D),
                                      .v = frame.take<T>(rows.total() * G * V),
                                      .heads = frame.take<T>(rows.total() * H * V)};
    const T* const x = call.queries.data();
    layer.W_q.project(x, {part.queries, one(inputs), part.columns},
                      Layout::heads_apart(heads.q, rows, H, D), context);
    layer.W_k.project(x, {part.keys, one(inputs), part.kv_columns},
                      Layout::heads_apart(heads.k, rows, G, D), context);
    layer.W_v.project(x, {part.keys, one(inputs), part.kv_columns},
                      Layout::heads_apart(heads.v, rows, G, V), context);
    if (layer.rotary != nullptr) rotate_tokens(*layer.rotary, call, part, heads, cache, context);
    write(heads);
    AttentionCall<T> attention =
        attention_call(call, part, heads, {.gates = layer.gates.table(), .sinks = layer.sinks()});
    attention.keys = attention.values = {};
    SpreadAttention<T>(attention, cache, ranks, context).run();
    project_output(layer.W_o, call, part, heads.heads, output, context);
  }
};

// The call, if its parts fit each other, the layer and the cache. Lengths after the step are kept in
// the frame.
template <class T>
[[nodiscard]] LayerCall<T> checked_spread_step(const MultiHeadAttention<T>& layer,
                                               TensorView<T, 3> x, const Mask& mask,
                                               const mpi::SpreadCache<T>& cache,
                                               const Frame& frame) {
  const auto parts = layer.parts();
  require_initialized(parts);
  require_projections(parts, layer.head_size(), layer.num_hiddens());
  require_step_inputs(parts, StepInputs<T>{x});
  require_step_mask(mask);
  const Index B = x.dimension(0), n = x.dimension(1), D = layer.head_size();
  require_cache(parts, B,
                {.sequences = cache.batch_size(),
                 .heads = cache.num_kv_heads(),
                 .head_size = cache.head_size(),
                 .capacity = cache.capacity(),
                 .window = 0},
                {"the cache is made for", "as x has"});
  mask.query_lens.require_fits("query_lens", B, n, "the number of new tokens, ");
  const SequenceRows rows(B, n);
  Index* const lengths = frame.take<Index>(B);
  Index longest = 0;
  for (Index b = 0; b < B; ++b) {
    const Index count = new_tokens(mask, rows, b), length = cache.length(b);
    if (count > cache.capacity() - length)
      refuse({"step: sequence ", b, " has ", length, " tokens and gets ", count,
              "; expected no more than ", cache.capacity(), ", the cache's capacity"});
    lengths[b] = length + count;
    if (parts.rotary != nullptr && count > 0)
      parts.rotary->require_position("tokens", b, lengths[b] - 1);
    longest = (std::max)(longest, lengths[b]);
  }
  parts.gates.require_fits(B, layer.num_heads());
  return {.queries = x,
          .keys = x,
          .values = x,
          .shape = {B, layer.num_heads(), layer.num_kv_heads(), n, longest, D, D},
          .num_hiddens = layer.num_hiddens(),
          .mask = BoundMask(mask, rows, SequenceRows(B, longest), layer.num_original_heads(),
                            {.counts = lengths, .is_step = true})};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// x: [B, n, E], the next n tokens of every sequence, the same on all ranks -> [B, n, num_hiddens], of
// which each rank has all. The mask as a step of one process takes it (window, sinks, prefix_lens and
// query_lens). If it throws, the cache is on all ranks what it was, provided that the step is a round
// by itself: as a part of another, it may be over on some ranks when it fails on one.
template <Scalar T>
[[nodiscard]] Tensor<T, 3> step(const MultiHeadAttention<T>& layer,
                                std::type_identity_t<TensorView<T, 3>> x, SpreadCache<T>& cache,
                                Ranks& ranks, const Mask& mask = {},
                                const std::type_identity_t<CallOptions<T>>& options = {}) {
  Tensor<T, 3> output(0, 0, 0);
  Context& context = options.context.get();
  const eigenheads::detail::Frame frame(context);
  const auto parts = layer.parts();
  eigenheads::detail::Fingerprint of_lengths;
  for (Index b = 0; b < cache.batch_size(); ++b) of_lengths.add(cache.length(b));
  ranks.together(
      "step",
      {{"bytes of a number", Index{sizeof(T)}},
       {"sequences of x", x.dimension(0)},
       {"tokens of x", x.dimension(1)},
       {"columns of x", x.dimension(2)},
       {"num_hiddens", layer.num_hiddens()},
       {"num_heads", layer.num_heads()},
       {"num_kv_heads", layer.num_kv_heads()},
       {"head_size", layer.head_size()},
       {"the heads' fingerprint", eigenheads::detail::fingerprint(parts.heads, parts.gates)},
       {"the fingerprint of the cache's lengths", of_lengths.value()},
       {"the mask's fingerprint", eigenheads::detail::fingerprint(mask)}},
      [&] {
        cache.require_for(ranks);
        auto call = eigenheads::detail::checked_spread_step(layer, x, mask, cache, frame);
        options.score.require_fits(
            {call.shape.B, layer.num_original_heads(), call.shape.Q, call.shape.K});
        call.score = options.score;
        output = eigenheads::detail::make_tensor<T>("output", call.output_shape());
        eigenheads::detail::SpreadStep<T>{parts, call, cache, context}.run(ranks, output.data());
      });
  for (Index b = 0; b < cache.batch_size(); ++b)
    cache.commit(b, mask.query_lens.rank() == 0 ? x.dimension(1) : mask.query_lens.length(b, 0));
  return output;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
