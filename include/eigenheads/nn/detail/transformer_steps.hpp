// SPDX-License-Identifier: MIT
#pragma once
// Attention and the feed-forward network as sublayers of a transformer (sublayer.hpp).
#include <array>
#include <initializer_list>
#include <optional>
#include <string_view>

#include <eigenheads/call_options.hpp>  // TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>               // Dropout, DropoutMask, DropoutSeed
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/nn/detail/row_forms.hpp>   // with_saved_form
#include <eigenheads/nn/detail/sublayer.hpp>    // SublayerBackward, part_seed
#include <eigenheads/nn/feed_forward.hpp>       // FeedForward
#include <eigenheads/shape.hpp>                 // require_shape, make_tensor

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// How a step drops in the parts of a layer.
class StepDropout {
 public:
  // Throws std::invalid_argument if the layer drops and no seed is given.
  StepDropout(const char* layer, double p, std::optional<DropoutSeed> seed) : p_(p), seed_(seed) {
    if (p > 0 && !seed)
      refuse({layer, ": dropout is ", number_text(p),
              "; expected a DropoutSeed, {.seed = ...}, after the activations"});
  }
  [[nodiscard]] std::optional<DropoutSeed> seed(std::string_view part) const {
    if (!seed_) return {};
    return DropoutSeed{part_seed(seed_->value, part)};
  }
  template <class T>
  [[nodiscard]] DropoutMask<T> mask(std::string_view part) const {
    if (p_ == 0) return {};
    return DropoutMask<T>::of(Dropout(p_), *seed(part));
  }

 private:
  double p_;
  std::optional<DropoutSeed> seed_;
};

// The parts of a layer are public, so a caller may have put others in their place. Throws
// std::invalid_argument for one of another size.
struct PartSize {
  const char* name;
  Index got;
};
inline void require_sizes(const char* layer, Index expected,
                          std::initializer_list<PartSize> parts) {
  for (const PartSize& part : parts)
    if (part.got != expected)
      refuse({layer, ": ", part.name, " is ", part.got, "; expected ", expected});
}

// Throws, before a backward pass writes anything, what that of an attention would throw.
template <class T>
void require_saved_attention(const MultiHeadAttention<T>& attention,
                             const LayerActivations<T>& saved) {
  require_activations(attention.parts(), saved, attention.head_size());
  require_projections(attention.parts(), attention.head_size(), attention.num_hiddens());
}
// The rows that an attention read its keys and values from.
struct MemoryRows {
  const SavedSequences& sequences;
  Index size;
};

// The gradients of an attention's inputs are this call's, not sums over calls, whatever happens to
// those of its parameters.
template <class Attention, class Saved, class T>
void attention_backward(const Attention& attention, const SublayerBackward& call,
                        const MemoryRows& memory, const Saved& saved, const T* grad_output,
                        LayerGradients<T>& gradients) {
  if (call.accumulate) {
    const auto renew = [](auto& tensor, const auto& shape) {
      tensor = make_tensor<T>("gradients", shape);
      tensor.setZero();
    };
    renew(gradients.queries, call.sequences.shape(call.size));
    renew(gradients.keys, memory.sequences.shape(memory.size));
    renew(gradients.values, memory.sequences.shape(memory.size));
    renew(gradients.gates, std::array{call.sequences.rows().count(), attention.num_heads()});
  }
  with_saved_form(call.sequences, call.size, grad_output, [&](const auto& view) {
    attention.backward_into(gradients, view, saved, call.accumulate, call.context);
  });
}

// The same of an attention whose queries, keys and values are all x: gives the gradient of x.
template <class Attention, class Saved, class T>
[[nodiscard]] const T* self_attention_backward(const Attention& attention,
                                               const SublayerBackward& call, const Saved& saved,
                                               const T* grad_output, LayerGradients<T>& gradients) {
  attention_backward(attention, call, {call.sequences, call.size}, saved, grad_output, gradients);
  T* const sum = gradients.queries.data();
  for (const auto* other : {&gradients.keys, &gradients.values})
    add_elements<T>(sum, other->data(), sum, other->size(), call.context);
  return sum;
}

template <class Layer, class T>
[[nodiscard]] const T* feed_forward_backward(const Layer& layer, const SublayerBackward& call,
                                             const FeedForwardActivations<T>& saved,
                                             const T* grad_output,
                                             FeedForwardGradients<T>& gradients) {
  with_saved_form(call.sequences, call.size, grad_output, [&](const auto& view) {
    layer.backward_into(gradients, view, saved, call.accumulate, call.context);
  });
  return gradients.x.data();
}

// grad_y has the shape of the rows, or, packed, [N, size].
template <class T, int Rank>
void require_form(TensorView<T, Rank> grad_y, const SavedSequences& sequences, Index size) {
  const auto [B, L, E] = sequences.shape(size);
  static_assert(Rank == 2 || Rank == 3,
                "grad_y is [B, L, num_hiddens], or, packed, [N, num_hiddens].");
  if (sequences.is_packed() != (Rank == 2))
    refuse({"grad_y has shape ", grad_y.dimensions(), "; expected ",
            (sequences.is_packed() ? "the packed rows" : "the padded rows"),
            " of the forward call"});
  if constexpr (Rank == 2)
    require_shape("grad_y", grad_y, "[N, num_hiddens]", {L, E});
  else
    require_shape("grad_y", grad_y, "[B, L, num_hiddens]", {B, L, E});
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
