// SPDX-License-Identifier: MIT
#pragma once
// Lengths: how many keys or queries of a sequence count.
#include <array>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>   // refuse, any_size
#include <eigenheads/shape.hpp>   // require_shape
#include <eigenheads/tensor.hpp>  // Index, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// Of a boolean mask that is taken for lengths, 0 and 1 would be the lengths.
template <std::integral Number>
[[nodiscard]] constexpr Index length_of(Number number) {
  static_assert(sizeof(Number) > 1 && !std::same_as<Number, bool> &&
                    !std::same_as<Number, wchar_t> && !std::same_as<Number, char16_t> &&
                    !std::same_as<Number, char32_t>,
                "These are not lengths but a mask, or text: give a mask of booleans as "
                "Mask::allowed, and lengths as integers of 16 bits or more.");
  if constexpr (std::same_as<Number, Index>)
    return number;
  else
    return static_cast<Index>(number);
}

}  // namespace detail

// How many keys count, from the first on: ValidLens{3, 2} is one length a sequence, [B], and
// ValidLens{{1, 4}, {2, 2}} one length a query, [B, Q]. ValidLens() is "all of them". Lengths are
// checked against the keys of the call that they are used in.
class ValidLens {
  struct Length {
    template <std::integral Number>
    Length(Number number) : value(detail::length_of(number)) {}  // NOLINT: implicit, for {1, 4}
    Index value;
  };
  // The inner braces. A type of its own: with a plain initializer_list, {{1}, {2}} could also be
  // the lengths 1 and 2.
  struct Row {
    Row(std::initializer_list<Length> row) {
      for (const Length& length : row) lens.push_back(length.value);
    }
    std::vector<Index> lens;
  };

 public:
  ValidLens() = default;

  template <std::integral... Lengths>
  requires(sizeof...(Lengths) > 0)
  ValidLens(Lengths... lens)  // NOLINT: implicit, for {.valid_lens = {3, 2}}
      : rank_(1), lens_{detail::length_of(lens)...} {}

  ValidLens(std::initializer_list<Row> rows) : rank_(2) {
    for (const Row& row : rows) append_row(row.lens);
  }

  // A vector without elements is a batch of no sequences.
  template <std::integral Number>
  ValidLens(const std::vector<Number>& lens) : rank_(1) {  // NOLINT
    append(lens);
  }

  template <std::integral Number>
  ValidLens(const std::vector<std::vector<Number>>& rows) : rank_(2) {  // NOLINT
    for (const auto& row : rows) append_row(row);
  }

  // lens: [B] or [B, Q], of integers
  template <detail::TensorLike Lens>
  requires(std::integral<element_of<Lens>> && (rank_of<Lens> == 1 || rank_of<Lens> == 2))
  ValidLens(const Lens& lens) : rank_(rank_of<Lens>) {  // NOLINT
    const TensorView view(lens);
    if constexpr (rank_of<Lens> == 1)
      require_shape("valid_lens", view, "[B]", {any_size});
    else
      require_shape("valid_lens", view, "[B, Q]", {any_size, any_size});
    append(std::span(view.data(), static_cast<std::size_t>(view.size())));
    sequences_ = view.dimension(0);
    if constexpr (rank_of<Lens> == 2) queries_ = view.dimension(1);
  }

  [[nodiscard]] int rank() const { return rank_; }  // 0: none, 1: [B], 2: [B, Q]
  [[nodiscard]] Index sequences() const {
    return rank_ == 1 ? static_cast<Index>(lens_.size()) : sequences_;
  }
  [[nodiscard]] Index queries() const { return queries_; }  // of rank 2

  [[nodiscard]] Index length(Index b, Index q) const {
    return lens_[static_cast<std::size_t>(rank_ == 1 ? b : b * queries_ + q)];
  }

  [[nodiscard]] std::string shape_text() const {
    return rank_ == 1 ? detail::shape_text(std::array{sequences()})
                      : detail::shape_text(std::array{sequences_, queries_});
  }

  // Every sequence n times in a row, as torch.repeat_interleave: lengths for a batch of B * n
  // heads.
  [[nodiscard]] ValidLens repeat_interleave(Index n) const {
    if (n < 0) detail::refuse({"repeat_interleave: n is ", n, "; expected 0 or more"});
    ValidLens repeated;
    repeated.rank_ = rank_;
    repeated.sequences_ = sequences_ * n;
    repeated.queries_ = queries_;
    const Index row = rank_ == 2 ? queries_ : 1;
    for (auto begin = lens_.begin(); begin != lens_.end(); begin += row)
      for (Index copy = 0; copy < n; ++copy)
        for (Index q = 0; q < row; ++q) repeated.lens_.push_back(begin[q]);
    return repeated;
  }

  // Throws std::invalid_argument unless the lengths fit a call of B sequences and Q queries, and
  // none is longer than the number of keys.
  void require_fits(Index B, Index Q, Index keys) const {
    if (rank_ == 0) return;
    if (sequences() != B || (rank_ == 2 && queries_ != Q))
      detail::refuse({"valid_lens has shape ", shape_text(), "; expected [B] = ", std::array{B},
                      " or [B, Q] = ", std::array{B, Q}});
    require_at_most("valid_lens", keys, "the number of keys, ");
  }
  // The same for one number a sequence, each from 0 to `limit`, of which `what` says what it is.
  void require_fits(std::string_view name, Index B, Index limit, std::string_view what) const {
    if (rank_ == 0) return;
    if (rank_ == 2)
      detail::refuse({name, " has one length a query; expected [B] = ", std::array{B}});
    if (sequences() != B)
      detail::refuse({name, " has shape ", shape_text(), "; expected [B] = ", std::array{B}});
    require_at_most(name, limit, what);
  }

 private:
  template <class Row>
  void append_row(const Row& row) {
    if (sequences_ > 0 && static_cast<Index>(row.size()) != queries_)
      detail::refuse({"valid_lens: row ", sequences_, " has ", row.size(), " lengths; expected ",
                      queries_, " as in the rows before it"});
    queries_ = static_cast<Index>(row.size());
    ++sequences_;
    append(row);
  }
  template <class Lengths>
  void append(const Lengths& lens) {
    lens_.reserve(lens_.size() + lens.size());
    for (const auto length : lens) lens_.push_back(detail::length_of(length));
  }
  void require_at_most(std::string_view name, Index limit, std::string_view what) const {
    for (std::size_t i = 0; i < lens_.size(); ++i)
      if (lens_[i] < 0 || lens_[i] > limit)
        detail::refuse({name, position_text(static_cast<Index>(i)), " is ", lens_[i],
                        "; expected 0 to ", what, limit});
  }
  [[nodiscard]] std::string position_text(Index i) const {
    return rank_ == 1 ? detail::shape_text(std::array{i})
                      : detail::shape_text(std::array{i / queries_, i % queries_});
  }

  int rank_ = 0;
  Index sequences_ = 0, queries_ = 0;  // of rank 2
  std::vector<Index> lens_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
