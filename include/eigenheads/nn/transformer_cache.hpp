// SPDX-License-Identifier: MIT
#pragma once
// The caches of a stack of transformer layers, one a layer, which hold the same tokens.
//   TransformerCache<float> cache(encoder, {.batch_size = 1, .capacity = 2048});
//   y = encoder.step(prompt, cache);
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kv_cache.hpp>  // KvCache

namespace eigenheads::inline EIGENHEADS_ABI {

// Numbers are stored as those of a KvCache.
template <Scalar T, class Storage = T>
class TransformerCache {
 public:
  // For the layers of a stack, whose heads the options need not say. Throws std::invalid_argument for
  // sizes that are none.
  template <class Stack>
  TransformerCache(const Stack& stack, KvCacheOptions options) {
    if (stack.layers.empty())
      detail::refuse({"TransformerCache: there are 0 layers; expected 1 or more"});
    layers_.reserve(stack.layers.size());
    for (const auto& layer : stack.layers) {
      options.num_kv_heads = layer.self_attention.num_kv_heads();
      options.head_size = layer.self_attention.head_size();
      layers_.emplace_back(options);
    }
  }

  [[nodiscard]] Index num_layers() const { return std::ssize(layers_); }
  [[nodiscard]] AnyKvCache<T>& layer(Index i) { return layers_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] const AnyKvCache<T>& layer(Index i) const {
    return layers_[static_cast<std::size_t>(i)];
  }

  // As of a KvCache, all layers at once.
  [[nodiscard]] Index batch_size() const {  // 0 of one that was moved from
    return layers_.empty() ? 0 : layers_.front().batch_size();
  }
  [[nodiscard]] Index capacity() const { return first().capacity(); }
  [[nodiscard]] Index window() const { return first().window(); }
  [[nodiscard]] Index sinks() const { return first().sinks(); }
  [[nodiscard]] Index length(Index b) const { return first().length(b); }
  [[nodiscard]] Index shortest(Index b) const {
    Index shortest = first().shortest(b);
    for (const auto& layer : layers_) shortest = (std::max)(shortest, layer.shortest(b));
    return shortest;
  }
  [[nodiscard]] Index bytes() const {
    Index bytes = 0;
    for (const auto& layer : layers_) bytes += layer.bytes();
    return bytes;
  }
  void truncate(Index b, Index length) {
    require_layers();
    layers_.front().truncate(b, length);  // which refuses for all of them
    for (std::size_t i = 1; i < layers_.size(); ++i)
      layers_[i].truncate(b, (std::min)(length, layers_[i].length(b)));
  }
  void reset() {
    for (auto& layer : layers_) layer.reset();
  }
  void reset(Index b) {
    require_layers();
    for (auto& layer : layers_) layer.reset(b);
  }
  void fork(Index from, Index to) {
    require_layers();
    for (auto& layer : layers_) layer.fork(from, to);
  }
  void reorder(std::span<const Index> parents) {
    require_layers();
    for (auto& layer : layers_) layer.reorder(parents);
  }
  void reorder(const std::vector<Index>& parents) { reorder(std::span(parents)); }

  [[nodiscard]] TransformerCache copy() const {
    std::vector<KvCache<T, Storage>> layers;
    layers.reserve(layers_.size());
    for (const auto& layer : layers_) layers.push_back(layer.copy());
    return TransformerCache(std::move(layers));
  }

 private:
  explicit TransformerCache(std::vector<KvCache<T, Storage>> layers) : layers_(std::move(layers)) {}

  void require_layers() const {
    if (layers_.empty())
      detail::refuse(
          {"TransformerCache: it was moved from, and has no layers; expected 1 or more"});
  }
  [[nodiscard]] const KvCache<T, Storage>& first() const {
    require_layers();
    return layers_.front();
  }

  std::vector<KvCache<T, Storage>> layers_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
