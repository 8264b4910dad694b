// SPDX-License-Identifier: MIT
#pragma once
// Sequences of different lengths without padding: [N, E] holds the rows of all of them, one below the
// other, and Sequences says where each begins.
//   Sequences sequences{3, 2};                       // 3 rows, then 2
//   Tensor<float, 2> x = pack(padded, {3, 2});       // [2, 3, E] -> [5, E]
#include <algorithm>
#include <array>
#include <concepts>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/shape.hpp>                 // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                // Tensor, TensorView
#include <eigenheads/valid_lens.hpp>            // length_of

namespace eigenheads::inline EIGENHEADS_ABI {

class Sequences {
 public:
  Sequences() = default;
  // One length a sequence, of 0 or more; a vector without elements is no sequence at all. Throws
  // std::invalid_argument for a negative length, or for more rows than Index counts.
  template <std::integral Number>
  Sequences(const std::vector<Number>& lens) {  // NOLINT: implicit, for pack(padded, lens)
    begins_.reserve(lens.size() + 1);
    for (const auto length : lens) append(detail::length_of(length));
  }
  template <std::integral Number>
  Sequences(std::initializer_list<Number> lens) : Sequences(std::vector<Number>(lens)) {}

  // From where each sequence begins, and at the end the number of rows: offsets {0, 3, 5} are lengths
  // {3, 2}. Throws std::invalid_argument unless they begin with 0 and do not fall.
  template <std::integral Number>
  [[nodiscard]] static Sequences from_offsets(const std::vector<Number>& offsets) {
    if (offsets.empty() || offsets[0] != 0)
      detail::refuse(
          {"Sequences: the offsets do not begin with 0; expected where each sequence "
           "begins, and at the end the number of rows"});
    Sequences sequences;
    sequences.begins_.reserve(offsets.size());
    for (std::size_t b = 1; b < offsets.size(); ++b) {
      const Index begin = detail::length_of(offsets[b - 1]), end = detail::length_of(offsets[b]);
      if (end < begin)
        detail::refuse({"Sequences: offset ", b, " is ", end, "; expected ", begin,
                        ", the one before it, or more"});
      sequences.append(end - begin);
    }
    return sequences;
  }

  // Of an object that was moved from, no sequences; then nothing below is to be asked but rows().
  [[nodiscard]] Index count() const { return (std::max)(std::ssize(begins_) - 1, Index{0}); }
  [[nodiscard]] Index rows() const { return begins_.empty() ? 0 : begins_.back(); }  // of all
  [[nodiscard]] Index begin(Index b) const { return begins_[static_cast<std::size_t>(b)]; }
  [[nodiscard]] Index length(Index b) const { return begin(b + 1) - begin(b); }
  [[nodiscard]] Index longest() const { return longest_; }
  // [count + 1]: where each sequence begins, and the number of rows.
  [[nodiscard]] const std::vector<Index>& offsets() const { return begins_; }

  friend bool operator==(const Sequences&, const Sequences&) = default;

  // For the kernels. Refers to this object.
  [[nodiscard]] detail::SequenceRows as_rows() const { return {count(), longest_, begins_.data()}; }

 private:
  void append(Index length) {
    if (length < 0)
      detail::refuse({"Sequences: length ", count(), " is ", length, "; expected 0 or more"});
    if (length > (std::numeric_limits<Index>::max)() - rows())
      detail::refuse({"Sequences: the lengths add up to more than ",
                      (std::numeric_limits<Index>::max)(), ", the most rows that can be counted"});
    begins_.push_back(rows() + length);
    longest_ = (std::max)(longest_, length);
  }

  std::vector<Index> begins_{0};
  Index longest_ = 0;
};

namespace detail {

// `tensor`, of which the first axis is rows, holds those of the sequences.
template <class X>
void require_rows(std::string_view name, const X& tensor, const Sequences& sequences) {
  if (tensor.dimension(0) != sequences.rows())
    refuse({name, " has ", tensor.dimension(0), " rows; expected ", sequences.rows(),
            ", those of its ", sequences.count(), " sequences"});
}

}  // namespace detail

// padded: [B, L, E], of which sequence b has the first length(b) rows -> [N, E]. Throws
// std::invalid_argument unless there are B sequences, none longer than L.
template <detail::TensorLike Padded>
requires(rank_of<Padded> == 3)
[[nodiscard]] Tensor<element_of<Padded>, 2> pack(const Padded& padded, const Sequences& sequences) {
  using T = element_of<Padded>;
  const TensorView<T, 3> from(padded);
  require_shape("padded", from, "[B, L, E]", {sequences.count(), any_size, any_size});
  const Index L = from.dimension(1), E = from.dimension(2);
  if (sequences.longest() > L)
    detail::refuse({"padded has room for ", L, " rows a sequence; expected ", sequences.longest(),
                    " or more, the longest sequence"});
  auto packed = detail::make_tensor<T>("packed", std::array{sequences.rows(), E});
  for (Index b = 0; b < sequences.count(); ++b)
    std::copy_n(from.data() + b * L * E, sequences.length(b) * E,
                packed.data() + sequences.begin(b) * E);
  return packed;
}

// The way back: packed: [N, E] -> [B, longest, E], with rows of 0 where a sequence has none.
template <detail::TensorLike Packed>
requires(rank_of<Packed> == 2)
[[nodiscard]] Tensor<element_of<Packed>, 3> unpack(const Packed& packed,
                                                   const Sequences& sequences) {
  using T = element_of<Packed>;
  const TensorView<T, 2> from(packed);
  require_shape("packed", from, "[N, E]", {any_size, any_size});
  detail::require_rows("packed", from, sequences);
  const Index L = sequences.longest(), E = from.dimension(1);
  auto padded = detail::make_tensor<T>("padded", std::array{sequences.count(), L, E});
  padded.setZero();
  for (Index b = 0; b < sequences.count(); ++b)
    std::copy_n(from.data() + sequences.begin(b) * E, sequences.length(b) * E,
                padded.data() + b * L * E);
  return padded;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
