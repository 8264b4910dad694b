// SPDX-License-Identifier: MIT
#pragma once
// Characters as vectors, each together with its neighbours and its place in the text:
//   x[i] = P[i] + sum over o = -reach..reach of C_o[t[i+o]]   (t: tokens)
// Attention finds things, but it is slow to learn what stands next to what. With reach 2 a model
// reads 95 % of the test's dates after 100000 phrases, with reach 1 90 %, with 0 less than 20 %.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/nn/embedding.hpp>  // Embedding
#include <eigenheads/sequences.hpp>     // Sequences
#include <eigenheads/tensor.hpp>        // Tensor, TensorView, Scalar

#include "../module.hpp"  // Module
#include "alphabet.hpp"   // kTokens, kPadding
#include "batch.hpp"      // Batch
#include "noise.hpp"      // kMaxLength

namespace dates {

using eigenheads::Context, eigenheads::Embedding, eigenheads::Scalar, eigenheads::Sequences,
    eigenheads::Tensor, eigenheads::TensorView;

template <Scalar T>
class TextEmbedding : public examples::Module<TextEmbedding<T>> {
 public:
  TextEmbedding(Index num_hiddens, Index reach, std::uint64_t seed)
      : characters(table((2 * reach + 1) * kTokens, num_hiddens, 0.7, {seed, "characters"})),
        positions(table(static_cast<Index>(kMaxLength), num_hiddens, 0.35, {seed, "positions"})) {}

  Embedding<T> characters;  // C_-reach to C_reach, one below the other
  Embedding<T> positions;

  struct Activations {
    std::vector<typename Embedding<T>::Activations> characters;  // of each C_o
    typename Embedding<T>::Activations positions;
  };
  struct Gradients : examples::Module<Gradients, TextEmbedding> {
    typename Embedding<T>::Gradients characters, positions;
  };
  template <class Self, class Visit>
  static void for_each_part(Self& self, Visit&& visit) {
    visit("characters", self.characters);
    visit("positions", self.positions);
  }

  // texts: the sequences of the batch -> packed, [N, E]
  [[nodiscard]] Tensor<T, 2> forward(const Batch& batch, const Sequences& texts, Activations& saved,
                                     Context& context) const {
    std::vector<Index> ids(static_cast<std::size_t>(texts.rows()));
    const auto look_up = [&](const Embedding<T>& in, const auto& id_of, auto& of_lookup) {
      auto id = ids.begin();
      for (Index b = 0; b < texts.count(); ++b)
        for (Index i = 0; i < texts.length(b); ++i) *id++ = id_of(b, i);
      return in.forward(TensorView<Index, 1>(ids.data(), {texts.rows()}), texts, of_lookup,
                        context);
    };
    Tensor<T, 2> x = look_up(positions, [](Index, Index i) { return i; }, saved.positions);
    saved.characters.resize(static_cast<std::size_t>(characters.num_embeddings() / kTokens));
    const Index reach = std::ssize(saved.characters) / 2;
    for (Index k = 0; k <= 2 * reach; ++k)
      x += look_up(
          characters,
          [&](Index b, Index i) { return k * kTokens + token_at(batch, b, i + k - reach); },
          saved.characters[static_cast<std::size_t>(k)]);
    return x;
  }

  // Every summand has the gradient of the sum.
  void backward(const Tensor<T, 2>& dx, const Activations& saved, Gradients& gradients,
                Context& context) const {
    positions.backward_into(gradients.positions, dx, saved.positions, false, context);
    for (std::size_t k = 0; k < saved.characters.size(); ++k)
      characters.backward_into(gradients.characters, dx, saved.characters[k], k > 0, context);
  }

 private:
  struct Draw {
    std::uint64_t seed;
    std::string_view name;
  };
  // Drawn with this standard deviation.
  [[nodiscard]] static Embedding<T> table(Index rows, Index num_hiddens, double deviation,
                                          const Draw& draw) {
    Embedding<T> drawn({.num_embeddings = rows, .embedding_dim = num_hiddens}, draw.seed,
                       draw.name);
    drawn.for_each_parameter([&](const auto& parameter) {
      parameter.update([&](Index, T w) { return static_cast<T>(deviation) * w; });
    });
    return drawn;
  }

  // Around the text there is padding.
  [[nodiscard]] static Index token_at(const Batch& batch, Index b, Index place) {
    const bool is_inside = place >= 0 && place < batch.length;
    return is_inside ? batch.tokens[static_cast<std::size_t>(b * batch.length + place)] : kPadding;
  }
};

}  // namespace dates
