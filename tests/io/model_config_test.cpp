// SPDX-License-Identifier: MIT
// Configurations that load without a word elsewhere, and are wrong.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include <eigenheads/io/model_config.hpp>
#include <eigenheads/nn/transformer_encoder_layer.hpp>
#include <eigenheads/rotary.hpp>

#include "io/support.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index;
using support::kNothing;

class ModelConfig : public support::UniqueFolder {
 protected:
  // Of a Llama, and these fields.
  [[nodiscard]] eh::ModelConfig llama(const std::string& fields = "") const {
    return read(R"({"model_type":"llama","hidden_size":2560,"num_hidden_layers":2,)"
                R"("num_attention_heads":32,"intermediate_size":64,"vocab_size":100)" +
                (fields.empty() ? "" : "," + fields) + "}");
  }
  [[nodiscard]] std::string llama_refusal(const std::string& fields) const {
    return support::file_refusal(folder_ / "config.json", [&] { (void)llama(fields); });
  }
  [[nodiscard]] eh::ModelConfig read(const std::string& text) const {
    eh::write_file(folder_ / "config.json", text);
    return eh::read_model_config(folder_);
  }
  [[nodiscard]] std::string refusal(const std::string& text) const {
    return support::file_refusal(folder_ / "config.json", [&] { (void)read(text); });
  }
  [[nodiscard]] static std::string model_of(const std::string& type, int heads,
                                            const std::string& fields) {
    return R"({"model_type":")" + type + R"(","hidden_size":64,"num_hidden_layers":2,)" +
           R"("num_attention_heads":)" + std::to_string(heads) +
           R"(,"intermediate_size":12,"vocab_size":9)" + (fields.empty() ? "" : "," + fields) + "}";
  }
  [[nodiscard]] static std::string mistral(const std::string& fields) {
    return model_of("mistral", 16, fields);
  }
  [[nodiscard]] static std::string qwen2(const std::string& fields) {
    return model_of("qwen2", 32, fields);
  }
  [[nodiscard]] static eh::ModelConfig golden(const std::string& name) {
    return eh::read_model_config(std::filesystem::path(EIGENHEADS_SOURCE_DIR) /
                                 "tests/golden/checkpoints" / name);
  }
};

// T7.01
TEST_F(ModelConfig, TakesTheSizeOfAHeadFromHeadDim) {
  const auto config = llama(R"("num_key_value_heads":8,"head_dim":128)");
  EXPECT_EQ(config.encoder.layer.head_size, 128);
  EXPECT_EQ(config.encoder.layer.num_kv_heads, 8);
  EXPECT_EQ(config.encoder.layer.num_hiddens, 2560);
  const eh::TransformerEncoderLayer<float> layer(config.encoder.layer, eh::undrawn);
  const auto& attention = layer.self_attention;
  const auto expect_shape = [](const eh::Linear<float>& linear, Index rows, Index columns) {
    EXPECT_EQ(linear.out_features(), rows);
    EXPECT_EQ(linear.in_features(), columns);
  };
  expect_shape(attention.W_q, 4096, 2560);
  expect_shape(attention.W_k, 1024, 2560);
  expect_shape(attention.W_v, 1024, 2560);
  expect_shape(attention.W_o, 2560, 4096);
  EXPECT_EQ(attention.rotary()->head_size(), 128);
  EXPECT_EQ(eh::detail::default_scale<double>(attention.head_size()), 1 / std::sqrt(128.0));
  EXPECT_EQ(llama().encoder.layer.head_size, 80);
  EXPECT_EQ(llama(R"("head_dim":null)").encoder.layer.head_size, 80);
  EXPECT_EQ(llama_refusal(R"("head_dim":0)"), "head_dim is 0; expected a whole number, 1 or more");
}

// T7.02
TEST_F(ModelConfig, TakesAbsentKeyValueHeadsForAllAndRefusesWhatDoesNotDivide) {
  EXPECT_EQ(llama().encoder.layer.num_kv_heads, 32);
  EXPECT_EQ(llama(R"("num_key_value_heads":null)").encoder.layer.num_kv_heads, 32);
  EXPECT_EQ(llama_refusal(R"("num_key_value_heads":0)"),
            "num_key_value_heads is 0; expected a whole number, 1 or more");
  EXPECT_EQ(llama_refusal(R"("num_key_value_heads":5)"),
            "num_key_value_heads is 5; expected a divisor of num_attention_heads, 32");
}

TEST_F(ModelConfig, SaysThatItTookTheBaseForWhatTheFamilyHas) {
  const auto config = llama();
  EXPECT_EQ(config.encoder.layer.rotary->base, 10000);
  EXPECT_EQ(config.encoder.layer.norm_eps, 1e-6);
  ASSERT_EQ(config.notes.size(), 1u);
  EXPECT_EQ(config.notes[0], "rope_theta is not said: it is taken for 10000");
  EXPECT_TRUE(llama(R"("rope_theta":500000.0)").notes.empty());
}

TEST_F(ModelConfig, TakesWholeNumbersHoweverTheyAreWrittenAndNoTexts) {
  const auto config = llama(
      R"("rope_theta":1e6,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
      R"("high_freq_factor":4.0,"original_max_position_embeddings":8192.0})");
  const auto* scaling = std::get_if<eh::Llama3Scaling>(&config.encoder.layer.rotary->scaling);
  ASSERT_NE(scaling, nullptr);
  EXPECT_EQ(scaling->original_positions, 8192);
  EXPECT_EQ(llama_refusal(R"("num_key_value_heads":"8")"),
            "num_key_value_heads is \"8\"; expected a whole number, 1 or more");
  EXPECT_EQ(llama_refusal(R"("num_key_value_heads":8.5)"),
            "num_key_value_heads is 8.5; expected a whole number, 1 or more");
  EXPECT_EQ(refusal(R"({"model_type":"llama","hidden_size":64,"num_hidden_layers":2,)"
                    R"("num_attention_heads":"12"})"),
            "num_attention_heads is \"12\"; expected a whole number, 1 or more");
  EXPECT_EQ(llama_refusal(R"("rms_norm_eps":"1e-5")"),
            "rms_norm_eps is \"1e-5\"; expected a number above 0");
  EXPECT_EQ(llama_refusal(R"("attention_bias":1)"), "attention_bias is 1; expected true or false");
}

// T7.03
TEST_F(ModelConfig, ReadsAScalingUnderEachOfItsNames) {
  for (const std::string scaling :
       {R"("rope_theta":10000,"rope_scaling":{"type":"linear","factor":4})",
        R"("rope_theta":10000,"rope_scaling":{"rope_type":"linear","factor":4.0})",
        R"("rope_parameters":{"rope_theta":10000,"rope_type":"linear","factor":4})"}) {
    eh::RotaryOptions options = *llama(scaling).encoder.layer.rotary;
    options.head_size = 2;
    const eh::Rotary<double> rotary(options);
    EXPECT_NEAR(rotary.cos(3, 0), 0.7316888689, 1e-10) << scaling;
    EXPECT_NEAR(rotary.sin(3, 0), 0.6816387600, 1e-10) << scaling;
  }
  const auto base = llama(R"("rope_parameters":{"rope_theta":500000,"rope_type":"default"})");
  EXPECT_EQ(base.encoder.layer.rotary->base, 500000);
  EXPECT_TRUE(base.notes.empty());
}

TEST_F(ModelConfig, ReadsEveryNumberOfAScaling) {
  const std::string length = R"("rope_theta":10000,"max_position_embeddings":8192,)";
  // What a layer makes of it is made too.
  const auto frequencies = [](eh::RotaryOptions options) {
    options.head_size = 8;
    return eh::Rotary<double>(options).frequencies();
  };
  const auto read_yarn = [&](const std::string& fields, std::size_t notes) {
    const auto config =
        llama(length + R"("rope_scaling":{"rope_type":"yarn","factor":4)" + fields + "}");
    EXPECT_EQ(config.notes.size(), notes);
    EXPECT_EQ(frequencies(*config.encoder.layer.rotary).size(), 4u);
    return std::get<eh::YarnScaling>(config.encoder.layer.rotary->scaling);
  };
  const eh::YarnScaling all =
      read_yarn(R"(,"original_max_position_embeddings":2048,"beta_fast":16,"beta_slow":2,)"
                R"("attention_factor":1.25,"mscale":0.5,"mscale_all_dim":0.75,"truncate":false)",
                0);
  EXPECT_EQ(all.factor, 4);
  EXPECT_EQ(all.original_positions, 2048);
  EXPECT_EQ(all.beta_fast, 16);
  EXPECT_EQ(all.beta_slow, 2);
  EXPECT_EQ(all.attention_factor, 1.25);
  EXPECT_EQ(all.mscale, 0.5);
  EXPECT_EQ(all.mscale_all_dim, 0.75);
  EXPECT_FALSE(all.truncate);
  const eh::YarnScaling least = read_yarn("", 1);  // which says where the length is from
  EXPECT_EQ(least.original_positions, 8192);
  EXPECT_EQ(least.beta_fast, 32);
  EXPECT_EQ(least.beta_slow, 1);
  EXPECT_FALSE(least.attention_factor || least.mscale || least.mscale_all_dim);
  EXPECT_TRUE(least.truncate);

  const eh::RotaryOptions llama3 =
      *llama(R"("rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":2,)"
             R"("high_freq_factor":5,"original_max_position_embeddings":1024})")
           .encoder.layer.rotary;
  const auto bands = std::get<eh::Llama3Scaling>(llama3.scaling);
  EXPECT_EQ(bands.factor, 8);
  EXPECT_EQ(bands.low_frequency_factor, 2);
  EXPECT_EQ(bands.high_frequency_factor, 5);
  EXPECT_EQ(bands.original_positions, 1024);
  EXPECT_EQ(frequencies(llama3).size(), 4u);

  // Up to the length that it was trained on, nothing is scaled: 5/4 of it are 3/2 for a factor of 2.
  eh::RotaryOptions dynamic =
      *llama(length + R"("rope_scaling":{"type":"dynamic","factor":2})").encoder.layer.rotary;
  eh::RotaryOptions other = dynamic;
  other.scaling = {};
  EXPECT_EQ(frequencies(dynamic), frequencies(other));
  std::get<eh::DynamicNtkScaling>(dynamic.scaling).length = 8192 * 5 / 4;
  other.scaling = eh::NtkScaling{1.5};
  EXPECT_EQ(frequencies(dynamic), frequencies(other));
}

TEST_F(ModelConfig, RefusesAScalingThatItWouldNotUse) {
  EXPECT_EQ(llama_refusal(R"("rope_scaling":{"rope_type":"longrope","factor":4})"),
            "rope_scaling.rope_type is \"longrope\"; expected default, linear, dynamic, yarn or "
            "llama3");
  EXPECT_EQ(llama_refusal(R"("rope_scaling":{"factor":4})"),
            "rope_scaling.factor is 4; expected a rope_type that says what it is of");
  EXPECT_EQ(llama_refusal(R"("rope_parameters":{"rope_type":"default","factor":4})"),
            "rope_parameters.factor is 4; expected none where nothing is scaled");
  EXPECT_EQ(llama_refusal(R"("rope_scaling":{"type":"linear"})"),
            "there is no rope_scaling.factor");
  EXPECT_EQ(llama_refusal(R"("rope_scaling":{"type":"linear","factor":0})"),
            "rope_scaling.factor is 0; expected a number above 0");
}

TEST_F(ModelConfig, ReadsWhatTransformersWrites) {
  const auto bert = golden("bert");
  EXPECT_EQ(bert.family, &eh::checkpoint_families::bert);
  EXPECT_EQ(bert.encoder.layer.num_hiddens, 8);
  EXPECT_EQ(bert.encoder.layer.norm_eps, 1e-12);
  EXPECT_EQ(bert.num_types, 2);
  EXPECT_EQ(bert.first_position, 0);
  EXPECT_EQ(golden("roberta").first_position, 2);
  EXPECT_EQ(golden("mpnet").relative_buckets, 32);
  EXPECT_EQ(golden("mpnet").num_types, 0);
  EXPECT_EQ(golden("gpt2").encoder.layer.feed_forward_size, 12);
  EXPECT_TRUE(golden("gpt2").tied);
  EXPECT_FALSE(golden("llama").tied);
  EXPECT_EQ(golden("llama").encoder.layer.head_size, 6);
  EXPECT_TRUE(golden("qwen2").tied);
  EXPECT_TRUE(golden("qwen2").encoder.layer.bias);
}

TEST_F(ModelConfig, RefusesWhatTheLayersCannotExpress) {
  EXPECT_EQ(refusal("[]"), "expected a JSON object");
  EXPECT_EQ(refusal("{}"), "there is no model_type");
  EXPECT_TRUE(
      refusal(R"({"model_type":"t5"})").starts_with("model_type is \"t5\"; expected bert,"));
  const std::string gpt2 = R"({"model_type":"gpt2","n_embd":6,"n_layer":1,"n_head":2,)"
                           R"("vocab_size":9,)";
  EXPECT_EQ(refusal(gpt2 + R"("n_inner":null})"), kNothing);
  EXPECT_EQ(read(gpt2 + R"("n_inner":null})").encoder.layer.feed_forward_size, 24);
  EXPECT_EQ(refusal(gpt2 + R"("scale_attn_weights":false})"),
            "scale_attn_weights is false; expected true: the layers of this library have no place "
            "for it");
  EXPECT_TRUE(refusal(gpt2 + R"("activation_function":"quick_gelu"})")
                  .starts_with("activation_function is \"quick_gelu\"; expected gelu"));
  EXPECT_EQ(refusal(R"({"model_type":"distilbert","dim":7,"n_layers":1,"n_heads":2,)"
                    R"("vocab_size":9})"),
            "dim is 7 and n_heads is 2; expected a multiple of it");
}

// Whatever these families' own code is told of it, it turns whole heads, or fails.
TEST_F(ModelConfig, RefusesToTurnAPartOfAHead) {
  EXPECT_EQ(llama(R"("partial_rotary_factor":1.0)").encoder.layer.rotary->rotated, 0);
  EXPECT_EQ(llama_refusal(R"("partial_rotary_factor":0.25)"),
            "partial_rotary_factor is 0.25; expected 1: these families turn whole heads");
  EXPECT_EQ(
      llama_refusal(R"("rope_parameters":{"partial_rotary_factor":1e300})"),
      "rope_parameters.partial_rotary_factor is 1e+300; expected 1: these families turn whole "
      "heads");
}

TEST_F(ModelConfig, RefusesWindowsOfSomeLayers) {
  const std::string full = R"("layer_types":["full_attention","full_attention"])";
  EXPECT_EQ(llama_refusal(full), kNothing);
  EXPECT_EQ(
      llama_refusal(R"("layer_types":["full_attention","sliding_attention"])"),
      "layer_types is [\"full_attention\",\"sliding_attention\"]; expected \"full_attention\" in "
      "every layer");
  EXPECT_EQ(llama(R"("use_sliding_window":true,"sliding_window":16)").window, 0);  // no Llama looks
  const std::string slides = R"("use_sliding_window":true)";
  for (const char* window : {"", R"(,"sliding_window":4)"})
    EXPECT_EQ(refusal(qwen2(slides + R"(,"max_window_layers":1)" + window)),
              "use_sliding_window is true; expected false: a window of some layers has no place "
              "here");
  // Of two layers.
  EXPECT_EQ(refusal(qwen2(slides + R"(,"max_window_layers":2)")), kNothing);
  EXPECT_EQ(refusal(qwen2(slides)), kNothing);
  EXPECT_EQ(refusal(qwen2(slides + R"(,"max_window_layers":0,"sliding_window":null)")), kNothing);
  EXPECT_EQ(read(qwen2(R"("sliding_window":4)")).window, 0);
  EXPECT_EQ(read(mistral(R"("sliding_window":16)")).window, 16);
  EXPECT_EQ(refusal(mistral(R"("layer_types":["full_attention","full_attention"])")),
            "layer_types is [\"full_attention\",\"full_attention\"]; expected "
            "\"sliding_attention\" in every layer");
}

// What a field that is not there stands for; null says that there is none.
TEST_F(ModelConfig, TakesWhatIsNotSaidForWhatTheFamilyDoesAndSaysSo) {
  const auto of_mistral = read(mistral(""));
  EXPECT_EQ(of_mistral.encoder.layer.num_kv_heads, 8);
  EXPECT_EQ(of_mistral.window, 4096);
  EXPECT_EQ(of_mistral.encoder.layer.rotary->max_positions, 131072);
  EXPECT_EQ(of_mistral.notes,
            (std::vector<std::string>{"num_key_value_heads is not said: it is taken for 8",
                                      "sliding_window is not said: it is taken for 4096",
                                      "max_position_embeddings is not said: it is taken for 131072",
                                      "rope_theta is not said: it is taken for 10000"}));
  const auto none = read(mistral(R"("sliding_window":null,"num_key_value_heads":null)"));
  EXPECT_EQ(none.window, 0);
  EXPECT_EQ(none.encoder.layer.num_kv_heads, 16);
  EXPECT_EQ(read(qwen2("")).encoder.layer.num_kv_heads, 32);
  EXPECT_EQ(read(qwen2("")).encoder.layer.rotary->max_positions, 32768);
  EXPECT_EQ(llama().encoder.layer.rotary->max_positions, 2048);
}

TEST_F(ModelConfig, RefusesModelsThatSeeWhatComes) {
  EXPECT_EQ(llama_refusal(R"("is_causal":true)"), kNothing);
  const std::string expected =
      "is_causal is false; expected true: the layers of this library have no place for it";
  EXPECT_EQ(llama_refusal(R"("is_causal":false)"), expected);
  EXPECT_EQ(refusal(R"({"model_type":"gpt2","n_embd":6,"n_layer":1,"n_head":2,"vocab_size":9,)"
                    R"("is_causal":false})"),
            expected);
}

TEST_F(ModelConfig, RefusesPositionsThatAreSaidTwiceOrByLayer) {
  const std::string yarn = R"("rope_scaling":{"rope_type":"yarn","factor":4})";
  EXPECT_EQ(llama_refusal(R"("rope_parameters":{"rope_theta":5e5,"rope_type":"default"},)" + yarn),
            "rope_scaling is {\"factor\":4,\"rope_type\":\"yarn\"}; expected none beside "
            "rope_parameters, of which only one would count");
  EXPECT_TRUE(std::holds_alternative<eh::YarnScaling>(
      llama(R"("rope_parameters":{},)" + yarn).encoder.layer.rotary->scaling));
  EXPECT_EQ(llama_refusal(R"("rope_parameters":{"full_attention":{"rope_type":"linear"}})"),
            "rope_parameters.full_attention is {\"rope_type\":\"linear\"}; expected none: all "
            "layers have the same positions here");
  EXPECT_EQ(llama_refusal(R"("rope_scaling":{"type":"linear","rope_type":"yarn","factor":4})"),
            "rope_scaling.type is \"linear\"; expected \"yarn\", as rope_type is");
  const std::string outside = R"("original_max_position_embeddings":1024,"rope_scaling":)";
  EXPECT_EQ(std::get<eh::YarnScaling>(
                llama(outside + R"({"type":"yarn","factor":4})").encoder.layer.rotary->scaling)
                .original_positions,
            1024);
  EXPECT_EQ(
      llama_refusal(outside + R"({"type":"yarn","factor":4,)"
                              R"("original_max_position_embeddings":512})"),
      "rope_scaling.original_max_position_embeddings is 512; expected 1024, as is said beside "
      "it");
}

TEST_F(ModelConfig, CountsPositionsAsTheFamilyDoes) {
  const auto bert = [](const std::string& type, const std::string& fields) {
    return R"({"model_type":")" + type +
           R"(","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,)"
           R"("intermediate_size":12,"vocab_size":9,"max_position_embeddings":514)" +
           fields + "}";
  };
  EXPECT_EQ(read(bert("bert", R"(,"pad_token_id":7)")).first_position, 0);
  EXPECT_EQ(read(bert("mpnet", R"(,"pad_token_id":0)")).first_position, 2);
  EXPECT_EQ(read(bert("roberta", R"(,"pad_token_id":5)")).first_position, 6);
  EXPECT_EQ(read(bert("roberta", "")).first_position, 2);
  EXPECT_EQ(read(bert("roberta", "")).padding_id, 1);
  EXPECT_EQ(refusal(bert("roberta", R"(,"pad_token_id":-1)")),
            "pad_token_id is -1; expected 0 or more: positions are counted from it");
  EXPECT_EQ(refusal(bert("roberta", R"(,"pad_token_id":513)")),
            "max_position_embeddings is 514; expected more than 514, the first token's position");
  EXPECT_EQ(refusal(bert("mpnet", R"(,"relative_attention_num_buckets":64)")),
            "relative_attention_num_buckets is 64; expected 32, which positions are counted in");
}

// Whatever it reads, a layer can be made of; and what it refuses, it says by the field's name.
TEST_F(ModelConfig, MakesARotaryOfWhateverItReads) {
  const auto scaled = [&](const std::string& fields) {
    return llama_refusal(R"("rope_scaling":{)" + fields + "}");
  };
  EXPECT_EQ(llama_refusal(R"("head_dim":7)"),
            "heads have 7 numbers; expected an even number, of which pairs are turned");
  EXPECT_EQ(llama_refusal(R"("rope_theta":1e-308)"),
            "rope_theta is 1e-308; expected a number that positions can be divided by");
  EXPECT_EQ(scaled(R"("type":"linear","factor":0.5)"),
            "rope_scaling.factor is 0.5; expected 1 or more");
  EXPECT_EQ(scaled(R"("type":"yarn","factor":4,"beta_fast":1)"),
            "rope_scaling.beta_fast is 1; expected a beta_fast that is more than beta_slow");
  EXPECT_EQ(scaled(R"("type":"yarn","factor":4,"rope_theta":1)"),
            "rope_theta is 1; expected more than 1 for yarn");
  EXPECT_EQ(scaled(R"("type":"llama3","factor":4,"low_freq_factor":4,"high_freq_factor":4)"),
            "rope_scaling.high_freq_factor is 4; expected more than low_freq_factor");
  std::mt19937 random(5);
  const auto one_of = [&](const std::vector<std::string>& values) {
    return values[random() % values.size()];
  };
  int made = 0;
  for (int round = 0; round < 600; ++round) {
    std::string fields = R"("head_dim":)" + one_of({"1", "2", "3", "6", "8", "128"});
    if (random() % 2 == 0)
      fields += R"(,"max_position_embeddings":)" + one_of({"1", "5", "4096", "1073741824"});
    if (random() % 2 == 0)
      fields += R"(,"rope_theta":)" + one_of({"1e-300", "0.5", "1", "1e4", "1e300"});
    std::string scaling;
    for (const char* name :
         {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow",
          "attention_factor", "mscale", "mscale_all_dim", "low_freq_factor", "high_freq_factor"})
      if (random() % 2 == 0)
        scaling += std::string(",\"") + name + "\":" + one_of({"1", "2", "8", "40", "3.5", "1e9"});
    if (random() % 8 != 0)
      fields += R"(,"rope_scaling":{"type":)" +
                one_of({R"("linear")", R"("dynamic")", R"("yarn")", R"("llama3")"}) + scaling + "}";
    eh::ModelConfig config;
    if (llama_refusal(fields) != kNothing) continue;
    config = llama(fields);
    eh::RotaryOptions options = *config.encoder.layer.rotary;
    options.head_size = config.encoder.layer.head_size;
    const double last = static_cast<double>(options.max_positions) - 1;
    options.max_positions = (std::min)(options.max_positions, Index{9});  // a table of these
    const eh::Rotary<double> rotary(options);
    for (const double w : rotary.frequencies()) ASSERT_TRUE(std::isfinite(w * last)) << fields;
    ASSERT_TRUE(std::isfinite(rotary.attention_factor())) << fields;
    ++made;
  }
  EXPECT_GT(made, 60);
}

// Products of sizes that one number each can hold would overflow.
TEST_F(ModelConfig, RefusesSizesThatNoMemoryHolds) {
  EXPECT_EQ(llama_refusal(R"("head_dim":3000000000)"),
            "head_dim is 3000000000; expected a whole number, 1 or more, at most 2^30");
}

TEST_F(ModelConfig, IsRefusedOrReadHoweverItIsDamaged) {
  const std::string whole = eh::read_file(std::filesystem::path(EIGENHEADS_SOURCE_DIR) /
                                          "tests/golden/checkpoints/llama/config.json");
  const std::filesystem::path file = folder_ / "config.json";
  std::mt19937 random(5);
  for (std::size_t round = 0; round < 2000; ++round) {
    std::string changed = whole;
    if (round < whole.size())
      changed.resize(round);
    else
      changed[random() % whole.size()] = static_cast<char>(random());
    const auto parse = [&] {
      const auto document = eh::detail::parse_json(file, changed);
      (void)eh::detail::ModelConfigReader({file, document}).read();
    };
    const std::string sentence = support::file_refusal(file, parse);
    if (round < whole.size() - 2) {
      EXPECT_NE(sentence, kNothing) << round;
    }
  }
}

}  // namespace
