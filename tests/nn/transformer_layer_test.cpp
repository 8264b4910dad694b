// SPDX-License-Identifier: MIT
// A layer of a transformer is its sublayers one after the other: a row has the same bits alone, in a
// batch, padded, packed and on any number of threads, and so has its gradient.
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/nn/transformer_decoder.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/nn/transformer_layer.hpp>
#include <eigenheads/sequences.hpp>

#include "counting.hpp"
#include "support.hpp"
#include "transformers.hpp"

namespace {

using namespace support;
using eh::DecoderMask, eh::DropoutSeed, eh::Mask;
using eh::TransformerDecoder, eh::TransformerDecoderLayer;
using eh::TransformerEncoder, eh::TransformerEncoderLayer;

template <class T>
class Transformers : public testing::Test {};
TYPED_TEST_SUITE(Transformers, Scalars, ScalarNames);

// check(module) with those of either norm, and a layer as well as layers one after the other.
template <class T, class Check>
void with_encoders(bool norm_first, double dropout, const Check& check) {
  check(make<TransformerEncoder<T>>(stack_of(norm_first, dropout)));
  check(make<TransformerEncoder<T>>(rms_stack_of(norm_first, dropout)));
}
template <class T, class Check>
void with_decoders(bool norm_first, double dropout, const Check& check) {
  check(make<TransformerDecoderLayer<T>>(options_of(norm_first, dropout)));
  check(make<TransformerDecoder<T>>(stack_of(norm_first, dropout)));
  check(make<TransformerDecoder<T>>(rms_stack_of(norm_first, dropout)));
}

// ---- The same bits ------------------------------------------------------------------------------

TYPED_TEST(Transformers, AnEncodersRowsAreTheSamePaddedPackedAloneAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    with_encoders<T>(norm_first, 0, [&](const auto& encoder) {
      const auto x = random_tensor<T>(1, kSequences.rows(), 24);
      const Mask causal{.causal = eh::Causal::top_left};
      const auto expected = encoder(x, kSequences, causal);
      Context context(3, kAnyWork);
      EXPECT_TRUE(same_bits(encoder(x, kSequences, causal, context), expected));
      const auto padded =
          encoder(padded_with(kNan<T>, x, kSequences),
                  {.valid_lens = lens_of(kSequences), .causal = eh::Causal::top_left}, context);
      EXPECT_TRUE(same_bits(pack(padded, kSequences), expected));
      for (Index b = 0; b < kSequences.count(); ++b) {
        const std::array rows{kSequences.length(b), Index{24}};
        const TensorView<T, 2> alone(x.data() + kSequences.begin(b) * 24, rows);
        const TensorView<T, 2> its(expected.data() + kSequences.begin(b) * 24, rows);
        EXPECT_TRUE(same_bits(encoder(alone, Sequences{kSequences.length(b)}, causal), its));
      }
    });
  }
}

TYPED_TEST(Transformers, ADecodersRowsAreTheSamePaddedPackedAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    with_decoders<T>(norm_first, 0, [&](const auto& layer) {
      const auto x = random_tensor<T>(1, kSequences.rows(), 24);
      const auto memory = random_tensor<T>(2, kMemories.rows(), 15);
      const auto expected = layer(x, kSequences, memory, kMemories);
      Context context(3, kAnyWork);
      EXPECT_TRUE(same_bits(layer(x, kSequences, memory, kMemories, {}, context), expected));
      const auto padded =
          layer(padded_with(kNan<T>, x, kSequences), padded_with(kNan<T>, memory, kMemories),
                {.self = {.valid_lens = lens_of(kSequences), .causal = eh::Causal::top_left},
                 .memory = {.valid_lens = lens_of(kMemories)}});
      EXPECT_TRUE(same_bits(pack(padded, kSequences), expected));
    });
  }
}

TYPED_TEST(Transformers, TheOutputMayBeTheInput) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    const auto x = random_tensor<T>(1, 2, 7, 24), memory = random_tensor<T>(2, 2, 5, 15);
    const auto encoder = make<TransformerEncoder<T>>(stack_of(norm_first));
    auto y = x;
    encoder.forward_into(y, y);
    EXPECT_TRUE(same_bits(y, encoder(x)));
    with_decoders<T>(norm_first, 0, [&](const auto& decoder) {
      y = x;
      decoder.forward_into(y, y, memory);
      EXPECT_TRUE(same_bits(y, decoder(x, memory)));
    });
  }
}

// No sequence, sequences without rows, and a memory without any.
TYPED_TEST(Transformers, NothingIsANumberOfRows) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    const auto encoder = make<TransformerEncoder<T>>(stack_of(norm_first, 0.25));
    const auto decoder = make<TransformerDecoderLayer<T>>(options_of(norm_first, 0.25));
    for (const auto& [B, L] : {std::pair<Index, Index>{0, 5}, {2, 0}, {0, 0}}) {
      const Tensor<T, 3> x(B, L, 24), memory(B, 0, 15);
      typename TransformerEncoder<T>::Activations saved;
      EXPECT_TRUE(same_bits(encoder(x), x));
      EXPECT_TRUE(same_bits(encoder.forward(x, {}, saved, {.seed = DropoutSeed{}}), x));
      const auto gradients = encoder.backward(x, saved);
      EXPECT_TRUE(same_bits(gradients.x, x));
      for (const auto& [name, values] : values_of<T>(gradients))
        EXPECT_TRUE(all_are(TensorView<T, 1>(values.data(), {std::ssize(values)}), T(0))) << name;
      with_decoders<T>(norm_first, 0.25, [&](const auto& any) {
        typename std::remove_cvref_t<decltype(any)>::Activations kept;
        EXPECT_TRUE(same_bits(any(x, memory), x));
        EXPECT_TRUE(same_bits(any.forward(x, memory, {}, kept, {.seed = DropoutSeed{}}), x));
        EXPECT_TRUE(same_bits(any.backward(x, kept).memory, memory));
      });
    }
    const Tensor<T, 2> none(0, 24);
    EXPECT_TRUE(same_bits(encoder(none, Sequences()), none));
    EXPECT_TRUE(same_bits(encoder(none, Sequences{0, 0}), none));
    // What a row gets of a memory without keys is the bias of W_o alone.
    const auto x = random_tensor<T>(1, 2, 3, 24);
    auto other = decoder;
    other.cross_attention.W_v.set_bias(random_tensor<T>(2, 24));
    EXPECT_TRUE(same_bits(decoder(x, Tensor<T, 3>(2, 0, 15)), other(x, Tensor<T, 3>(2, 0, 15))));
  }
}

// With dropout, too: what is dropped is a function of the step and of places.
TYPED_TEST(Transformers, TrainingAnEncoderIsTheSamePaddedPackedAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const bool norm_first : {false, true})
    for (const double dropout : {0.0, 0.25}) {
      with_encoders<T>(norm_first, dropout, [&](const auto& encoder) {
        const auto x = random_tensor<T>(1, kSequences.rows(), 24);
        const auto grad_y = random_tensor<T>(2, kSequences.rows(), 24);
        typename std::remove_cvref_t<decltype(encoder)>::Activations saved;
        const auto expected = encoder.forward(x, kSequences, {}, saved, {.seed = DropoutSeed{7}});
        const auto gradients = encoder.backward(grad_y, saved);
        if (dropout == 0)
          EXPECT_TRUE(same_bits(encoder(x, kSequences), expected));
        else
          EXPECT_FALSE(same_bits(encoder(x, kSequences), expected));

        Context context(3, kAnyWork);
        const auto by_three =
            encoder.forward(x, kSequences, {}, saved, {.seed = DropoutSeed{7}, .context = context});
        EXPECT_TRUE(same_bits(by_three, expected));
        const auto gradients_by_three = encoder.backward(grad_y, saved, context);
        EXPECT_TRUE(same_bits(gradients_by_three.x, gradients.x));
        expect_same_parameters<T>(gradients_by_three, gradients);

        const auto padded =
            encoder.forward(padded_with(kNan<T>, x, kSequences),
                            {.valid_lens = lens_of(kSequences), .query_lens = lens_of(kSequences)},
                            saved, {.seed = DropoutSeed{7}});
        EXPECT_TRUE(same_bits(pack(padded, kSequences), expected));
        const auto padded_gradients = encoder.backward(unpack(grad_y, kSequences), saved);
        EXPECT_TRUE(same_bits(pack(padded_gradients.x, kSequences), as_rows(gradients.x)));
        EXPECT_TRUE(all_are(row(padded_gradients.x, 0, 5), T(0)));
        expect_same_parameters<T>(padded_gradients, gradients);
      });
    }
}

TYPED_TEST(Transformers, TrainingADecoderIsTheSamePaddedPackedAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const bool norm_first : {false, true})
    for (const double dropout : {0.0, 0.25}) {
      with_decoders<T>(norm_first, dropout, [&](const auto& layer) {
        const auto x = random_tensor<T>(1, kSequences.rows(), 24);
        const auto memory = random_tensor<T>(3, kMemories.rows(), 15);
        const auto grad_y = random_tensor<T>(2, kSequences.rows(), 24);
        typename std::remove_cvref_t<decltype(layer)>::Activations saved;
        const auto expected =
            layer.forward(x, kSequences, memory, kMemories, {}, saved, {.seed = DropoutSeed{7}});
        const auto gradients = layer.backward(grad_y, saved);
        Context context(3, kAnyWork);
        const auto by_three = layer.forward(x, kSequences, memory, kMemories, {}, saved,
                                            {.seed = DropoutSeed{7}, .context = context});
        EXPECT_TRUE(same_bits(by_three, expected));
        const auto gradients_by_three = layer.backward(grad_y, saved, context);
        EXPECT_TRUE(same_bits(gradients_by_three.x, gradients.x));
        EXPECT_TRUE(same_bits(gradients_by_three.memory, gradients.memory));
        expect_same_parameters<T>(gradients_by_three, gradients);

        const auto padded = layer.forward(
            padded_with(kNan<T>, x, kSequences), padded_with(kNan<T>, memory, kMemories),
            {.self = {.valid_lens = lens_of(kSequences),
                      .causal = eh::Causal::top_left,
                      .query_lens = lens_of(kSequences)},
             .memory = {.valid_lens = lens_of(kMemories), .query_lens = lens_of(kSequences)}},
            saved, {.seed = DropoutSeed{7}});
        EXPECT_TRUE(same_bits(pack(padded, kSequences), expected));
        const auto padded_gradients = layer.backward(unpack(grad_y, kSequences), saved);
        EXPECT_TRUE(same_bits(pack(padded_gradients.x, kSequences), as_rows(gradients.x)));
        EXPECT_TRUE(same_bits(pack(padded_gradients.memory, kMemories), as_rows(gradients.memory)));
        expect_same_parameters<T>(padded_gradients, gradients);
      });
    }
}

// Rows of padding are no keys by valid_lens, and no queries by query_lens: without these, what they hold
// is multiplied by gradients of 0.
TYPED_TEST(Transformers, NanInThePaddingNeedsQueryLensInTraining) {
  using T = TypeParam;
  const auto encoder = make<TransformerEncoder<T>>(stack_of(true));
  const auto x = random_tensor<T>(1, kSequences.rows(), 24);
  const auto grad_y = unpack(random_tensor<T>(2, kSequences.rows(), 24), kSequences);
  const auto padded = padded_with(kNan<T>, x, kSequences);
  typename TransformerEncoder<T>::Activations saved;
  for (const bool has_query_lens : {false, true}) {
    Mask mask{.valid_lens = lens_of(kSequences)};
    if (has_query_lens) mask.query_lens = lens_of(kSequences);
    EXPECT_TRUE(
        same_bits(pack(encoder.forward(padded, mask, saved), kSequences), encoder(x, kSequences)));
    const auto gradients = encoder.backward(grad_y, saved);
    const T first = gradients.layers[0].self_attention.W_k.weight(0, 0);
    EXPECT_EQ(bits(first) != bits(kNan<T>), has_query_lens);
  }
}

// ---- Gradients ----------------------------------------------------------------------------------

TEST(TransformerGradient, IsTheCentralDifference) {
  for (const bool norm_first : {false, true})
    for (const bool gated : {false, true})
      for (const bool rms : {false, true}) {
        auto options = (rms ? rms_stack_of : stack_of)(norm_first, 0.3);
        options.layer.gated = gated;
        auto x = random_tensor<double>(1, 2, 5, 24), memory = random_tensor<double>(2, 2, 4, 15);
        const auto grad_y = random_tensor<double>(3, 2, 5, 24);
        const Mask mask{.valid_lens = {5, 3}};
        auto encoder = make<TransformerEncoder<double>>(options);
        TransformerEncoder<double>::Activations saved;
        const auto encode = [&] {
          return dot(encoder.forward(x, mask, saved, {.seed = DropoutSeed{1}}), grad_y);
        };
        (void)encode();
        const auto of_encoder = encoder.backward(grad_y, saved);
        expect_slope(encoder, std::vector{&x}, encode, of_encoder, {&of_encoder.x});

        const auto expect_decoder = [&](auto decoder) {
          typename decltype(decoder)::Activations of_call;
          const auto decode = [&] {
            return dot(decoder.forward(x, memory, {}, of_call, {.seed = DropoutSeed{1}}), grad_y);
          };
          (void)decode();
          const auto gradients = decoder.backward(grad_y, of_call);
          expect_slope(decoder, std::vector{&x, &memory}, decode, gradients,
                       {&gradients.x, &gradients.memory});
        };
        expect_decoder(make<TransformerDecoderLayer<double>>(options.layer));
        expect_decoder(make<TransformerDecoder<double>>(options));
      }
}

// Those of the parameters alone: batches may have any shapes.
TYPED_TEST(Transformers, GradientsMayBeAddedUp) {
  using T = TypeParam;
  const auto encoder = make<TransformerEncoder<T>>(stack_of(true));
  const auto x = random_tensor<T>(1, 2, 5, 24), more_x = random_tensor<T>(2, 3, 4, 24);
  const auto memory = random_tensor<T>(3, 2, 6, 15), more_memory = random_tensor<T>(4, 3, 2, 15);
  typename TransformerEncoder<T>::Activations saved;
  (void)encoder.forward(x, {}, saved);
  auto gradients = encoder.backward(x, saved);
  const auto first = values_of<T>(gradients);
  (void)encoder.forward(more_x, {}, saved);
  const auto alone = encoder.backward(more_x, saved);
  const auto second = values_of<T>(alone);
  encoder.backward_into(gradients, more_x, saved, true);
  EXPECT_TRUE(same_bits(gradients.x, alone.x));
  const auto expect_sums = [](const Named<T>& a, const Named<T>& b, const Named<T>& sums) {
    for (std::size_t p = 0; p < sums.size(); ++p)
      for (std::size_t i = 0; i < sums[p].second.size(); ++i)
        ASSERT_EQ(sums[p].second[i], a[p].second[i] + b[p].second[i]) << sums[p].first;
  };
  expect_sums(first, second, values_of<T>(gradients));

  with_decoders<T>(false, 0, [&](const auto& decoder) {
    typename std::remove_cvref_t<decltype(decoder)>::Activations decoder_saved;
    (void)decoder.forward(x, memory, {}, decoder_saved);
    auto of_decoder = decoder.backward(x, decoder_saved);
    const auto decoder_first = values_of<T>(of_decoder);
    (void)decoder.forward(more_x, more_memory, {}, decoder_saved);
    const auto decoder_alone = decoder.backward(more_x, decoder_saved);
    decoder.backward_into(of_decoder, more_x, decoder_saved, true);
    EXPECT_TRUE(same_bits(of_decoder.x, decoder_alone.x));
    EXPECT_TRUE(same_bits(of_decoder.memory, decoder_alone.memory));
    expect_sums(decoder_first, values_of<T>(decoder_alone), values_of<T>(of_decoder));
  });
}

// ---- Memory -------------------------------------------------------------------------------------

TYPED_TEST(Transformers, AWarmCallAllocatesNothing) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, kSequences.rows(), 24);
  const auto memory = random_tensor<T>(2, kMemories.rows(), 15);
  const auto padded = unpack(x, kSequences);
  const Mask mask{.valid_lens = lens_of(kSequences)};
  for (const bool norm_first : {false, true})
    for (const int threads : {1, 2}) {
      const auto encoder = make<TransformerEncoder<T>>(stack_of(norm_first));
      const auto decoder = make<TransformerDecoder<T>>(stack_of(norm_first));
      Context context(threads, kAnyWork);
      start_threads(context);
      auto y = x;
      auto padded_y = padded;
      const DecoderMask masks;
      const auto call = [&] {
        encoder.forward_into(y, x, kSequences, {}, context);
        encoder.forward_into(padded_y, padded, mask, context);
        decoder.forward_into(y, x, kSequences, memory, kMemories, masks, context);
      };
      for (int warm = 0; warm < 3; ++warm) call();
      const Counted seen = counted(call);
      EXPECT_EQ(seen.allocations, 0) << seen.bytes;
      EXPECT_TRUE(seen.locks == 0 || threads > 1);
    }
}

// ---- Names, text and refusals --------------------------------------------------------------------

TEST(TransformerText, IsPyTorchs) {
  std::ostringstream text;
  text << TransformerEncoder<float>({.layer = {.num_hiddens = 8,
                                               .num_heads = 2,
                                               .feed_forward_size = 16,
                                               .activation = eh::Activation::gelu,
                                               .dropout = 0.1},
                                     .num_layers = 6,
                                     .final_norm = true});
  const std::string linear = "Linear(in_features=8, out_features=8, bias=True)\n";
  std::ostringstream norm_text;
  norm_text << eh::LayerNorm<float>({.size = 8}) << '\n';
  const std::string norm = norm_text.str();
  EXPECT_EQ(text.str(),
            "TransformerEncoder(\n"
            "  (layers): ModuleList(\n"
            "    (0-5): 6 x TransformerEncoderLayer(\n"
            "      (self_attention): MultiHeadAttention(\n"
            "        (attention): DotProductAttention(\n"
            "          (dropout): Dropout(p=0.1, inplace=False)\n"
            "        )\n"
            "        (W_q): " +
                linear + "        (W_k): " + linear + "        (W_v): " + linear +
                "        (W_o): " + linear +
                "      )\n"
                "      (norm1): " +
                norm +
                "      (feed_forward): FeedForward(\n"
                "        (up): Linear(in_features=8, out_features=16, bias=True)\n"
                "        (activation): GELU(approximate='none')\n"
                "        (down): Linear(in_features=16, out_features=8, bias=True)\n"
                "      )\n"
                "      (norm2): " +
                norm +
                "      (dropout): Dropout(p=0.1, inplace=False)\n"
                "    )\n"
                "  )\n"
                "  (norm): " +
                norm + ")");
  std::ostringstream decoder;
  decoder << TransformerDecoder<float>(rms_stack_of(true));
  EXPECT_EQ(decoder.str().substr(0, decoder.str().find("(self")),
            "TransformerDecoder(\n"
            "  (layers): ModuleList(\n"
            "    (0-2): 3 x TransformerDecoderLayer(\n"
            "      ");
  EXPECT_NE(decoder.str().find("(norm3): RMSNorm((24,), eps=1e-05, elementwise_affine=True)\n"),
            std::string::npos);
  EXPECT_NE(decoder.str().find("\n  (norm): RMSNorm((24,), eps=1e-05, elementwise_affine=True)\n)"),
            std::string::npos);
  EXPECT_NE(decoder.str().find("\n      (cross_attention): MultiHeadAttention(\n"),
            std::string::npos);
  EXPECT_NE(decoder.str().find("(W_k): Linear(in_features=15, out_features=24, bias=True)"),
            std::string::npos);
}

TEST(TransformerRotary, IsThatOfSelfAttentionAlone) {
  const TransformerDecoderLayer<float> decoder(options_of(true)), without(options_of(false));
  ASSERT_NE(decoder.self_attention.rotary(), nullptr);
  EXPECT_EQ(decoder.self_attention.rotary()->head_size(), 8);
  EXPECT_EQ(decoder.cross_attention.rotary(), nullptr);
  EXPECT_EQ(without.self_attention.rotary(), nullptr);
}

TYPED_TEST(Transformers, PartsThatAreAlikeDrawOtherWeightsAndNamesSayWhose) {
  using T = TypeParam;
  const TransformerEncoder<T> encoder(stack_of(false), 4);
  const auto values = values_of<T>(encoder);
  EXPECT_EQ(values.size(), 3u * 16u);
  EXPECT_EQ(values[0].first, "layers.0.self_attention.W_q.weight");
  EXPECT_EQ(values[16].first, "layers.1.self_attention.W_q.weight");
  EXPECT_NE(values[0].second, values[16].second);
  TransformerLayerOptions same_sizes = options_of(false);
  same_sizes.memory_size = 0;
  const TransformerDecoderLayer<T> decoder(same_sizes, 4);
  EXPECT_FALSE(
      same_bits(decoder.self_attention.W_q.weight(), decoder.cross_attention.W_q.weight()));
  const auto of_rms = values_of<T>(TransformerDecoder<T>(rms_stack_of(true), 4));
  EXPECT_EQ(of_rms.size(), 3u * (2 * 8 + 3 + 4) + 1u);  // norms without biases
  EXPECT_EQ(of_rms[22].first, "layers.0.norm3.weight");
  EXPECT_EQ(of_rms.back().first, "norm.weight");
  // A seed alone decides.
  expect_same_parameters<T>(TransformerEncoder<T>(stack_of(false), 4), encoder);
}

TYPED_TEST(Transformers, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  const auto layer = make<TransformerEncoderLayer<T>>(options_of(true, 0.1));
  const auto decoder = make<TransformerDecoderLayer<T>>(options_of(false));
  const auto x = random_tensor<T>(1, 2, 5, 24), memory = random_tensor<T>(2, 2, 4, 15);
  const auto narrow = random_tensor<T>(1, 2, 5, 23);
  EXPECT_EQ(refusal([&] { return layer(narrow); }),
            "eigenheads: x has shape [2, 5, 23]; expected [B, L, size] = [*, *, 24]");
  auto y = constant_tensor(T(3), 2, 5, 24);
  auto other = constant_tensor(T(3), 2, 4, 24);
  EXPECT_EQ(refusal([&] { return layer.forward_into(other, x), 0; }),
            "eigenheads: y has shape [2, 4, 24]; expected x's shape = [2, 5, 24]");
  EXPECT_NE(refusal([&] { return layer.forward_into(y, x, {.valid_lens = {5, 6}}), 0; }),
            "not refused");
  EXPECT_NE(refusal([&] {
              return decoder.forward_into(y, x, memory, {.memory = {.valid_lens = {5, 4}}}), 0;
            }),
            "not refused");
  EXPECT_EQ(refusal([&] { return decoder.forward_into(y, x, x), 0; }),
            "eigenheads: memory has shape [2, 5, 24]; expected [B, K, size] = [2, *, 15]");
  EXPECT_TRUE(all_are(y, T(3)));
  const TensorView<T, 2> rows(x.data(), {10, 24}), memories(memory.data(), {8, 15});
  EXPECT_EQ(refusal([&] { return layer(rows, Sequences{4, 5}); }),
            "eigenheads: x has 10 rows; expected 9, those of its 2 sequences");
  EXPECT_EQ(refusal([&] { return decoder(rows, Sequences{4, 6}, memories, Sequences{8}); }),
            "eigenheads: memory has 1 sequences; expected 2, as x has");

  auto of_one_size = stack_of(true);
  of_one_size.layer.memory_size = 0;
  const auto stack = make<TransformerDecoder<T>>(of_one_size);
  EXPECT_EQ(refusal([&] { return stack.forward_into(y, x, memory), 0; }),
            "eigenheads: memory has shape [2, 4, 15]; expected [B, K, size] = [2, *, 24]");
  EXPECT_EQ(refusal([&] { return stack.forward_into(y, x, TensorView<T, 3>(y)), 0; }),
            "eigenheads: y overlaps memory in memory");
  EXPECT_EQ(refusal([&] { return stack.forward_into(other, x, x), 0; }),
            "eigenheads: y has shape [2, 4, 24]; expected x's shape = [2, 5, 24]");
  EXPECT_TRUE(all_are(y, T(3)));
  typename TransformerDecoder<T>::Activations of_stack;
  EXPECT_EQ(refusal<std::logic_error>([&] { return stack.backward(x, of_stack); }),
            "eigenheads: TransformerDecoder: backward needs the activations of a forward call");
  EXPECT_EQ(refusal([&] { return TransformerDecoder<T>({.layer = options_of(false)}); }),
            "eigenheads: TransformerDecoder: num_layers is 0; expected 1 or more");

  typename TransformerEncoderLayer<T>::Activations saved;
  EXPECT_EQ(
      refusal<std::logic_error>([&] { return layer.backward(x, saved); }),
      "eigenheads: TransformerEncoderLayer: backward needs the activations of a forward call");
  EXPECT_EQ(refusal([&] { return layer.forward(x, {}, saved); }),
            "eigenheads: TransformerEncoderLayer: dropout is 0.1; expected a DropoutSeed, {.seed = "
            "...}, after the activations");
  (void)layer.forward(x, {}, saved, {.seed = DropoutSeed{}});
  EXPECT_EQ(refusal([&] { return layer.backward(rows, saved); }),
            "eigenheads: grad_y has shape [10, 24]; expected the padded rows of the forward call");
  EXPECT_EQ(refusal([&] { return layer.backward(narrow, saved); }),
            "eigenheads: grad_y has shape [2, 5, 23]; expected [B, L, num_hiddens] = [2, 5, 24]");

  auto options = options_of(false);
  options.feed_forward_size = 0;
  EXPECT_EQ(refusal([&] { return TransformerEncoderLayer<T>(options); }),
            "eigenheads: a transformer layer's feed_forward_size is 0; expected 1 or more");
  options = options_of(false);
  options.activation = static_cast<eh::Activation>(99);
  EXPECT_EQ(refusal([&] { return TransformerEncoderLayer<T>(options); }),
            "eigenheads: activation is number 99; expected one of 0 to 5");
  EXPECT_EQ(
      refusal([&] {
        return eh::FeedForward<T>({.size = 3, .hidden_size = 4, .activation = options.activation});
      }),
      "eigenheads: activation is number 99; expected one of 0 to 5");
  options = options_of(false);
  options.norm = static_cast<eh::NormKind>(2);
  EXPECT_EQ(refusal([&] { return TransformerDecoderLayer<T>(options); }),
            "eigenheads: norm is number 2; expected one of 0 to 1");
  EXPECT_EQ(refusal([&] { return TransformerEncoder<T>({.layer = options_of(false)}); }),
            "eigenheads: TransformerEncoder: num_layers is 0; expected 1 or more");
}

}  // namespace
