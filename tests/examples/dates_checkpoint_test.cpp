// SPDX-License-Identifier: MIT
// The files of examples/dates: models come back as they were, and runs go on as if never stopped.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/io/safetensors.hpp>

#include "dates/checkpoint.hpp"
#include "dates/reading.hpp"
#include "dates/train.hpp"

namespace {

using namespace dates;

class DatesCheckpoint : public testing::Test {
 protected:
  DatesCheckpoint() { std::filesystem::create_directories(folder_); }
  ~DatesCheckpoint() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  const TrainOptions options_{.steps = 16,
                              .batch_size = 4,
                              .warmup = 4,
                              .model = {.num_hiddens = 8, .num_heads = 2, .inner = 12}};
  eigenheads::Context context_;

 private:
  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      (std::string("eigenheads_") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(DatesCheckpoint, AModelReadsAsBefore) {
  const Model<float> model(options_.model, 3);
  save_model(path("model.safetensors"), model, options_.model);
  const Model<float> again = load_model(path("model.safetensors"));
  const std::vector<std::string> texts{"5 March 1999", "room 12"};
  const auto before = read(model, texts, context_), after = read(again, texts, context_);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(before[i].symbols, after[i].symbols);
    EXPECT_EQ(before[i].confidence, after[i].confidence);
  }
}

TEST_F(DatesCheckpoint, ARunGoesOnAsIfItHadNotStopped) {
  Trainer<float> whole(options_), first(options_), second(options_);
  while (first.step_count() < 7) EXPECT_EQ(first.step(context_), whole.step(context_));
  save_checkpoint(path("half.safetensors"), first);
  load_checkpoint(path("half.safetensors"), second);
  EXPECT_EQ(second.step_count(), 7);
  while (!whole.is_done()) EXPECT_EQ(second.step(context_), whole.step(context_));
  EXPECT_TRUE(second.is_done());
  save_checkpoint(path("whole.safetensors"), whole);
  save_checkpoint(path("second.safetensors"), second);
  const auto a = eigenheads::read_safetensors(path("whole.safetensors"));
  const auto b = eigenheads::read_safetensors(path("second.safetensors"));
  ASSERT_EQ(a.names(), b.names());
  std::vector<std::string> texts{"5 March 1999"};
  EXPECT_EQ(read(load_model(path("whole.safetensors")), texts, context_)[0].confidence,
            read(second.model, texts, context_)[0].confidence);
}

TEST_F(DatesCheckpoint, ThatOfAnotherRunIsRefused) {
  const Trainer<float> trainer(options_);
  save_checkpoint(path("one.safetensors"), trainer);
  TrainOptions options = options_;
  options.seed = 2;
  Trainer<float> other(options);
  EXPECT_THROW(load_checkpoint(path("one.safetensors"), other), std::runtime_error);
  EXPECT_EQ(other.step_count(), 0);
}

TEST_F(DatesCheckpoint, WhatIsNoModelIsRefused) {
  eigenheads::Safetensors file;
  file.set_metadata("num_hiddens", "sixty-four");
  eigenheads::write_safetensors(path("other.safetensors"), file);
  EXPECT_THROW((void)load_model(path("other.safetensors")), std::runtime_error);
  save_model(path("model.safetensors"), Model<float>(options_.model, 3),
             {.num_hiddens = 16, .num_heads = 2, .inner = 12});
  EXPECT_THROW((void)load_model(path("model.safetensors")), eigenheads::FileError);
}

}  // namespace
