// SPDX-License-Identifier: MIT
#pragma once
// What the layers of a transformer keep in training, and the gradients that their backward passes make
// of it.
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/saved_sequences.hpp>    // SavedSequences
#include <eigenheads/layer/activations.hpp>         // LayerActivations, LayerGradients
#include <eigenheads/nn/detail/sublayer.hpp>        // SublayerActivations
#include <eigenheads/nn/feed_forward_training.hpp>  // FeedForwardActivations, FeedForwardGradients
#include <eigenheads/nn/norm.hpp>                   // NormGradients
#include <eigenheads/tensor.hpp>                    // Tensor

namespace eigenheads::inline EIGENHEADS_ABI {

// What backward needs of a call, and owns. Memory is used again by the next.
template <Scalar T>
struct TransformerEncoderLayerActivations {
  LayerActivations<T> self_attention;
  FeedForwardActivations<T> feed_forward;
  detail::SublayerActivations<T> sublayer1, sublayer2;
  detail::SavedSequences sequences;
  bool is_saved = false;
};

// Of the parameters, with the layer's names and order, and of the input: [B, L, E], or, packed,
// [1, N, E].
template <Scalar T>
struct TransformerEncoderLayerGradients {
  Tensor<T, 3> x{0, 0, 0};
  LayerGradients<T> self_attention;
  NormGradients<T> norm1, norm2;
  FeedForwardGradients<T> feed_forward;

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

  // Of a layer, or of its gradients.
  template <class Layer, class Visitor>
  static void visit_parameters(Layer& layer, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    layer.self_attention.for_each_parameter(visit, start + "self_attention.");
    layer.norm1.for_each_parameter(visit, start + "norm1.");
    layer.feed_forward.for_each_parameter(visit, start + "feed_forward.");
    layer.norm2.for_each_parameter(visit, start + "norm2.");
  }
};

template <Scalar T>
struct TransformerDecoderLayerActivations {
  LayerActivations<T> self_attention, cross_attention;
  FeedForwardActivations<T> feed_forward;
  detail::SublayerActivations<T> sublayer1, sublayer2, sublayer3;
  detail::SavedSequences sequences, memory_sequences;
  bool is_saved = false;
};

// Of the parameters, with the layer's names and order, and of the inputs: [B, L, E] and [B, K, M],
// or, packed, [1, N, E] and [1, R, M].
template <Scalar T>
struct TransformerDecoderLayerGradients {
  Tensor<T, 3> x{0, 0, 0}, memory{0, 0, 0};
  LayerGradients<T> self_attention, cross_attention;
  NormGradients<T> norm1, norm2, norm3;
  FeedForwardGradients<T> feed_forward;

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

  // Of a layer, or of its gradients.
  template <class Layer, class Visitor>
  static void visit_parameters(Layer& layer, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    layer.self_attention.for_each_parameter(visit, start + "self_attention.");
    layer.norm1.for_each_parameter(visit, start + "norm1.");
    layer.cross_attention.for_each_parameter(visit, start + "cross_attention.");
    layer.norm2.for_each_parameter(visit, start + "norm2.");
    layer.feed_forward.for_each_parameter(visit, start + "feed_forward.");
    layer.norm3.for_each_parameter(visit, start + "norm3.");
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
