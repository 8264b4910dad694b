// SPDX-License-Identifier: MIT
// A layer of a transformer is its sublayers one after the other: a row has the same bits alone, in a
// batch, padded, packed and on any number of threads, and so has its gradient.
#include <atomic>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/nn/transformer_layer.hpp>
#include <eigenheads/sequences.hpp>

#include "counting.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::DecoderMask, eh::DropoutSeed, eh::Mask, eh::Sequences;
using eh::TransformerDecoderLayer, eh::TransformerEncoder, eh::TransformerEncoderLayer;
using eh::TransformerLayerOptions;

template <class T>
class Transformers : public testing::Test {};
TYPED_TEST_SUITE(Transformers, Scalars, ScalarNames);

// Every parameter is felt: a fresh module's biases are 0.
template <class Module>
void disturb(Module& module, std::uint64_t seed = 9) {
  Numbers numbers(seed);
  module.for_each_parameter([&](const auto& parameter) {
    parameter.update(
        [&](Index, auto value) { return value + numbers.symmetric<decltype(value)>() / 4; });
  });
}
template <class Module, class Options>
[[nodiscard]] Module make(const Options& options) {
  Module module(options, 3);
  disturb(module);
  return module;
}

[[nodiscard]] TransformerLayerOptions options_of(bool norm_first, double dropout = 0) {
  return {
      .num_hiddens = 24,
      .num_heads = 3,
      .feed_forward_size = 40,
      .activation = eh::Activation::gelu,
      .norm_first = norm_first,
      .dropout = dropout,
      .memory_size = 15,
      .rotary = norm_first ? std::optional(eh::RotaryOptions{.max_positions = 400}) : std::nullopt};
}
[[nodiscard]] eh::TransformerEncoderOptions encoder_of(bool norm_first, double dropout = 0) {
  return {.layer = options_of(norm_first, dropout), .num_layers = 3, .final_norm = norm_first};
}

// Every gradient of a module, one after the other, by name.
template <class T>
using Named = std::vector<std::pair<std::string, std::vector<T>>>;
template <class T, class Module>
[[nodiscard]] Named<T> values_of(const Module& module) {
  Named<T> values;
  module.for_each_parameter([&](const auto& parameter) {
    values.emplace_back(parameter.name(),
                        std::vector<T>(static_cast<std::size_t>(parameter.size())));
    parameter.copy_to(values.back().second);
  });
  return values;
}
template <class T, class Module>
void expect_same_parameters(const Module& a, const Module& b) {
  const auto x = values_of<T>(a), y = values_of<T>(b);
  ASSERT_EQ(x.size(), y.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(x[i].first, y[i].first);
    EXPECT_TRUE(same_bits(TensorView<T, 1>(x[i].second.data(), {std::ssize(x[i].second)}),
                          TensorView<T, 1>(y[i].second.data(), {std::ssize(y[i].second)})))
        << x[i].first;
  }
}

// [1, N, size] -> [N, size]
template <class T>
[[nodiscard]] TensorView<T, 2> as_rows(const Tensor<T, 3>& x) {
  EXPECT_EQ(x.dimension(0), 1);
  return {x.data(), {x.dimension(1), x.dimension(2)}};
}

// Rows of padding hold NaN.
template <class T>
[[nodiscard]] Tensor<T, 3> padded_with(T padding, const Tensor<T, 2>& packed,
                                       const Sequences& sequences) {
  Tensor<T, 3> padded = unpack(packed, sequences);
  for (Index b = 0; b < sequences.count(); ++b)
    for (Index row = sequences.length(b); row < sequences.longest(); ++row)
      for (Index i = 0; i < padded.dimension(2); ++i) padded(b, row, i) = padding;
  return padded;
}
[[nodiscard]] std::vector<Index> lens_of(const Sequences& sequences) {
  std::vector<Index> lens;
  for (Index b = 0; b < sequences.count(); ++b) lens.push_back(sequences.length(b));
  return lens;
}

void start_threads(Context& context) {
  std::atomic<int> here{0};
  context.parallel_for(context.threads(), [&](Index) {
    ++here;
    while (here < context.threads()) std::this_thread::yield();
  });
}

// ---- The same bits ------------------------------------------------------------------------------

const Sequences kSequences{5, 0, 131, 1, 300};
const Sequences kMemories{7, 3, 0, 260, 12};

TYPED_TEST(Transformers, AnEncodersRowsAreTheSamePaddedPackedAloneAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    const auto encoder = make<TransformerEncoder<T>>(encoder_of(norm_first));
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
  }
}

TYPED_TEST(Transformers, ADecodersRowsAreTheSamePaddedPackedAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    const auto layer = make<TransformerDecoderLayer<T>>(options_of(norm_first));
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
  }
}

TYPED_TEST(Transformers, TheOutputMayBeTheInput) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    const auto x = random_tensor<T>(1, 2, 7, 24), memory = random_tensor<T>(2, 2, 5, 15);
    const auto encoder = make<TransformerEncoder<T>>(encoder_of(norm_first));
    auto y = x;
    encoder.forward_into(y, y);
    EXPECT_TRUE(same_bits(y, encoder(x)));
    const auto decoder = make<TransformerDecoderLayer<T>>(options_of(norm_first));
    y = x;
    decoder.forward_into(y, y, memory);
    EXPECT_TRUE(same_bits(y, decoder(x, memory)));
  }
}

// No sequence, sequences without rows, and a memory without any.
TYPED_TEST(Transformers, NothingIsANumberOfRows) {
  using T = TypeParam;
  for (const bool norm_first : {false, true}) {
    const auto encoder = make<TransformerEncoder<T>>(encoder_of(norm_first, 0.25));
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
      typename TransformerDecoderLayer<T>::Activations kept;
      EXPECT_TRUE(same_bits(decoder(x, memory), x));
      EXPECT_TRUE(same_bits(decoder.forward(x, memory, {}, kept, {.seed = DropoutSeed{}}), x));
      EXPECT_TRUE(same_bits(decoder.backward(x, kept).memory, memory));
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
      const auto encoder = make<TransformerEncoder<T>>(encoder_of(norm_first, dropout));
      const auto x = random_tensor<T>(1, kSequences.rows(), 24);
      const auto grad_y = random_tensor<T>(2, kSequences.rows(), 24);
      typename TransformerEncoder<T>::Activations saved;
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
    }
}

TYPED_TEST(Transformers, TrainingADecoderIsTheSamePaddedPackedAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const bool norm_first : {false, true})
    for (const double dropout : {0.0, 0.25}) {
      const auto layer = make<TransformerDecoderLayer<T>>(options_of(norm_first, dropout));
      const auto x = random_tensor<T>(1, kSequences.rows(), 24);
      const auto memory = random_tensor<T>(3, kMemories.rows(), 15);
      const auto grad_y = random_tensor<T>(2, kSequences.rows(), 24);
      typename TransformerDecoderLayer<T>::Activations saved;
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
    }
}

// ---- Gradients ----------------------------------------------------------------------------------

// Along a direction in all inputs and parameters at once, with dropout.
template <class Module, class Forward, class Gradients, class Inputs>
void expect_slope(Module& module, const Inputs& inputs, const Forward& forward,
                  const Gradients& gradients,
                  const std::vector<const Tensor<double, 3>*>& input_gradients) {
  constexpr double step = 1e-6;
  double slope = 0;
  Numbers numbers(21);
  std::vector<std::vector<double>> directions;
  const auto direction = [&](const double* gradient, Index size) {
    auto& values = directions.emplace_back();
    for (Index i = 0; i < size; ++i) {
      values.push_back(numbers.symmetric<double>());
      slope += values.back() * gradient[i];
    }
  };
  for (const auto* gradient : input_gradients) direction(gradient->data(), gradient->size());
  for (const auto& [name, values] : values_of<double>(gradients))
    direction(values.data(), std::ssize(values));
  const auto move = [&](double by) {
    std::size_t next = 0;
    for (auto* input : inputs) {
      const auto& values = directions[next++];
      for (Index i = 0; i < input->size(); ++i)
        input->data()[i] += by * values[static_cast<std::size_t>(i)];
    }
    module.for_each_parameter([&](const auto& parameter) {
      const auto& values = directions[next++];
      parameter.update(
          [&](Index i, double value) { return value + by * values[static_cast<std::size_t>(i)]; });
    });
    EXPECT_EQ(next, directions.size());
  };
  move(step);
  const double ahead = forward();
  move(-2 * step);
  const double behind = forward();
  move(step);
  EXPECT_NEAR((ahead - behind) / (2 * step), slope, 1e-6 * (1 + std::abs(slope)));
}

[[nodiscard]] double dot(const Tensor<double, 3>& a, const Tensor<double, 3>& b) {
  return std::inner_product(a.data(), a.data() + a.size(), b.data(), 0.0);
}

TEST(TransformerGradient, IsTheCentralDifference) {
  for (const bool norm_first : {false, true})
    for (const bool gated : {false, true}) {
      auto options = encoder_of(norm_first, 0.3);
      options.layer.gated = gated;
      auto encoder = make<TransformerEncoder<double>>(options);
      auto x = random_tensor<double>(1, 2, 5, 24), memory = random_tensor<double>(2, 2, 4, 15);
      const auto grad_y = random_tensor<double>(3, 2, 5, 24);
      const Mask mask{.valid_lens = {5, 3}};
      TransformerEncoder<double>::Activations saved;
      const auto encode = [&] {
        return dot(encoder.forward(x, mask, saved, {.seed = DropoutSeed{1}}), grad_y);
      };
      (void)encode();
      const auto of_encoder = encoder.backward(grad_y, saved);
      expect_slope(encoder, std::vector{&x}, encode, of_encoder, {&of_encoder.x});

      auto decoder = make<TransformerDecoderLayer<double>>(options.layer);
      TransformerDecoderLayer<double>::Activations decoder_saved;
      const auto decode = [&] {
        return dot(decoder.forward(x, memory, {}, decoder_saved, {.seed = DropoutSeed{1}}), grad_y);
      };
      (void)decode();
      const auto of_decoder = decoder.backward(grad_y, decoder_saved);
      expect_slope(decoder, std::vector{&x, &memory}, decode, of_decoder,
                   {&of_decoder.x, &of_decoder.memory});
    }
}

// Those of the parameters alone: batches may have any shapes.
TYPED_TEST(Transformers, GradientsMayBeAddedUp) {
  using T = TypeParam;
  const auto encoder = make<TransformerEncoder<T>>(encoder_of(true));
  const auto decoder = make<TransformerDecoderLayer<T>>(options_of(false));
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

  typename TransformerDecoderLayer<T>::Activations decoder_saved;
  (void)decoder.forward(x, memory, {}, decoder_saved);
  auto of_decoder = decoder.backward(x, decoder_saved);
  const auto decoder_first = values_of<T>(of_decoder);
  (void)decoder.forward(more_x, more_memory, {}, decoder_saved);
  const auto decoder_alone = decoder.backward(more_x, decoder_saved);
  decoder.backward_into(of_decoder, more_x, decoder_saved, true);
  EXPECT_TRUE(same_bits(of_decoder.x, decoder_alone.x));
  EXPECT_TRUE(same_bits(of_decoder.memory, decoder_alone.memory));
  expect_sums(decoder_first, values_of<T>(decoder_alone), values_of<T>(of_decoder));
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
      const auto encoder = make<TransformerEncoder<T>>(encoder_of(norm_first));
      const auto decoder = make<TransformerDecoderLayer<T>>(options_of(norm_first));
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
  decoder << TransformerDecoderLayer<float>(options_of(false));
  EXPECT_NE(decoder.str().find("\n  (cross_attention): MultiHeadAttention(\n"), std::string::npos);
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
  const TransformerEncoder<T> encoder(encoder_of(false), 4);
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
  // A seed alone decides.
  expect_same_parameters<T>(TransformerEncoder<T>(encoder_of(false), 4), encoder);
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
  EXPECT_EQ(refusal([&] { return TransformerEncoder<T>({.layer = options_of(false)}); }),
            "eigenheads: TransformerEncoder: num_layers is 0; expected 1 or more");
}

}  // namespace
