// SPDX-License-Identifier: MIT
#pragma once
// The bits of what nn/ computes, and all that are compared.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/nn/activation.hpp>
#include <eigenheads/nn/additive_attention.hpp>
#include <eigenheads/nn/elementary.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/layer_norm.hpp>
#include <eigenheads/nn/normalize.hpp>
#include <eigenheads/nn/pooling.hpp>
#include <eigenheads/nn/positional_encoding.hpp>
#include <eigenheads/nn/transformer_decoder.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/nn/transformer_layer.hpp>

#include "decoding_digests.hpp"
#include "digests.hpp"
#include "sampling_digests.hpp"

namespace digest {

// What nn/ does to numbers one by one and to rows, and its gradients.
template <class T>
void add_elementwise(Digests& digests, const std::string& type) {
  constexpr Index count = 20000;
  const auto add = [&](const std::string& name, const auto& tensor) {
    digests.emplace_back(type + "/nn/" + name, digest_of(tensor));
  };
  const auto grad = numbers<T>(41, T(1), count);
  for (const T size : {T(2), T(0x1p6), T(0x1p40)}) {
    const auto x = numbers<T>(40, size, count);
    const std::string of = "of_" + std::to_string(static_cast<std::int64_t>(size)) + '/';
    const std::span<const T> from(x.data(), count);
    Tensor<T, 1> y(count);
    const auto take = [&](const char* name, const auto& function) {
      function(from, std::span<T>(y.data(), count));
      add(of + name, y);
    };
    take("erf", [](auto a, auto b) { eh::erf(a, b); });
    take("tanh", [](auto a, auto b) { eh::tanh(a, b); });
    take("sin", [](auto a, auto b) { eh::sin(a, b); });
    take("cos", [](auto a, auto b) { eh::cos(a, b); });
    for (const auto activation : {eh::Activation::relu, eh::Activation::gelu,
                                  eh::Activation::gelu_tanh, eh::Activation::silu}) {
      const std::string name = of + eh::module_name(activation);
      add(name, eh::activate(activation, x));
      add(name + "/backward", eh::activate_backward(activation, x, grad));
    }
    add(of + "Tanh()/backward", eh::activate_backward(eh::Activation::tanh, x, grad));
  }

  for (const Index E : {1, 24, 100, 385}) {
    const auto x = numbers<T>(42, T(8), 2, 300, E), residual = numbers<T>(43, T(1), 2, 300, E);
    const auto expect = [&](const std::string& name, auto norm) {
      const std::string start = name + '/' + std::to_string(E);
      norm.set_weight(numbers<T>(44, T(2), E));
      if (norm.has_bias()) norm.set_bias(numbers<T>(45, T(1), E));
      add(start, norm(x));
      add(start + "/add_norm", norm.add_norm(x, residual));
      eh::NormGradients<T> gradients;
      eh::Context context(2, 0);  // any work is shared
      add(start + "/backward", norm.backward(x, residual, gradients, false, context));
      add(start + "/weight", gradients.weight);
      add(start + "/bias", gradients.bias);
    };
    expect("layer_norm", eh::LayerNorm<T>({.size = E}));
    expect("rms_norm", eh::RmsNorm<T>({.size = E}));
  }
}

// All parameters of a module, or all of their gradients, in one row.
template <class T, class Module>
[[nodiscard]] Tensor<T, 1> parameters_of(const Module& module) {
  std::vector<T> values;
  module.for_each_parameter([&](const auto& parameter) {
    const std::size_t begin = values.size();
    values.resize(begin + static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(std::span(values).subspan(begin));
  });
  Tensor<T, 1> row(static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), row.data());
  return row;
}

// A step of training of modules that are made of others, packed, with dropout.
template <class T>
void add_transformers(Digests& digests, const std::string& type) {
  const eh::Sequences sequences{300, 0, 7, 70}, memories{20, 5, 0, 270};
  const auto x = numbers<T>(80, T(2), sequences.rows(), 24);
  const auto memory = numbers<T>(81, T(2), memories.rows(), 17);
  const auto grad_y = numbers<T>(82, T(1), sequences.rows(), 24);
  const eh::TrainingOptions<T> step{.seed = eh::DropoutSeed{5}};
  const auto add = [&](const std::string& name, const auto& result) {
    digests.emplace_back(type + "/nn/" + name, digest_of(result));
  };
  for (const bool gated : {false, true}) {
    const eh::FeedForward<T> layer(
        {.size = 24,
         .hidden_size = 130,
         .activation = gated ? eh::Activation::silu : eh::Activation::gelu,
         .gated = gated},
        7);
    const std::string name = gated ? "feed_forward_gated" : "feed_forward";
    typename eh::FeedForward<T>::Activations saved;
    add(name, layer.forward(x, sequences, saved));
    const auto gradients = layer.backward(grad_y, saved);
    add(name + "/grad_x", gradients.x);
    add(name + "/grad_parameters", parameters_of<T>(gradients));
  }
  for (const bool norm_first : {false, true}) {
    const eh::TransformerLayerOptions options{.num_hiddens = 24,
                                              .num_heads = 3,
                                              .feed_forward_size = 50,
                                              .activation = eh::Activation::gelu,
                                              .norm_first = norm_first,
                                              .dropout = 0.25,
                                              .memory_size = 17};
    const std::string end = norm_first ? "/norm_first" : "/norm_last";
    const eh::TransformerEncoder<T> encoder(
        {.layer = options, .num_layers = 2, .final_norm = norm_first}, 8);
    add("encoder" + end + "/parameters", parameters_of<T>(encoder));
    add("encoder" + end + "/inferred", encoder(x, sequences));
    typename eh::TransformerEncoder<T>::Activations saved;
    add("encoder" + end, encoder.forward(x, sequences, {}, saved, step));
    const auto gradients = encoder.backward(grad_y, saved);
    add("encoder" + end + "/grad_x", gradients.x);
    add("encoder" + end + "/grad_parameters", parameters_of<T>(gradients));

    const eh::TransformerDecoderLayer<T> decoder(options, 9);
    add("decoder" + end + "/inferred", decoder(x, sequences, memory, memories));
    typename eh::TransformerDecoderLayer<T>::Activations kept;
    add("decoder" + end, decoder.forward(x, sequences, memory, memories, {}, kept, step));
    const auto of_decoder = decoder.backward(grad_y, kept);
    add("decoder" + end + "/grad_x", of_decoder.x);
    add("decoder" + end + "/grad_memory", of_decoder.memory);
    add("decoder" + end + "/grad_parameters", parameters_of<T>(of_decoder));

    auto rms_options = options;
    rms_options.norm = eh::NormKind::rms_norm;
    const eh::TransformerDecoder<T> stack(
        {.layer = rms_options, .num_layers = 2, .final_norm = norm_first}, 10);
    const std::string name = "decoder_stack_rms" + end;
    add(name + "/inferred", stack(x, sequences, memory, memories));
    typename eh::TransformerDecoder<T>::Activations of_stack;
    add(name, stack.forward(x, sequences, memory, memories, {}, of_stack, step));
    const auto stack_gradients = stack.backward(grad_y, of_stack);
    add(name + "/grad_x", stack_gradients.x);
    add(name + "/grad_memory", stack_gradients.memory);
    add(name + "/grad_parameters", parameters_of<T>(stack_gradients));
  }
}

// What stands around attention: embeddings, positions, pooling, rows of length 1.
template <class T>
void add_modules(Digests& digests, const std::string& type) {
  const auto add = [&](const std::string& name, const auto& x) {
    digests.emplace_back(type + "/nn/" + name, digest_of(x));
  };
  add("positions", eh::sinusoidal_positions<T>(1100, 37));
  const eh::Sequences sequences{300, 0, 17, 257};
  const auto x = numbers<T>(60, T(2), 574, 37);
  const auto grad_y = numbers<T>(61, T(2), 4, 37);
  for (const auto& [name, pooling] :
       {std::pair{"mean", eh::Pooling::mean}, std::pair{"max", eh::Pooling::max}}) {
    add(std::string("pool/") + name, eh::pool(x, sequences, pooling));
    add(std::string("pool/") + name + "/grad_x", eh::pool_backward(grad_y, x, sequences, pooling));
  }
  for (const T size : {T(1), T(0x1p-100)}) {
    const std::string name = size == 1 ? "normalize/" : "normalize_tiny/";
    const auto rows = numbers<T>(62, size, 9, 77);
    add(name + "y", eh::normalize(rows, {.epsilon = 0}));
    add(name + "grad_x", eh::normalize_backward(numbers<T>(63, size, 9, 77), rows, {.epsilon = 0}));
  }
  const eh::Embedding<T> embedding({.num_embeddings = 11, .embedding_dim = 37}, 3, "tokens");
  add("embedding/weight", embedding.weight());
  Tensor<Index, 1> ids(574);
  for (Index i = 0; i < ids.size(); ++i) ids(i) = i * i % 11;
  typename eh::Embedding<T>::Activations saved;
  (void)embedding.forward(ids, sequences, saved);
  add("embedding/grad_weight", embedding.backward(x, saved).weight);
}

// Additive attention, by all kinds of mask, and its gradients.
template <class T>
void add_additive(Digests& digests, const std::string& type) {
  const Index Q = 19, K = 300;
  const eh::AdditiveAttention<T> module(
      {.num_hiddens = 37, .query_size = 9, .key_size = 20, .dropout = 0.25}, 5);
  const auto q = numbers<T>(70, T(2), 2, Q, 9), k = numbers<T>(71, T(2), 2, K, 20),
             v = numbers<T>(72, T(2), 2, K, 21), grad_y = numbers<T>(73, T(2), 2, Q, 21);
  for (auto [name, mask] : masks(Q, K)) {
    if (mask.allowed.is_given()) {  // of 4 heads: here is one
      Tensor<bool, 2> pairs(Q, K);
      for (Index i = 0; i < pairs.size(); ++i) pairs.data()[i] = i * 7919 % 11 < 6;
      mask.allowed = pairs;
    }
    const std::string start = type + "/nn/additive/" + name;
    const auto result = module.with_weights(q, k, v, mask);
    digests.emplace_back(start, digest_of(result.output));
    digests.emplace_back(start + "/weights", digest_of(result.weights));
    typename eh::AdditiveAttention<T>::Activations saved;
    const auto y = module.forward(q, k, v, mask, saved, {.seed = eh::DropoutSeed{11}});
    const auto gradients = module.backward(grad_y, saved);
    const auto add = [&](const char* part, const auto& x) {
      digests.emplace_back(start + part, digest_of(x));
    };
    add("/forward", y);
    add("/grad_queries", gradients.queries);
    add("/grad_keys", gradients.keys);
    add("/grad_values", gradients.values);
    add("/grad_w_v", gradients.w_v.weight);
  }
}

template <class T>
void add_nn(Digests& digests, const std::string& type) {
  add_elementwise<T>(digests, type);
  add_modules<T>(digests, type);
  add_additive<T>(digests, type);
  add_transformers<T>(digests, type);
  add_sampling<T>(digests, type);
}

[[nodiscard]] inline Digests all() {
  Digests digests = of_core();
  add_decoding<float>(digests, "float");
  add_decoding<double>(digests, "double");
  add_nn<float>(digests, "float");
  add_nn<double>(digests, "double");
  return digests;
}

}  // namespace digest
