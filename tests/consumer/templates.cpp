// SPDX-License-Identifier: MIT
// Makes the templates' code, since a compiler warns of what is in a template only once it is used.
// Nothing here is run.
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#define EIGENHEADS_PREBUILT_SOURCE  // else prebuilt.hpp says that the code is made elsewhere
#include "all_headers.hpp"

namespace {

namespace eh = eigenheads;

template <class T>
void attend_in_every_way(const eh::Tensor<T, 3>& x, const eh::Mask& mask) {
  eh::MultiHeadAttention<T> layer({.num_hiddens = 4, .num_heads = 2, .dropout = 0.5});
  eh::Context context(2);
  (void)layer(x, x, x);
  (void)layer(x, x, x, mask, context);
  const eh::Tensor<T, 1> slopes(2);
  const eh::Alibi<T> alibi{eh::TensorView<T, 1>(slopes)};
  (void)layer(x, x, x, mask, {.score = eh::chain(eh::Softcap(T(30)), alibi), .context = context});
  (void)layer.with_weights(x, x, x, mask);
  eh::Tensor<T, 3> output = x;
  layer.forward_into(output, x, x, x, mask);
  layer.set_gates(std::vector<T>{1, 0});

  typename eh::MultiHeadAttention<T>::Activations saved;
  (void)layer.forward(x, x, x, mask, saved, {.seed = eh::DropoutSeed{}});
  const auto gradients = layer.backward(x, saved);
  eh::Adam<T>().step(layer, gradients);
  eh::Sgd<T>().step(layer, gradients);
  auto clipped = gradients;
  (void)eh::clip_gradient_norm(1.0, clipped);
  eh::HeadImportance<T>(layer).add(layer, saved);
  (void)eh::prune_heads(layer, {0});

  eh::DotProductAttention<T> one_head;
  (void)one_head(x, x, x);
  (void)one_head.with_weights(x, x, x);
  (void)eh::masked_softmax(x, mask.valid_lens);
  (void)eh::masked_softmax_backward(x, x);

  const eh::TensorView<T, 4> heads(x.data(), {1, x.dimension(0), x.dimension(1), x.dimension(2)});
  const auto result = eh::scaled_dot_product_attention(heads, heads, heads, mask);
  (void)eh::merge_attention(result, result);
  (void)eh::attention_reference<T>(heads, heads, heads, mask, T(1));
  std::ostringstream out;
  out << layer << one_head << eh::explain<T>(layer, x, x, mask);
}

// What stands between two attentions, padded, packed and in training.
template <class T>
void use_every_module(const eh::Tensor<T, 3>& x, const eh::Sequences& sequences) {
  const eh::TensorView<T, 2> rows(x.data(), {x.dimension(0) * x.dimension(1), x.dimension(2)});
  eh::TransformerLayerOptions layer{.num_hiddens = 4, .num_heads = 2, .feed_forward_size = 8};
  layer.activation = eh::activation_named("gelu");
  eh::TransformerEncoder<T> encoder({.layer = layer, .num_layers = 2, .final_norm = true});
  layer.norm = eh::NormKind::rms_norm;
  layer.gated = true;
  eh::TransformerDecoder<T> decoder({.layer = layer, .num_layers = 2, .final_norm = true});
  (void)decoder(x, encoder(x));
  (void)decoder(rows, sequences, encoder(rows, sequences), sequences);
  typename eh::TransformerEncoder<T>::Activations saved;
  typename eh::TransformerDecoder<T>::Activations decoder_saved;
  (void)encoder.forward(x, {}, saved);
  (void)encoder.forward(rows, sequences, {}, saved);
  (void)decoder.forward(x, x, {}, decoder_saved);
  (void)decoder.forward(rows, sequences, rows, sequences, {}, decoder_saved);
  auto gradients = encoder.backward(x, saved);
  encoder.backward_into(gradients, x, saved, true);
  eh::Adam<T>().step(decoder, decoder.backward(rows, decoder_saved));
  eh::load_torch_parameters(encoder, eh::Safetensors());
  eh::TransformerEncoder<float> other({.layer = layer, .num_layers = 2});
  eh::copy_parameters(encoder, other);
  (void)eh::count_parameters(encoder);

  eh::AdditiveAttention<T> additive({.num_hiddens = 3, .dropout = 0.5});
  typename eh::AdditiveAttention<T>::Activations additive_saved;
  (void)additive.with_weights(x, x, x);
  (void)additive.forward(x, x, x, {}, additive_saved, {.seed = eh::DropoutSeed{}});
  (void)additive.backward(x, additive_saved);

  eh::NormGradients<T> of_norm;
  const eh::LayerNorm<T> norm({.size = 4});
  (void)norm.backward(norm.add_norm(x, x), x, of_norm);
  (void)eh::activate_backward(eh::Activation::silu, eh::gelu(x), x);
  (void)eh::pool_backward(eh::pool(x, eh::Pooling::mean), x, eh::Pooling::mean);
  (void)eh::normalize_backward(eh::normalize(rows), rows);
  const eh::Embedding<T> embedding({.num_embeddings = 3, .embedding_dim = 4});
  const eh::PositionalEncoding<T> positions({.num_hiddens = 4});
  (void)positions(embedding(std::vector<int>{2, 1}), eh::Sequences{2});
  std::ostringstream out;
  out << encoder << decoder << additive << embedding << norm << eh::RmsNorm<T>({});
}

template <class T>
void show_in_every_way(const eh::Tensor<T, 3>& x) {
  const eh::TensorView<T, 4> heads(x.data(), {1, x.dimension(0), x.dimension(1), x.dimension(2)});
  eh::write_heatmaps("a.svg", heads);
  eh::write_attention_view("a.html", std::vector{eh::AttentionViewLayer<T>{.weights = x}});
  std::ostringstream out;
  eh::print_heatmap(out, eh::TensorView<T, 2>(x.data(), {x.dimension(1), x.dimension(2)}));
}

template <class T>
void keep_in_every_file(const std::string& name) {
  const auto file = eh::read_safetensors(name);
  eh::Safetensors kept;
  kept.add(name, file.tensor<T, 2>(name));
  kept.add(name, file.value<T>(name));
  eh::write_safetensors(name, kept);
  if constexpr (sizeof(T) >= 4 || std::is_same_v<T, bool>)
    eh::save_npy(name, eh::load_npy<T, 2>(name));
  if constexpr (std::is_floating_point_v<T>) (void)eh::load_torch_weights<T>(name, 2);
}

}  // namespace

void use_templates(const std::string& name);
void use_templates(const std::string& name) {
  attend_in_every_way<float>({}, {});
  attend_in_every_way<double>({}, {});
  use_every_module<float>({}, {});
  use_every_module<double>({}, {});
  show_in_every_way<float>({});
  show_in_every_way<double>({});
  keep_in_every_file<float>(name);
  keep_in_every_file<double>(name);
  keep_in_every_file<bool>(name);
  keep_in_every_file<eh::Index>(name);
  keep_in_every_file<std::int32_t>(name);
  keep_in_every_file<std::int8_t>(name);
  keep_in_every_file<std::uint16_t>(name);
}
