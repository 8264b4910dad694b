// SPDX-License-Identifier: MIT
#pragma once
// What a layer of a transformer is made of, an encoder's and a decoder's alike.
#include <array>
#include <optional>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>                 // Dropout
#include <eigenheads/error.hpp>                   // refuse
#include <eigenheads/kernels/nn/calls.hpp>        // Activation
#include <eigenheads/layer/options.hpp>           // MultiHeadAttentionOptions
#include <eigenheads/nn/activation.hpp>           // require_known
#include <eigenheads/nn/detail/enumerations.hpp>  // require_known
#include <eigenheads/nn/feed_forward.hpp>         // FeedForwardOptions
#include <eigenheads/nn/layer_norm.hpp>           // AnyNorm, NormKind
#include <eigenheads/rotary_options.hpp>          // RotaryOptions

namespace eigenheads::inline EIGENHEADS_ABI {

// Of a layer of an encoder or of a decoder.
struct TransformerLayerOptions {
  Index num_hiddens = 0, num_heads = 0;  // num_hiddens: of the inputs and of the outputs
  Index feed_forward_size = 0;           // of what lies between its projections
  Activation activation = Activation::relu;
  bool gated = false;       // the feed-forward network
  bool norm_first = false;  // before each sublayer, not after its residual
  NormKind norm = NormKind::layer_norm;
  double norm_eps = 1e-5;
  // In training, of the attention weights and of what each sublayer gives.
  double dropout = 0;
  bool bias = true;        // in all projections and LayerNorms
  Index num_kv_heads = 0;  // 0: num_heads
  Index head_size = 0;     // 0: num_hiddens / num_heads
  Index memory_size = 0;   // features of what a decoder layer reads; 0: num_hiddens
  // Of self-attention: what a decoder layer reads has positions of its own.
  std::optional<RotaryOptions> rotary{};
  bool sink_logits = false;  // a learnt sink of each head of self-attention
};

// Of layers one after the other, an encoder's or a decoder's.
struct TransformerStackOptions {
  TransformerLayerOptions layer{};
  Index num_layers = 0;
  bool final_norm = false;  // after the last layer: where the layers' norms come first
};

namespace detail {

// The options of a layer's parts. Throws std::invalid_argument for what is wrong with the layer's.
class TransformerParts {
 public:
  explicit TransformerParts(const TransformerLayerOptions& options) : options_(options) {
    struct Count {
      const char* name;
      Index value, least;
    };
    for (const Count& count :
         {Count{"num_hiddens", options.num_hiddens, 1}, Count{"num_heads", options.num_heads, 1},
          Count{"feed_forward_size", options.feed_forward_size, 1},
          Count{"memory_size", options.memory_size, 0}})
      if (count.value < count.least)
        refuse({"a transformer layer's ", count.name, " is ", count.value, "; expected ",
                count.least, " or more"});
    require_known(options.activation);
    require_known("norm", options.norm, NormKind::rms_norm);
    static_cast<void>(Dropout(options.dropout));
  }

  [[nodiscard]] const TransformerLayerOptions& options() const { return options_; }
  [[nodiscard]] MultiHeadAttentionOptions attention(Index key_size) const {
    return {.num_hiddens = options_.num_hiddens,
            .num_heads = options_.num_heads,
            .dropout = options_.dropout,
            .bias = options_.bias,
            .query_size = options_.num_hiddens,
            .key_size = key_size,
            .value_size = key_size,
            .num_kv_heads = options_.num_kv_heads,
            .head_size = options_.head_size};
  }
  [[nodiscard]] MultiHeadAttentionOptions self_attention() const {
    MultiHeadAttentionOptions options = attention(options_.num_hiddens);
    options.rotary = options_.rotary;
    options.sink_logits = options_.sink_logits;
    return options;
  }
  [[nodiscard]] MultiHeadAttentionOptions cross_attention() const {
    return attention(options_.memory_size > 0 ? options_.memory_size : options_.num_hiddens);
  }
  template <Scalar T>
  [[nodiscard]] AnyNorm<T> norm() const {
    const Index size = options_.num_hiddens;
    const double eps = options_.norm_eps;
    if (options_.norm == NormKind::rms_norm) return RmsNorm<T>({.size = size, .eps = eps});
    return LayerNorm<T>({.size = size, .eps = eps, .bias = options_.bias});
  }
  [[nodiscard]] FeedForwardOptions feed_forward() const {
    return {.size = options_.num_hiddens,
            .hidden_size = options_.feed_forward_size,
            .activation = options_.activation,
            .gated = options_.gated,
            .bias = options_.bias};
  }

 private:
  TransformerLayerOptions options_;
};

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
