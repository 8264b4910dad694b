// SPDX-License-Identifier: MIT
#pragma once
// What calls of a layer share that attend to keys and values which were projected, and packed, before:
// steps of decoding (step.hpp), and attention to those of another sequence (key_values.hpp).
#include <eigenheads/context.hpp>              // Context
#include <eigenheads/detail/cached_heads.hpp>  // CachedHeads, CacheSize
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // Range
#include <eigenheads/detail/work.hpp>     // product, multiply_adds_per_packed
#include <eigenheads/error.hpp>           // refuse
#include <eigenheads/kernels/layout.hpp>  // StridedMatrix
#include <eigenheads/layer/forward.hpp>   // LayerParts

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// How a refusal begins, and who says how many sequences there should be.
struct CacheWords {
  const char *what, *as;
};

// Throws unless what was projected fits the layer and the batch.
template <class T>
void require_cache(const LayerParts<T>& layer, Index sequences, const CacheSize& cache,
                   const CacheWords& words) {
  struct Size {
    const char *what, *as;
    Index got, expected;
  };
  for (const Size& size :
       {Size{"sequences", words.as, cache.sequences, sequences},
        Size{"key/value heads", "as the layer has", cache.heads, layer.heads.kv_count()},
        Size{"numbers in all key/value heads", "as W_k makes", cache.heads * cache.head_size,
             layer.W_k.out_features()}})
    if (size.got != size.expected)
      refuse(
          {words.what, " ", size.got, " ", size.what, "; expected ", size.expected, ", ", size.as});
}

// Keys and values as the projections leave them, [B, G, rows, D], or packed, [1, G, N, D].
template <class T>
struct ProjectedTokens {
  const SequenceRows& rows;
  const T *keys, *values;

  // Those of one head and some tokens of a sequence, into pages that were reserved.
  void write(CachedHeads<T>& cache, Index b, Index g, Range tokens) const {
    const Index G = cache.size().heads, D = cache.size().head_size;
    const auto row_of = [&](const T* data) {
      const auto layout = StridedMatrix<const T>::heads_apart(data, rows, G, D);
      return rows.is_packed() ? layout.at(0, g, rows.begin(b) + tokens.begin)
                              : layout.at(b, g, tokens.begin);
    };
    cache.write({.b = b,
                 .g = g,
                 .count = tokens.count(),
                 .keys = row_of(keys),
                 .values = row_of(values),
                 .stride = D});
  }
  // The first count_of(b) tokens of every sequence, for which there is room.
  template <class CountOf>
  void write_all(CachedHeads<T>& cache, const CountOf& count_of, Context& context) const {
    const auto size = cache.size();
    Index tokens = 0;
    for (Index b = 0; b < size.sequences; ++b) {
      cache.reserve(b, count_of(b));
      tokens += count_of(b);
    }
    const auto threads = context.threads_for(multiply_adds_per_packed *
                                             product(tokens, size.heads, 2 * size.head_size));
    context.parallel_for(size.sequences * size.heads, threads, [&](Index i) {
      const Index b = i / size.heads;
      write(cache, b, i % size.heads, {0, count_of(b)});
    });
  }
};

// The call, reading its keys and values there.
template <class T>
[[nodiscard]] AttentionCall<T> reading(const CachedHeads<T>& cache, AttentionCall<T> call) {
  call.keys = call.values = {};
  call.cached = cache.heads();
  return call;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
