// SPDX-License-Identifier: MIT
#pragma once
// Which keys a query may see. Every part of a mask is a range of keys, so together they are one
// range:
//   key_range(b, q) = [0, valid_len) and [.., aligned] if causal and [aligned - left, aligned +
//   right]
// where `aligned` is the key that stands beside query q. Masked means absent (contract C1): nothing
// reads a key outside of the range.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include <eigenheads/shape.hpp>   // require_shape, refuse, shape_text
#include <eigenheads/tensor.hpp>  // Index, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// How many keys count, from the first on: ValidLens{3, 2} is one length a sequence, [B], and
// ValidLens{{1, 4}, {2, 2}} one length a query, [B, Q]. ValidLens() is "all of them". Lengths are
// checked against the keys of the call that they are used in.
class ValidLens {
  // The inner braces. A type of its own: with a plain initializer_list, {{1}, {2}} could also be
  // the lengths 1 and 2.
  struct Row {
    Row(std::initializer_list<Index> row) : lens(row) {}
    std::vector<Index> lens;
  };

 public:
  ValidLens() = default;

  template <std::integral... Lengths>
  requires(sizeof...(Lengths) > 0)
  ValidLens(Lengths... lens)  // NOLINT: implicit, for {.valid_lens = {3, 2}}
      : rank_(1), lens_{static_cast<Index>(lens)...} {}

  ValidLens(std::initializer_list<Row> rows) : rank_(2) {
    for (const Row& row : rows) append_row(row.lens);
  }

  // A vector without elements is a batch of no sequences.
  template <std::integral Length>
  ValidLens(const std::vector<Length>& lens)
      : rank_(1), lens_(lens.begin(), lens.end()) {}  // NOLINT

  template <std::integral Length>
  ValidLens(const std::vector<std::vector<Length>>& rows) : rank_(2) {  // NOLINT
    for (const auto& row : rows) append_row(row);
  }

  // lens: [B] or [B, Q], of integers
  template <detail::TensorLike Lens>
  requires(std::integral<element_of<Lens>> && (rank_of<Lens> == 1 || rank_of<Lens> == 2))
  ValidLens(const Lens& lens) : rank_(rank_of<Lens>) {  // NOLINT
    const TensorView view(lens);
    if constexpr (rank_of<Lens> == 1)
      require_shape("valid_lens", view, "[B]", {any});
    else
      require_shape("valid_lens", view, "[B, Q]", {any, any});
    lens_.assign(view.data(), view.data() + view.size());
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
        repeated.lens_.insert(repeated.lens_.end(), begin, begin + row);
    return repeated;
  }

  // Throws std::invalid_argument unless the lengths fit a call of B sequences and Q queries, and
  // none is longer than `limit`. `name` and `counted` are for the message.
  void require_fits(Index B, Index Q, Index limit, const char* name = "valid_lens",
                    const char* counted = "keys") const {
    if (rank_ == 0) return;
    if (sequences() != B || (rank_ == 2 && queries_ != Q))
      detail::refuse({name, " has shape ", shape_text(), "; expected [B] = ", std::array{B},
                      " or [B, Q] = ", std::array{B, Q}});
    for (std::size_t i = 0; i < lens_.size(); ++i)
      if (lens_[i] < 0 || lens_[i] > limit)
        detail::refuse({name, position_text(static_cast<Index>(i)), " is ", lens_[i],
                        "; expected 0 to the number of ", counted, ", ", limit});
  }

 private:
  template <class Row>
  void append_row(const Row& row) {
    if (sequences_ > 0 && static_cast<Index>(row.size()) != queries_)
      detail::refuse({"valid_lens: row ", sequences_, " has ", row.size(), " lengths; expected ",
                      queries_, " as in the rows before it"});
    queries_ = static_cast<Index>(row.size());
    ++sequences_;
    for (const auto length : row) lens_.push_back(static_cast<Index>(length));
  }
  [[nodiscard]] std::string position_text(Index i) const {
    return rank_ == 1 ? detail::shape_text(std::array{i})
                      : detail::shape_text(std::array{i / queries_, i % queries_});
  }

  int rank_ = 0;
  Index sequences_ = 0, queries_ = 0;  // of rank 2
  std::vector<Index> lens_;
};

// No key after the query. The two alignments differ when Q != K: top_left puts query 0 beside key
// 0, bottom_right the last query beside the last key of the call (whatever valid_lens says).
enum class Causal { none, top_left, bottom_right };

// Keys [aligned - left, aligned + right], both ends included; -1 is unlimited. Without a causal
// mask to name the alignment, it needs as many queries as keys.
struct Window {
  Index left = -1, right = -1;
};

// Which pairs of query and key may attend, true = may: [B, H, Q, K], where any axis may also be 1
// and then counts for all, or [Q, K].
class Allowed {
 public:
  Allowed() = default;

  template <detail::TensorLike Pairs>
  requires(std::same_as<element_of<Pairs>, bool> && (rank_of<Pairs> == 4 || rank_of<Pairs> == 2))
  Allowed(const Pairs& pairs) {  // NOLINT: implicit, for {.allowed = pairs}
    const TensorView view(pairs);
    if constexpr (rank_of<Pairs> == 2)
      require_shape("allowed", view, "[Q, K]", {any, any});
    else
      require_shape("allowed", view, "[B, H, Q, K]", {any, any, any, any});
    std::copy(view.dimensions().begin(), view.dimensions().end(), shape_.end() - rank_of<Pairs>);
    bytes_.assign(view.data(), view.data() + view.size());
    is_given_ = true;
  }

  [[nodiscard]] bool is_given() const { return is_given_; }
  [[nodiscard]] const std::array<Index, 4>& shape() const { return shape_; }

  // A byte for every key, 0 = hidden; one byte for all of them if shape()[3] is 1.
  [[nodiscard]] const std::uint8_t* row(Index b, Index h, Index q) const {
    const auto at = [this](std::size_t axis, Index i) { return shape_[axis] == 1 ? 0 : i; };
    return bytes_.data() + ((at(0, b) * shape_[1] + at(1, h)) * shape_[2] + at(2, q)) * shape_[3];
  }

  // Throws std::invalid_argument unless every axis is as long as the call's, or 1.
  void require_fits(const std::array<Index, 4>& call) const {
    if (!is_given_) return;
    for (std::size_t axis = 0; axis < 4; ++axis)
      if (shape_[axis] != 1 && shape_[axis] != call[axis])
        detail::refuse({"allowed has shape ", shape_, "; expected [B, H, Q, K] = ", call,
                        ", or 1 for any of them"});
  }

 private:
  bool is_given_ = false;
  std::array<Index, 4> shape_{1, 1, 1, 1};
  std::vector<std::uint8_t> bytes_;
};

// A query sees the keys that every part allows. Queries from query_lens, [B], on are padding: they
// see no key, and no work is done for them.
struct Mask {
  ValidLens valid_lens{};
  Causal causal = Causal::none;
  Window window{};
  ValidLens query_lens{};
  Allowed allowed{};
};

struct KeyRange {
  Index begin = 0, end = 0;  // [begin, end); begin == end: no key at all
};

// A mask in a call of B sequences, Q queries, K keys and H heads. The mask must outlive it.
class BoundMask {
 public:
  // Throws std::invalid_argument if the mask does not fit the call.
  BoundMask(const Mask& mask, Index B, Index Q, Index K, Index H = 1)
      : mask_(mask),
        queries_(Q),
        keys_(K),
        shift_(mask.causal == Causal::bottom_right ? K - Q : 0) {
    mask.valid_lens.require_fits(B, Q, K);
    if (mask.query_lens.rank() == 2)
      detail::refuse({"query_lens has one length a query; expected [B] = ", std::array{B}});
    if (mask.query_lens.rank() == 1 && mask.query_lens.sequences() != B)
      detail::refuse({"query_lens has shape ", mask.query_lens.shape_text(),
                      "; expected [B] = ", std::array{B}});
    mask.query_lens.require_fits(B, Q, Q, "query_lens", "queries");
    mask.allowed.require_fits({B, H, Q, K});
    const auto [left, right] = mask.window;
    if (left < -1 || right < -1)
      detail::refuse(
          {"window is {", left, ", ", right, "}; expected -1 (unlimited) or more on either side"});
    if (mask.causal == Causal::none && (left >= 0 || right >= 0) && Q != K)
      detail::refuse({"a window over ", Q, " queries and ", K,
                      " keys needs causal top_left or bottom_right, to say which key stands beside "
                      "which query"});
  }
  BoundMask(const Mask&&, Index, Index, Index, Index = 1) = delete;

  // The keys that lengths, causality and window leave: a range, the same for all heads.
  [[nodiscard]] KeyRange key_range(Index b, Index q) const {
    if (q >= query_count(b)) return {};
    const Index aligned = this->aligned(q);
    Index begin = 0, end = mask_.valid_lens.rank() == 0 ? keys_ : mask_.valid_lens.length(b, q);
    if (mask_.causal != Causal::none) end = (std::min)(end, aligned + 1);
    const auto [left, right] = mask_.window;
    // Written so that no window, however wide, overflows.
    if (left >= 0 && left < aligned) begin = aligned - left;
    if (right >= 0 && right < keys_ - 1 - aligned) end = (std::min)(end, aligned + right + 1);
    end = (std::max)(end, Index{0});
    return {(std::min)(begin, end), end};
  }

  // And those that `allowed` leaves: the keys of this range whose byte in allowed_row is not 0.
  [[nodiscard]] KeyRange key_range(Index b, Index h, Index q) const {
    const bool hides_all = mask_.allowed.is_given() && mask_.allowed.shape()[3] == 1 &&
                           *mask_.allowed.row(b, h, q) == 0;
    return hides_all ? KeyRange{} : key_range(b, q);
  }
  // Null where the range is all there is to say.
  [[nodiscard]] const std::uint8_t* allowed_row(Index b, Index h, Index q) const {
    return hides_single_keys() ? mask_.allowed.row(b, h, q) : nullptr;
  }

  [[nodiscard]] bool hides_single_keys() const {
    return mask_.allowed.is_given() && mask_.allowed.shape()[3] != 1;
  }

  // The key that stands beside query q: it may lie before key 0 or after the last.
  [[nodiscard]] Index aligned(Index q) const { return q + shift_; }

  // The queries of a sequence that are not padding.
  [[nodiscard]] Index query_count(Index b) const {
    return mask_.query_lens.rank() == 0 ? queries_ : mask_.query_lens.length(b, 0);
  }

  // A range that holds those of all queries of a sequence: no other key is read, packed or
  // projected. O(1) but for one length a query, where it is O(Q).
  [[nodiscard]] KeyRange seen_keys(Index b) const {
    const Index count = query_count(b);
    if (count == 0) return {};
    // But for such lengths, a later query sees neither an earlier first key nor an earlier last
    // one.
    KeyRange seen{key_range(b, 0).begin, key_range(b, count - 1).end};
    if (mask_.valid_lens.rank() == 2)
      for (Index q = 0; q < count; ++q) seen.end = (std::max)(seen.end, key_range(b, q).end);
    return {(std::min)(seen.begin, seen.end), seen.end};
  }

 private:
  const Mask& mask_;
  Index queries_, keys_, shift_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI
