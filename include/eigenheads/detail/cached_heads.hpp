// SPDX-License-Identifier: MIT
#pragma once
// Keys and values of the tokens that a layer has seen, packed block by block as the kernels read
// them: what is behind a KvCache. A page holds one block of keys and values of all heads of a sequence.
// It lies at its absolute place: page number n holds keys from n * key_block on, whatever went before
// them, so that blocks are the terms of the same sums as in a call over the whole sequence.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/detail/arena.hpp>         // line_bytes
#include <eigenheads/detail/cached_block.hpp>  // BlockLayout, write_block
#include <eigenheads/detail/large_pages.hpp>   // ask_for_large_pages
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/page_table.hpp>       // PageTable
#include <eigenheads/detail/ranges.hpp>           // blocks_of
#include <eigenheads/kernels/attention_call.hpp>  // PackedBlock, PackedHead
#include <eigenheads/kernels/chosen.hpp>          // attention_kernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

struct CacheSize {
  Index sequences, heads, head_size;
  Index capacity;   // tokens of a sequence that are kept at least
  Index window;     // 0: all are kept
  Index sinks = 0;  // of a ring: the first tokens, which are kept too
  StoredAs stored_as = StoredAs::itself;
};

// What head g makes of the next tokens of sequence b: keys, values: [count, head_size], rows `stride`
// apart.
template <class T>
struct NewTokens {
  Index b, g, count;
  const T *keys, *values;
  Index stride;
};

template <class T>
class CachedHeads {
 public:
  explicit CachedHeads(const CacheSize& size)
      : size_(size),
        kernels_(attention_kernels<T>()),
        stored_(stored_kernels<T>(size.stored_as)),
        table_(size.sequences, pages_each()),
        blocks_(static_cast<std::size_t>(table_.total() * size.heads)),
        spare_blocks_(blocks_.size()),
        heads_(static_cast<std::size_t>(size.sequences * size.heads)),
        rows_written_(heads_.size(), 0),
        sequences_(static_cast<std::size_t>(size.sequences)),
        spare_sequences_(sequences_.size()) {
    const Index W = kernels_.panel_width, KB = kernels_.key_block;
    layout_ = {.panel_width = W,
               .keys = is_ring() ? KB : blocks_of((std::min)(size.capacity, KB), W) * W,
               .head_size = size.head_size};
    memory_.reset(allocate(table_.total() * page_bytes()));
    update_heads();
  }
  CachedHeads(CachedHeads&&) noexcept = default;
  CachedHeads& operator=(CachedHeads&&) noexcept = default;

  [[nodiscard]] CachedHeads copy() const {
    CachedHeads copied(size());
    copied.table_ = table_;
    copied.blocks_ = blocks_;
    copied.sequences_ = sequences_;
    for (Index b = 0; b < std::ssize(sequences_); ++b)
      for (Index i = 0; i < table_.count(b); ++i) {
        const Index page = table_.page(b, i);
        std::copy_n(page_memory(page), page_bytes(), copied.page_memory(page));
        copied.point_blocks(b, i);
      }
    copied.update_heads();
    return copied;
  }

  // Of no sequences once it was moved from: whoever goes on with it is refused.
  [[nodiscard]] CacheSize size() const {
    CacheSize size = size_;
    size.sequences = std::ssize(sequences_);
    return size;
  }
  [[nodiscard]] bool is_ring() const { return size_.window > 0; }
  [[nodiscard]] Index length(Index b) const { return of(b).length; }
  [[nodiscard]] Index bytes() const { return table_.total() * page_bytes(); }
  // The shortest length that a sequence can go back to: a token that then comes sees all that its
  // window holds.
  [[nodiscard]] Index shortest(Index b) const {
    const Sequence& sequence = of(b);
    return sequence.oldest == 0 ? 0 : sequence.oldest + size_.window - 1;
  }
  // How many of the next `count` tokens can be appended before they are attended: in a ring those that
  // leave the window of the first of them in its place.
  [[nodiscard]] Index room(Index b, Index count) const {
    const Index length = of(b).length;
    if (!is_ring()) return (std::min)(count, size_.capacity - length);
    const Index first = (std::max)(length - size_.window + 1, Index{0}) / kernels_.key_block;
    const Index kept = kept_pages();
    const Index end = (std::max)(first, kept) + table_.most() - kept;
    return (std::min)(count, end * kernels_.key_block - length);
  }

  // Pages for `count` more tokens of a sequence, no more than there is room for. Lengths stay as they
  // are until commit(): who gives up in between leaves the sequence as it was, but for a ring, which
  // may have let go of tokens that only truncate would have come back to.
  void reserve(Index b, Index count) {
    if (count == 0) return;
    Sequence& sequence = of(b);
    const Index KB = kernels_.key_block;
    const Index last = (sequence.length + count - 1) / KB;
    while (last - sequence.dropped >= table_.most()) drop_page(b);
    if (const Index i = place_of(b, sequence.length / KB);
        sequence.length % KB != 0 && table_.is_shared(table_.page(b, i)))
      copy_page(b, i);
    // A page beyond the length may be there, and shared, after a step that was given up.
    for (Index i = pages_of(b, sequence.length); i < table_.count(b); ++i)
      if (table_.is_shared(table_.page(b, i))) copy_page(b, i);
    while (sequence.dropped + table_.count(b) <= last) {
      table_.append(b);
      point_blocks(b, table_.count(b) - 1);
    }
    update_heads(b);
  }

  // Into the pages that were reserved. Heads may be written at the same time.
  void write(const NewTokens<T>& tokens) {
    const auto& [b, g, left, keys, values, stride] = tokens;
    const Sequence& sequence = of(b);
    for (Index done = 0, count = 0; done < left; done += count) {
      const Index token = sequence.length + done, from = token % kernels_.key_block;
      const Index i = place_of(b, token / kernels_.key_block);
      count = (std::min)(left - done, kernels_.key_block - from);
      const BlockTokens<T> part{.keys = keys + done * stride,
                                .values = values + done * stride,
                                .stride = stride,
                                .to = {from, from + count},
                                .stale = sequence.stale - (token - from)};
      const bool is_finite = with_memory(table_.page(b, i), g, [&](auto* block) {
        return write_block(layout_, kernels_, part, block);
      });
      PackedBlock<T>& block = block_of(b, i, g);
      block.is_finite = (from == 0 || block.is_finite) && is_finite;
    }
    rows_written_[static_cast<std::size_t>(b * size_.heads + g)] += left;
  }

  void commit(Index b, Index count) {
    Sequence& sequence = of(b);
    sequence.length += count;
    if (is_ring()) sequence.oldest = (std::max)(sequence.oldest, sequence.length - size_.capacity);
  }

  // Keys that write() packed so far, of all heads: who goes on with a cache packs no old one again.
  [[nodiscard]] Index rows_written() const {
    return std::accumulate(rows_written_.begin(), rows_written_.end(), Index{0});
  }

  // The first token of a sequence that is there for certain: of a ring, others are gone.
  [[nodiscard]] Index oldest(Index b) const { return of(b).oldest; }
  // What is stored of a token, from the oldest on: [head_size] each.
  void read(Index b, Index g, Index token, T* keys, T* values) const {
    const Index KB = kernels_.key_block;
    with_memory(table_.page(b, place_of(b, token / KB)), g, [&](const auto* block) {
      for (Index d = 0; d < size_.head_size; ++d) {
        keys[d] = widened<T>(block[layout_.key_at(token % KB, d)]);
        values[d] = widened<T>(block[layout_.value_at(token % KB, d)]);
      }
    });
  }
  // For a cache that is read back, as if a ring had had so many tokens and let go of all but its sinks:
  // begin_at, then the sinks, if there are any, by write, then go_on_at, and the next tokens are
  // written as they were in the other cache.
  void begin_at(Index b, Index token) {
    table_.keep(b, 0);
    const Index KB = kernels_.key_block, number = token / KB;
    const Index kept = (std::min)(kept_pages(), blocks_of(token, KB));
    of(b) = {.dropped = (std::max)(number - kept, Index{0}), .oldest = token};
    const bool has_part = token % KB != 0 && number >= kept;
    for (Index i = 0; i < kept + (has_part ? 1 : 0); ++i) {
      std::fill_n(page_memory(table_.append(b)), page_bytes(), std::byte{0});
      point_blocks(b, i);
      for (Index g = 0; g < size_.heads; ++g) block_of(b, i, g).is_finite = true;
    }
    update_heads(b);
  }
  void go_on_at(Index b, Index token) { of(b).length = token; }

  // Of all sequences and heads, [sequences * heads].
  [[nodiscard]] const PackedHead<T>* heads() const { return heads_.data(); }

  // length: from shortest(b) to length(b).
  void truncate(Index b, Index length) {
    Sequence& sequence = of(b);
    if (length == sequence.length) return;
    if (length == 0) {
      table_.keep(b, 0);
      sequence = {};
    } else {
      const Index KB = kernels_.key_block;
      sequence.stale = (std::max)(sequence.stale, sequence.length);
      sequence.length = length;
      const Index count = pages_of(b, length);
      table_.keep(b, count);
      if (length % KB != 0) look_for_infinity(b, count - 1, length % KB);
    }
    update_heads(b);
  }
  // Whether a sequence may go back to so many tokens of those that it had, or has, before it goes on:
  // the next sees all that its window holds. Unlike shortest(), this goes by the pages that are there.
  [[nodiscard]] bool can_go_back(Index b, Index length) const {
    const Index seen = is_ring() ? (std::max)(length - size_.window + 1, Index{0}) : 0;
    return length <= of(b).length && first_there(b) <= seen;
  }
  // `oldest`: what it was at that length.
  void go_back(Index b, Index length, Index oldest) {
    if (length == of(b).length) return;
    truncate(b, length);
    of(b).oldest = (std::max)(oldest, first_there(b));
  }
  void reset(Index b) { truncate(b, 0); }
  void reset() {
    for (Index b = 0; b < std::ssize(sequences_); ++b) reset(b);
  }
  void fork(Index from, Index to) {
    table_.fork(from, to);
    of(to) = of(from);
    std::copy_n(blocks_.data() + from * blocks_each(), table_.count(from) * size_.heads,
                blocks_.data() + to * blocks_each());
    update_heads(to);
  }
  void reorder(std::span<const Index> parents) {
    for (std::size_t b = 0; b < parents.size(); ++b) {
      spare_sequences_[b] = of(parents[b]);
      std::copy_n(blocks_.data() + parents[b] * blocks_each(),
                  table_.count(parents[b]) * size_.heads,
                  spare_blocks_.data() + static_cast<Index>(b) * blocks_each());
    }
    table_.reorder(parents);
    std::swap(sequences_, spare_sequences_);
    std::swap(blocks_, spare_blocks_);
    update_heads();
  }

 private:
  struct Sequence {
    Index length = 0;
    Index dropped = 0;  // pages of the sequence that are gone, behind those that are kept
    Index oldest = 0;   // token that is kept, by the capacity
    Index stale = 0;    // before it, keys' panels may hold tokens that were cut off
  };
  struct Free {
    void operator()(std::byte* memory) const {
      ::operator delete(memory, std::align_val_t{line_bytes});
    }
  };

  [[nodiscard]] static std::byte* allocate(Index bytes) {
    const auto size = static_cast<std::size_t>(bytes);
    auto* const memory =
        static_cast<std::byte*>(::operator new(size, std::align_val_t{line_bytes}));
    ask_for_large_pages(memory, size);
    return memory;
  }

  // A ring that keeps `capacity` tokens, wherever the first of them lies in its page, and its sinks.
  [[nodiscard]] Index pages_each() const {
    const Index KB = kernels_.key_block;
    return is_ring() ? blocks_of(size_.capacity - 1, KB) + 1 + kept_pages()
                     : blocks_of(size_.capacity, KB);
  }
  [[nodiscard]] Index kept_pages() const { return blocks_of(size_.sinks, kernels_.key_block); }
  // Where page `number` of a sequence is in the table, and how many hold its first tokens.
  [[nodiscard]] Index place_of(Index b, Index number) const {
    return number < kept_pages() ? number : number - of(b).dropped;
  }
  [[nodiscard]] Index pages_of(Index b, Index length) const {
    return length == 0 ? 0 : place_of(b, blocks_of(length, kernels_.key_block) - 1) + 1;
  }
  // The first token from which on none is gone.
  [[nodiscard]] Index first_there(Index b) const {
    const Index dropped = of(b).dropped;
    return dropped == 0 ? 0 : (kept_pages() + dropped) * kernels_.key_block;
  }
  [[nodiscard]] Index head_bytes() const {
    const std::size_t size = size_.stored_as == StoredAs::itself ? sizeof(T) : sizeof(BFloat16);
    return layout_.elements() * static_cast<Index>(size);
  }
  [[nodiscard]] Index page_bytes() const { return size_.heads * head_bytes(); }
  [[nodiscard]] Index blocks_each() const { return table_.most() * size_.heads; }
  [[nodiscard]] Sequence& of(Index b) { return sequences_[static_cast<std::size_t>(b)]; }
  [[nodiscard]] const Sequence& of(Index b) const {
    return sequences_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] std::byte* page_memory(Index page) const {
    return memory_.get() + page * page_bytes();
  }
  // visit(pointer to the numbers of a head in a page)
  template <class Visit>
  decltype(auto) with_memory(Index page, Index g, const Visit& visit) const {
    std::byte* const memory = page_memory(page) + g * head_bytes();
    if constexpr (std::is_same_v<T, float>) {
      if (size_.stored_as == StoredAs::bfloat16) return visit(reinterpret_cast<BFloat16*>(memory));
      if (size_.stored_as == StoredAs::half) return visit(reinterpret_cast<Half*>(memory));
    }
    return visit(reinterpret_cast<T*>(memory));
  }
  [[nodiscard]] PackedBlock<T>& block_of(Index b, Index i, Index g) {
    return blocks_[static_cast<std::size_t>(b * blocks_each() + i * size_.heads + g)];
  }

  // Blocks of page i, which holds what they say of their values.
  void point_blocks(Index b, Index i) {
    for (Index g = 0; g < size_.heads; ++g)
      with_memory(table_.page(b, i), g, [&](const auto* memory) {
        PackedBlock<T>& block = block_of(b, i, g);
        block.keys = memory;
        block.values = memory + layout_.key_elements();
        block.value_panel_stride = layout_.value_panel_stride();
      });
  }
  void update_heads(Index b) {
    for (Index g = 0; g < size_.heads; ++g)
      heads_[static_cast<std::size_t>(b * size_.heads + g)] = {
          .blocks = blocks_.empty() ? nullptr : blocks_.data() + b * blocks_each() + g,
          .stride = size_.heads,
          .kept = kept_pages(),
          .dropped = of(b).dropped,
          .stored = stored_};
  }
  void update_heads() {
    for (Index b = 0; b < std::ssize(sequences_); ++b) update_heads(b);
  }
  void copy_page(Index b, Index i) {
    const Index shared = table_.page(b, i);
    std::copy_n(page_memory(shared), page_bytes(), page_memory(table_.replace(b, i)));
    point_blocks(b, i);
  }
  // The oldest that is not kept.
  void drop_page(Index b) {
    Sequence& sequence = of(b);
    const Index kept = kept_pages();
    if (table_.count(b) > kept) {
      table_.drop(b, kept);
      PackedBlock<T>* const blocks = blocks_.data() + b * blocks_each() + kept * size_.heads;
      std::copy_n(blocks + size_.heads, (table_.count(b) - kept) * size_.heads, blocks);
    }
    ++sequence.dropped;
    sequence.oldest = (std::max)(sequence.oldest, first_there(b));
  }

  // Of the values of a page of which only some keys are left.
  void look_for_infinity(Index b, Index i, Index keys) {
    for (Index g = 0; g < size_.heads; ++g) {
      PackedBlock<T>& block = block_of(b, i, g);
      if (!block.is_finite)
        block.is_finite = with_memory(table_.page(b, i), g, [&](const auto* memory) {
          return are_finite(layout_, memory, keys);
        });
    }
  }

  CacheSize size_;
  AttentionKernels<T> kernels_;
  const StoredKernels<T>* stored_;
  BlockLayout layout_;
  PageTable table_;
  std::unique_ptr<std::byte, Free> memory_;            // [pages, heads] blocks
  std::vector<PackedBlock<T>> blocks_, spare_blocks_;  // [sequences, pages, heads]
  std::vector<PackedHead<T>> heads_;                   // [sequences, heads]
  std::vector<Index> rows_written_;                    // [sequences, heads]
  std::vector<Sequence> sequences_, spare_sequences_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
