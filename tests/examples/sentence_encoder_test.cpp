// SPDX-License-Identifier: MIT
// examples/sentence_encoder: tiny models of three families against transformers in float64
// (tests/golden/make_sentence_encoder.py made them), what a text's vector depends on, what is refused,
// and what is chosen, pruned and saved.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <eigenheads/io/file.hpp>
#include <eigenheads/io/safetensors.hpp>

#include "io/support.hpp"
#include "sentence_encoder/head_experiment.hpp"
#include "sentence_encoder/head_page.hpp"
#include "sentence_encoder/kept_vectors.hpp"
#include "sentence_encoder/lines.hpp"
#include "sentence_encoder/look.hpp"
#include "sentence_encoder/pruned_folder.hpp"
#include "support.hpp"

namespace {

using namespace sentences;
using eigenheads::Safetensors;
using support::same_bits;
using Json = nlohmann::json;

const path kGolden = path(EIGENHEADS_SOURCE_DIR) / "tests" / "golden" / "sentence_encoder";

// Those of transformers, and the texts that it had.
struct Expected {
  explicit Expected(const std::string& name)
      : file(eigenheads::read_safetensors(kGolden / name / "expected.safetensors")) {
    const auto all = file.tensor<std::int64_t, 1>("ids");
    const auto lengths = file.tensor<std::int64_t, 1>("lengths");
    for (Index b = 0, first = 0; b < lengths.size(); first += lengths(b++))
      texts.emplace_back(all.data() + first, all.data() + first + lengths(b));
  }
  Safetensors file;
  std::vector<Ids> texts;
};

[[nodiscard]] double distance(const Tensor<float, 2>& x, const Tensor<double, 2>& expected) {
  double most = x.size() == expected.size() ? 0 : HUGE_VAL;
  for (Index i = 0; i < x.size() && most < HUGE_VAL; ++i)
    most = std::max(most, std::abs(static_cast<double>(x.data()[i]) - expected.data()[i]));
  return most;
}

[[nodiscard]] Batch one_batch(std::span<const Ids> texts) {
  Batch batch;
  std::vector<std::size_t> lengths;
  for (const Ids& ids : texts) {
    batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
    lengths.push_back(ids.size());
  }
  batch.sequences = lengths;
  return batch;
}

[[nodiscard]] Ids many_ids(std::size_t count, Index first) {
  Ids ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = (first + 7 * static_cast<Index>(i * i)) % 43;
  return ids;
}

// A copy of the tiny sentence encoder to change.
class SentenceEncoderFolder : public support::UniqueFolder {
 protected:
  void SetUp() override {
    UniqueFolder::SetUp();
    model_ = folder_ / "model";
    std::filesystem::copy(kGolden / "bert", model_, std::filesystem::copy_options::recursive);
  }
  void set(const std::string& file, const std::string& field, const Json& value) const {
    Json json = Json::parse(eigenheads::read_file(model_ / file));
    json[field] = value;
    eigenheads::write_file(model_ / file, json.dump());
  }
  [[nodiscard]] std::string refusal(const std::string& file) const {
    return support::file_refusal(model_ / file, [&] { static_cast<void>(Model(model_)); });
  }
  path model_;
};

// Hidden numbers are about 1, and each is made by some hundred roundings.
TEST(SentenceEncoder, EncodersOfThreeFamiliesAreThoseOfTransformers) {
  for (const char* name : {"bert", "roberta", "distilbert"}) {
    const Expected expected(name);
    Encoder encoder(read_config(kGolden / name / "config.json"));
    load_weights(encoder, kGolden / name);
    eigenheads::Context context;
    const Batch batch = one_batch(expected.texts);
    EXPECT_LT(distance(encoder(batch.ids, batch.sequences, context),
                       expected.file.tensor<double, 2>("hidden")),
              3e-6)
        << name;
  }
}

TEST(SentenceEncoder, TextsBecomeTheVectorsOfTransformers) {
  const Model model(kGolden / "bert");
  const Expected expected("bert");
  eigenheads::Context context(2);
  const Lines lines = lines_of({(kGolden / "bert" / "texts.txt").string()});
  ASSERT_EQ(lines.texts.size(), 10u);
  const auto ids = model.ids(lines.texts, context);
  EXPECT_EQ(ids, expected.texts);
  EXPECT_EQ(ids[8].size(), 12u);  // cut off
  EXPECT_LT(distance(model.encoder(ids, context), expected.file.tensor<double, 2>("unit")), 1e-6);
}

TEST_F(SentenceEncoderFolder, AnEncoderAloneGivesTheMeanOfItsTokens) {
  const Expected expected("bert");
  eigenheads::Context context;
  std::filesystem::remove(model_ / "modules.json");
  EXPECT_LT(distance(Model(model_).encoder(expected.texts, context),
                     expected.file.tensor<double, 2>("mean")),
            3e-6);
}

TEST(SentenceEncoder, ATextHasTheSameBitsAloneInAnyBatchOnAnyNumberOfThreads) {
  const Model model(kGolden / "bert");
  std::vector<Ids> texts;
  for (std::size_t length = 0; length <= 20; ++length)
    for (Index first = 0; first < 6; ++first) texts.push_back(many_ids(length, first));
  eigenheads::Context one(1, 1), two(2, 1), three(3, 1);
  const auto all = model.encoder(texts, one);
  EXPECT_TRUE(same_bits(all, model.encoder(texts, two)));
  EXPECT_TRUE(same_bits(all, model.encoder(texts, three)));
  std::vector<Ids> reversed(texts.rbegin(), texts.rend());
  const auto backwards = model.encoder(reversed, two);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto at = static_cast<Index>(i);
    const auto alone = model.encoder(std::span(texts).subspan(i, 1), three);
    EXPECT_TRUE(std::ranges::equal(row(all, at), row(alone, 0))) << i;
    EXPECT_TRUE(std::ranges::equal(row(all, at), row(backwards, all.dimension(0) - 1 - at))) << i;
  }
  for (const float x : row(all, 0)) EXPECT_EQ(x, 0);  // no tokens, no direction
  EXPECT_EQ(model.encoder({}, one).dimension(0), 0);
}

TEST(SentenceEncoder, BatchesHoldEveryTextOnceTheLongestFirst) {
  std::vector<Ids> texts;
  for (std::size_t i = 0; i < 300; ++i) texts.emplace_back(i * 37 % 61);
  texts.emplace_back(5000);
  std::vector<std::size_t> seen;
  std::size_t longest = 5000;
  for (const Batch& batch : batches_of(texts)) {
    EXPECT_EQ(batch.sequences.count(), std::ssize(batch.texts));
    EXPECT_TRUE(batch.ids.size() <= 1024 || batch.texts.size() == 1);
    for (const std::size_t text : batch.texts) {
      EXPECT_LE(texts[text].size(), longest);
      longest = texts[text].size();
      seen.push_back(text);
    }
  }
  std::ranges::sort(seen);
  std::vector<std::size_t> each(texts.size());
  std::iota(each.begin(), each.end(), std::size_t{0});
  EXPECT_EQ(seen, each);
}

TEST_F(SentenceEncoderFolder, WhatWouldBeAnotherFunctionIsRefused) {
  struct Case {
    std::string file, field;
    Json value;
    std::string sentence;  // a part of it
  };
  const std::vector<Case> cases{
      {"config.json", "model_type", "mpnet", "model_type is \"mpnet\""},
      {"config.json", "model_type", "gpt2", ""},
      {"config.json", "hidden_act", "quick_gelu", "hidden_act is \"quick_gelu\""},
      {"config.json", "position_embedding_type", "relative_key", "position_embedding_type"},
      {"config.json", "is_decoder", true, "is_decoder"},
      {"config.json", "num_attention_heads", "4", "num_attention_heads is \"4\""},
      {"config.json", "num_attention_heads", 5, "multiple"},
      {"config.json", "num_attention_heads", nullptr, "num_attention_heads"},
      {"config.json", "hidden_size", 1e8, "more than any encoder's"},
      {"config.json", "pruned_heads", Json{{"0", {4}}}, "pruned_heads is {\"0\":[4]}"},
      {"config.json", "pruned_heads", Json{{"2", {0}}}, "pruned_heads"},
      {"config.json", "pruned_heads", Json{{"0", {1, 1}}}, "pruned_heads"},
      {"config.json", "pruned_heads", Json{{"x", {1}}}, "pruned_heads"},
      {"config.json", "pruned_heads", 3, "pruned_heads is 3"},
      {"1_Pooling/config.json", "pooling_mode_lasttoken", true, "pooling_mode_lasttoken is true"},
      {"1_Pooling/config.json", "pooling_mode_mean_sqrt_len_tokens", true, "mean_sqrt_len"},
      {"1_Pooling/config.json", "pooling_mode_mean_tokens", false, "no kind of pooling"},
      {"1_Pooling/config.json", "pooling_mode_mean_tokens", "yes", "true or false"},
      {"1_Pooling/config.json", "word_embedding_dimension", 15, "is 15; expected 16"},
      {"sentence_bert_config.json", "do_lower_case", true, "do_lower_case is true"},
      {"sentence_bert_config.json", "max_seq_length", 1, "max_seq_length is 1"},
      {"sentence_bert_config.json", "max_seq_length", "12", "max_seq_length is \"12\""},
  };
  for (const Case& c : cases) {
    set(c.file, c.field, c.value);
    const std::string said = refusal(c.file);
    EXPECT_NE(said, support::kNothing) << c.field << c.value;
    EXPECT_NE(said.find(c.sentence), std::string::npos) << c.field << ": " << said;
    std::filesystem::copy(kGolden / "bert" / c.file, model_ / c.file,
                          std::filesystem::copy_options::overwrite_existing);
    EXPECT_EQ(refusal(c.file), support::kNothing) << c.field;
  }
}

TEST_F(SentenceEncoderFolder, StepsThatAreNotKnownAreRefused) {
  const Json whole = Json::parse(eigenheads::read_file(model_ / "modules.json"));
  const auto said = [&](const Json& modules) {
    eigenheads::write_file(model_ / "modules.json", modules.dump());
    return refusal("modules.json");
  };
  Json changed = whole;
  changed[2]["type"] = "sentence_transformers.models.Dense";
  EXPECT_NE(said(changed).find("module 2 is sentence_transformers.models.Dense"),
            std::string::npos);
  changed = whole;
  changed[1]["path"] = "../1_Pooling";
  EXPECT_NE(said(changed).find("outside of the folder"), std::string::npos);
  changed = whole;
  changed[1].erase("path");
  EXPECT_NE(said(changed).find("module 1 has no \"path\""), std::string::npos);
  EXPECT_NE(said(Json::array({whole[0]})).find("there are 1 modules"), std::string::npos);
  EXPECT_NE(said(3).find("not an array"), std::string::npos);
  changed = whole;
  changed.erase(2);  // any length
  EXPECT_EQ(said(changed), support::kNothing);
  const Expected expected("bert");
  eigenheads::Context context;
  EXPECT_LT(distance(Model(model_).encoder(expected.texts, context),
                     expected.file.tensor<double, 2>("mean")),
            3e-6);
  eigenheads::write_file(model_ / "modules.json", "[{");
  EXPECT_EQ(refusal("modules.json"), "not well-formed JSON");
}

TEST_F(SentenceEncoderFolder, KindsOfPoolingStandBesideEachOther) {
  const Expected expected("bert");
  const auto hidden = expected.file.tensor<double, 2>("hidden");
  const auto mean = expected.file.tensor<double, 2>("mean");
  Json modules = Json::parse(eigenheads::read_file(model_ / "modules.json"));
  modules.erase(2);
  eigenheads::write_file(model_ / "modules.json", modules.dump());
  set("1_Pooling/config.json", "pooling_mode_cls_token", true);
  set("1_Pooling/config.json", "pooling_mode_max_tokens", true);
  eigenheads::Context context;
  const auto y = Model(model_).encoder(expected.texts, context);
  ASSERT_EQ(y.dimension(1), 48);
  Index first = 0;
  for (Index b = 0; b < y.dimension(0); ++b) {
    const Index length = std::ssize(expected.texts[static_cast<std::size_t>(b)]);
    for (Index e = 0; e < 16; ++e) {
      double most = -HUGE_VAL;
      for (Index i = 0; i < length; ++i) most = std::max(most, hidden(first + i, e));
      EXPECT_NEAR(y(b, e), hidden(first, e), 3e-6);
      EXPECT_NEAR(y(b, 16 + e), most, 3e-6);
      EXPECT_NEAR(y(b, 32 + e), mean(b, e), 3e-6);
    }
    first += length;
  }
}

TEST(SentenceEncoder, IdsAndLengthsThatAModelDoesNotHaveAreRefused) {
  const Model model(kGolden / "bert");
  eigenheads::Context context;
  const auto said = [&](const Ids& ids) {
    return support::refusal<std::runtime_error>(
        [&] { static_cast<void>(model.encoder(std::vector<Ids>{ids}, context)); });
  };
  EXPECT_EQ(said({1, 43}), "a token has the id 43; the model has ids from 0 to 42");
  EXPECT_EQ(said({-1}), "a token has the id -1; the model has ids from 0 to 42");
  EXPECT_EQ(said(Ids(21, 1)), "a text has 21 tokens; the model has places for 20");
}

// ---- Pruned models -------------------------------------------------------------------------------

void close_gates(Encoder& encoder, std::span<const std::size_t> removed) {
  const auto of_layers = by_layer(encoder, removed);
  for (std::size_t l = 0; l < of_layers.size(); ++l) {
    Tensor<float, 1> gates(4);
    gates.setConstant(1);
    for (const Index h : of_layers[l]) gates(h) = 0;
    encoder.stack.layers[l].self_attention.set_gates(gates);
  }
}

TEST_F(SentenceEncoderFolder, ASavedModelHasTheBitsOfTheWholeOneWithGatesClosed) {
  const Expected expected("bert");
  eigenheads::Context context;
  for (const Heads& removed : {Heads{}, Heads{5}, Heads{0, 2, 7}, Heads{4, 5, 6, 7}}) {
    const Model whole(kGolden / "bert");
    const path saved = folder_ / ("without_" + std::to_string(removed.size()));
    save_without(whole, removed, saved);
    SentenceEncoder gated = whole.encoder;
    close_gates(gated.encoder, removed);
    const Model pruned(saved);
    EXPECT_TRUE(same_bits(pruned.encoder(expected.texts, context), gated(expected.texts, context)))
        << removed.size();
    EXPECT_EQ(heads_of(pruned.encoder.encoder).size(), 8 - removed.size());
    EXPECT_NE(support::file_refusal(saved, [&] { save_without(whole, removed, saved); })
                  .find("is there already"),
              std::string::npos);
  }
  // And again of what is left: heads 2 and 3 of what were {0, 1, 3} of the first layer and {0, 1, 2}.
  save_without(Model(folder_ / "without_3"), Heads{1}, folder_ / "twice");
  const auto config = Json::parse(eigenheads::read_file(folder_ / "twice" / "config.json"));
  EXPECT_EQ(config["pruned_heads"].dump(), R"({"0":[0,2,3],"1":[3]})");
  SentenceEncoder gated = Model(kGolden / "bert").encoder;
  close_gates(gated.encoder, Heads{0, 2, 3, 7});
  EXPECT_TRUE(same_bits(Model(folder_ / "twice").encoder(expected.texts, context),
                        gated(expected.texts, context)));
}

[[nodiscard]] std::vector<Ids> different_texts(std::size_t count) {
  std::vector<Ids> texts;
  for (std::size_t i = 0; i < count; ++i)
    texts.push_back(many_ids(2 + i % 9, static_cast<Index>(i)));
  return texts;
}

TEST(SentenceEncoder, WhatASampleLosesIsTheDistanceOfAModelWithoutTheHeads) {
  const Model model(kGolden / "bert");
  eigenheads::Context context;
  const auto texts = different_texts(14);
  const Sample sample(model.encoder, texts, context);
  EXPECT_TRUE(same_bits(sample.vectors, model.encoder(texts, context)));
  EXPECT_EQ(sample.without({}, context).distance, 0);
  EXPECT_EQ(sample.without({}, context).neighbours, 0);
  const Heads removed{1, 6};
  SentenceEncoder gated = model.encoder;
  close_gates(gated.encoder, removed);
  const auto pruned = gated(texts, context);
  double distance = 0, moved = 0;
  for (Index i = 0; i < pruned.dimension(0); ++i) {
    distance += 1 - cosine(row(pruned, i), row(sample.vectors, i));
    // Of all rows but itself, the nearest.
    const auto other = [&](const Tensor<float, 2>& vectors) {
      return nearest(vectors, row(vectors, i), 2)[1].text;
    };
    moved += other(pruned) == other(sample.vectors) ? 0 : 1;
  }
  const Loss loss = sample.without(removed, context);
  EXPECT_NEAR(loss.distance, distance / 14, 1e-12);
  EXPECT_DOUBLE_EQ(loss.neighbours, moved / 14);
  EXPECT_GT(loss.distance, 1e-4);
}

TEST(SentenceEncoder, TheContrastHasTheGradientOfItsLoss) {
  Tensor<float, 2> whole(3, 4);
  for (Index i = 0; i < 12; ++i) whole.data()[i] = static_cast<float>((i * i * 5) % 7 - 3) / 6;
  const std::vector<std::size_t> texts{2, 0};
  Tensor<float, 2> vectors(2, 4);
  for (Index i = 0; i < 8; ++i) vectors.data()[i] = static_cast<float>((i * 3) % 5 - 2) / 8;
  const auto loss = [&](Index text, std::span<const double> e) {
    double sum = 0, own = 0;
    for (Index j = 0; j < 3; ++j) {
      double product = 0;
      for (Index k = 0; k < 4; ++k) product += e[static_cast<std::size_t>(k)] * whole(j, k) / 0.05;
      sum += std::exp(product);
      if (j == static_cast<Index>(texts[static_cast<std::size_t>(text)])) own = product;
    }
    return std::log(sum) - own;
  };
  const auto gradient = contrast_gradient(vectors, texts, whole);
  for (Index i = 0; i < 2; ++i)
    for (std::size_t k = 0; k < 4; ++k) {
      std::array<double, 4> more{}, less{};
      std::ranges::copy(row(vectors, i), more.begin());
      less = more;
      more[k] += 1e-5;
      less[k] -= 1e-5;
      EXPECT_NEAR(gradient(i, static_cast<Index>(k)), (loss(i, more) - loss(i, less)) / 2e-5, 2e-5);
    }
}

TEST(SentenceEncoder, TheExperimentFindsTheSameOnAnyNumberOfThreads) {
  const Model model(kGolden / "bert");
  const auto texts = different_texts(24);
  const auto run = [&](int threads, Wanted wanted) {
    eigenheads::Context context(threads, 1);
    return HeadExperiment(model.encoder, std::span(texts).first(12), std::span(texts).last(12),
                          wanted, context)
        .run();
  };
  testing::internal::CaptureStderr();
  const HeadResults one = run(1, {.heads = 3}), two = run(2, {.distance = 0.02});
  EXPECT_NE(testing::internal::GetCapturedStderr().find("pruning by each measure"),
            std::string::npos);
  EXPECT_EQ(head_importance_csv(one), head_importance_csv(two));
  EXPECT_EQ(head_pruning_csv(one), head_pruning_csv(two));
  EXPECT_EQ(head_curve_csv(one), head_curve_csv(two));
  ASSERT_EQ(one.importance.size(), kMeasures.size());
  for (const auto& of_measure : one.importance) {
    ASSERT_EQ(of_measure.size(), 8u);
    for (const double value : of_measure) EXPECT_TRUE(std::isfinite(value));
  }
  EXPECT_EQ(one.count, 5u);
  ASSERT_EQ(one.chosen.size(), 9u);
  EXPECT_EQ(one.chosen[0].distance, 0);
  EXPECT_LE(two.chosen[two.count].distance, 0.02);
  EXPECT_TRUE(two.count == 8 || two.chosen[two.count + 1].distance > 0.02);
  // The last measure is the trial of each head alone.
  eigenheads::Context context;
  const Sample sample(model.encoder, std::span(texts).first(12), context);
  for (std::size_t h = 0; h < 8; ++h)
    EXPECT_EQ(one.importance.back()[h], sample.without(std::array{h}, context).distance);
  // And the curve is that of its order.
  EXPECT_EQ(one.chosen[3].distance,
            sample.without(std::span(one.order).first(3), context).distance);
  const std::string page = head_page(one);
  EXPECT_NE(page.find("5 of 8 heads are pruned"), std::string::npos);
  EXPECT_NE(page.find("</html>"), std::string::npos);
}

// ---- Views and what is kept ----------------------------------------------------------------------

TEST(SentenceEncoder, HeadsAreShownOverWords) {
  const Model model(kGolden / "bert");
  eigenheads::Context context;
  const std::string text = "a kitten is sleeping, UNBELIEVABLY";
  const auto words = look(model, text, true, context), pieces = look(model, text, false, context);
  ASSERT_EQ(words.size(), 2u);
  const std::vector<std::string> labels{"[CLS]",    "a", "kitten",       "is",
                                        "sleeping", ",", "UNBELIEVABLY", "[SEP]"};
  EXPECT_EQ(words[0].key_labels, labels);
  EXPECT_EQ(pieces[0].key_labels.size(), 9u);  // sleep ##ing; the last word is [UNK]
  EXPECT_EQ(words[1].head_names,
            (std::vector<std::string>{"Head 1", "Head 2", "Head 3", "Head 4"}));
  const auto& weights = words[1].weights;
  for (Index h = 0; h < 4; ++h)
    for (Index q = 0; q < weights.dimension(1); ++q) {
      double sum = 0;
      for (Index k = 0; k < weights.dimension(2); ++k) sum += static_cast<double>(weights(h, q, k));
      EXPECT_NEAR(sum, 1, 1e-6);
    }
  EXPECT_FLOAT_EQ(weights(2, 1, 4), pieces[1].weights(2, 1, 4) + pieces[1].weights(2, 1, 5));
}

TEST_F(SentenceEncoderFolder, OnlyNewTextsAreEncodedAgain) {
  const path file = folder_ / "deep" / "kept.safetensors";
  std::vector<std::string> encoded;
  bool is_cache = true;
  eigenheads::Context context;
  const auto vectors_of = [&](const Model& model, const std::vector<std::string>& texts) {
    KeptVectors kept(file, is_cache, model);
    return kept(texts, [&](const std::vector<std::string>& fresh) {
      encoded = fresh;
      return model.encoder(model.ids(fresh, context), context);
    });
  };
  const std::vector<std::string> texts{"the cat", "a dog", "the cat", ""};
  const Model model(model_);
  const auto first = vectors_of(model, texts);
  EXPECT_EQ(encoded, (std::vector<std::string>{"the cat", "a dog", ""}));
  EXPECT_TRUE(same_bits(first, model.encoder(model.ids(texts, context), context)));
  EXPECT_TRUE(same_bits(first, vectors_of(model, texts)));
  EXPECT_TRUE(encoded.empty());
  static_cast<void>(vectors_of(model, {"in bed", "a dog"}));
  EXPECT_EQ(encoded, std::vector<std::string>{"in bed"});
  static_cast<void>(vectors_of(model, {"the cat"}));  // was let go of
  EXPECT_EQ(encoded, std::vector<std::string>{"the cat"});
  // A damaged file, and one of a model that has changed since.
  eigenheads::write_file(file, "nothing");
  testing::internal::CaptureStderr();
  static_cast<void>(vectors_of(model, {"the cat"}));
  EXPECT_NE(testing::internal::GetCapturedStderr().find("made anew"), std::string::npos);
  EXPECT_EQ(encoded.size(), 1u);
  // Whose name was given: what is no such file stays as it is.
  is_cache = false;
  const path weights = model_ / "model.safetensors";
  const std::string before = eigenheads::read_file(weights);
  for (const path& other : {weights, folder_ / "notes.txt"}) {
    if (other != weights) eigenheads::write_file(other, "milk");
    EXPECT_THROW(KeptVectors(other, false, model), std::runtime_error);
  }
  EXPECT_EQ(eigenheads::read_file(weights), before);
  EXPECT_EQ(eigenheads::read_file(folder_ / "notes.txt"), "milk");
  set("sentence_bert_config.json", "max_seq_length", 4);
  static_cast<void>(vectors_of(Model(model_), {"the cat"}));
  EXPECT_EQ(encoded.size(), 1u);
}

TEST(SentenceEncoder, LinesEndAsTheyDoAnywhere) {
  Lines lines;
  add_lines("one\r\n\ntwo\n", lines);
  add_lines("", lines);
  add_lines("three", lines);
  EXPECT_EQ(lines.texts, (std::vector<std::string>{"one", "", "two", "three"}));
  EXPECT_EQ(lines.first, (std::vector<std::size_t>{0, 3, 3}));
}

// Where examples/sentence_encoder/get-model has been: sentences that mean alike are alike.
TEST(SentenceEncoder, MiniLmTellsMeaningsApart) {
  const path folder = path(EIGENHEADS_SOURCE_DIR) / "build" / "all-MiniLM-L6-v2";
  if (!exists(folder)) GTEST_SKIP() << "no model in " << folder;
  const Model model(folder);
  eigenheads::Context context;
  const std::vector<std::string> texts{"The cat sleeps on the sofa.", "A kitten naps on the couch.",
                                       "Interest rates rise again."};
  const auto y = model.encoder(model.ids(texts, context), context);
  EXPECT_NEAR(cosine(row(y, 0), row(y, 1)), 0.7380, 1e-4);
  EXPECT_NEAR(cosine(row(y, 0), row(y, 2)), -0.0149, 1e-4);
}

}  // namespace
