// SPDX-License-Identifier: MIT
#pragma once
// One block of keys and values of one head in a cache: where a number lies, and how tokens are written
// into it one after the other. Keys are panels of keys, values panels of columns, as the kernels read
// them (PackedBlock).
#include <algorithm>
#include <type_traits>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // Range, blocks_of
#include <eigenheads/kernels/chosen.hpp>  // AttentionKernels
#include <eigenheads/storage.hpp>         // BFloat16, Half

namespace eigenheads::inline EIGENHEADS_ABI::detail {

struct BlockLayout {
  Index panel_width = 0, keys = 0, head_size = 0;  // keys: that there is room for, whole panels

  [[nodiscard]] Index key_elements() const { return keys * head_size; }
  [[nodiscard]] Index value_panel_stride() const { return keys * panel_width; }
  [[nodiscard]] Index elements() const {
    return key_elements() + blocks_of(head_size, panel_width) * value_panel_stride();
  }
  [[nodiscard]] Index key_at(Index key, Index d) const {
    return key / panel_width * panel_width * head_size + d * panel_width + key % panel_width;
  }
  [[nodiscard]] Index value_at(Index key, Index v) const {
    return key_elements() + v / panel_width * value_panel_stride() + key * panel_width +
           v % panel_width;
  }
};

// Tokens that go to the places `to` of a block: keys, values: [to.count(), head_size], rows `stride`
// apart. Keys' lanes before `stale` may hold others, which were cut off.
template <class T>
struct BlockTokens {
  const T *keys, *values;
  Index stride;
  Range to;
  Index stale;
};

template <class T, class Storage>
[[nodiscard]] Storage stored(const T& x) {
  if constexpr (std::is_same_v<T, Storage>)
    return x;
  else
    return Storage::rounded(x);
}

template <class T, class Storage>
[[nodiscard]] T widened(const Storage& x) {
  if constexpr (std::is_same_v<T, Storage>)
    return x;
  else
    return x.value();
}

// Number by number, up to the end of a panel that holds some already. Lanes of tokens that were cut
// off become 0, as they are in a panel that was never written: a product with them must not be
// infinite where the caller's numbers are not.
template <class T, class Storage>
void write_keys(const BlockLayout& layout, const BlockTokens<T>& tokens, Range to, Storage* block) {
  const Index W = layout.panel_width, D = layout.head_size;
  if (to.begin == to.end) return;
  if (to.begin % W == 0)
    std::fill_n(block + layout.key_at(to.begin, 0), blocks_of(to.count(), W) * W * D, Storage{});
  const T* key = tokens.keys + (to.begin - tokens.to.begin) * tokens.stride;
  for (Index i = to.begin; i < to.end; ++i, key += tokens.stride) {
    Storage* const lane = block + layout.key_at(i, 0);
    for (Index d = 0; d < D; ++d) lane[d * W] = stored<T, Storage>(key[d]);
  }
  for (Index i = to.end; i % W != 0 && i < tokens.stale; ++i) {
    Storage* const lane = block + layout.key_at(i, 0);
    for (Index d = 0; d < D; ++d) lane[d * W] = Storage{};
  }
}

// Returns whether all of the values are finite, as they are stored.
template <class T, class Storage>
[[nodiscard]] bool write_block(const BlockLayout& layout, const AttentionKernels<T>& kernels,
                               const BlockTokens<T>& tokens, Storage* block) {
  const Index W = layout.panel_width, D = layout.head_size;
  const auto [begin, end] = tokens.to;
  const Index fresh = (std::min)(blocks_of(begin, W) * W, end);  // from here on, panels begin
  write_keys(layout, tokens, {begin, fresh}, block);
  if constexpr (std::is_same_v<T, Storage>) {
    if (fresh < end)
      kernels.pack_panels(tokens.keys + (fresh - begin) * tokens.stride, tokens.stride,
                          {0, end - fresh}, D, block + layout.key_at(fresh, 0));
    return kernels.pack_columns({.matrix = tokens.values,
                                 .stride = tokens.stride,
                                 .rows = end - begin,
                                 .columns = D,
                                 .panels = block + layout.value_at(begin, 0),
                                 .panel_stride = layout.value_panel_stride()});
  } else {
    write_keys(layout, tokens, {fresh, end}, block);
    bool is_finite = true;
    for (Index i = begin; i < end; ++i)
      for (Index v = 0; v < blocks_of(D, W) * W; ++v) {
        const T* const value = tokens.values + (i - begin) * tokens.stride + v;
        const Storage x = v < D ? Storage::rounded(*value) : Storage{};
        block[layout.value_at(i, v)] = x;
        is_finite = is_finite && x.is_finite();
      }
    return is_finite;
  }
}

// Whether the values of the first `keys` keys are.
template <class Storage>
[[nodiscard]] bool are_finite(const BlockLayout& layout, const Storage* block, Index keys) {
  for (Index i = 0; i < keys; ++i)
    for (Index v = 0; v < layout.head_size; ++v) {
      const Storage& x = block[layout.value_at(i, v)];
      if constexpr (requires { x.is_finite(); }) {
        if (!x.is_finite()) return false;
      } else if (!detail::is_finite(x)) {
        return false;
      }
    }
  return true;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
