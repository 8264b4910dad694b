// SPDX-License-Identifier: MIT
#pragma once
// A step of decoding: the next tokens of every sequence attend to all that the cache holds and to
// themselves. The steps are those of forward.hpp, with one between them:
//   q, k, v = W_q x, W_k x, W_v x, and q and k turned by their positions if the layer has a rotary
//   k and v become part of the cache
//   heads = attention(q, the cache),   y = W_o (g heads)
// A row is the same sums of the same blocks as in one causal call over the whole sequence, and so has
// its bits (contract C5).
#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string>

#include <eigenheads/context.hpp>              // Context
#include <eigenheads/detail/arena.hpp>         // Frame
#include <eigenheads/detail/cached_heads.hpp>  // CachedHeads
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/step_guard.hpp>               // StepGuard
#include <eigenheads/kernels/schedule/attend_packed.hpp>  // attend_packed
#include <eigenheads/layer/cached.hpp>                    // require_cache, ProjectedTokens, reading
#include <eigenheads/layer/checks.hpp>                    // require_rows
#include <eigenheads/layer/forward.hpp>                   // LayerCall, project_output

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// The next tokens: x: [B, n, E], or packed, [1, N, E] beside the sequences.
template <class T>
struct StepInputs {
  TensorView<T, 3> x;
  const Sequences* sequences = nullptr;

  [[nodiscard]] SequenceRows rows() const { return rows_of(sequences, x); }
};

// Of the mask, a step takes what goes on from token to token.
inline void require_step_mask(const Mask& mask) {
  const auto refuse_part = [](bool is_given, const char* name) {
    if (is_given)
      refuse(
          {"step: the mask has ", name,
           "; expected no more than window, sinks, prefix_lens and query_lens: a step is causal, "
           "and the cache knows the lengths"});
  };
  refuse_part(mask.valid_lens.rank() != 0, "valid_lens");
  refuse_part(mask.key_lens.rank() != 0, "key_lens");
  refuse_part(mask.first_positions.rank() != 0, "first_positions");
  refuse_part(mask.allowed.is_given(), "allowed");
}
// A ring has let go of what a longer window, a prefix or more sinks would see.
inline void require_ring_mask(const Mask& mask, const CacheSize& ring) {
  if (mask.prefix_lens.rank() != 0)
    refuse({"step: the mask has prefix_lens, and the cache is a ring; expected none"});
  if (mask.sinks != 0 && mask.sinks != ring.sinks)
    refuse({"step: the mask has ", mask.sinks, " sinks; expected ",
            ring.sinks == 0 ? std::string("0") : "0 or " + std::to_string(ring.sinks),
            ", those of the ring, which it keeps whatever the mask says"});
  if (mask.window.left >= ring.window)
    refuse({"step: the mask has a window of ", mask.window.left,
            " keys to the left; expected at most ", ring.window - 1,
            ", or -1: the ring keeps no more than ", ring.window});
}

// What a call reads of its inputs: `sequence`'s number of new tokens.
[[nodiscard]] inline Index new_tokens(const Mask& mask, const SequenceRows& rows, Index b) {
  return mask.query_lens.rank() == 0 ? rows.length(b) : mask.query_lens.length(b, 0);
}

template <class T>
void require_step_inputs(const LayerParts<T>& layer, const StepInputs<T>& inputs) {
  const Index size = layer.W_q.in_features();
  if (layer.W_k.in_features() != size || layer.W_v.in_features() != size)
    refuse({"step: the layer takes queries of ", size, " numbers, keys of ",
            layer.W_k.in_features(), " and values of ", layer.W_v.in_features(),
            "; expected one size, since a token is all three"});
  if (inputs.sequences == nullptr) {
    require_shape("x", inputs.x, "[B, n, E]", {any_size, any_size, size});
    return;
  }
  const TensorView<T, 2> rows(inputs.x.data(), {inputs.x.dimension(1), inputs.x.dimension(2)});
  require_rows("x", rows, *inputs.sequences);
  require_shape("x", rows, "[N, E]", {any_size, size});
}

// The call, if its parts fit each other, the layer and the cache. Lengths after the step are kept in
// the frame.
template <class T>
[[nodiscard]] LayerCall<T> checked_step(const LayerParts<T>& layer, const StepInputs<T>& inputs,
                                        const Mask& mask, const CachedHeads<T>& cache,
                                        const Frame& frame) {
  require_step_inputs(layer, inputs);
  const Index H = layer.heads.count(), G = layer.heads.kv_count(), D = cache.size().head_size;
  const SequenceRows rows = inputs.rows();
  const Index B = rows.count();
  require_cache(layer, B, cache.size(), {"the cache is made for", "as x has"});
  require_step_mask(mask);
  if (cache.is_ring()) require_ring_mask(mask, cache.size());
  if (!rows.is_packed())
    mask.query_lens.require_fits("query_lens", B, rows.longest(), "the number of new tokens, ");
  auto* const lengths = frame.take<Index>(B);
  Index longest = 0;
  for (Index b = 0; b < B; ++b) {
    const Index count = rows.is_packed() ? rows.length(b) : new_tokens(mask, rows, b);
    const Index length = cache.length(b);
    // Score functions are told of positions in 32 bits.
    const Index most =
        cache.is_ring() ? (std::numeric_limits<std::int32_t>::max)() - 1 : cache.size().capacity;
    if (count > most - length)
      refuse({"step: sequence ", b, " has ", length, " tokens and gets ", count,
              "; expected no more than ", most, ", the ",
              (cache.is_ring() ? "most that are counted" : "cache's capacity")});
    lengths[b] = length + count;
    if (layer.rotary != nullptr && count > 0)
      layer.rotary->require_position("tokens", b, lengths[b] - 1);
    longest = (std::max)(longest, lengths[b]);
  }
  require_size<T>("the heads' queries", std::array{rows.total(), H, D});
  layer.gates.require_fits(B, H);
  return {.queries = inputs.x,
          .keys = inputs.x,
          .values = inputs.x,
          .shape = {B, H, G, rows.longest(), longest, D, D},
          .num_hiddens = layer.W_o.out_features(),
          .mask = BoundMask(mask, rows, SequenceRows(B, longest), layer.heads.original_count(),
                            {.counts = lengths,
                             .is_step = true,
                             .window = cache.size().window,
                             .sinks = cache.size().sinks})};
}

// One step while it is executed.
template <class T>
struct StepRun {
  const LayerCall<T>& call;
  const ProjectedTokens<T>& tokens;
  CachedHeads<T>& cache;
  const AttentionCall<T>& attention;
  Context& context;

  [[nodiscard]] Index count(Index b) const { return call.mask.query_count(b); }

  // All tokens have room beside those that they attend to.
  void attend_at_once() const {
    tokens.write_all(cache, [this](Index b) { return count(b); }, context);
    call.attend(attention, context);
  }
  // A ring, and more tokens than it has room for: those that it has room for, then the next.
  void attend_in_pieces(Index* lengths) const {
    for (Index b = 0; b < call.shape.B; ++b)
      for (Index first = 0, piece = 0; first < count(b); first += piece) {
        piece = cache.room(b, count(b) - first);
        cache.reserve(b, piece);
        for (Index g = 0; g < call.shape.G; ++g) tokens.write(cache, b, g, {first, first + piece});
        lengths[b] = cache.length(b) + piece;
        attend_piece(b, {first, first + piece}, lengths);
        cache.commit(b, piece);
      }
  }

 private:
  void attend_piece(Index b, Range queries, const Index* lengths) const {
    const Mask window{.window = call.mask.window()};
    const BoundMask mask(window, SequenceRows(call.shape.B, queries.count()),
                         SequenceRows(call.shape.B, call.shape.K), 1,
                         {.counts = lengths,
                          .is_step = true,
                          .window = cache.size().window,
                          .sinks = cache.size().sinks,
                          .first_query = queries.begin});
    const SequenceRows& rows = call.mask.query_rows();
    AttentionCall<T> one = rows.is_packed() ? call_of(attention, b) : attention;
    const auto cut = [&](auto matrix) {
      if (!matrix.is_given()) return matrix;
      if (!rows.is_packed()) matrix.data += b * matrix.sequence_stride;
      return matrix.of_sequence(queries.begin);
    };
    one.queries = cut(one.queries);
    one.output = cut(one.output);
    one.weights = cut(one.weights);
    one.first_sequence = b;
    one.shape.B = 1;
    one.shape.Q = queries.count();
    one.mask = &mask;
    attend(one, context);
  }
};

// New tokens stand behind those that the cache holds; keys are turned before they become part of it.
// Of the cache, only length(b) is asked.
template <class T, class Cache>
void rotate_tokens(const Rotary<T>& rotary, const LayerCall<T>& call, const Participation& part,
                   const HeadTensors<T>& heads, const Cache& cache, Context& context) {
  const SequenceRows& rows = call.mask.query_rows();
  const Frame frame(context);
  Index* const first = frame.take<Index>(rows.count());
  for (Index b = 0; b < rows.count(); ++b) first[b] = cache.length(b);
  const auto rotate = [&](T* data, Index count, std::span<const Range> of,
                          std::span<const Range> columns) {
    rotary.rotate({.heads = StridedMatrix<T>::heads_apart(data, rows, count, call.shape.D),
                   .sequences = rows,
                   .rows = of,
                   .columns = columns,
                   .first_positions = first},
                  context);
  };
  rotate(heads.q, call.shape.H, part.queries, part.columns);
  rotate(heads.k, call.shape.G, part.keys, part.kv_columns);
}

// Takes what the attention of any later step of these sizes will, and gives it back: so that none
// allocates because there are more keys by then, or keys for more threads.
template <class T>
void reserve_scratch(AttentionCall<T> call, const CacheSize& cache, Context& context) {
  const AttentionKernels<T> kernels = attention_kernels<T>();
  // Packed sequences that all threads share are attended one by one.
  const bool is_packed = call.mask->is_packed();
  const Index heads = (is_packed ? 1 : call.shape.B) * call.shape.G;
  // A ring's keys have numbers beyond its capacity, and a task has room for up to a block of them.
  const Index least = cache.window > 0 ? kernels.key_block : Index{0};
  call.shape.K = (std::max)({call.shape.K, cache.capacity, least});
  const bool may_cut = heads < context.threads();
  const Index blocks = may_cut ? heads * (blocks_of(cache.capacity, kernels.key_block) + 1) : 0;
  const Frame frame(context);
  if (is_packed) HeadTasks<T>::reserve(call.shape.B, context.threads(), frame);
  static_cast<void>(frame.take<T>(context.threads() * kernels.attend_scratch(call, true)));
  static_cast<void>(frame.take<T>(blocks * kernels.partial_size(call.shape)));
  static_cast<void>(frame.take<PartsLeft>(heads));
}

template <class T>
struct LayerStep {
  const LayerParts<T>& layer;
  const LayerCall<T>& call;
  CachedHeads<T>& cache;
  LayerOutput<T> into;
};

// All but the last: project(part, heads) makes the output of the heads, [B, n, H * V] or packed,
// [N, H * V]. The tokens become part of the cache when it has.
template <class T, class Project>
void attend_step(const LayerStep<T>& step, const Project& project, Context& context) {
  using Layout = StridedMatrix<T>;
  const LayerParts<T>& layer = step.layer;
  const LayerCall<T>& call = step.call;
  const LayerOutput<T>& into = step.into;
  CachedHeads<T>& cache = step.cache;
  const Frame frame(context);
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const SequenceRows& rows = call.mask.query_rows();
  Participation part =
      participation<T>({call.shape, call.mask, layer.heads, layer.gates, into.mode()}, frame);
  // A gate that is closed now may be open when a later token attends to this one.
  const Range kv_columns{0, G * D};
  part.kv_columns = one(kv_columns);
  part.keys = join_ranges(
      rows, [&](Index b) { return Range{0, call.mask.query_count(b)}; }, frame.take<Range>(B));

  const HeadTensors<T> heads{.q = frame.take<T>(rows.total() * H * D),
                             .k = frame.take<T>(rows.total() * G * D),
                             .v = frame.take<T>(rows.total() * G * V),
                             .heads = frame.take<T>(rows.total() * H * V)};
  const Range inputs{0, call.queries.dimension(2)};
  const T* const x = call.queries.data();
  layer.W_q.project(x, {part.queries, one(inputs), part.columns},
                    Layout::heads_apart(heads.q, rows, H, D), context);
  layer.W_k.project(x, {part.keys, one(inputs), part.kv_columns},
                    Layout::heads_apart(heads.k, rows, G, D), context);
  layer.W_v.project(x, {part.keys, one(inputs), part.kv_columns},
                    Layout::heads_apart(heads.v, rows, G, V), context);

  if (layer.rotary != nullptr) rotate_tokens(*layer.rotary, call, part, heads, cache, context);

  const AttentionCall<T> attention =
      reading(cache, attention_call(call, part, heads,
                                    {.weights = into.weights,
                                     .packed_weights = into.packed_weights,
                                     .gates = layer.gates.table(),
                                     .sinks = layer.sinks()}));
  reserve_scratch(attention, cache.size(), context);
  const ProjectedTokens<T> tokens{rows, heads.k, heads.v};
  const StepRun<T> run{call, tokens, cache, attention, context};
  bool has_room = true;
  for (Index b = 0; b < B; ++b) has_room = has_room && cache.room(b, run.count(b)) == run.count(b);
  if (has_room) {
    run.attend_at_once();
    project(part, heads.heads);
    for (Index b = 0; b < B; ++b) cache.commit(b, run.count(b));
  } else {
    const auto heads_of = [&](Index) -> CachedHeads<T>& { return cache; };
    StepGuard guard(1, heads_of, frame);
    run.attend_in_pieces(frame.take<Index>(B));
    project(part, heads.heads);
    guard.is_done = true;
  }
}

template <class T>
void run_step(const LayerParts<T>& layer, const LayerCall<T>& call, CachedHeads<T>& cache,
              const LayerOutput<T>& into, Context& context) {
  attend_step<T>(
      {layer, call, cache, into},
      [&](const Participation& part, const T* heads) {
        project_output(layer.W_o, call, part, heads, into.output, context);
      },
      context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
