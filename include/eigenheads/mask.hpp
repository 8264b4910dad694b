// SPDX-License-Identifier: MIT
#pragma once
// Which keys a query may see. A mask is a range of keys, the same for all heads, and may hide single
// keys of it by a boolean for every pair (allowed.hpp). With `aligned` for the key that stands beside
// the query, the range is what these have in common:
//   [0, keys)                              the keys that the sequence has
//   [0, valid_len)                         the query's length
//   [0, aligned + 1)                       if causal; [0, prefix) where that is more
//   [aligned - left, aligned + right + 1)  the window
// The first keys may stay visible beside a window (sinks): between both, the range has a gap.
// A key that is masked is absent: nothing reads it.
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include <eigenheads/allowed.hpp>  // Allowed
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>         // Range
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/error.hpp>                 // refuse
#include <eigenheads/tensor.hpp>                // Index
#include <eigenheads/valid_lens.hpp>            // ValidLens

namespace eigenheads::inline EIGENHEADS_ABI {

// No key after the one beside the query. top_left puts query 0 beside key 0 (or where
// first_positions say), bottom_right the last query beside the last key: of the call, or of the
// sequence where key_lens are given or sequences are packed. What valid_lens says moves neither.
enum class Causal { none, top_left, bottom_right };

// Keys [aligned - left, aligned + right], both ends included; -1 is unlimited. Without a causal
// mask or first_positions to say which key stands beside which query, it needs as many queries as
// keys: in the call (then query q stands beside key q, whatever lengths say), or, where sequences are
// packed, in every one of them.
struct Window {
  Index left = -1, right = -1;
};

// A query sees the keys that every part allows.
struct Mask {
  ValidLens valid_lens{};
  Causal causal = Causal::none;
  Window window{};
  // [B]: queries from query_lens on are padding: they see no key, and no work is done for them.
  ValidLens query_lens{};
  Allowed allowed{};
  // [B]: how many keys a sequence has; the call's K makes room for the longest. Unlike valid_lens
  // they say where a sequence ends: bottom_right puts its last query (by query_lens) beside its own
  // last key.
  ValidLens key_lens{};
  // [B]: the place of query 0 among the keys, for queries that go on after some that came before;
  // the queries after it follow. It may lie beyond the last key. Not with bottom_right, which is
  // another way to say it.
  ValidLens first_positions{};
  // The first so many keys of a sequence stay visible under a window, to either side, where lengths
  // and causality allow. Xiao et al., "Efficient Streaming Language Models with Attention Sinks",
  // 2023.
  Index sinks = 0;
  // [B]: a prefix, most often a prompt, whose queries see all of it under a causal mask; those after
  // it see what they see without. A window goes on hiding what it hides. No sequence may have fewer
  // keys: a part of a prefix sees other keys than the whole.
  ValidLens prefix_lens{};
};

using KeyRange = detail::Range;  // [begin, end); begin == end: no key at all

namespace detail {

// Keys that were projected before the call: how many each sequence has is known beside the mask.
struct KnownKeys {
  const Index* counts = nullptr;  // [B]; null: the mask says it
  // A step of decoding: the sequence's queries are its last tokens, and causal.
  bool is_step = false;
  // Of a ring: it holds no more keys than those, whatever the mask says. A window of 0 is all.
  Index window = 0, sinks = 0;
  // What the call's query 0 is called where score functions are told of it.
  Index first_query = 0;
};

}  // namespace detail

// A mask in a call of B sequences, Q queries, K keys and H heads. The mask must outlive it.
class BoundMask {
 public:
  // Throws std::invalid_argument if the mask does not fit the call.
  BoundMask(const Mask& mask, Index B, Index Q, Index K, Index H = 1)
      : BoundMask(mask, detail::SequenceRows(B, Q), detail::SequenceRows(B, K), H) {}
  // In a call of as many sequences of queries as of keys, padded or packed. Packed ones have their own
  // lengths, and lengths in the mask are refused; what is said of single pairs, [B, H, Q, K], makes
  // room for the longest.
  BoundMask(const Mask& mask, const detail::SequenceRows& queries, const detail::SequenceRows& keys,
            Index H = 1, const detail::KnownKeys& known = {})
      : mask_(mask), queries_(queries), keys_(keys), known_(known) {
    const Index B = queries.count(), Q = queries.longest(), K = keys.longest();
    is_causal_ = mask.causal != Causal::none || known.is_step;
    if (is_packed()) require_no_lengths();
    mask.valid_lens.require_fits(B, Q, K);
    mask.query_lens.require_fits("query_lens", B, Q, "the number of queries, ");
    mask.key_lens.require_fits("key_lens", B, K, "the number of keys, ");
    // Score functions are told of positions in 32 bits.
    constexpr Index last_position = (std::numeric_limits<std::int32_t>::max)();
    mask.first_positions.require_fits("first_positions", B, last_position - Q, "");
    mask.allowed.require_fits({B, H, Q, K});
    require_prefix(B, K);
    if (mask.sinks < 0) detail::refuse({"sinks is ", mask.sinks, "; expected 0 or more"});
    sinks_ = known.window > 0 ? known.sinks : mask.sinks;
    const bool has_positions = mask.first_positions.rank() != 0;
    if (has_positions && mask.causal == Causal::bottom_right)
      detail::refuse(
          {"first_positions are given with causal bottom_right, which places the queries "
           "at the end of the keys; expected top_left or none"});
    const auto [left, right] = mask.window;
    left_ = left;
    if (known.window > 0 && left < 0) left_ = known.window - 1;
    has_exceptions_ = sinks_ > 0 || mask.prefix_lens.rank() != 0;
    hides_none_ = mask.valid_lens.rank() == 0 && !is_causal_ && left_ == -1 && right == -1 &&
                  mask.query_lens.rank() == 0 && mask.key_lens.rank() == 0 &&
                  known.counts == nullptr;
    if (left < -1 || right < -1)
      detail::refuse(
          {"window is {", left, ", ", right, "}; expected -1 (unlimited) or more on either side"});
    if (!is_causal_ && !has_positions && (left >= 0 || right >= 0) && !is_square())
      detail::refuse(
          {"a window over ", Q, " queries and ", K,
           " keys needs causal top_left or bottom_right, or first_positions, to say which "
           "key stands beside which query"});
  }
  BoundMask(const Mask&&, Index, Index, Index, Index = 1) = delete;
  BoundMask(const Mask&&, const detail::SequenceRows&, const detail::SequenceRows&, Index = 1,
            const detail::KnownKeys& = {}) = delete;

  // Where the rows of each sequence lie, in what holds those of all of them.
  [[nodiscard]] const detail::SequenceRows& query_rows() const { return queries_; }
  [[nodiscard]] const detail::SequenceRows& key_rows() const { return keys_; }
  [[nodiscard]] bool is_packed() const { return queries_.is_packed() || keys_.is_packed(); }

  // The keys that lengths, causality and window leave: a range, the same for all heads, which may
  // have a gap.
  [[nodiscard]] KeyRange key_range(Index b, Index q) const {
    if (hides_none_) return {0, keys_.length(b)};
    if (has_exceptions_) return range_with_exceptions(b, q);
    if (q >= query_count(b)) return {};
    const Index aligned = this->aligned(b, q), keys = this->keys(b);
    Index end = keys;
    if (mask_.valid_lens.rank() != 0) end = (std::min)(end, mask_.valid_lens.length(b, q));
    if (is_causal_) end = (std::min)(end, aligned + 1);
    return in_window(aligned, keys, end);
  }
  // The keys of that range between the sinks and the window: the query does not see them.
  [[nodiscard]] KeyRange gap(Index b, Index q) const {
    if (!has_gaps()) return {};
    const Index first = sinks(b, q), begin = range_in_window(b, q).begin;
    return first > 0 && first < begin ? KeyRange{first, begin} : KeyRange{};
  }
  // Whether any range may have one.
  [[nodiscard]] bool has_gaps() const { return sinks_ > 0 && left_ >= 0; }

  // Those that `allowed` leaves too: the keys of the range whose byte in allowed_row is not 0.
  [[nodiscard]] KeyRange key_range(Index b, Index h, Index q) const {
    const bool hides_all = mask_.allowed.is_given() && mask_.allowed.shape()[3] == 1 &&
                           *mask_.allowed.row(b, h, q) == 0;
    return hides_all ? KeyRange{} : key_range(b, q);
  }
  // Null where the range is all there is to say.
  [[nodiscard]] const std::uint8_t* allowed_row(Index b, Index h, Index q) const {
    return hides_single_keys() ? mask_.allowed.row(b, h, q) : nullptr;
  }

  // Whether every query sees all keys of its sequence.
  [[nodiscard]] bool hides_none() const { return hides_none_ && !mask_.allowed.is_given(); }
  [[nodiscard]] bool hides_single_keys() const {
    return mask_.allowed.is_given() && mask_.allowed.shape()[3] != 1;
  }

  // The key that stands beside query q: it may lie before key 0 or after the last.
  [[nodiscard]] Index aligned(Index b, Index q) const {
    if (mask_.first_positions.rank() != 0) return mask_.first_positions.length(b, 0) + q;
    if (known_.is_step) return keys(b) - query_count(b) + q;
    if (mask_.causal != Causal::bottom_right) return q;
    const bool is_of_the_call =
        mask_.key_lens.rank() == 0 && known_.counts == nullptr && !is_packed();
    return (is_of_the_call ? keys_.longest() - queries_.longest() : keys(b) - query_count(b)) + q;
  }

  // The keys that a sequence has.
  [[nodiscard]] Index keys(Index b) const {
    if (known_.counts != nullptr) return known_.counts[b];
    return mask_.key_lens.rank() == 0 ? keys_.length(b) : mask_.key_lens.length(b, 0);
  }

  [[nodiscard]] Window window() const { return {left_, mask_.window.right}; }

  // What score functions call query q.
  [[nodiscard]] Index query_number(Index q) const { return known_.first_query + q; }

  // The queries of a sequence that are not padding.
  [[nodiscard]] Index query_count(Index b) const {
    return mask_.query_lens.rank() == 0 ? queries_.length(b) : mask_.query_lens.length(b, 0);
  }

  // A range that holds those of all queries of a sequence: no other key is read, packed or
  // projected, nor are those of a gap that all of them have. O(1) but for one length a query, where
  // it is O(Q).
  [[nodiscard]] KeyRange seen_keys(Index b) const {
    const Index count = query_count(b);
    if (count == 0) return {};
    // But for such lengths, a later query sees neither an earlier first key nor an earlier last
    // one.
    KeyRange seen{key_range(b, 0).begin, key_range(b, count - 1).end};
    if (mask_.valid_lens.rank() == 2)
      for (Index q = 0; q < count; ++q) seen.end = (std::max)(seen.end, key_range(b, q).end);
    return seen;
  }
  // Keys of that range that no query sees, if it has so many that no kernel meets both sides in one
  // block of keys: of a shorter gap, some kernel may read all keys.
  [[nodiscard]] KeyRange unseen_gap(Index b) const {
    constexpr Index least = detail::largest_key_block;
    if (!has_gaps() || query_count(b) == 0) return {};
    const KeyRange gap{(std::min)(sinks_, keys(b)), range_in_window(b, 0).begin};
    return gap.count() < least ? KeyRange{} : gap;
  }
  // The seen keys of a part of at most largest_key_block keys.
  [[nodiscard]] KeyRange seen_keys(Index b, KeyRange part) const {
    const auto [begin, end] = seen_keys(b);
    part = {(std::max)(part.begin, begin), (std::min)(part.end, end)};
    if (part.begin >= part.end) return {};
    return detail::without_ends(part, unseen_gap(b));
  }

 private:
  // Where the keys end that lengths, causality and a prefix leave; 0 or less: there are none.
  [[nodiscard]] Index last_key(Index b, Index q, Index aligned, Index keys) const {
    Index end = keys;
    if (mask_.valid_lens.rank() != 0) end = (std::min)(end, mask_.valid_lens.length(b, q));
    if (!is_causal_) return end;
    const bool has_prefix = mask_.prefix_lens.rank() != 0 && aligned >= 0;
    const Index prefix = has_prefix ? mask_.prefix_lens.length(b, 0) : Index{0};
    return (std::min)(end, has_prefix ? (std::max)(aligned + 1, prefix) : aligned + 1);
  }
  // What a window leaves of the keys before `end`, of so many keys.
  [[nodiscard]] KeyRange in_window(Index aligned, Index keys, Index end) const {
    Index begin = 0;
    const auto [left, right] = window();
    // Written so that no window, however wide, overflows.
    if (left >= 0 && left < aligned) begin = aligned - left;
    if (right >= 0 && right < keys - 1 - aligned) end = (std::min)(end, aligned + right + 1);
    end = (std::max)(end, Index{0});
    return {(std::min)(begin, end), end};
  }
  // The range without its sinks.
  [[nodiscard]] KeyRange range_in_window(Index b, Index q) const {
    if (q >= query_count(b)) return {};
    const Index aligned = this->aligned(b, q), keys = this->keys(b);
    return in_window(aligned, keys, last_key(b, q, aligned, keys));
  }
  // With sinks or a prefix: apart, since it would cost the rows of short sequences 3 % of their time.
  [[nodiscard, gnu::noinline]] KeyRange range_with_exceptions(Index b, Index q) const {
    const KeyRange range = range_in_window(b, q);
    const Index first = sinks(b, q);
    return first == 0 ? range : KeyRange{0, (std::max)(range.end, first)};
  }
  [[nodiscard]] Index sinks(Index b, Index q) const {
    if (q >= query_count(b)) return 0;
    return (std::clamp)(last_key(b, q, aligned(b, q), keys(b)), Index{0}, sinks_);
  }

  void require_prefix(Index B, Index K) const {
    const ValidLens& lens = mask_.prefix_lens;
    if (lens.rank() == 0) return;
    lens.require_fits("prefix_lens", B, K, "the number of keys, ");
    for (Index b = 0; b < B; ++b)
      if (lens.length(b, 0) > keys(b))
        detail::refuse({"prefix_lens", std::array{b}, " is ", lens.length(b, 0),
                        "; expected at most the keys of its sequence, ", keys(b)});
    if (!is_causal_)
      detail::refuse(
          {"prefix_lens are given without a causal mask, which is what they make an exception of; "
           "expected causal top_left or bottom_right"});
  }
  [[nodiscard]] bool is_square() const {  // as many queries as keys, in every sequence
    if (!is_packed()) return queries_.longest() == keys_.longest();
    for (Index b = 0; b < queries_.count(); ++b)
      if (queries_.length(b) != keys(b)) return false;
    return true;
  }
  void require_no_lengths() const {
    const auto require_none = [](const char* name, const ValidLens& lens) {
      if (lens.rank() != 0)
        detail::refuse({name, " has shape ", lens.shape_text(),
                        " beside Sequences, which say how long each is; expected none"});
    };
    require_none("valid_lens", mask_.valid_lens);
    require_none("query_lens", mask_.query_lens);
    require_none("key_lens", mask_.key_lens);
  }

  const Mask& mask_;
  detail::SequenceRows queries_, keys_;
  detail::KnownKeys known_;
  Index left_ = -1, sinks_ = 0;
  bool is_causal_ = false;
  // Asked for every row: nothing, by lengths, causality or window; what these hide, but for sinks or a
  // prefix.
  bool hides_none_ = false, has_exceptions_ = false;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
