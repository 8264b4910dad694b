// SPDX-License-Identifier: MIT
#pragma once
// Who takes part in a call of a layer: which rows of queries and keys are projected, onto which
// columns, which heads attend, and which sequences share a product with W_o. A row that the mask
// hides, and a head whose gate is 0, cost nothing. All of it is ranges and tables, made before any
// number is touched.
#include <algorithm>
#include <span>

#include <eigenheads/detail/arena.hpp>       // Frame
#include <eigenheads/detail/head_gates.hpp>  // HeadGates
#include <eigenheads/detail/head_set.hpp>    // HeadSet
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range, join_ranges
#include <eigenheads/kernels/heads.hpp>  // AttentionShape, HeadTable
#include <eigenheads/mask.hpp>           // BoundMask

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What a call is for. Only inference may leave a head out: the weights of a closed head are asked
// for all the same, and the gradient of a gate needs its head's output whatever the gate is.
enum class Mode { inference, weights, training };

// Sequences side by side that leave out the same heads: rows of the heads' outputs, and the columns
// of W_o that they are multiplied with.
struct OutputGroup {
  std::span<const Range> rows, inputs;
};

struct Participation {
  std::span<const Range> queries, keys;        // rows of all sequences, one below the other
  std::span<const Range> columns, kv_columns;  // of q, [H * D], and of k and v, [G * D]
  HeadTable heads;
  std::span<const OutputGroup> outputs;
};

template <class T>
struct ParticipationCall {
  const AttentionShape& shape;
  const BoundMask& mask;
  const HeadSet& heads;
  const HeadGates<T>& gates;
  Mode mode;

  // Whether a gate may leave a head out.
  [[nodiscard]] bool skips() const { return mode == Mode::inference && gates.closes_any(); }
  [[nodiscard]] bool takes_part(Index b, Index h) const { return !skips() || gates.is_open(b, h); }
  [[nodiscard]] bool has_heads(Index b) const {
    if (!skips()) return true;
    for (Index h = 0; h < shape.H; ++h)
      if (gates.is_open(b, h)) return true;
    return false;
  }
  [[nodiscard]] bool is_needed(Index h) const {  // by any sequence
    for (Index b = 0; b < shape.B; ++b)
      if (takes_part(b, h)) return true;
    return false;
  }
  [[nodiscard]] bool is_read(Index g) const {
    for (Index h = 0; h < shape.H; ++h)
      if (heads.kv_head(h) == g && is_needed(h)) return true;
    return false;
  }
};

// [0, count), or nothing.
[[nodiscard]] inline Range all_if(bool is_wanted, Index count) {
  return {0, is_wanted ? count : 0};
}

// Columns of the projections that a gate of 0 leaves. In training these are the columns with a
// gradient, which `gates` alone decide.
struct HeadColumns {
  std::span<const Range> columns, kv_columns;
};
template <class T>
[[nodiscard]] HeadColumns head_columns(const ParticipationCall<T>& call, const Frame& frame) {
  const Index H = call.shape.H, G = call.shape.G, D = call.shape.D;
  auto* const ranges = frame.take<Range>(H + G + 2);
  if (!call.skips()) {
    ranges[0] = {0, H * D};
    ranges[1] = {0, G * D};
    return {{ranges, 1}, {ranges + 1, 1}};
  }
  return {join_ranges(
              {H, D}, [&](Index h) { return all_if(call.is_needed(h), D); }, ranges),
          join_ranges({G, D}, [&](Index g) { return all_if(call.is_read(g), D); }, ranges + H)};
}

template <class T>
[[nodiscard]] HeadTable head_table(const ParticipationCall<T>& call, const Frame& frame) {
  HeadTable table;
  if (!call.heads.is_whole()) table.originals = call.heads.originals().data();
  if (!call.skips() && call.heads.is_whole()) return table;
  const Index B = call.shape.B, H = call.shape.H, G = call.shape.G;
  Index* const begin = frame.take<Index>(B * G + 1);
  Index *const list = frame.take<Index>(B * H), count = 0;
  for (Index b = 0; b < B; ++b)
    for (Index g = 0, h = 0; g < G; ++g) {
      begin[b * G + g] = count;
      for (; h < H && call.heads.kv_head(h) == g; ++h)
        if (call.takes_part(b, h)) list[count++] = h;
    }
  begin[B * G] = count;
  table.begin = begin;
  table.heads = list;
  return table;
}

// W_o reads all heads that are open: in training those that are multiplied by their gates before it.
template <class T>
[[nodiscard]] std::span<const OutputGroup> output_groups(const ParticipationCall<T>& call,
                                                         const Frame& frame) {
  const Index B = call.shape.B, H = call.shape.H, V = call.shape.V;
  const bool closes_any = call.gates.closes_any();
  const Index most = closes_any ? B : (std::min)(B, Index{1});
  auto* const groups = frame.take<OutputGroup>(most);
  auto* const rows = frame.take<Range>(B);
  auto* const inputs = frame.take<Range>(most * H);
  const auto leave_out_the_same = [&](Index b, Index other) {
    for (Index h = 0; closes_any && h < H; ++h)
      if (call.gates.is_open(b, h) != call.gates.is_open(other, h)) return false;
    return true;
  };
  Index count = 0;
  for (Index first = 0, last = 0; first < B; first = last, ++count) {
    last = first + 1;
    while (last < B && leave_out_the_same(first, last)) ++last;
    const auto rows_of = [&](Index b) {
      return all_if(b >= first && b < last, call.mask.query_count(b));
    };
    const auto columns_of = [&](Index h) {
      return all_if(!closes_any || call.gates.is_open(first, h), V);
    };
    groups[count] = {join_ranges(call.mask.query_rows(), rows_of, rows + first),
                     join_ranges({H, V}, columns_of, inputs + count * H)};
  }
  return {groups, static_cast<std::size_t>(count)};
}

template <class T>
[[nodiscard]] Participation participation(const ParticipationCall<T>& call, const Frame& frame) {
  const Index B = call.shape.B;
  const auto queries_of = [&](Index b) {
    return all_if(call.has_heads(b), call.mask.query_count(b));
  };
  const auto keys_of = [&](Index b) -> Range {
    if (!call.has_heads(b)) return {};
    return call.mask.seen_keys(b);
  };
  const HeadColumns columns = head_columns(call, frame);
  return {.queries = join_ranges(call.mask.query_rows(), queries_of, frame.take<Range>(B)),
          .keys = join_ranges(
              call.mask.key_rows(), keys_of, [&](Index b) { return call.mask.unseen_gap(b); },
              frame.take<Range>(2 * B)),
          .columns = columns.columns,
          .kv_columns = columns.kv_columns,
          .heads = head_table(call, frame),
          .outputs = output_groups(call, frame)};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
