// SPDX-License-Identifier: MIT
// Models of other libraries, read from the files that those wrote: they compute what those compute in
// float64 (tests/golden/make_checkpoints_golden.py), and are written as they were read.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <eigenheads/io/checkpoints.hpp>
#include <eigenheads/io/model_config.hpp>
#include <eigenheads/linear.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/layer_norm.hpp>
#include <eigenheads/nn/positional_encoding.hpp>
#include <eigenheads/nn/transformer_decoder.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/rotary.hpp>
#include <eigenheads/score.hpp>

#include "../support.hpp"
#include "io/support.hpp"

namespace {

using namespace support;
namespace families = eh::checkpoint_families;
using eh::CheckpointFamily, eh::CheckpointOptions, eh::CheckpointReport, eh::ModuleParts,
    eh::Safetensors, eh::SafetensorsFiles;
using namespace std::string_literals;

[[nodiscard]] std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests" / "golden" / "checkpoints" / name;
}

// What a case's library was given, and what it gave.
struct Expected {
  explicit Expected(const std::string& name) : files(golden(name) / "expected.safetensors") {}
  [[nodiscard]] Tensor<Index, 2> ids() const {
    return files.tensor<std::int64_t, 2>("ids").cast<Index>();
  }
  [[nodiscard]] Index length(Index b) const {
    return static_cast<Index>(files.tensor<std::int64_t, 1>("lens")(b));
  }
  [[nodiscard]] Tensor<double, 3> tensor(const char* name) const {
    return files.tensor<double, 3>(name);
  }
  [[nodiscard]] eh::Mask mask() const {
    if (!files.contains("lens")) return {.causal = eh::Causal::top_left};
    const auto lens = files.tensor<std::int64_t, 1>("lens");
    return {.valid_lens = std::vector<Index>(lens.data(), lens.data() + lens.size())};
  }
  // Of rows that are not padding.
  void expect(const Tensor<double, 3>& got, const char* name, double bound = 1e-12) const {
    const auto expected = tensor(name);
    ASSERT_EQ(got.dimensions(), expected.dimensions());
    for (Index b = 0; b < got.dimension(0); ++b) {
      const Index count = files.contains("lens") ? length(b) : got.dimension(1);
      for (Index i = 0; i < count; ++i)
        for (Index e = 0; e < got.dimension(2); ++e)
          ASSERT_NEAR(got(b, i, e), expected(b, i, e), bound) << name << ", " << b << ", " << i;
    }
  }
  SafetensorsFiles files;
};

// A model of a family, whole: what its config.json says.
struct Model {
  explicit Model(const eh::ModelConfig& of)
      : config(of),
        tokens({.num_embeddings = of.vocab_size, .embedding_dim = of.encoder.layer.num_hiddens}),
        encoder(of.encoder) {
    const Index E = of.encoder.layer.num_hiddens;
    if (of.num_positions > 0) positions.emplace(eh::EmbeddingOptions{of.num_positions, E});
    if (of.num_types > 0) types.emplace(eh::EmbeddingOptions{of.num_types, E});
    if (of.relative_buckets > 0)
      relative.emplace(eh::EmbeddingOptions{of.relative_buckets, of.encoder.layer.num_heads});
    if (of.embedding_norm)
      norm.emplace(eh::LayerNormOptions{.size = E, .eps = of.embedding_norm_eps});
  }
  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& visit, const std::string& prefix) {
    self.tokens.for_each_parameter(visit, prefix + "token_embedding.");
    if (self.positions) self.positions->for_each_parameter(visit, prefix + "position_embedding.");
    if (self.types) self.types->for_each_parameter(visit, prefix + "type_embedding.");
    if (self.norm) self.norm->for_each_parameter(visit, prefix + "embedding_norm.");
    if (self.relative)
      self.relative->for_each_parameter(visit, prefix + "relative_attention_bias.");
    self.encoder.for_each_parameter(visit, prefix + "encoder.");
    if (self.pooler) self.pooler->for_each_parameter(visit, prefix + "pooler.");
    if (self.head) self.head->for_each_parameter(visit, prefix + "lm_head.");
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visitor, std::string_view prefix = "") {
    visit(*this, visitor, std::string(prefix));
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visitor, std::string_view prefix = "") const {
    visit(*this, visitor, std::string(prefix));
  }

  // [B, L] -> [B, L, E]
  [[nodiscard]] Tensor<double, 3> run(const Tensor<Index, 2>& ids, eh::Mask mask) const {
    Tensor<double, 3> x = tokens(ids);
    const Index L = ids.dimension(1), E = x.dimension(2);
    for (Index b = 0; b < ids.dimension(0); ++b)
      for (Index i = 0; i < L; ++i)
        for (Index e = 0; e < E; ++e) {
          if (positions) x(b, i, e) += positions->weight()(config.first_position + i, e);
          if (types) x(b, i, e) += types->weight()(0, e);
        }
    if (norm) x = (*norm)(x);
    if (config.is_causal) mask.causal = eh::Causal::top_left;
    if (!relative) return encoder(x, mask);
    // As T5 does: half of the buckets for each side, exact for the first eight.
    const Index H = config.encoder.layer.num_heads;
    Tensor<double, 4> bias(1, H, L, L);
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < L; ++q)
        for (Index k = 0; k < L; ++k)
          bias(0, h, q, k) = relative->weight()((k > q ? 16 : 0) + std::abs(k - q), h);
    const eh::ScoreBias<double> score(bias);
    return encoder(x, mask, {.score = score});
  }
  [[nodiscard]] Tensor<double, 3> logits(const Tensor<Index, 2>& ids) const {
    const Tensor<double, 3> y = run(ids, {});
    if (head) return (*head)(y);
    eh::Linear<double> tied({tokens.embedding_dim(), tokens.num_embeddings()});
    tied.set_weight(tokens.weight());
    return tied(y);
  }

  eh::ModelConfig config;
  eh::Embedding<double> tokens;
  std::optional<eh::Embedding<double>> positions, types, relative;
  std::optional<eh::LayerNorm<double>> norm;
  eh::TransformerEncoder<double> encoder;
  std::optional<eh::Linear<double>> pooler, head;
};

class Checkpoint : public UniqueFolder {
 protected:
  [[nodiscard]] static Model make(const std::string& name) {
    return Model(eh::read_model_config(golden(name)));
  }
  static CheckpointReport load(Model& model, const std::string& name,
                               const CheckpointOptions& options = {}) {
    return eh::load_checkpoint(SafetensorsFiles(golden(name)), *model.config.family, "", model,
                               options);
  }
  [[nodiscard]] static Model loaded(const std::string& name) {
    Model model = make(name);
    load(model, name);
    return model;
  }
  template <class Module>
  [[nodiscard]] static std::vector<double> numbers_of(const Module& module) {
    std::vector<double> all;
    module.for_each_parameter([&](const auto& parameter) {
      std::vector<double> values(static_cast<std::size_t>(parameter.size()));
      parameter.copy_to(values);
      all.insert(all.end(), values.begin(), values.end());
    });
    return all;
  }
  // A file that holds what the case's does but for what is changed; all are made floats.
  template <class Change>
  [[nodiscard]] SafetensorsFiles changed(const std::string& name, const Change& change) const {
    const SafetensorsFiles files(golden(name));
    Safetensors contents;
    for (const std::string& tensor : files.names()) {
      const std::string now = change(contents, tensor);
      if (!now.empty()) copy(files, tensor, contents, now);
    }
    eh::write_safetensors(file(), contents);
    return SafetensorsFiles(file());
  }
  static void copy(const SafetensorsFiles& from, const std::string& name, Safetensors& to,
                   const std::string& now) {
    if (from.shape(name).size() == 1) to.add(now, from.tensor<float, 1>(name));
    if (from.shape(name).size() == 2) to.add(now, from.tensor<float, 2>(name));
    if (from.shape(name).size() == 3) to.add(now, from.tensor<float, 3>(name));
  }
  [[nodiscard]] std::filesystem::path file() const { return folder_ / "model.safetensors"; }
  // What loading is refused with; nothing may have changed.
  template <class Module>
  [[nodiscard]] std::string refused(const SafetensorsFiles& files, const CheckpointFamily& family,
                                    Module& module, const std::string& name = "",
                                    const CheckpointOptions& options = {}) const {
    const auto before = numbers_of(module);
    const std::string sentence = file_refusal(
        files.path(), [&] { eh::load_checkpoint(files, family, name, module, options); });
    EXPECT_EQ(numbers_of(module), before);
    return sentence;
  }
  // Saved in the family's names and read again, it has the same numbers; and what is written are the
  // tensors of the case's file, to the bit: PyTorch and the others read those.
  template <class Module>
  void expect_round_trip(const std::string& name, const CheckpointFamily& family,
                         const Module& module, Module other,
                         const CheckpointOptions& options = {}) const {
    eh::save_checkpoint(file(), family, "", module, options);
    eh::load_checkpoint(SafetensorsFiles(file()), family, "", other, options);
    EXPECT_EQ(numbers_of(other), numbers_of(module));
    const SafetensorsFiles theirs(golden(name));
    auto ours = expect_written_as(theirs), names = theirs.names();
    std::ranges::sort(ours);
    std::ranges::sort(names);
    EXPECT_EQ(ours, names);
  }
  // What was saved are tensors of that file, to the bit. Returns their names.
  [[nodiscard]] std::vector<std::string> expect_written_as(const SafetensorsFiles& theirs) const {
    const SafetensorsFiles written(file());
    EXPECT_EQ(written.metadata().at("format"), "pt");
    for (const std::string& tensor : written.names()) {
      EXPECT_EQ(written.shape(tensor), theirs.shape(tensor)) << tensor;
      Index size = 1;
      for (const Index n : theirs.shape(tensor)) size *= n;
      std::vector<double> a(static_cast<std::size_t>(size)), b(a.size());
      written.read(tensor, 0, std::span(a));
      theirs.read(tensor, 0, std::span(b));
      EXPECT_EQ(a, b) << tensor;
    }
    return written.names();
  }
  void expect_round_trip(const std::string& name, const Model& model) const {
    expect_round_trip(name, *model.config.family, model, make(name));
  }
};

// ---- Each family, by what it computes -------------------------------------------------------------

TEST_F(Checkpoint, OfBertComputesWhatTransformersComputes) {
  Model model = make("bert");
  model.pooler.emplace(eh::LinearOptions{8, 8, true});
  const CheckpointReport report = load(model, "bert");
  EXPECT_EQ(report.loaded.size(), 39u);
  EXPECT_TRUE(report.unused.empty() && report.zero.empty() && report.others.empty());
  const Expected expected("bert");
  const auto y = model.run(expected.ids(), expected.mask());
  expected.expect(y, "output");
  const auto pooled = expected.files.tensor<double, 2>("pooled");
  const auto z = (*model.pooler)(y);
  for (Index b = 0; b < 2; ++b)
    for (Index e = 0; e < 8; ++e) EXPECT_NEAR(std::tanh(z(b, 0, e)), pooled(b, e), 1e-12);
  Model other = make("bert");
  other.pooler.emplace(eh::LinearOptions{8, 8, true});
  expect_round_trip("bert", families::bert, model, other);
}

TEST_F(Checkpoint, OfBertMayLeaveThePoolerAndSaysSo) {
  Model model = make("bert");
  const CheckpointReport report = load(model, "bert");
  EXPECT_EQ(report.unused, (std::vector<std::string>{"pooler.dense.bias", "pooler.dense.weight"}));
  std::ostringstream text;
  text << report;
  EXPECT_EQ(text.str(),
            "BERT: 37 parameters loaded\n"
            "  2 tensors not used: pooler.dense.bias, pooler.dense.weight");
}

TEST_F(Checkpoint, OfRobertaComputesWhatTransformersComputes) {
  const Model model = loaded("roberta");
  const Expected expected("roberta");
  expected.expect(model.run(expected.ids(), expected.mask()), "output");
  // All but the head that it was trained with.
  eh::save_checkpoint(file(), families::bert, "", model, {.prefix = "roberta."});
  EXPECT_EQ(expect_written_as(SafetensorsFiles(golden("roberta"))).size(), 37u);
  Model other = make("roberta");
  eh::load_checkpoint(SafetensorsFiles(file()), families::bert, "", other);
  EXPECT_EQ(numbers_of(other), numbers_of(model));
}

TEST_F(Checkpoint, OfDistilBertComputesWhatTransformersComputes) {
  const Model model = loaded("distilbert");
  const Expected expected("distilbert");
  expected.expect(model.run(expected.ids(), expected.mask()), "output");
  expect_round_trip("distilbert", model);
}

TEST_F(Checkpoint, OfMpnetComputesWhatTransformersComputesWithAScoreBias) {
  const auto make_with_pooler = [] {
    Model model = make("mpnet");
    model.pooler.emplace(eh::LinearOptions{8, 8, true});
    return model;
  };
  Model model = make_with_pooler();
  load(model, "mpnet");
  const Expected expected("mpnet");
  expected.expect(model.run(expected.ids(), expected.mask()), "output");
  expect_round_trip("mpnet", families::mpnet, model, make_with_pooler());
  // Without a place for the bias it would compute something else.
  model.relative.reset();
  EXPECT_EQ(refused(SafetensorsFiles(golden("mpnet")), families::mpnet, model),
            "as a file of MPNet, it has 1 tensors that are none of the modules' parameters: "
            "encoder.relative_attention_bias.weight");
}

TEST_F(Checkpoint, OfGpt2ComputesWhatTransformersComputes) {
  const Model model = loaded("gpt2");
  const Expected expected("gpt2");
  expected.expect(model.logits(expected.ids()), "logits");
  expect_round_trip("gpt2", model);
}

// In three files, with an index. The library takes norms and angles in float32.
TEST_F(Checkpoint, OfLlamaComputesWhatTransformersComputes) {
  Model model = make("llama");
  model.head.emplace(eh::LinearOptions{8, 11});
  const CheckpointReport report = load(model, "llama");
  EXPECT_TRUE(report.zero.empty());
  const Expected expected("llama");
  expected.expect(model.logits(expected.ids()), "logits", 5e-6);
  Model other = make("llama");
  other.head.emplace(eh::LinearOptions{8, 11});
  expect_round_trip("llama", families::llama, model, other);
}

TEST_F(Checkpoint, OfQwen2ComputesWhatTransformersComputesWithBiasesOfZero) {
  Model model = make("qwen2");
  const CheckpointReport report = load(model, "qwen2");
  EXPECT_EQ(report.zero.size(), 8u);  // of W_o, gate, up and down in both layers
  const Expected expected("qwen2");
  expected.expect(model.logits(expected.ids()), "logits", 5e-6);
  expect_round_trip("qwen2", model);
  Tensor<double, 1> bias(8);
  bias.setZero();
  bias(3) = 1;
  model.encoder.layers[1].self_attention.W_o.set_bias(bias);
  EXPECT_EQ(refusal([&] { eh::save_checkpoint(file(), families::qwen2, "", model); }),
            "eigenheads: save_checkpoint: encoder.layers.1.self_attention.W_o.bias is not 0, and a "
            "Qwen2 has no such bias");
}

TEST_F(Checkpoint, OfTorchsAttentionComputesWhatItComputes) {
  for (const bool is_packed : {true, false}) {
    const std::string name = is_packed ? "torch_attention" : "torch_attention_separate";
    eh::MultiHeadAttentionOptions options{.num_hiddens = 8,
                                          .num_heads = 2,
                                          .bias = true,
                                          .query_size = 8,
                                          .key_size = is_packed ? 8 : 5,
                                          .value_size = is_packed ? 8 : 7};
    eh::MultiHeadAttention<double> layer(options);
    const auto report =
        eh::load_checkpoint(SafetensorsFiles(golden(name)), families::torch_attention, "", layer);
    EXPECT_EQ(report.loaded[2].tensor, is_packed ? "in_proj_weight" : "k_proj_weight");
    EXPECT_EQ(report.loaded[3].how, "part 2 of 3, from F32");
    const Expected expected(name);
    const auto input = [&](const char* which) { return expected.files.tensor<double, 3>(which); };
    expected.expect(layer(input("x"), input("keys"), input("values"), expected.mask()), "output");
    expect_round_trip(name, families::torch_attention, layer,
                      eh::MultiHeadAttention<double>(options, 1));
  }
}

TEST_F(Checkpoint, OfTorchsEncoderComputesWhatItComputes) {
  const eh::TransformerEncoderOptions options{.layer = {.num_hiddens = 8,
                                                        .num_heads = 2,
                                                        .feed_forward_size = 12,
                                                        .activation = eh::Activation::gelu,
                                                        .norm_first = true},
                                              .num_layers = 2,
                                              .final_norm = true};
  eh::TransformerEncoder<double> encoder(options);
  const SafetensorsFiles files(golden("torch_encoder"));
  eh::load_checkpoint(files, families::torch_transformer, "", encoder);
  const Expected expected("torch_encoder");
  expected.expect(encoder(expected.files.tensor<double, 3>("x"), expected.mask()), "output");
  expect_round_trip("torch_encoder", families::torch_transformer, encoder,
                    eh::TransformerEncoder<double>(options, 1));
  // A layer of it, alone.
  eh::TransformerEncoderLayer<double> layer(options.layer);
  const auto report = eh::load_checkpoint(files, families::torch_transformer, "layers.1.", layer);
  EXPECT_EQ(report.others.size(), 14u);
  EXPECT_EQ(numbers_of(layer), numbers_of(encoder.layers[1]));
}

// What it computes, nn/transformer_golden_test.cpp shows.
TEST_F(Checkpoint, OfTorchsDecoderHasItsAttentionToAMemory) {
  const eh::TransformerDecoderOptions options{
      .layer = {.num_hiddens = 12, .num_heads = 3, .feed_forward_size = 20},
      .num_layers = 2,
      .final_norm = true};
  const SafetensorsFiles golden_files(std::filesystem::path(EIGENHEADS_SOURCE_DIR) /
                                      "tests/golden/transformer/decoder_stack.safetensors");
  Safetensors contents;
  for (const std::string& name : golden_files.names())  // parameters have gradients beside them
    if (golden_files.contains("grad_" + name) && (name[0] == 'l' || name[0] == 'n'))
      copy(golden_files, name, contents, name);
  const auto path = folder_ / "decoder.safetensors";
  eh::write_safetensors(path, contents);
  eh::TransformerDecoder<double> decoder(options), other(options, 1);
  eh::load_checkpoint(SafetensorsFiles(path), families::torch_transformer, "", decoder);
  const auto weight = contents.tensor<float, 2>("layers.1.multihead_attn.in_proj_weight", {36, 12});
  const auto values = decoder.layers[1].cross_attention.W_v.weight();
  for (Index r = 0; r < 12; ++r)
    for (Index k = 0; k < 12; ++k) ASSERT_EQ(values(r, k), weight(24 + r, k));
  eh::save_checkpoint(file(), families::torch_transformer, "", decoder);
  EXPECT_EQ(expect_written_as(SafetensorsFiles(path)).size(), contents.names().size());
  eh::load_checkpoint(SafetensorsFiles(file()), families::torch_transformer, "", other);
  EXPECT_EQ(numbers_of(other), numbers_of(decoder));
}

TEST_F(Checkpoint, OfKerassAttentionComputesWhatItComputes) {
  const eh::MultiHeadAttentionOptions options{.num_hiddens = 8,
                                              .num_heads = 2,
                                              .bias = true,
                                              .query_size = 8,
                                              .key_size = 8,
                                              .value_size = 8,
                                              .head_size = 3};
  eh::MultiHeadAttention<double> layer(options);
  const CheckpointOptions prefix{.prefix = "attention/"};
  const SafetensorsFiles files(golden("keras_attention"));
  eh::load_checkpoint(files, families::keras_attention, "", layer, prefix);
  const Expected expected("keras_attention");
  const auto x = expected.files.tensor<double, 3>("x");
  expected.expect(layer(x, x, x, expected.mask()), "output", 1e-6);  // some of it is in float32
  expect_round_trip("keras_attention", families::keras_attention, layer,
                    eh::MultiHeadAttention<double>(options, 1), prefix);
  // As many numbers, in other heads.
  auto others = options;
  others.num_heads = 3;
  others.head_size = 2;
  eh::MultiHeadAttention<double> other(others);
  EXPECT_EQ(refused(files, families::keras_attention, other, "", prefix),
            "tensor \"attention/query/kernel\" is F32 [8, 2, 3]; expected [8, 3, 2], for the "
            "module's W_q.weight [6, 8]");
}

// Numbers that are no whole heads once made a kernel of fewer numbers than the weight.
TEST_F(Checkpoint, OfHeadsThatThereCannotBeIsRefusedInBothDirections) {
  eh::Linear<double> linear({.in_features = 4, .out_features = 6, .bias = true});
  const auto saved = [&](const std::string& name, const eh::HeadsLayout& heads,
                         const CheckpointFamily& family = families::keras_attention) {
    const std::string sentence =
        refusal([&] { eh::save_checkpoint(file(), family, name, linear, {.heads = heads}); });
    EXPECT_FALSE(std::filesystem::exists(file()));
    return sentence;
  };
  EXPECT_EQ(saved("W_q.", {}),
            "eigenheads: save_checkpoint: W_q.weight lies by heads; expected "
            "CheckpointOptions::heads, which says their size");
  EXPECT_EQ(saved("W_q.", {.head_size = 4}),
            "eigenheads: save_checkpoint: W_q.weight has shape [6, 4]; expected heads of 4");
  EXPECT_EQ(saved("W_o.", {.head_size = 3}),
            "eigenheads: save_checkpoint: W_o.weight has shape [6, 4]; expected heads of 3");
  EXPECT_EQ(saved("W_q.", {.head_size = -1}),
            "eigenheads: CheckpointOptions::heads: head_size is -1; expected 1 or more, or 0 to "
            "ask the modules");
  EXPECT_EQ(saved("W_q.", {.rotary = eh::RotaryOptions{}}),
            "eigenheads: CheckpointOptions::heads: head_size is 0; expected 1 or more, beside a "
            "rotary");
  for (const Index rotated : {-2, 1, 3, 4, 0})
    EXPECT_EQ(saved("W_q.", {.head_size = 3, .rotary = eh::RotaryOptions{.rotated = rotated}}),
              "eigenheads: CheckpointOptions::heads: rotated is " +
                  std::to_string(rotated == 0 ? 3 : rotated) +
                  "; expected an even number, 2 to head_size, which is 3");
  const eh::HeadsLayout other_layout{
      .head_size = 4, .rotary = eh::RotaryOptions{.layout = eh::RotaryLayout::interleaved}};
  const std::string name = "encoder.layers.0.self_attention.W_q.";
  EXPECT_EQ(
      saved(name, other_layout, families::llama),
      "eigenheads: save_checkpoint: " + name + "weight has shape [6, 4]; expected heads of 4");

  const auto loaded = [&](const Tensor<float, 3>& kernel, const eh::HeadsLayout& heads) {
    Safetensors contents;
    contents.add("query/kernel", kernel);
    contents.add("query/bias", random_tensor<float>(2, 2, 3));
    eh::write_safetensors(file(), contents);
    return refused(SafetensorsFiles(file()), families::keras_attention, linear, "W_q.",
                   {.heads = heads});
  };
  EXPECT_EQ(loaded(random_tensor<float>(1, 4, 2, 3), {}),
            "tensor \"query/kernel\" lies by heads; expected CheckpointOptions::heads, which says "
            "their size");
  EXPECT_EQ(loaded(random_tensor<float>(1, 4, 1, 4), {.head_size = 4}),
            "parameter W_q.weight has shape [6, 4]; expected heads of 4");
  EXPECT_THROW(loaded(random_tensor<float>(1, 4, 2, 3), {.head_size = -3}), std::invalid_argument);
  eh::load_checkpoint(SafetensorsFiles(file()), families::keras_attention, "W_q.", linear,
                      {.heads = {.head_size = 3}});
  EXPECT_EQ(linear.weight()(5, 0), random_tensor<float>(1, 4, 2, 3)(0, 1, 2));
  Safetensors llama;
  llama.add("model.layers.0.self_attn.q_proj.weight", random_tensor<float>(1, 6, 4));
  llama.add("model.layers.0.self_attn.q_proj.bias", random_tensor<float>(2, 6));
  eh::write_safetensors(file(), llama);
  EXPECT_EQ(
      refused(SafetensorsFiles(file()), families::llama, linear, name, {.heads = other_layout}),
      "parameter " + name + "weight has shape [6, 4]; expected heads of 4");
}

// What the options say of heads beside a module that says it too is that, or refused.
TEST_F(Checkpoint, OfHeadsThatAreNotTheModulesIsRefused) {
  Model llama = make("llama");  // heads of 6
  llama.head.emplace(eh::LinearOptions{8, 11});
  load(llama, "llama");
  const auto saved = [&](const eh::HeadsLayout& heads, const Model& model) {
    return refusal(
        [&] { eh::save_checkpoint(file(), families::llama, "", model, {.heads = heads}); });
  };
  const std::string start = "eigenheads: CheckpointOptions::heads: ";
  const eh::RotaryOptions interleaved{.layout = eh::RotaryLayout::interleaved};
  EXPECT_EQ(saved({.head_size = 3}, llama),
            start + "head_size is 3; expected 6, as the module says");
  for (const auto& rotary : {std::optional<eh::RotaryOptions>(), std::optional(interleaved),
                             std::optional(eh::RotaryOptions{.rotated = 4})})
    EXPECT_EQ(saved({.head_size = 6, .rotary = rotary}, llama),
              start + "rotary is not the module's; expected that, or no heads");
  EXPECT_FALSE(std::filesystem::exists(file()));
  expect_round_trip("llama", families::llama, llama, llama,
                    {.heads = {.head_size = 6, .rotary = eh::RotaryOptions{.rotated = 6}}});
  EXPECT_EQ(refusal([&] { load(llama, "llama", {.heads = {.head_size = 3}}); }),
            start + "head_size is 3; expected 6, as the module says");
}

// Of several modules each has its own heads, and one that cannot be asked must be told.
TEST_F(Checkpoint, OfSeveralModulesAsksEachForItsHeads) {
  Model whole = make("llama"), model = make("llama");
  whole.head.emplace(eh::LinearOptions{8, 11});
  load(whole, "llama");
  auto config = eh::read_model_config(golden("llama"));
  config.encoder.layer.rotary->layout = eh::RotaryLayout::interleaved;
  Model turned(config);
  const std::string layers = "encoder.layers.";
  ModuleParts parts;
  parts.add(layers + "0.", model.encoder.layers[0]).add(layers + "1.", turned.encoder.layers[1]);
  const SafetensorsFiles files(golden("llama"));
  eh::load_checkpoint(files, families::llama, parts);
  EXPECT_EQ(numbers_of(model.encoder.layers[0]), numbers_of(whole.encoder.layers[0]));
  const auto x = random_tensor<double>(1, 2, 5, 8);
  const eh::Mask causal{.causal = eh::Causal::top_left};
  const auto y = turned.encoder.layers[1](x, causal), expected = whole.encoder.layers[1](x, causal);
  for (Index i = 0; i < y.size(); ++i) ASSERT_NEAR(y.data()[i], expected.data()[i], 1e-12);
  eh::save_checkpoint(file(), families::llama,
                      eh::ConstModuleParts()
                          .add(layers + "0.", model.encoder.layers[0])
                          .add(layers + "1.", turned.encoder.layers[1]));
  EXPECT_EQ(expect_written_as(files).size(), 18u);

  eh::Linear<double> W_q({8, 12});
  const std::string name = layers + "0.self_attention.W_q.";
  EXPECT_EQ(refused(files, families::llama, W_q, name),
            "tensor \"model.layers.0.self_attn.q_proj.weight\" has rows of heads, which a rotary "
            "may turn; expected CheckpointOptions::heads, which says their size and, if there is "
            "one, the rotary");
  eh::load_checkpoint(files, families::llama, name, W_q, {.heads = {.head_size = 6}});
  EXPECT_TRUE(same_bits(W_q.weight(), whole.encoder.layers[0].self_attention.W_q.weight()));
}

// It stands beside the model that the prefix is of.
TEST_F(Checkpoint, ALanguageModelsHeadNeedsNoPrefix) {
  const auto own = random_tensor<float>(1, 11, 8);
  const SafetensorsFiles files =
      changed("gpt2", [&](Safetensors& contents, const std::string& name) {
        if (!contents.contains("lm_head.weight")) contents.add("lm_head.weight", own);
        return name;
      });
  Model model = make("gpt2"), other = make("gpt2");
  model.head.emplace(eh::LinearOptions{8, 11});
  other.head = model.head;
  const CheckpointOptions prefix{.prefix = "transformer."};
  eh::load_checkpoint(files, families::gpt2, "", model, prefix);
  EXPECT_EQ(model.head->weight()(3, 4), own(3, 4));
  const auto saved = folder_ / "saved.safetensors";
  eh::save_checkpoint(saved, families::gpt2, "", model, prefix);
  EXPECT_TRUE(SafetensorsFiles(saved).contains("lm_head.weight"));
  eh::load_checkpoint(SafetensorsFiles(saved), families::gpt2, "", other, prefix);
  EXPECT_EQ(numbers_of(other), numbers_of(model));
  // Of a model among others, all of it has the prefix.
  const CheckpointOptions of_another{.prefix = "a."};
  eh::save_checkpoint(saved, families::gpt2, "", model, of_another);
  EXPECT_TRUE(SafetensorsFiles(saved).contains("a.lm_head.weight"));
  Model third = make("gpt2");
  third.head = model.head;
  eh::load_checkpoint(SafetensorsFiles(saved), families::gpt2, "", third, of_another);
  EXPECT_EQ(numbers_of(third), numbers_of(model));
  eh::Linear<double> lm_head({8, 11});
  EXPECT_EQ(refused(files, families::gpt2, lm_head, "lm_head.", of_another),
            "as a file of GPT-2, it lacks 1 of 1 parameters: lm_head.weight (lm_head.weight)");
}

TEST_F(Checkpoint, OfParametersThatMakeNoWholeTensorIsRefusedWhereItIsSaved) {
  const auto saved = [&](const CheckpointFamily& family, const eh::ConstModuleParts& parts) {
    return refusal([&] { eh::save_checkpoint(file(), family, parts); });
  };
  const eh::Linear<double> linear({6, 6}), wide({4, 6});
  const eh::Linear<float> of_floats({6, 6});
  EXPECT_EQ(saved(families::bert, eh::ConstModuleParts().add("decoder.", linear)),
            "eigenheads: save_checkpoint: decoder.weight has no place in a file of BERT");
  const std::string start = "encoder.layers.0.self_attention.";
  EXPECT_EQ(saved(families::gpt2, eh::ConstModuleParts().add(start + "W_q.", linear)),
            "eigenheads: save_checkpoint: h.0.attn.c_attn.weight is made of 3 parameters, and some "
            "are not among these modules'");
  const auto refused_second = [&](const auto& second, const std::string& name,
                                  const std::string& shape) {
    EXPECT_EQ(saved(families::gpt2,
                    eh::ConstModuleParts().add(start + "W_q.", linear).add(start + name, second)),
              "eigenheads: save_checkpoint: " + start + name + "weight of shape " + shape +
                  " cannot be one tensor with what else belongs to h.0.attn.c_attn.weight");
  };
  refused_second(wide, "W_k.", "[6, 4]");       // of another shape
  refused_second(of_floats, "W_k.", "[6, 6]");  // of another type
  refused_second(linear, "W_q.", "[6, 6]");     // the same once more
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(Checkpoint, OfTorchsAttentionIsReadFromPackedWeightsOrSeparateOnes) {
  eh::MultiHeadAttention<double> layer(
      {.num_hiddens = 8, .num_heads = 2, .query_size = 8, .key_size = 8, .value_size = 8});
  Safetensors contents;
  contents.add("in_proj_weight", random_tensor<float>(1, 24, 8));
  contents.add("out_proj.weight", random_tensor<float>(2, 8, 8));
  contents.add("k_proj_weight", random_tensor<float>(3, 8, 8));
  eh::write_safetensors(file(), contents);
  EXPECT_EQ(refused(SafetensorsFiles(file()), families::torch_attention, layer),
            "tensors \"in_proj_weight\" and \"k_proj_weight\" are the same parameter's; expected "
            "only one of the two");
}

TEST_F(Checkpoint, OfTheBooksEncoderComputesWhatItComputes) {
  const Index E = 8;
  eh::Embedding<double> tokens({11, E});
  eh::TransformerEncoder<double> encoder(
      {.layer = {.num_hiddens = E, .num_heads = 2, .feed_forward_size = 12}, .num_layers = 2});
  const auto report = eh::load_checkpoint(
      SafetensorsFiles(golden("d2l_encoder")), families::d2l_transformer_encoder,
      ModuleParts().add("token_embedding.", tokens).add("encoder.", encoder));
  EXPECT_EQ(report.zero.size(), 8u);  // the projections' biases
  const Expected expected("d2l_encoder");
  Tensor<double, 3> x = tokens(expected.ids());
  x = Tensor<double, 3>(x * std::sqrt(8.0));
  const eh::PositionalEncoding<double> positions({.num_hiddens = E});
  expected.expect(encoder(positions(x), expected.mask()), "output");
  eh::save_checkpoint(
      file(), families::d2l_transformer_encoder,
      eh::ConstModuleParts().add("token_embedding.", tokens).add("encoder.", encoder));
  auto names = SafetensorsFiles(file()).names(),
       theirs = SafetensorsFiles(golden("d2l_encoder")).names();
  std::ranges::sort(names);
  std::ranges::sort(theirs);
  EXPECT_EQ(names, theirs);
}

TEST_F(Checkpoint, OfTheBooksAttentionIsThatOfItsEncoder) {
  const eh::MultiHeadAttentionOptions options{
      .num_hiddens = 8, .num_heads = 2, .query_size = 8, .key_size = 8, .value_size = 8};
  eh::MultiHeadAttention<double> layer(options), other(options, 1);
  const SafetensorsFiles files(golden("d2l_encoder"));
  const std::string prefix = "blks.block1.attention.";
  eh::load_checkpoint(files, families::d2l_attention, "", layer, {.prefix = prefix});
  EXPECT_TRUE(same_bits(layer.W_k.weight(), files.tensor<double, 2>(prefix + "W_k.weight")));
  eh::save_checkpoint(file(), families::d2l_attention, "", layer);
  eh::load_checkpoint(SafetensorsFiles(file()), families::d2l_attention, "", other);
  EXPECT_EQ(numbers_of(other), numbers_of(layer));
  EXPECT_EQ(numbers_of(layer).size(), 4u * 8 * 8);
}

// ---- Several files --------------------------------------------------------------------------------

TEST_F(Checkpoint, IsSavedInSeveralFilesByAnIndex) {
  const Model model = loaded("gpt2");
  const auto index = folder_ / "model.safetensors.index.json";
  const auto save = [&](std::uint64_t most, const Model& saved) {
    eh::save_checkpoint(index, families::gpt2, "", saved, {.shard_bytes = most});
  };
  for (const std::uint64_t most : {0u, 1800u, 3000u, 100'000u}) {
    save(most, model);
    const SafetensorsFiles files(folder_);
    Model other = make("gpt2");
    EXPECT_TRUE(eh::load_checkpoint(files, families::gpt2, "", other).notes.empty());
    EXPECT_TRUE(files.notes().empty());  // the index and its files agree
    EXPECT_EQ(numbers_of(other), numbers_of(model));
    EXPECT_EQ(files.num_files(), most == 0      ? files.names().size()
                                 : most == 1800 ? 7u
                                 : most == 3000 ? 4u
                                                : 1u);
    std::uint64_t bytes = 0;
    for (const std::string& name : names()) {
      if (name.ends_with(".json")) continue;
      const Safetensors shard = eh::read_safetensors(folder_ / name);
      EXPECT_EQ(shard.metadata().at("format"), "pt");
      std::uint64_t of_shard = 0;
      for (const std::string& tensor : shard.names()) {
        std::uint64_t size = 8;  // of a double
        for (const Index n : shard.shape(tensor)) size *= static_cast<std::uint64_t>(n);
        of_shard += size;
      }
      EXPECT_TRUE(of_shard <= most || shard.names().size() == 1) << name;
      bytes += of_shard;
    }
    EXPECT_EQ(bytes, 8 * numbers_of(model).size());
    for (const std::string& name : names()) std::filesystem::remove(folder_ / name);
  }
}

TEST_F(Checkpoint, OfWhichOneFileCannotBeWrittenStaysAsItWas) {
  Model model = loaded("gpt2");
  const auto index = folder_ / "model.safetensors.index.json";
  const auto save = [&] {
    eh::save_checkpoint(index, families::gpt2, "", model, {.shard_bytes = 3000});
  };
  save();
  const auto last = folder_ / "model-00004-of-00004.safetensors";
  ASSERT_TRUE(std::filesystem::remove(last));
  std::filesystem::create_directory(last);
  std::vector<std::string> before;
  const auto all = names();
  for (const std::string& name : all)
    if (folder_ / name != last) before.push_back(eh::read_file(folder_ / name));
  Tensor<double, 1> bias(8);
  bias.setConstant(3);
  model.encoder.norm->set_bias(bias);
  model.encoder.layers[0].self_attention.W_o.set_bias(bias);
  EXPECT_EQ(file_refusal(last, save), "Is a directory");
  EXPECT_EQ(names(), all);
  std::vector<std::string> after;
  for (const std::string& name : all)
    if (folder_ / name != last) after.push_back(eh::read_file(folder_ / name));
  EXPECT_EQ(after, before);
}

TEST_F(Checkpoint, InSeveralFilesNeedsANameAndNoOtherFileBesideIt) {
  const eh::Linear<float> head({3, 3});
  const auto saved = [&](const std::filesystem::path& path) {
    return file_refusal(path, [&] { eh::save_checkpoint(path, families::gpt2, "lm_head.", head); });
  };
  EXPECT_EQ(saved(folder_ / "model.json"), "expected a name that ends in .safetensors.index.json");
  EXPECT_EQ(saved(folder_ / ".safetensors.index.json"),
            "expected a name that ends in .safetensors.index.json");
  EXPECT_EQ(saved(file()), kNothing);
  EXPECT_EQ(saved(folder_ / "model.safetensors.index.json"),
            "model.safetensors lies beside it, and would be read instead");
  EXPECT_EQ(names(), std::set<std::string>{"model.safetensors"});
  EXPECT_EQ(
      file_refusal(
          folder_ / "none.safetensors.index.json",
          [&] { eh::write_safetensors_shards(folder_ / "none.safetensors.index.json", {}, 1); }),
      "there is no tensor to be written");
}

// ---- Names ----------------------------------------------------------------------------------------

// T7.05
TEST_F(Checkpoint, IsReadWithAPrefixOnAllNamesOnNoneOrOnSome) {
  const Model expected = loaded("bert");
  for (const int every : {0, 1, 2})
    for (const std::string prefix : {"bert.", "0.auto_model."}) {
      int number = 0;
      const SafetensorsFiles files = changed("bert", [&](Safetensors&, const std::string& name) {
        return every > 0 && number++ % every == 0 ? prefix + name : name;
      });
      Model model = make("bert");
      eh::load_checkpoint(files, families::bert, "", model);
      EXPECT_EQ(numbers_of(model), numbers_of(expected));
    }
}

TEST_F(Checkpoint, IsRefusedWhereANameIsThereWithAndWithoutItsPrefix) {
  Model model = make("bert");
  const std::string name = "encoder.layer.1.output.dense.bias";
  const SafetensorsFiles files =
      changed("bert", [&](Safetensors& contents, const std::string& tensor) {
        if (tensor == name) contents.add("bert." + name, random_tensor<float>(1, 8));
        return tensor;
      });
  EXPECT_EQ(refused(files, families::bert, model),
            "tensors \"bert.encoder.layer.1.output.dense.bias\" and "
            "\"encoder.layer.1.output.dense.bias\" are the same parameter's; expected only one of "
            "the two");
}

TEST_F(Checkpoint, MayCallAWeightAndABiasGammaAndBetaAfterLayerNormAlone) {
  const Model expected = loaded("bert");
  const auto renamed = [](const std::string& name) {
    const auto ends = [&](const char* ending) { return name.ends_with(ending); };
    if (ends("LayerNorm.weight")) return name.substr(0, name.size() - 6) + "gamma";
    if (ends("LayerNorm.bias")) return name.substr(0, name.size() - 4) + "beta";
    return name;
  };
  Model model = make("bert");
  eh::load_checkpoint(
      changed("bert", [&](Safetensors&, const std::string& name) { return renamed(name); }),
      families::bert, "", model);
  EXPECT_EQ(numbers_of(model), numbers_of(expected));
  // Elsewhere these are names like others: of no parameter.
  for (const std::string other :
       {"pooler.dense.gamma", "encoder.layer.0.output.dense.beta", "betamax.weight",
        "encoder.layer.0.output.MyLayerNorm.gamma", "gamma"}) {
    const SafetensorsFiles files =
        changed("bert", [&](Safetensors& contents, const std::string& name) {
          if (!contents.contains(other)) contents.add(other, 1.0f);
          return name;
        });
    EXPECT_EQ(
        refused(files, families::bert, model),
        "as a file of BERT, it has 1 tensors that are none of the modules' parameters: " + other);
  }
  // Both ways at once.
  const SafetensorsFiles both =
      changed("bert", [&](Safetensors& contents, const std::string& name) {
        if (renamed(name) != name) contents.add(renamed(name), random_tensor<float>(1, 8));
        return name;
      });
  EXPECT_TRUE(refused(both, families::bert, model).ends_with("expected only one of the two"));
}

TEST_F(Checkpoint, OfAnotherFamilyIsRefused) {
  Model bert = make("bert"), gpt2 = make("gpt2");
  EXPECT_TRUE(refused(SafetensorsFiles(golden("gpt2")), families::bert, bert)
                  .starts_with("as a file of BERT, it lacks 37 of 37 parameters: "
                               "token_embedding.weight (embeddings.word_embeddings.weight), "));
  EXPECT_TRUE(refused(SafetensorsFiles(golden("bert")), families::gpt2, gpt2)
                  .starts_with("as a file of GPT-2, it lacks 36 of 36 parameters"));
  eh::Linear<double> linear({3, 3});
  EXPECT_EQ(refused(SafetensorsFiles(golden("bert")), families::bert, linear, "decoder."),
            "parameter decoder.weight has no place in a file of BERT");
}

TEST_F(Checkpoint, WithoutATensorIsRefusedUnlessItNeedNotBeThere) {
  Model model = make("bert");
  const auto without = [&](const std::string& gone) {
    return changed(
        "bert", [&](Safetensors&, const std::string& name) { return name == gone ? ""s : name; });
  };
  const SafetensorsFiles files = without("encoder.layer.1.attention.self.key.bias");
  EXPECT_EQ(refused(files, families::bert, model),
            "as a file of BERT, it lacks 1 of 37 parameters: "
            "encoder.layers.1.self_attention.W_k.bias (encoder.layer.1.attention.self.key.bias)");
  const auto report = eh::load_checkpoint(files, families::bert, "", model, {.strict = false});
  EXPECT_EQ(report.missing, std::vector<std::string>{"encoder.layers.1.self_attention.W_k.bias"});
  EXPECT_EQ(report.loaded.size(), 36u);
}

TEST_F(Checkpoint, OfAModelWithMoreLayersIsRefused) {
  auto config = eh::read_model_config(golden("bert"));
  config.encoder.num_layers = 1;
  Model model(config);
  EXPECT_TRUE(refused(SafetensorsFiles(golden("bert")), families::bert, model)
                  .starts_with("as a file of BERT, it has 16 tensors that are none of the modules' "
                               "parameters: encoder.layer.1."));
}

TEST_F(Checkpoint, OfAnotherShapeIsRefusedWithBothShapes) {
  auto config = eh::read_model_config(golden("bert"));
  config.encoder.layer.feed_forward_size = 13;
  Model model(config);
  EXPECT_EQ(
      refused(SafetensorsFiles(golden("bert")), families::bert, model),
      "tensor \"encoder.layer.0.intermediate.dense.weight\" is F32 [12, 8]; expected [13, 8], "
      "for the module's encoder.layers.0.feed_forward.up.weight [13, 8]");
  // T7.01: without head_dim, heads of E / H.
  auto llama = eh::read_model_config(golden("llama"));
  llama.encoder.layer.head_size = 4;
  Model other(llama);
  EXPECT_EQ(
      refused(SafetensorsFiles(golden("llama")), families::llama, other),
      "tensor \"model.layers.0.self_attn.q_proj.weight\" is F32 [12, 8]; expected [8, 8], for "
      "the module's encoder.layers.0.self_attention.W_q.weight [8, 8]");
}

TEST_F(Checkpoint, OfWhatNoLayerExpressesIsRefusedByName) {
  Model model = make("llama");
  model.head.emplace(eh::LinearOptions{8, 11});
  const SafetensorsFiles files =
      changed("llama", [&](Safetensors& contents, const std::string& name) {
        const std::string norm = "model.layers.0.self_attn.q_norm.weight";
        if (!contents.contains(norm)) contents.add(norm, random_tensor<float>(1, 6));
        return name;
      });
  EXPECT_EQ(refused(files, families::llama, model),
            "tensor \"model.layers.0.self_attn.q_norm.weight\": norms of queries and keys have no "
            "place in a MultiHeadAttention");
}

TEST_F(Checkpoint, BuffersOfGpt2AreNoBiases) {
  Model model = make("gpt2");
  const SafetensorsFiles files =
      changed("gpt2", [&](Safetensors& contents, const std::string& name) {
        const std::string mask = "transformer.h.0.attn.bias";
        if (!contents.contains(mask)) contents.add(mask, random_tensor<float>(1, 9));
        return name;
      });
  const auto report = eh::load_checkpoint(files, families::gpt2, "", model);
  EXPECT_EQ(report.ignored, std::vector<std::string>{"transformer.h.0.attn.bias"});
  EXPECT_EQ(numbers_of(model), numbers_of(loaded("gpt2")));
}

TEST_F(Checkpoint, OfAPartIsReadIntoThatPartAlone) {
  const Model whole = loaded("gpt2");
  Model model = make("gpt2");
  auto& attention = model.encoder.layers[1].self_attention;
  const auto report = eh::load_checkpoint(SafetensorsFiles(golden("gpt2")), families::gpt2,
                                          "encoder.layers.1.self_attention.", attention);
  EXPECT_EQ(report.loaded.size(), 8u);
  EXPECT_EQ(numbers_of(attention), numbers_of(whole.encoder.layers[1].self_attention));
  EXPECT_EQ(numbers_of(model.encoder.layers[0]), numbers_of(make("gpt2").encoder.layers[0]));
  EXPECT_EQ(report.loaded[2].parameter, "encoder.layers.1.self_attention.W_k.weight");
  EXPECT_EQ(report.loaded[2].tensor, "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(report.loaded[2].how, "transposed, part 2 of 3, from F32");
}

// ---- What the rule decides ------------------------------------------------------------------------

// T7.07
TEST_F(Checkpoint, ASquareMatrixOfGpt2IsTransposedAllTheSame) {
  Model model = make("gpt2");
  const std::string name = "transformer.h.0.attn.c_proj.";
  Tensor<float, 2> weight(8, 8);
  weight.setZero();
  weight(0, 1) = 1;
  Tensor<float, 1> bias(8);
  bias.setZero();
  const SafetensorsFiles files =
      changed("gpt2", [&](Safetensors& contents, const std::string& tensor) {
        if (tensor == name + "weight") return contents.add(tensor, weight), ""s;
        if (tensor == name + "bias") return contents.add(tensor, bias), ""s;
        return tensor;
      });
  eh::load_checkpoint(files, families::gpt2, "", model);
  Tensor<double, 2> x(1, 8);
  x.setZero();
  x(0, 0) = 1;
  const auto y = model.encoder.layers[0].self_attention.W_o(x);
  for (Index e = 0; e < 8; ++e) EXPECT_EQ(y(0, e), e == 1 ? 1 : 0);
}

// T7.04
TEST_F(Checkpoint, ALanguageModelsHeadIsTheEmbeddingOnlyWhereTheModelSaysSo) {
  const auto embedding = loaded("gpt2").tokens.weight();
  // Tied, and none in the file.
  Model model = make("gpt2");
  model.head.emplace(eh::LinearOptions{8, 11});
  auto report = load(model, "gpt2");
  EXPECT_TRUE(same_bits(model.head->weight(), embedding));
  EXPECT_EQ(report.notes, std::vector<std::string>{
                              "lm_head.weight is the token embedding, \"transformer.wte.weight\""});
  // Not tied, and none in the file: never a head that was drawn.
  EXPECT_EQ(refused(SafetensorsFiles(golden("gpt2")), families::gpt2, model, "", {.tied = false}),
            "as a file of GPT-2, it lacks 1 of 37 parameters: lm_head.weight (lm_head.weight)");
  eh::Linear<double> head({8, 11});
  EXPECT_EQ(refused(changed("gpt2",
                            [](Safetensors&, const std::string& name) {
                              return name == "transformer.wte.weight" ? ""s : name;
                            }),
                    families::gpt2, head, "lm_head."),
            "as a file of GPT-2, it lacks 1 of 1 parameters: lm_head.weight (lm_head.weight)");
  for (const bool is_equal : {true, false}) {
    const SafetensorsFiles files =
        changed("gpt2", [&](Safetensors& contents, const std::string& name) {
          if (name != "transformer.wte.weight") return name;
          if (!is_equal) contents.add("lm_head.weight", random_tensor<float>(1, 11, 8));
          if (is_equal)
            contents.add("lm_head.weight", SafetensorsFiles(golden("gpt2")).tensor<float, 2>(name));
          return name;
        });
    Model with = make("gpt2"), without = make("gpt2");
    with.head.emplace(eh::LinearOptions{8, 11});
    report = eh::load_checkpoint(files, families::gpt2, "", with);
    EXPECT_EQ(same_bits(with.head->weight(), embedding), is_equal);
    EXPECT_EQ(report.notes.size(), is_equal ? 0u : 1u);
    if (!is_equal) {
      EXPECT_EQ(report.notes[0],
                "\"lm_head.weight\" is not the token embedding, which the model is said to share "
                "with it; it is used as it is");
      EXPECT_EQ(refused(files, families::gpt2, without),
                "tensor \"lm_head.weight\" is not the token embedding, and the module has no "
                "lm_head of its own");
    } else {
      report = eh::load_checkpoint(files, families::gpt2, "", without);
      EXPECT_EQ(report.notes,
                std::vector<std::string>{"\"lm_head.weight\" is the token embedding once more"});
    }
  }
}

TEST_F(Checkpoint, OfAnotherRotaryLayoutIsPermutedAndComputesTheSame) {
  auto config = eh::read_model_config(golden("llama"));
  config.encoder.layer.rotary->layout = eh::RotaryLayout::interleaved;
  Model model(config);
  model.head.emplace(eh::LinearOptions{8, 11});
  const auto report = load(model, "llama");
  EXPECT_TRUE(std::ranges::any_of(report.loaded, [](const auto& loaded) {
    return loaded.how.starts_with("rows in the order of the other rotary layout");
  }));
  const Expected expected("llama");
  expected.expect(model.logits(expected.ids()), "logits", 5e-6);
  Model other(config);
  other.head.emplace(eh::LinearOptions{8, 11});
  expect_round_trip("llama", families::llama, model, other);
}

TEST_F(Checkpoint, OfHalvesIsWidenedAndOfDoublesIsRoundedWhereThatIsAskedFor) {
  const Tensor<double, 2> weight = random_tensor<double>(1, 8, 8);
  Tensor<eh::Half, 1> bias(8);
  for (Index i = 0; i < 8; ++i) bias(i) = eh::Half::rounded(static_cast<float>(i) / 3);
  Safetensors contents;
  contents.add("pooler.dense.weight", weight);
  contents.add("pooler.dense.bias", bias);
  eh::write_safetensors(file(), contents);
  const SafetensorsFiles files(file());
  eh::Linear<float> pooler({8, 8, true});
  EXPECT_EQ(
      file_refusal(file(), [&] { eh::load_checkpoint(files, families::bert, "pooler.", pooler); }),
      "tensor \"pooler.dense.weight\" is F64 [8, 8], whose values F32 has not all; expected "
      "that, or Conversion::rounded");
  const auto report = eh::load_checkpoint(files, families::bert, "pooler.", pooler,
                                          {.conversion = eh::Conversion::rounded});
  EXPECT_EQ(report.loaded[0].how, "from F64");
  EXPECT_EQ(report.loaded[1].how, "from F16");
  EXPECT_EQ(pooler.weight()(3, 4), static_cast<float>(weight(3, 4)));
  EXPECT_EQ(pooler.bias()(4), bias(4).value());
}

TEST_F(Checkpoint, FillsModulesThatWereNotDrawn) {
  const auto config = eh::read_model_config(golden("bert"));
  eh::TransformerEncoder<double> encoder(config.encoder, eh::undrawn);
  encoder.for_each_parameter([](const auto& parameter) {
    const bool is_norm = parameter.name().find("norm") != std::string::npos;
    const bool is_one = is_norm && parameter.name().ends_with("weight");
    for (Index i = 0; i < parameter.size(); ++i)
      ASSERT_EQ(parameter.get(i), is_one ? 1 : 0) << parameter.name();
  });
  const eh::Embedding<double> tokens({11, 8}, eh::undrawn);
  for (Index i = 0; i < tokens.weight().size(); ++i) ASSERT_EQ(tokens.weight().data()[i], 0);
  eh::load_checkpoint(SafetensorsFiles(golden("bert")), families::bert, "encoder.", encoder);
  EXPECT_EQ(numbers_of(encoder), numbers_of(loaded("bert").encoder));
}

// ---- Damage ---------------------------------------------------------------------------------------

TEST_F(Checkpoint, DamagedIsRefusedWithASentenceOrRead) {
  const std::string whole = eh::read_file(golden("gpt2") / "model.safetensors");
  Model model = make("gpt2");
  std::mt19937 random(3);
  eh::write_file(file(), whole);
  int refusals = 0;
  for (int round = 0; round < 600; ++round) {
    std::string changed = whole;
    changed[8 + random() % 2600] = static_cast<char>(random());
    eh::detail::File(file(), "r+b").write(changed);
    const auto before = numbers_of(model);
    const std::string sentence = file_refusal(
        file(), [&] { eh::load_checkpoint(SafetensorsFiles(file()), families::gpt2, "", model); });
    if (sentence == kNothing) continue;
    ++refusals;
    ASSERT_EQ(numbers_of(model), before);
  }
  EXPECT_GT(refusals, 400);
}

TEST_F(Checkpoint, ThatShrinksWhileItIsReadLeavesTheModuleAsItWas) {
  std::filesystem::copy_file(golden("bert") / "model.safetensors", file());
  const SafetensorsFiles files(file());
  std::filesystem::resize_file(file(), std::filesystem::file_size(file()) - 8);
  Model model = make("bert");
  model.pooler.emplace(eh::LinearOptions{8, 8, true});
  EXPECT_TRUE(refused(files, families::bert, model).starts_with("is shorter than when it was"));
}

}  // namespace
