// SPDX-License-Identifier: MIT
// examples/generate: its stories and who judges them, its model and its files, UTF-8, and that the
// weights that come with it write stories that are right.
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/io/safetensors.hpp>
#include <eigenheads/mpi/local_transport.hpp>

#include "generate/byte_writing.hpp"
#include "generate/checkpoint.hpp"
#include "generate/stories.hpp"
#include "generate/train.hpp"
#include "generate/utf8.hpp"
#include "generate/writing.hpp"

namespace {

using namespace byte_model;
using language_model::look, language_model::search_after, language_model::write_after;

constexpr ModelOptions kSmall{.num_hiddens = 16,
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .num_layers = 2,
                              .inner = 24,
                              .window = 24};
const TrainOptions kShort{
    .steps = 12, .batch_size = 3, .warmup = 4, .learning_rate = 1e-2, .model = kSmall};

[[nodiscard]] std::uint64_t hash_of(const Model<float>& model) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  model.for_each_parameter([&](const auto& parameter) {
    for (Index i = 0; i < parameter.size(); ++i)
      hash = (hash ^ std::bit_cast<std::uint32_t>(parameter.get(i))) * 0x100000001B3u;
  });
  return hash;
}

// ---- Stories ------------------------------------------------------------------------------------

TEST(GenerateStories, AreRightByTheirOwnJudge) {
  for (std::uint64_t i = 0; i < 2000; ++i)
    ASSERT_TRUE(judge(story(5, i)).is_right()) << story(5, i);
  EXPECT_EQ(eigenheads::random_stream(stories(1, 1000)), 0xa7463cd9e524527bu);
}

TEST(GenerateStories, TheJudgeSeesWhatIsWrong) {
  const std::string right =
      "Mira has 7 apples. Tom gives her 5 more, and now she has 12 apples. In the end Mira has 12 "
      "apples.";
  const auto with = [&](std::string_view old, std::string_view fresh) {
    std::string text = right;
    text.replace(text.find(old), old.size(), fresh);
    return judge(text);
  };
  EXPECT_TRUE(judge(right).is_right());
  EXPECT_FALSE(with("end Mira", "end Lena").names);
  EXPECT_FALSE(with("Tom", "Mira").names);
  EXPECT_FALSE(with("her", "him").pronouns);
  EXPECT_FALSE(with("now she", "now he").pronouns);
  EXPECT_FALSE(with("12 apples. In", "12 pears. In").things);
  EXPECT_FALSE(with("7 apples", "7 apple").things);
  EXPECT_FALSE(with("5 more", "6 more").sums);
  EXPECT_FALSE(with("has 12 apples.", "has 13 apples.").sums);
  EXPECT_FALSE(with(" In the end Mira has 12 apples.", "").is_formed);
  EXPECT_FALSE(with(" Tom gives her 5 more, and now she has 12 apples.", "").is_formed);
  EXPECT_FALSE(with("gives", "gvies").is_formed);
}

// ---- UTF-8 --------------------------------------------------------------------------------------

TEST(GenerateUtf8, WholeCharactersComeAsSoonAsTheyAreWhole) {
  const std::string text = "a\u00e4\u20ac\U0001F600b";
  EXPECT_EQ(find_broken(text), std::string::npos);
  Utf8Stream stream;
  std::string shown;
  for (const char c : text) {
    const std::string part = stream.add(c);
    EXPECT_EQ(find_broken(part), std::string::npos);
    shown += part;
    EXPECT_TRUE(text.starts_with(shown));
  }
  EXPECT_EQ(shown + stream.finish(), text);
}

TEST(GenerateUtf8, WhatIsNoneIsFoundAndReplaced) {
  const auto shown = [](std::string_view bytes) {
    Utf8Stream stream;
    std::string text;
    for (const char c : bytes) text += stream.add(c);
    return text + stream.finish();
  };
  EXPECT_EQ(shown("\x80x"), "\uFFFDx");
  EXPECT_EQ(shown("\xE2\x82"), "\uFFFD");  // ends too soon
  EXPECT_EQ(shown("\xE2\x82x"), "\uFFFDx");
  EXPECT_EQ(shown("\xC0\xAF"), "\uFFFD\uFFFD");                      // longer than it must be
  EXPECT_EQ(shown("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // half of a surrogate pair
  EXPECT_EQ(shown("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  EXPECT_EQ(find_broken("ab\xFF"), 2u);
  EXPECT_EQ(find_broken("ab\xE2\x82"), 2u);
}

// ---- The model ----------------------------------------------------------------------------------

// Through a cache that keeps a window, of texts that are longer, as from reading all of it again.
TEST(GenerateModel, WritesWhatReadingAllAgainWrites) {
  const Model<float> model(kSmall, 3);
  eigenheads::Context context;
  const std::vector<Ids> prompts{prompt_ids("Mira has"), prompt_ids("T"), prompt_ids("\u00e4")};
  const eigenheads::GenerateOptions options{
      .sampling = {.temperature = 0.9, .top_p = 0.95, .seed = 4}, .max_new_tokens = 60};
  const auto texts = write_after(model, prompts, options, context);
  for (std::size_t b = 0; b < prompts.size(); ++b) {
    eigenheads::GenerateOptions own = options;
    own.first_sequence = b;
    Ids read;
    const auto whole = [&](TensorView<Index, 1> ids, const Sequences&) {
      read.insert(read.end(), ids.data(), ids.data() + ids.size());
      const Tensor<float, 2> logits = model(read, Sequences{std::ssize(read)}, context);
      Tensor<float, 2> last(1, kBytes);
      std::copy_n(logits.data() + logits.size() - kBytes, kBytes, last.data());
      return last;
    };
    const auto again = eigenheads::generate(whole, {prompts[b]}, own, context);
    EXPECT_EQ(again.front().ids, texts[b]) << b;
  }
}

TEST(GenerateModel, OneBeamIsTheLikeliestByte) {
  const Model<float> model(kSmall, 3);
  eigenheads::Context context;
  const auto greedy = write_after(
      model, {prompt_ids("Tom")},
      {.sampling = {.temperature = 0}, .max_new_tokens = 30, .stop_ids = {to_id('\n')}}, context);
  const auto one = search_after(model, prompt_ids("Tom"),
                                {.beams = 1, .most = 30, .stop_ids = {to_id('\n')}}, context);
  EXPECT_EQ(one.front().ids, greedy.front());
  const auto four = search_after(model, prompt_ids("Tom"),
                                 {.beams = 4, .most = 30, .stop_ids = {to_id('\n')}}, context);
  ASSERT_EQ(four.size(), 4u);
  for (std::size_t i = 1; i < 4; ++i)
    EXPECT_GE(four[i - 1].log_probability, four[i].log_probability);
}

TEST(GenerateModel, LooksAtNothingThatComesLater) {
  const Model<float> model(kSmall, 3);
  eigenheads::Context context;
  const std::string text = "Mira has 7 apples. Tom \u00e4 has";  // longer than the window
  const auto layers = look(model, to_ids(text), {}, context);
  ASSERT_EQ(layers.size(), 2u);
  const Index L = std::ssize(text);
  for (const auto& layer : layers) {
    ASSERT_EQ(layer.weights.size(), 4 * L * L);
    for (Index h = 0; h < 4; ++h)
      for (Index q = 0; q < L; ++q) {
        float sum = 0;
        for (Index k = 0; k < L; ++k) {
          const bool is_seen = k <= q && k + kSmall.window > q;
          EXPECT_EQ(layer.weights(h, q, k) > 0, is_seen) << q << ' ' << k;
          sum += layer.weights(h, q, k);
        }
        EXPECT_NEAR(sum, 1, 1e-5f);
      }
  }
}

// ---- Training -----------------------------------------------------------------------------------

TEST(GenerateTraining, BeginsWithTheseBits) {
  for (const int threads : {1, 3}) {
    eigenheads::Context context(threads);
    Trainer<float> trainer(kShort, {stories(1, 50), ""});
    const double first = trainer.step(context);
    double last = 0;
    while (!trainer.is_done()) last = trainer.step(context);
    EXPECT_LT(last, first);
    EXPECT_EQ(hash_of(trainer.model), 0xb945c61ab7110d4bu) << threads;
  }
}

TEST(GenerateTraining, AnyNumberOfRanksMakesTheSameModel) {
  TrainOptions options = kShort;
  options.shards = 8;
  const auto trained = [&](eigenheads::mpi::Ranks* ranks) {
    eigenheads::Context context;
    Trainer<float> trainer(options, {stories(1, 50), ""}, ranks);
    while (!trainer.is_done()) trainer.step(context);
    return hash_of(trainer.model);
  };
  const auto expected = trained(nullptr);
  for (const int size : {2, 3})
    eigenheads::mpi::run_locally(
        size, [&](eigenheads::mpi::Ranks& ranks) { EXPECT_EQ(trained(&ranks), expected) << size; });
}

TEST(GenerateTraining, HoldsOutTheEndOfATextAndMeasuresItByPieces) {
  const std::string text = stories(3, 20);
  const Texts parts = split(text);
  EXPECT_EQ(parts.training + parts.held_out, text);
  EXPECT_EQ(parts.held_out.size(), text.size() / 20);

  eigenheads::Context context(1);
  // 24 bytes a piece: two whole ones, and one of 11.
  const Trainer<float> trainer(kShort, {text, text.substr(0, 60)});
  double sum = 0;
  for (std::size_t i = 0; i + 1 < 60; ++i) {
    const std::size_t first = i / 24 * 24;
    const Ids ids = to_ids(text.substr(first, i - first + 1));
    const auto logits = trainer.model(ids, {std::ssize(ids)}, context);
    double exps = 0;
    const float* const last = logits.data() + (std::ssize(ids) - 1) * kBytes;
    for (Index k = 0; k < kBytes; ++k) exps += std::exp(static_cast<double>(last[k]));
    sum += std::log(exps) - static_cast<double>(last[to_id(text[i + 1])]);
  }
  EXPECT_NEAR(trainer.held_out_loss(context), sum / 59, 1e-5);
  EXPECT_TRUE(std::isnan(Trainer<float>(kShort, {text, "a"}).held_out_loss(context)));
}

class GenerateCheckpoint : public testing::Test {
 protected:
  GenerateCheckpoint() { std::filesystem::create_directories(folder_); }
  ~GenerateCheckpoint() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  eigenheads::Context context_;

 private:
  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      (std::string("eigenheads_") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(GenerateCheckpoint, ARunOfBytesGoesOnAsIfItHadNotStopped) {
  const Texts text{stories(1, 50), ""};
  Trainer<float> whole(kShort, text), first(kShort, text), second(kShort, text);
  while (first.step_count() < 5) EXPECT_EQ(first.step(context_), whole.step(context_));
  save_checkpoint(path("half.safetensors"), first);
  load_checkpoint(path("half.safetensors"), second);
  EXPECT_EQ(second.step_count(), 5);
  while (!whole.is_done()) EXPECT_EQ(second.step(context_), whole.step(context_));
  save_model(path("model.safetensors"), second.model);
  EXPECT_EQ(hash_of(load_model(path("model.safetensors"))), hash_of(whole.model));

  Trainer<float> other(kShort, {stories(2, 50), ""});
  EXPECT_THROW(load_checkpoint(path("half.safetensors"), other), std::runtime_error);
  EXPECT_EQ(other.step_count(), 0);
  EXPECT_THROW(Trainer<float>(kShort, {"too short", ""}), std::runtime_error);
}

TEST_F(GenerateCheckpoint, WhatIsNoModelOfBytesIsRefused) {
  eigenheads::Safetensors file;
  file.set_metadata("num_hiddens", "ninety-six");
  eigenheads::write_safetensors(path("other.safetensors"), file);
  EXPECT_THROW((void)load_model(path("other.safetensors")), std::runtime_error);
  eigenheads::Safetensors uneven;
  for (const char* name :
       {"num_hiddens", "num_heads", "num_kv_heads", "num_layers", "inner", "window"})
    uneven.set_metadata(name, std::string(name) == "num_kv_heads" ? "3" : "4");
  eigenheads::write_safetensors(path("uneven.safetensors"), uneven);
  EXPECT_THROW((void)load_model(path("uneven.safetensors")), std::runtime_error);
}

// ---- The weights that come with it --------------------------------------------------------------

// README has the figures of more stories; here it is to be quick, and the bound leaves room for what so
// few differ by.
TEST(GenerateShipped, EndsStoriesRightly) {
  const Model<float> model = load_model(std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "examples" /
                                        "generate" / "weights.safetensors");
  eigenheads::Context context(2);
  const Score score = score_stories(model, 50, {.temperature = 1}, [](auto&&...) {}, context);
  EXPECT_EQ(score.count, 50);
  EXPECT_GE(score.formed, 45);
  EXPECT_GE(score.names, 45);
  EXPECT_GE(score.right, 40);
  const auto line =
      search_after(model, prompt_ids("Mira has 7 apples. Tom gives her 5 more, and now she has"),
                   {.beams = 2, .most = 200, .stop_ids = {to_id('\n')}}, context);
  const std::string text = to_text(line.front().ids);
  EXPECT_TRUE(text.starts_with(" 12 apples.")) << text;
}

}  // namespace
