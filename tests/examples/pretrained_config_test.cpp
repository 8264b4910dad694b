// SPDX-License-Identifier: MIT
// examples/generate: what the config.json of a language model says, in its older and newer forms, and
// what is refused because another function would be computed.
#include "generate/pretrained_config.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include <eigenheads/io/file.hpp>

namespace {

using namespace language_model;
using Json = nlohmann::json;

class PretrainedConfigFile : public testing::Test {
 protected:
  ~PretrainedConfigFile() override { std::filesystem::remove(path_); }

  [[nodiscard]] PretrainedConfig read(const Json& json) const {
    std::ofstream(path_) << json;
    return read_config(path_);
  }
  // Of a file that is refused, the sentence.
  [[nodiscard]] std::string refusal(const Json& json) const {
    try {
      static_cast<void>(read(json));
    } catch (const eigenheads::FileError& error) {
      return error.what();
    }
    return "not refused";
  }
  // The file with some fields set.
  [[nodiscard]] static Json with(Json json, const Json& fields) {
    json.update(fields);
    return json;
  }

  const Json llama_ = Json::parse(R"({
      "model_type": "llama", "vocab_size": 100, "hidden_size": 2560, "num_attention_heads": 32,
      "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 2, "intermediate_size": 64,
      "max_position_embeddings": 512, "eos_token_id": 7})");
  const Json gpt2_ = Json::parse(R"({
      "model_type": "gpt2", "vocab_size": 100, "n_embd": 64, "n_head": 4, "n_layer": 2,
      "n_positions": 128, "n_inner": null, "eos_token_id": [7, 9]})");

 private:
  std::filesystem::path path_ =
      std::filesystem::path(testing::TempDir()) /
      (std::string("eigenheads_") + testing::UnitTest::GetInstance()->current_test_info()->name() +
       ".json");
};

[[nodiscard]] const eigenheads::TransformerLayerOptions& layer_of(const PretrainedConfig& config) {
  return config.model.encoder.layer;
}

TEST_F(PretrainedConfigFile, AHeadMayHaveASizeOfItsOwn) {  // T7.01
  const PretrainedConfig config = read(llama_);
  EXPECT_EQ(layer_of(config).head_size, 128);
  EXPECT_EQ(layer_of(config).num_kv_heads, 8);
  EXPECT_EQ(layer_of(config).rotary->rotated, 128);
  EXPECT_EQ(layer_of(read(with(llama_, {{"head_dim", nullptr}}))).head_size, 80);
  Json without = llama_;
  without.erase("head_dim");
  EXPECT_EQ(layer_of(read(without)).head_size, 80);
}

TEST_F(PretrainedConfigFile, NumbersOfHeadsAreNumbersThatGoTogether) {  // T7.02
  const auto heads = [&](const Json& value) {
    return with(llama_, {{"num_key_value_heads", value}});
  };
  EXPECT_EQ(layer_of(read(heads(nullptr))).num_kv_heads, 32);
  EXPECT_NE(refusal(heads(0)).find("num_key_value_heads is 0; expected a whole number"),
            std::string::npos);
  EXPECT_NE(refusal(heads(5)).find(
                "num_key_value_heads is 5; expected a divisor of num_attention_heads, 32"),
            std::string::npos);
  EXPECT_NE(refusal(with(llama_, {{"num_attention_heads", "12"}}))
                .find("num_attention_heads is \"12\"; expected a whole number"),
            std::string::npos);
  EXPECT_NE(refusal(with(llama_, {{"hidden_size", 16.5}})).find("hidden_size is 16.5"),
            std::string::npos);
}

TEST_F(PretrainedConfigFile, AngleScalingsOfOldAndNewFilesAreReadAlike) {  // T7.02, T7.03
  const auto rotary = [&](const Json& fields) {
    return *layer_of(read(with(llama_, fields))).rotary;
  };
  EXPECT_EQ(rotary(Json::object()).base, 10'000);
  EXPECT_EQ(rotary({{"rope_theta", 5e5}}).base, 5e5);
  EXPECT_EQ(rotary({{"rope_parameters", {{"rope_theta", 5e5}, {"rope_type", "default"}}}}).base,
            5e5);
  for (const Json& fields :
       {Json{{"rope_scaling", {{"type", "linear"}, {"factor", 4}}}},
        Json{{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}}},
        Json{{"rope_parameters", {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 100}}}}})
    EXPECT_EQ(std::get<eigenheads::LinearScaling>(rotary(fields).scaling).factor, 4);
  const auto llama3 =
      std::get<eigenheads::Llama3Scaling>(rotary({{"rope_scaling",
                                                   {{"rope_type", "llama3"},
                                                    {"factor", 8},
                                                    {"low_freq_factor", 1},
                                                    {"high_freq_factor", 4},
                                                    {"original_max_position_embeddings", 8192.0}}}})
                                              .scaling);
  EXPECT_EQ(llama3.original_positions, 8192);
  const auto yarn = std::get<eigenheads::YarnScaling>(
      rotary({{"rope_scaling", {{"type", "yarn"}, {"factor", 8}}}}).scaling);
  EXPECT_EQ(yarn.original_positions, 512);
  EXPECT_FALSE(yarn.attention_factor);
  EXPECT_NE(refusal(with(llama_, {{"rope_scaling", {{"type", "longrope"}, {"factor", 4}}}}))
                .find("rope_scaling.type is \"longrope\"; expected default, linear"),
            std::string::npos);
  EXPECT_NE(refusal(with(llama_, {{"rope_scaling", {{"type", "linear"}}}}))
                .find("there is no \"rope_scaling.factor\""),
            std::string::npos);
  EXPECT_EQ(rotary({{"partial_rotary_factor", 0.25}}).rotated, 32);
}

TEST_F(PretrainedConfigFile, HeadsAreTiedByTheFamilysDefault) {  // T7.04
  EXPECT_FALSE(read(llama_).has_tied_head);
  EXPECT_TRUE(read(with(llama_, {{"tie_word_embeddings", true}})).has_tied_head);
  EXPECT_TRUE(read(gpt2_).has_tied_head);
  EXPECT_FALSE(read(with(gpt2_, {{"tie_word_embeddings", false}})).has_tied_head);
}

TEST_F(PretrainedConfigFile, WhatWouldBeAnotherFunctionIsRefused) {
  const auto expect_refused = [&](const Json& json, const Json& field) {
    const std::string sentence = refusal(with(json, field));
    EXPECT_NE(sentence.find(field.begin().key() + " is "), std::string::npos)
        << field << ": " << sentence;
  };
  expect_refused(llama_, {{"model_type", "gemma2"}});
  expect_refused(llama_, {{"hidden_act", "quick_gelu"}});
  expect_refused(llama_, {{"hidden_size", -1}});
  expect_refused(llama_, {{"eos_token_id", 100}});
  expect_refused(llama_, {{"eos_token_id", "</s>"}});
  expect_refused(llama_, {{"rope_scaling", 4}});
  expect_refused(llama_, {{"attention_bias", 1}});
  expect_refused(gpt2_, {{"scale_attn_by_inverse_layer_idx", true}});
  expect_refused(gpt2_, {{"scale_attn_weights", false}});
  expect_refused(gpt2_, {{"add_cross_attention", true}});
  expect_refused(gpt2_, {{"n_head", 5}});
  expect_refused(with(llama_, {{"model_type", "mistral"}, {"sliding_window", 4}}),
                 {{"layer_types", {"full_attention", "sliding_attention"}}});
  expect_refused(with(llama_, {{"model_type", "qwen2"}, {"sliding_window", 4}}),
                 {{"use_sliding_window", true}});
  EXPECT_NE(refusal(Json::object()).find("there is no \"model_type\""), std::string::npos);
}

TEST_F(PretrainedConfigFile, FamiliesDifferInWindowsAndBiases) {
  EXPECT_EQ(read(with(llama_, {{"sliding_window", 4}})).model.window, 0);  // Llama has none
  EXPECT_EQ(read(with(llama_, {{"model_type", "mistral"}, {"sliding_window", 4}})).model.window, 4);
  EXPECT_EQ(
      read(with(llama_, {{"model_type", "mistral"}, {"sliding_window", nullptr}})).model.window, 0);
  const PretrainedConfig qwen =
      read(with(llama_, {{"model_type", "qwen2"}, {"sliding_window", 4}}));
  EXPECT_EQ(qwen.model.window, 0);
  EXPECT_TRUE(qwen.query_key_value_bias);
  EXPECT_FALSE(qwen.output_bias || qwen.feed_forward_bias);
  EXPECT_TRUE(layer_of(qwen).bias);
  EXPECT_FALSE(layer_of(read(llama_)).bias);
  EXPECT_TRUE(read(with(llama_, {{"attention_bias", true}})).output_bias);
  EXPECT_EQ(layer_of(read(gpt2_)).feed_forward_size, 256);
  EXPECT_EQ(layer_of(read(gpt2_)).activation, eigenheads::Activation::gelu_tanh);
  EXPECT_EQ(read(gpt2_).end_ids, (Ids{7, 9}));
  EXPECT_EQ(read(llama_).end_ids, Ids{7});
}

}  // namespace
