// SPDX-License-Identifier: MIT
#pragma once
// Decoding token by token: a cache holds the keys and values of the tokens that a layer has seen, as
// the kernels read them, so that a step projects its own tokens and no other.
//   KvCache<float> cache({.batch_size = 1, .num_kv_heads = 8, .head_size = 64, .capacity = 4096});
//   Tensor<float, 3> y = layer.step(prompt, cache);    // [1, n, E]
//   y = layer.step(token, cache);                      // [1, 1, E], and so on
// Each row has the bits of one causal call over the whole sequence (contract C5).
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/detail/cached_heads.hpp>  // CachedHeads
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                 // refuse
#include <eigenheads/layer/step.hpp>            // run_step
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/shape.hpp>                 // require_size
#include <eigenheads/storage.hpp>               // BFloat16, Half

namespace eigenheads::inline EIGENHEADS_ABI {

// Sizes are fixed: a cache takes its memory when it is made.
struct KvCacheOptions {
  Index batch_size = 0, num_kv_heads = 0, head_size = 0;  // those of the layer and its calls
  Index capacity = 0;                                     // tokens of a sequence
  // 0: all tokens are kept, and there are no more than `capacity`. Else a ring: a token sees this
  // many, itself among them, as under a mask of window.left = window - 1, and only the last `capacity`
  // (`window` or more) are kept, of sequences of any length.
  Index window = 0;
  // Of a ring: so many first tokens are kept too, and seen, as under a mask of the same sinks.
  Index sinks = 0;
};

namespace detail {

[[nodiscard]] inline CacheSize checked_size(const KvCacheOptions& options, StoredAs stored_as) {
  struct Count {
    const char* name;
    Index value, least;
  };
  for (const Count& count :
       {Count{"batch_size", options.batch_size, 0}, Count{"num_kv_heads", options.num_kv_heads, 0},
        Count{"head_size", options.head_size, 1}, Count{"capacity", options.capacity, 0},
        Count{"window", options.window, 0}, Count{"sinks", options.sinks, 0}})
    // Score functions are told of positions in 32 bits.
    if (constexpr Index most = (std::numeric_limits<std::int32_t>::max)() - 1;
        count.value < count.least || count.value > most)
      refuse(
          {"KvCache: ", count.name, " is ", count.value, "; expected ", count.least, " to ", most});
  if (options.window > options.capacity)
    refuse({"KvCache: capacity is ", options.capacity, "; expected ", options.window,
            " or more, the window"});
  if (options.sinks > 0 && options.window == 0)
    refuse(
        {"KvCache: sinks is ", options.sinks,
         " without a window; expected 0: a cache that keeps all tokens takes them from the mask"});
  // With room for blocks that are not full.
  require_size<double>("the keys and values of KvCache",
                       std::array{options.batch_size, options.num_kv_heads, options.head_size + 64,
                                  options.capacity + options.sinks + 1024, Index{2}});
  return {.sequences = options.batch_size,
          .heads = options.num_kv_heads,
          .head_size = options.head_size,
          .capacity = options.capacity,
          .window = options.window,
          .sinks = options.sinks,
          .stored_as = stored_as};
}

}  // namespace detail

// A cache of any storage: what a step takes, and all that a KvCache does but to be made and copied.
template <Scalar T>
class AnyKvCache {
 public:
  [[nodiscard]] Index batch_size() const { return heads_.size().sequences; }
  [[nodiscard]] Index num_kv_heads() const { return heads_.size().heads; }
  [[nodiscard]] Index head_size() const { return heads_.size().head_size; }
  [[nodiscard]] Index capacity() const { return heads_.size().capacity; }
  [[nodiscard]] Index window() const { return heads_.size().window; }
  [[nodiscard]] Index sinks() const { return heads_.size().sinks; }
  [[nodiscard]] Index bytes() const { return heads_.bytes(); }  // of keys and values

  // Tokens that sequence b has had, also those that a ring no longer holds.
  [[nodiscard]] Index length(Index b) const {
    require_sequence("length", b);
    return heads_.length(b);
  }

  // The shortest length that sequence b can be cut to: 0, unless a ring has dropped tokens.
  [[nodiscard]] Index shortest(Index b) const {
    require_sequence("shortest", b);
    return heads_.shortest(b);
  }

  // Cuts sequence b down to its first `length` tokens; what follows is as if the others had never
  // been. A ring goes back by capacity - window + 1 tokens at most, since a token then still sees all
  // of its window. Throws std::invalid_argument for more tokens than there are, or fewer than that.
  void truncate(Index b, Index length) {
    require_sequence("truncate", b);
    const Index least = heads_.shortest(b), most = heads_.length(b);
    if (length < 0 || length > most)
      detail::refuse({"truncate: sequence ", b, " has ", most,
                      " tokens; expected a length of 0 to ", most, ", got ", length});
    if (length < least)
      detail::refuse({"truncate: sequence ", b, " is cut to ", length,
                      " tokens, and the ring has dropped some that the next would see; expected ",
                      least, " to ", most});
    heads_.truncate(b, length);
  }
  // All sequences are empty, or one is.
  void reset() { heads_.reset(); }
  void reset(Index b) {
    require_sequence("reset", b);
    heads_.reset(b);
  }

  // Sequence `to` becomes what `from` is. Both read the same memory; a block that one of them goes on
  // to write is copied then, and full blocks never are.
  void fork(Index from, Index to) {
    require_sequence("fork", from);
    require_sequence("fork", to);
    heads_.fork(from, to);
  }
  // Every sequence b becomes what sequence parents[b] is now, all at once: a permutation, or beams of
  // which some go on twice and others end. Shares memory as fork does.
  void reorder(std::span<const Index> parents) {
    if (std::ssize(parents) != batch_size())
      detail::refuse({"reorder: there are ", std::ssize(parents), " parents; expected ",
                      batch_size(), ", one a sequence"});
    for (const Index parent : parents) require_sequence("reorder", parent);
    heads_.reorder(parents);
  }
  void reorder(const std::vector<Index>& parents) { reorder(std::span(parents)); }

  // Throws std::invalid_argument unless there is a sequence b; `what`: how the sentence begins.
  void require_sequence(const char* what, Index b) const {
    if (b < 0 || b >= batch_size())
      detail::refuse(
          {what, ": there is no sequence ", b, "; expected 0 to less than ", batch_size()});
  }

  // The cache as a layer's steps see it (layer/step.hpp).
  [[nodiscard]] detail::CachedHeads<T>& heads() { return heads_; }
  [[nodiscard]] const detail::CachedHeads<T>& heads() const { return heads_; }

 protected:
  explicit AnyKvCache(detail::CachedHeads<T> heads) : heads_(std::move(heads)) {}

 private:
  detail::CachedHeads<T> heads_;
};

// Keys and values are stored as they are, or, of float, as BFloat16 or Half (storage.hpp): half the
// memory, and a step that waits for memory takes little more than half the time. They are rounded when
// they are stored; what is promised of bits holds within one storage.
// Not copied but by name: it may be large. One that was moved from has no sequences, and steps refuse it.
template <Scalar T, class Storage = T>
class KvCache : public AnyKvCache<T> {
 public:
  // Takes its memory at once. Throws std::invalid_argument for sizes that are none.
  explicit KvCache(const KvCacheOptions& options)
      : AnyKvCache<T>(detail::CachedHeads<T>(
            detail::checked_size(options, detail::checked_storage<T, Storage>()))) {}

  // Another cache with memory of its own, which it takes and fills: hence the name.
  [[nodiscard]] KvCache copy() const { return KvCache(this->heads().copy()); }

 private:
  explicit KvCache(detail::CachedHeads<T> heads) : AnyKvCache<T>(std::move(heads)) {}
};

#include <eigenheads/layer/step.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
