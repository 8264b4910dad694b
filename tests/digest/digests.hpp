// SPDX-License-Identifier: MIT
#pragma once
// One number for the bits of each result: the same from every compiler, under any flags, on every
// CPU with a fused multiply-add (contract C6). The inputs are made by integer arithmetic.
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/eigenheads.hpp>

namespace digest {

namespace eh = eigenheads;
using eh::Index, eh::Tensor, eh::TensorView;

// FNV-1a over the shape and the elements, all NaN alike, and -0 as +0.
template <class X>
[[nodiscard]] std::uint64_t digest_of(const X& x) {
  const TensorView view(x);
  std::uint64_t hash = 0xCBF29CE484222325u;
  const auto add = [&](std::uint64_t word) {
    for (int byte = 0; byte < 8; ++byte, word >>= 8) hash = (hash ^ (word & 0xFF)) * 0x100000001B3u;
  };
  for (const Index n : view.dimensions()) add(static_cast<std::uint64_t>(n));
  for (Index i = 0; i < view.size(); ++i) {
    const auto& element = view.data()[i];
    using Bits = eh::detail::BitsOf<eh::element_of<X>>;
    const auto bits = std::bit_cast<Bits>(element);
    if (eh::detail::is_nan(element))
      add(~std::uint64_t{0});
    else
      add(static_cast<Bits>(bits << 1) == 0 ? 0 : bits);
  }
  return hash;
}

// Multiples of a power of two on [-size, size), of splitmix64.
template <class T, class... Lengths>
[[nodiscard]] auto numbers(std::uint64_t seed, T size, Lengths... lengths) {
  Tensor<T, static_cast<int>(sizeof...(Lengths))> x(static_cast<Index>(lengths)...);
  constexpr int digits = std::numeric_limits<T>::digits;
  constexpr auto one = std::int64_t{1} << (digits - 1);
  for (Index i = 0; i < x.size(); ++i) {
    std::uint64_t z = (seed << 32) + 0x9E3779B97F4A7C15u * static_cast<std::uint64_t>(i + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    x.data()[i] = size * (static_cast<T>(static_cast<std::int64_t>(z >> (64 - digits)) - one) /
                          static_cast<T>(one));
  }
  return x;
}

using Digests = std::vector<std::pair<std::string, std::uint64_t>>;

// Attention of two sequences, four heads over two, under a mask; and its log-sum-exp.
template <class T>
void add_attention(Digests& digests, const std::string& name, std::array<Index, 4> sizes, T size,
                   const eh::Mask& mask, const eh::ScoreRef<T>& score = {}) {
  const auto [Q, K, D, V] = sizes;
  eh::Context context(2, 0);  // any work is shared
  const auto result = eh::scaled_dot_product_attention(
      numbers<T>(1, size, 2, 4, Q, D), numbers<T>(2, T(1), 2, 2, K, D),
      numbers<T>(3, T(1), 2, 2, K, V), mask, {.score = score}, context);
  digests.emplace_back(name, digest_of(result.output));
  digests.emplace_back(name + "/lse", digest_of(result.lse));
}

// All kinds of mask, for 2 sequences.
[[nodiscard]] inline std::vector<std::pair<std::string, eh::Mask>> masks(Index Q, Index K) {
  Tensor<Index, 2> lens(2, Q);
  for (Index i = 0; i < lens.size(); ++i) lens.data()[i] = i * 7919 % (K + 1);
  Tensor<bool, 4> pairs(1, 4, Q, K);
  for (Index i = 0; i < pairs.size(); ++i) pairs.data()[i] = i * 7919 % 11 < 6;
  return {{"all", {}},
          {"valid_lens", {.valid_lens = {K, K / 3}}},
          {"valid_lens_2d", {.valid_lens = lens}},
          {"top_left", {.causal = eh::Causal::top_left}},
          {"bottom_right", {.causal = eh::Causal::bottom_right}},
          {"window", {.causal = eh::Causal::bottom_right, .window = {K / 4, 2}}},
          {"query_lens", {.query_lens = {Q / 2, Q}}},
          {"allowed", {.allowed = pairs}},
          {"together",
           {.valid_lens = lens,
            .causal = eh::Causal::bottom_right,
            .query_lens = {Q, Q / 2},
            .allowed = pairs}}};
}

// The functions that everything else rounds away: in their own bits.
template <class T>
void add_functions(Digests& digests, const std::string& type) {
  constexpr Index count = 20000;
  Tensor<T, 1> small(count), result(count);
  for (const T size : {T(2), T(0x1p6), T(0x1p9)}) {
    const auto x = numbers<T>(10, size, count);
    const std::string name = type + "/of_" + std::to_string(static_cast<int>(size)) + '/';
    for (Index i = 0; i < count; ++i) small(i) = x(i) < 0 ? x(i) : -x(i);
    eh::exp({small.data(), count}, {result.data(), count});
    digests.emplace_back(name + "exp", digest_of(result));
    for (Index i = 0; i < count; ++i) small(i) = x(i) > 0 ? x(i) : 1 - x(i);
    eh::log({small.data(), count}, {result.data(), count});
    digests.emplace_back(name + "log", digest_of(result));
    for (Index i = 0; i < count; ++i) result(i) = eh::detail::tanh(x(i));
    digests.emplace_back(name + "tanh", digest_of(result));
  }
}

[[nodiscard]] inline Tensor<double, 2> table_of(const std::vector<eh::HeadMeasures>& heads) {
  Tensor<double, 2> table(static_cast<Index>(heads.size()),
                          static_cast<Index>(eh::head_measures.size()));
  double* to = table.data();
  for (const eh::HeadMeasures& head : heads)
    for (const eh::HeadMeasure& measure : eh::head_measures) *to++ = head.*measure.value;
  return table;
}

// Gradients of biases that sequences, heads, queries or keys share, in more blocks than one.
template <class T>
void add_bias_gradients(Digests& digests, const std::string& type) {
  const Index B = 2, H = 4, G = 2, Q = 150, K = 131, D = 16;
  const auto q = numbers<T>(1, T(2), B, H, Q, D);
  const auto k = numbers<T>(2, T(1), B, G, K, D), v = numbers<T>(3, T(1), B, G, K, D);
  const eh::Mask mask{.causal = eh::Causal::bottom_right};
  for (const auto& [b, h, i, j] : std::vector<std::array<Index, 4>>{
           {1, 1, Q, K}, {2, 1, Q, K}, {1, 4, Q, K}, {1, 4, 1, K}, {2, 4, Q, 1}, {1, 1, 1, 1}}) {
    const auto values = numbers<T>(9, T(3), b, h, i, j);
    const eh::ScoreBias<T> bias(values);
    eh::Context context(2, 0);  // any work is shared
    const auto result = eh::scaled_dot_product_attention(q, k, v, mask, {.score = bias}, context);
    const auto gradients = eh::scaled_dot_product_attention_backward(
        numbers<T>(4, T(1), B, H, Q, D), q, k, v, result, mask, {.score = bias}, context);
    std::string name = type + "/bias_gradient/";
    for (const Index n : {b, h, i}) name += std::to_string(n) + 'x';
    digests.emplace_back(name + std::to_string(j), digest_of(gradients.score_bias));
  }
}

// First keys that stay visible under a window, over a gap that is longer than a block, prefixes, and a
// learnt sink of each head; with the gradients of all of them.
template <class T>
void add_sinks(Digests& digests, const std::string& type) {
  const Index B = 2, H = 4, G = 2, K = 700, D = 16;
  const auto sinks = numbers<T>(14, T(4), H);
  for (const Index Q : {2, 150}) {
    const auto q = numbers<T>(1, T(2), B, H, Q, D);
    const auto k = numbers<T>(2, T(1), B, G, K, D), v = numbers<T>(3, T(1), B, G, K, D);
    const std::pair<const char*, eh::Mask> masks[] = {
        {"window", {.causal = eh::Causal::bottom_right, .window = {50, -1}, .sinks = 5}},
        {"prefix", {.causal = eh::Causal::bottom_right, .prefix_lens = {K - 1, K / 2}}}};
    for (const auto& [name, mask] : masks) {
      const eh::AttentionOptions<T> options{.weights = true, .sink_logits = sinks};
      eh::Context context(2, 0);  // any work is shared
      const auto result = eh::scaled_dot_product_attention(q, k, v, mask, options, context);
      const auto gradients = eh::scaled_dot_product_attention_backward(
          numbers<T>(4, T(1), B, H, Q, D), q, k, v, result, mask, options, context);
      const std::string start = type + "/sinks/" + std::to_string(Q) + '/' + name + '/';
      digests.emplace_back(start + "output", digest_of(result.output));
      digests.emplace_back(start + "lse", digest_of(result.lse));
      digests.emplace_back(start + "weights", digest_of(result.weights));
      digests.emplace_back(start + "queries", digest_of(gradients.queries));
      digests.emplace_back(start + "keys", digest_of(gradients.keys));
      digests.emplace_back(start + "values", digest_of(gradients.values));
      digests.emplace_back(start + "sinks", digest_of(gradients.sink_logits));
    }
  }
}

// A step of training, with dropout: its output, the gradients of everything, and what its heads are
// like.
template <class T>
void add_training(Digests& digests, const std::string& type) {
  for (const Index G : {4, 2}) {
    const Index Q = 150, K = 131;
    eh::MultiHeadAttention<T> layer({.num_hiddens = 40,
                                     .num_heads = 4,
                                     .dropout = 0.25,
                                     .bias = true,
                                     .num_kv_heads = G,
                                     .head_size = 9},
                                    7);
    const auto q = numbers<T>(5, T(2), 2, Q, 40), k = numbers<T>(6, T(2), 2, K, 24);
    const auto biases = numbers<T>(9, T(3), 1, 4, Q, K);
    for (const auto& [name, mask] : masks(Q, K)) {
      const auto score = eh::chain(eh::Softcap<T>(T(2)), eh::ScoreBias<T>(biases));
      typename eh::MultiHeadAttention<T>::Activations saved;
      eh::Context context(2, 0);  // any work is shared
      const auto output = layer.forward(
          q, k, k, mask, saved, {.score = score, .seed = eh::DropoutSeed{3}, .context = context});
      const auto gradients = layer.backward(numbers<T>(10, T(1), 2, Q, 40), saved, context);
      const std::string start = type + "/training/" + std::to_string(G) + '/' + name + '/';
      digests.emplace_back(start + "output", digest_of(output));
      digests.emplace_back(start + "queries", digest_of(gradients.queries));
      digests.emplace_back(start + "keys", digest_of(gradients.keys));
      digests.emplace_back(start + "values", digest_of(gradients.values));
      digests.emplace_back(start + "score_bias", digest_of(gradients.score_bias));
      digests.emplace_back(start + "gates", digest_of(gradients.gates));
      eh::HeadImportance<T> importance(layer);
      importance.add(layer, saved, context);
      importance.add(gradients);
      digests.emplace_back(start + "importance", digest_of(table_of(importance.measures())));
      gradients.for_each_parameter([&](const auto& gradient) {
        const auto elements = gradient.elements();
        digests.emplace_back(
            start + gradient.name(),
            digest_of(TensorView<T, 1>(elements.data(), {static_cast<Index>(elements.size())})));
      });
    }
  }
}

// A softmax by itself, and its gradient; key blocks of float and double are 256 and 128.
template <class T>
void add_softmax(Digests& digests, const std::string& type) {
  for (const Index K : {1, 15, 130, 700})
    for (const T size : {T(2), T(0x1p6)}) {
      Tensor<Index, 2> lens(2, 5);
      for (Index i = 0; i < lens.size(); ++i) lens.data()[i] = i * 7919 % (K + 1);
      const std::pair<const char*, eh::ValidLens> all[] = {
          {"all", {}}, {"lens", {K, K / 3}}, {"lens_2d", lens}};
      for (const auto& [name, valid_lens] : all) {
        const auto weights = eh::masked_softmax(numbers<T>(12, size, 2, 5, K), valid_lens);
        const std::string start = type + "/softmax/" + std::to_string(K) + "/of_" +
                                  std::to_string(static_cast<int>(size)) + '/' + name;
        digests.emplace_back(start, digest_of(weights));
        digests.emplace_back(start + "/backward", digest_of(eh::masked_softmax_backward(
                                                      weights, numbers<T>(13, T(1), 2, 5, K))));
      }
    }
}

// Tables, far along too, and a layer that turns queries and keys by them, with its gradients.
template <class T>
void add_rotary(Digests& digests, const std::string& type) {
  const std::pair<const char*, eh::RotaryScaling> scalings[] = {
      {"none", {}},
      {"linear", eh::LinearScaling{.factor = 3}},
      {"ntk", eh::NtkScaling{.factor = 8}},
      {"yarn", eh::YarnScaling{.factor = 4, .original_positions = 4096}},
      {"llama3", eh::Llama3Scaling{.factor = 8, .original_positions = 8192}}};
  for (const auto layout : {eh::RotaryLayout::half_split, eh::RotaryLayout::interleaved})
    for (const auto& [name, scaling] : scalings) {
      const eh::RotaryOptions options{
          .max_positions = 3000, .rotated = 34, .layout = layout, .scaling = scaling};
      eh::MultiHeadAttention<T> layer({.num_hiddens = 40,
                                       .num_heads = 4,
                                       .bias = true,
                                       .num_kv_heads = 2,
                                       .head_size = 37,
                                       .rotary = options},
                                      7);
      const auto x = numbers<T>(14, T(2), 2, 90, 40), m = numbers<T>(15, T(2), 2, 61, 40);
      const eh::Mask mask{.first_positions = {3, 2900}};
      typename eh::MultiHeadAttention<T>::Activations saved;
      const auto output = layer.forward(x, m, m, mask, saved);
      const auto gradients = layer.backward(numbers<T>(16, T(1), 2, 90, 40), saved);
      const auto [table, sines, stride, positions, rotated, of] = layer.rotary()->table();
      const std::string start =
          type + "/rotary/" +
          (of == eh::RotaryLayout::half_split ? "half_split/" : "interleaved/") + name + '/';
      digests.emplace_back(start + "table",
                           digest_of(TensorView<T, 2>(table, {positions, stride})));
      digests.emplace_back(start + "output", digest_of(output));
      digests.emplace_back(start + "queries", digest_of(gradients.queries));
      digests.emplace_back(start + "keys", digest_of(gradients.keys));
    }
}

template <class T>
void add_all(Digests& digests, const std::string& type) {
  add_functions<T>(digests, type);
  add_bias_gradients<T>(digests, type);
  add_training<T>(digests, type);
  const auto add = [&](const std::string& name, const auto& tensor) {
    digests.emplace_back(type + '/' + name, digest_of(tensor));
  };
  eh::Linear<T> linear({.in_features = 300, .out_features = 37, .bias = true}, 1, "digest");
  add("linear/weight", linear.weight());
  linear.set_bias(numbers<T>(1, T(1), 37));
  for (const Index rows : {1, 4, 6, 97})
    add("linear/" + std::to_string(rows), linear(numbers<T>(2, T(1), rows, 300)));

  eh::MultiHeadAttention<T> layer(
      {.num_hiddens = 40, .num_heads = 4, .bias = true, .num_kv_heads = 2, .head_size = 9}, 7);
  for (auto* part : {&layer.W_q, &layer.W_k, &layer.W_v, &layer.W_o})
    part->set_bias(numbers<T>(4, T(1), part->out_features()));
  for (const Index Q : {3, 67}) {
    const Index K = 61;
    const auto q = numbers<T>(5, T(2), 2, Q, 40), k = numbers<T>(6, T(2), 2, K, 24);
    for (const auto& [name, mask] : masks(Q, K)) {
      const auto [output, weights] = layer.with_weights(q, k, k, mask);
      add("layer/" + std::to_string(Q) + '/' + name, output);
      add("layer/" + std::to_string(Q) + '/' + name + "/weights", weights);
    }
  }

  layer.set_gates(numbers<T>(11, T(1), 2, 4));
  const auto x = numbers<T>(5, T(2), 2, 30, 40), m = numbers<T>(6, T(2), 2, 61, 24);
  add("gated", layer(x, m, m));
  add("pruned", eh::prune_heads(layer, {1})(x, m, m));

  for (const Index Q : {2, 60})
    for (const auto& [name, mask] : masks(Q, 300))
      add_attention<T>(digests, type + "/attention/" + std::to_string(Q) + '/' + name,
                       {Q, 300, 64, 64}, T(4), mask);
  add_attention<T>(digests, type + "/few_long_rows", {3, 5000, 80, 48}, T(8), {});
  add_attention<T>(digests, type + "/long_rows", {53, 2500, 16, 17}, T(8), {});
  add_attention<T>(digests, type + "/large_scores", {13, 300, 128, 5}, T(0x1p12), {});
  add_attention<T>(digests, type + "/small_scores", {13, 300, 1, 1}, T(0x1p-20), {});

  const auto q = numbers<T>(5, T(2), 2, 4, 9, 16);
  const auto part = [&](std::uint64_t seed) {
    return eh::scaled_dot_product_attention(q, numbers<T>(seed, T(1), 2, 2, 40, 16),
                                            numbers<T>(seed + 1, T(1), 2, 2, 40, 16));
  };
  const auto merged = eh::merge_attention(part(20), part(30));
  add("merged", merged.output);
  add("merged/lse", merged.lse);

  const auto slopes = numbers<T>(8, T(1), 4);
  for (const Index Q : {2, 50}) {
    const auto bias = numbers<T>(9, T(3), 2, 4, Q, 300);
    const std::string name = type + "/score/" + std::to_string(Q) + '/';
    const std::array<Index, 4> sizes{Q, 300, 32, 32};
    const eh::Mask causal{.causal = eh::Causal::bottom_right};
    const eh::Softcap<T> softcap(T(1.25));
    const eh::Mask at_the_end{.first_positions = {300 - Q, 300 - Q}};
    const eh::Alibi<T> alibi(slopes);
    const eh::ScoreBias<T> added(bias);
    add_attention<T>(digests, name + "softcap", sizes, T(8), {}, softcap);
    add_attention<T>(digests, name + "alibi", sizes, T(2), causal, alibi);
    add_attention<T>(digests, name + "bias", sizes, T(2), {}, added);
    add_attention<T>(digests, name + "chain", sizes, T(8), at_the_end,
                     eh::chain(softcap, alibi, added));
    add_attention<T>(digests, name + "chain_to_bias", sizes, T(8), {}, eh::chain(softcap, added));
  }
  add_softmax<T>(digests, type);
  add_rotary<T>(digests, type);
  add_sinks<T>(digests, type);
}

[[nodiscard]] inline Digests of_core() {
  Digests digests;
  add_all<float>(digests, "float");
  add_all<double>(digests, "double");
  return digests;
}

}  // namespace digest
