// SPDX-License-Identifier: MIT
#pragma once
// The steps of one call of a MultiHeadAttention. Included by multi_head_attention.hpp.
//   q = W_q queries, k = W_k keys, v = W_v values,   heads = attention(q, k, v),   W_o (g heads)
// transpose_qkv and transpose_output are in the layouts that the projections and the attention
// write to. Only keys that some query sees, and queries that are not padding, are projected at all,
// and only for heads whose gate g is not 0.
#include <algorithm>
#include <span>

#include <eigenheads/context.hpp>               // Context, Scratch
#include <eigenheads/detail/head_gates.hpp>     // HeadGates
#include <eigenheads/kernels/schedule.hpp>      // attend, rows_of
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {
// [0, count), or nothing.
[[nodiscard]] inline KeyRange all_if(bool is_wanted, Index count) {
  return {0, is_wanted ? count : 0};
}
}  // namespace detail

// Without `skips`, all heads; with it, those whose gate is not 0, and of the projections' columns
// those that any sequence needs. All of it is in scratch memory.
template <Scalar T>
typename MultiHeadAttention<T>::Wanted MultiHeadAttention<T>::wanted_heads(
    Index B, const detail::HeadGates<T>& gates, bool skips, Context& context) const {
  const Index H = num_heads(), G = num_kv_heads(), D = head_size();
  auto* pieces = context.scratch<detail::RowPiece>(detail::Scratch::head_columns, H + G + 2);
  Wanted wanted;
  if (!heads_.is_whole()) wanted.heads.numbers = heads_.numbers().data();
  const bool takes_all = !skips || !gates.closes_any();
  if (takes_all) {
    pieces[0] = {0, H * D};
    pieces[1] = {0, G * D};
    wanted.columns = {pieces, 1};
    wanted.kv_columns = {pieces + 1, 1};
    if (heads_.is_whole()) return wanted;
  } else {
    const auto is_open_anywhere = [&](Index h) {
      for (Index b = 0; b < B; ++b)
        if (gates.is_open(b, h)) return true;
      return false;
    };
    const auto is_read = [&](Index g) {
      for (Index h = 0; h < H; ++h)
        if (kv_head(h) == g && is_open_anywhere(h)) return true;
      return false;
    };
    wanted.columns = detail::rows_of(
        H, D, [&](Index h) { return detail::all_if(is_open_anywhere(h), D); }, pieces);
    wanted.kv_columns =
        detail::rows_of(G, D, [&](Index g) { return detail::all_if(is_read(g), D); }, pieces + H);
  }

  Index* begin = context.scratch<Index>(detail::Scratch::heads, B * G + 1 + B * H);
  Index *list = begin + B * G + 1, count = 0;
  for (Index b = 0; b < B; ++b)
    for (Index g = 0, h = 0; g < G; ++g) {
      begin[b * G + g] = count;
      for (; h < H && kv_head(h) == g; ++h)
        if (takes_all || gates.is_open(b, h)) list[count++] = h;
    }
  begin[B * G] = count;
  wanted.heads.begin = begin;
  wanted.heads.heads = list;
  return wanted;
}

// heads: [B, Q, H * V] before the gates -> the same behind them, in scratch memory unless the gates
// are all 1.
template <Scalar T>
const T* MultiHeadAttention<T>::gated(const T* heads, const detail::AttentionShape& shape,
                                      const detail::HeadGates<T>& gates, Context& context) const {
  if (gates.are_one()) return heads;
  T* product =
      context.scratch<T>(detail::Scratch::projections, shape.B * shape.Q * shape.H * shape.V);
  const Index size = shape.Q * shape.H * shape.V;
  context.parallel_for(shape.B, [&](Index b) {
    gates.multiply(heads + b * size, b, shape.Q, shape.H, shape.V, product + b * size);
  });
  return product;
}

template <Scalar T>
void MultiHeadAttention<T>::run(const Call& call, T* output, T* weights, Context& context) const {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  T* q =
      context.scratch<T>(detail::Scratch::projections, B * H * Q * (D + V) + B * G * K * (D + V));
  T* k = q + B * H * Q * D;
  T* v = k + B * G * K * D;
  run(call, {q, k, v, v + B * G * K * V, nullptr, nullptr}, output, weights, context);
}

template <Scalar T>
void MultiHeadAttention<T>::run(const Call& call, const Between& between, T* output, T* weights,
                                Context& context) const {
  using Layout = detail::HeadLayout<T>;
  const Index B = call.shape.B, H = call.shape.H, G = call.shape.G, Q = call.shape.Q,
              K = call.shape.K, D = call.shape.D, V = call.shape.V;
  const BoundMask& mask = call.mask;
  const bool trains = between.lse != nullptr, skips = !trains && weights == nullptr;
  const Wanted wanted = wanted_heads(B, gates_, skips, context);
  const auto takes_part = [&](Index b) {
    bool any_open = !skips || !gates_.closes_any();
    for (Index h = 0; !any_open && h < H; ++h) any_open = gates_.is_open(b, h);
    return any_open;
  };
  auto* pieces = context.scratch<detail::RowPiece>(detail::Scratch::pieces, 2 * B + H);
  const auto key_rows = detail::rows_of(
      B, K, [&](Index b) { return takes_part(b) ? mask.seen_keys(b) : KeyRange{}; }, pieces);
  const auto query_rows = detail::rows_of(
      B, Q, [&](Index b) { return detail::all_if(takes_part(b), mask.query_count(b)); },
      pieces + B);
  const auto all_of = [](const detail::RowPiece& piece) { return std::span(&piece, 1); };
  const detail::RowPiece of_query{0, call.queries.dimension(2)}, of_key{0, call.keys.dimension(2)},
      of_value{0, call.values.dimension(2)}, of_output{0, call.num_hiddens};

  W_q.project(call.queries.data(), {query_rows, all_of(of_query), wanted.columns},
              Layout::heads_apart(between.q, Q, H, D), context);
  W_k.project(call.keys.data(), {key_rows, all_of(of_key), wanted.kv_columns},
              Layout::heads_apart(between.k, K, G, D), context);
  W_v.project(call.values.data(), {key_rows, all_of(of_value), wanted.kv_columns},
              Layout::heads_apart(between.v, K, G, V), context);
  // In training the heads are kept as they are before the gates.
  detail::attend<T>(
      {call.shape, detail::attention_scale<T>({}, D), &mask, between.q, between.k, between.v,
       Layout::heads_together(between.heads, Q, H, V), between.lse, weights, call.score,
       between.dropout, nullptr, wanted.heads, trains ? detail::GateTable<T>{} : gates_.table()},
      context);
  const T* heads = trains ? gated(between.heads, call.shape, gates_, context) : between.heads;
  // Sequences side by side that leave out the same heads are projected together.
  const auto leave_out_the_same = [&](Index b, Index other) {
    for (Index h = 0; gates_.closes_any() && h < H; ++h)
      if (gates_.is_open(b, h) != gates_.is_open(other, h)) return false;
    return true;
  };
  for (Index first = 0, last = 0; first < B; first = last) {
    last = first + 1;
    while (last < B && leave_out_the_same(first, last)) ++last;
    const auto rows = detail::rows_of(
        B, Q, [&](Index b) { return detail::all_if(b >= first && b < last, mask.query_count(b)); },
        pieces);
    const auto inputs = detail::rows_of(
        H, V, [&](Index h) { return detail::all_if(gates_.is_open(first, h), V); }, pieces + 2 * B);
    W_o.project(heads, {rows, inputs, all_of(of_output)},
                Layout::heads_together(output, Q, 1, call.num_hiddens), context);
  }
  // What W_o makes of an attention of 0.
  for (Index b = 0; b < B; ++b)
    for (Index row = mask.query_count(b); row < Q; ++row)
      if (T* to = output + (b * Q + row) * call.num_hiddens; W_o.has_bias())
        std::copy_n(W_o.bias().data(), call.num_hiddens, to);
      else
        std::fill_n(to, call.num_hiddens, T(0));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
