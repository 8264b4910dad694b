// SPDX-License-Identifier: MIT
#pragma once
// What the ranks of a layer whose outputs are shared out send each other: columns, of which each has
// some, so that all have all; and for a backward pass the columns of a weight of which each has rows.
// Nothing is added up, so no bit depends on how many ranks there are.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <eigenheads/call_options.hpp>  // TrainingOptions
#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/panels.hpp>  // Panels
#include <eigenheads/detail/ranges.hpp>  // Range, total
#include <eigenheads/kv_cache.hpp>       // AnyKvCache
#include <eigenheads/linear.hpp>         // Linear
#include <eigenheads/mask.hpp>           // Mask
#include <eigenheads/mpi/ranks.hpp>      // Ranks
#include <eigenheads/mpi/shares.hpp>     // Shares
#include <eigenheads/parameter.hpp>      // Parameter
#include <eigenheads/sequences.hpp>      // Sequences
#include <eigenheads/tensor.hpp>         // Tensor

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Returns on a rank when all have come so far. Throws RankError if one has failed.
inline void agree(Ranks& ranks) {
  const auto size = static_cast<std::size_t>(ranks.size());
  const char here = 1;
  std::vector<char> all(size);
  const std::vector<Index> counts(size, 1);
  ranks.all_gather<char>({&here, 1}, counts, all);
}

// Rows of a matrix of which a rank has the columns shares.of(rank).
struct SharedRows {
  const Shares& shares;
  std::span<const eigenheads::detail::Range> rows;
};

// mine: [*, shares.count(rank)] -> whole: [*, shares.total()], of those rows alone: others are neither
// sent nor written. A rank receives rows * (total - its count) elements, round a ring, and sends all but
// those of the next rank.
template <class T>
void gather_columns(Ranks& ranks, const SharedRows& of, const T* mine, T* whole, Context& context) {
  const Shares& shares = of.shares;
  const Index rows = eigenheads::detail::total(of.rows), own = shares.count(ranks.rank());
  std::vector<Index> counts(static_cast<std::size_t>(ranks.size()));
  for (int rank = 0; rank < ranks.size(); ++rank)
    counts[static_cast<std::size_t>(rank)] = rows * shares.count(rank);
  const eigenheads::detail::Frame frame(context);
  T* const all = frame.take<T>(rows * shares.total());
  T* const packed = all + rows * shares.of(ranks.rank()).begin;  // its place among all
  T* to = packed;
  for (const eigenheads::detail::Range& range : of.rows)
    to = std::copy_n(mine + range.begin * own, range.count() * own, to);
  ranks.all_gather<T>({packed, static_cast<std::size_t>(rows * own)}, counts,
                      {all, static_cast<std::size_t>(rows * shares.total())});
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const eigenheads::detail::Range columns = shares.of(rank);
    const T* from = all + rows * columns.begin;
    for (const eigenheads::detail::Range& range : of.rows)
      for (Index row = range.begin; row < range.end; ++row, from += columns.count())
        std::copy_n(from, columns.count(), whole + row * shares.total() + columns.begin);
  }
}
// A weight [outputs, inputs] of which each rank has the rows outputs.of(rank), and gets the columns
// inputs.of(rank): [outputs.total(), inputs.count(rank)]. Each sends all of its part but the columns
// that it keeps.
template <class T>
[[nodiscard]] Tensor<T, 2> exchange_weight(Ranks& ranks, eigenheads::detail::Panels<const T> mine,
                                           const Shares& outputs, const Shares& inputs) {
  const int me = ranks.rank();
  const Index own = inputs.count(me);
  const auto pack = [&](int to) {
    const eigenheads::detail::Range columns = inputs.of(to);
    std::vector<T> part;
    part.reserve(static_cast<std::size_t>(mine.rows * columns.count()));
    for (Index row = 0; row < mine.rows; ++row)
      for (Index column = columns.begin; column < columns.end; ++column)
        part.push_back(mine.at(row, column));
    return part;
  };
  Tensor<T, 2> weight(outputs.total(), own);
  const auto rows_of = [&](int rank) {
    const eigenheads::detail::Range rows = outputs.of(rank);
    return std::span(weight.data() + rows.begin * own,
                     static_cast<std::size_t>(rows.count() * own));
  };
  std::vector<std::vector<T>> parts(static_cast<std::size_t>(ranks.size()));
  std::vector<Ranks::Pending> pending;
  for (int rank = 0; rank < ranks.size(); ++rank)
    if (rank != me && !rows_of(rank).empty())
      pending.push_back(ranks.receive(rank, std::as_writable_bytes(rows_of(rank))));
  for (int rank = 0; rank < ranks.size(); ++rank) {
    auto& part = parts[static_cast<std::size_t>(rank)];
    part = pack(rank);
    if (rank == me)
      std::ranges::copy(part, rows_of(me).begin());
    else if (!part.empty())
      pending.push_back(ranks.send(rank, std::as_bytes(std::span(part))));
  }
  ranks.wait(pending);
  return weight;
}

// A number that differs, but for a chance of 2^-63, where what it is made of does: to find before
// anything is sent that the ranks were not called alike. (FNV-1a, by 64 bits.)
class Digest {
 public:
  Digest& add(std::uint64_t bits) {
    for (int byte = 0; byte < 8; ++byte)
      hash_ = (hash_ ^ ((bits >> (8 * byte)) & 0xFF)) * 0x100000001B3u;
    return *this;
  }
  Digest& add(Index number) { return add(static_cast<std::uint64_t>(number)); }
  Digest& add(const ValidLens& lens) {
    add(Index{lens.rank()});
    const Index B = lens.rank() == 0 ? 0 : lens.sequences(),
                Q = lens.rank() == 2 ? lens.queries() : 1;
    add(B).add(Q);
    for (Index b = 0; b < B; ++b)
      for (Index q = 0; q < Q; ++q) add(lens.length(b, q));
    return *this;
  }
  // Single pairs are not looked at.
  Digest& add(const Mask& mask) {
    for (const ValidLens* lens : {&mask.valid_lens, &mask.query_lens, &mask.key_lens,
                                  &mask.first_positions, &mask.prefix_lens})
      add(*lens);
    for (const Index axis : mask.allowed.shape()) add(axis);
    return add(static_cast<Index>(mask.causal))
        .add(mask.window.left)
        .add(mask.window.right)
        .add(mask.sinks)
        .add(Index{mask.allowed.is_given()});
  }
  Digest& add(const Sequences* sequences) {
    if (sequences == nullptr) return add(Index{-1});
    add(sequences->count());
    for (Index b = 0; b < sequences->count(); ++b) add(sequences->length(b));
    return *this;
  }
  template <Scalar T>
  Digest& add(const Tensor<T, 2>& values) {
    add(values.dimension(0)).add(values.dimension(1));
    for (Index i = 0; i < values.size(); ++i)
      add(std::bit_cast<std::uint64_t>(static_cast<double>(values.data()[i])));
    return *this;
  }
  // How many tokens it has of each sequence, and how many it keeps. (Heads are each rank's own.)
  template <Scalar T>
  Digest& add(const AnyKvCache<T>& cache) {
    add(cache.batch_size()).add(cache.capacity()).add(cache.window()).add(cache.sinks());
    for (Index b = 0; b < cache.batch_size(); ++b) add(cache.length(b));
    return *this;
  }
  template <Scalar T>
  Digest& add_seed(const TrainingOptions<T>& options) {
    return add(Index{options.seed.has_value()}).add(options.seed ? options.seed->value : 0);
  }

  [[nodiscard]] Index value() const { return static_cast<Index>(hash_ >> 1); }

 private:
  std::uint64_t hash_ = 0xCBF29CE484222325u;
};

// The projection to some of the outputs of `whole`, and nothing else of it.
template <class T>
[[nodiscard]] Linear<T> outputs_of(const Linear<T>& whole, eigenheads::detail::Range outputs) {
  return whole.part(each_of(outputs), each_of({0, whole.in_features()}));
}

// Of `count` outputs, which may be none, with weights of 0: to be loaded.
template <class T>
[[nodiscard]] Linear<T> empty_outputs(Index in_features, Index count, bool bias) {
  const Linear<T> linear({in_features, (std::max)(count, Index{1}), bias}, undrawn);
  return count > 0 ? linear : outputs_of(linear, {0, 0});
}

// visit(parameter, first, all) for the weight and the bias, which are rows [first, first + their own) of
// `all`: also where the rank has none, so that all ranks have the same names.
template <class T, class Visitor>
void visit_share(Linear<T>& own, const Shares& outputs, int rank, Visitor& visit,
                 const std::string& prefix) {
  const Index first = outputs.of(rank).begin, all = outputs.total();
  own.for_each_parameter([&](const auto& parameter) { visit(parameter, first, all); }, prefix);
  Tensor<T, 1> none(0);
  if (own.has_bias() && own.out_features() == 0)
    visit(Parameter<T>(prefix + "bias", none), first, all);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
