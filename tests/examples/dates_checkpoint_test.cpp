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
#include <eigenheads/io/file.hpp>
#include <eigenheads/io/safetensors.hpp>
#include <eigenheads/mpi/local_transport.hpp>

#include "dates/checkpoint.hpp"
#include "dates/reading.hpp"
#include "dates/train.hpp"
#include "support.hpp"

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

// A run of three ranks that goes on on two, and then alone.
TEST_F(DatesCheckpoint, ARunGoesOnOnAnotherNumberOfRanks) {
  TrainOptions options = options_;
  options.shards = 3;
  const auto run = [&](int ranks, eigenheads::Index steps, const std::string& from,
                       const std::string& to) {
    eigenheads::mpi::run_locally(ranks, [&](eigenheads::mpi::Ranks& all) {
      eigenheads::Context context;
      Trainer<float> trainer(options, &all);
      if (!from.empty()) load_checkpoint(path(from), trainer);
      while (trainer.step_count() < steps) trainer.step(context);
      save_checkpoint(path(to), trainer);
    });
  };
  run(1, 16, "", "whole");
  run(3, 5, "", "first");
  run(2, 9, "first", "second");
  run(1, 16, "second", "last");
  EXPECT_EQ(eigenheads::read_file(path("last")), eigenheads::read_file(path("whole")));
  Trainer<float> alone(options);
  load_checkpoint(path("first"), alone);
  while (!alone.is_done()) alone.step(context_);
  save_checkpoint(path("alone"), alone);
  EXPECT_EQ(eigenheads::read_file(path("alone")), eigenheads::read_file(path("whole")));

  Trainer<float> other(options_);
  const std::string sentence = support::refusal<std::runtime_error>([&] {
    load_checkpoint(path("first"), other);
    return 0;
  });
  EXPECT_EQ(sentence,
            path("first").string() + ": a checkpoint of a run with 3 shards; this one has 1");
}

// A full disk, as all ranks see it.
TEST_F(DatesCheckpoint, WhatTheFirstRankCannotWriteEndsAll) {
  std::vector<std::string> sentences(3);
  eigenheads::mpi::run_locally(3, [&](eigenheads::mpi::Ranks& ranks) {
    const Trainer<float> trainer(options_, &ranks);
    try {
      save_checkpoint(path("no_folder") / "file", trainer);
    } catch (const std::runtime_error& error) {
      sentences[static_cast<std::size_t>(ranks.rank())] = error.what();
    }
  });
  EXPECT_NE(sentences[0].find("No such file or directory"), std::string::npos) << sentences[0];
  const std::string own = "eigenheads: ";
  ASSERT_TRUE(sentences[0].starts_with(own)) << sentences[0];
  for (const std::size_t rank : {1U, 2U})
    EXPECT_EQ(sentences[rank], own + "rank 0 threw: " + sentences[0].substr(own.size()));
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
