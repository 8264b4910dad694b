// SPDX-License-Identifier: MIT
// Without memory for what writing or reading a file takes, whichever allocation it is: the files are as
// they were, and so is what was to be read into.
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <eigenheads/io/model_config.hpp>
#include <eigenheads/nn/torch_parameters.hpp>
#include <eigenheads/nn/transformer_encoder_layer.hpp>

#include "faults/failing_memory.hpp"
#include "faults/modules.hpp"
#include "faults/writers.hpp"

namespace {

using namespace support;
namespace fs = std::filesystem;

class FilesMemory : public FastFolder {};

// The C library, too, says that there is no memory: then the error is of the file.
using Documented = eh::FileError;

TEST_F(FilesMemory, WithoutItTheOldFileStays) {
  for (const Writer& writer : all_writers()) {
    // Written by what is tried with others.
    if (writer.name == "sequence.safetensors" || writer.name == "model.safetensors") continue;
    SCOPED_TRACE(writer.name);
    // What is thrown passes the same destructors, whatever is written.
    const bool stays_away = writer.name == "a.npy" || writer.name == "some.safetensors.index.json";
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    const fs::path path = folder_ / writer.name;
    writer.write(path, 1);
    const Contents after = contents_of(folder_);
    writer.write(path, 0);
    const Contents before = contents_of(folder_);
    fails_at_each_allocation<Documented>(
        [&] {
          writer.write(path, 0);
          return 0;
        },
        [&](int) { writer.write(path, 1); }, [&](int) { EXPECT_EQ(contents_of(folder_), before); },
        [&](int) {
          const Contents now = contents_of(folder_);
          for (const auto& [name, bytes] : after)
            EXPECT_TRUE(now.contains(name) && now.at(name) == bytes);
          EXPECT_EQ(now.size(), before.size());
        },
        stays_away);
  }
}

template <class Module, class Load>
void expect_whole_loads(const Module& before, const Module& in_file, const Load& load,
                        bool stays_away = true) {
  const long count = fails_at_each_allocation<Documented>(
      [&] { return Module(before); }, load,
      [&](const Module& now) { EXPECT_TRUE(same_parameters(now, before)); },
      [&](const Module& now) { EXPECT_TRUE(same_parameters(now, in_file)); }, stays_away);
  EXPECT_GE(count, 20);
}

// Names are longer than strings hold in themselves.
using EncoderLayer = eh::TransformerEncoderLayer<float>;
[[nodiscard]] EncoderLayer encoder_layer(std::uint64_t seed) {
  return EncoderLayer({.num_hiddens = 4, .num_heads = 2, .feed_forward_size = 4}, seed);
}

TEST_F(FilesMemory, WithoutItAModuleStaysWhatItIs) {
  const auto before = encoder_layer(1), in_file = encoder_layer(2);
  const fs::path path = folder_ / "module.safetensors";
  eh::save_parameters(path, in_file);
  expect_whole_loads(before, in_file, [&](EncoderLayer& to) { eh::load_parameters(path, to); });
  eh::save_checkpoint(path, eh::checkpoint_families::torch_transformer, "", in_file);
  expect_whole_loads(
      before, in_file,
      [&](EncoderLayer& to) { eh::load_torch_parameters(to, eh::read_safetensors(path)); }, false);
  const fs::path index = folder_ / "some.safetensors.index.json";
  eh::save_checkpoint(index, eh::checkpoint_families::torch_transformer, "", in_file,
                      {.shard_bytes = 200});
  // An index becomes a document of nlohmann-json, whose destructor takes memory: where there is none
  // any more while one is parsed, it ends the program.
  expect_whole_loads(
      before, in_file,
      [&](EncoderLayer& to) {
        eh::load_checkpoint(eh::SafetensorsFiles(index), eh::checkpoint_families::torch_transformer,
                            "", to);
      },
      false);
}

TEST_F(FilesMemory, WithoutItACacheStaysWhatItIs) {
  const fs::path path = folder_ / "cache.safetensors";
  eh::save_kv_cache(path, some_cache(1));
  const auto layer = some_layer(0);
  const auto token = random_tensor<float>(4, 2, 1, 8);
  eh::Context context;
  const auto next = [&](const eh::KvCache<float>& cache) {
    auto copy = cache.copy();
    return layer.step(token, copy, {}, context);
  };
  const auto before = next(some_cache(0)), after = next(some_cache(1));
  fails_at_each_allocation<Documented>(
      [] { return some_cache(0); },
      [&](eh::KvCache<float>& cache) { eh::load_kv_cache(path, cache); },
      [&](const eh::KvCache<float>& cache) { EXPECT_TRUE(same_bits(next(cache), before)); },
      [&](const eh::KvCache<float>& cache) { EXPECT_TRUE(same_bits(next(cache), after)); });
}

TEST_F(FilesMemory, WithoutItNothingIsReadAndNothingLeaks) {
  const fs::path npy = folder_ / "a.npy", whole = folder_ / "a.safetensors";
  const auto numbers = random_tensor<float>(1, 3, 4);
  eh::save_npy(npy, numbers);
  eh::write_safetensors(whole, some_tensors(1));
  const auto expect_to_read = [](const auto& expected, const auto& read) {
    fails_at_each_allocation<Documented>(
        [] { return Tensor<float, 2>(); }, [&](Tensor<float, 2>& to) { to = read(); },
        [](const Tensor<float, 2>& to) { EXPECT_EQ(to.size(), 0); },
        [&](const Tensor<float, 2>& to) { EXPECT_TRUE(same_bits(to, expected)); });
  };
  const auto a = random_tensor<float>(1, 3, 4);
  expect_to_read(numbers, [&] { return eh::load_npy<float, 2>(npy); });
  expect_to_read(a, [&] { return eh::read_safetensors(whole).tensor<float, 2>("a"); });
  expect_to_read(a, [&] { return eh::SafetensorsFiles(whole).tensor<float, 2>("a"); });
  const fs::path config = folder_ / "config.json";
  fs::copy_file(fs::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/checkpoints/llama/config.json",
                config);
  fails_at_each_allocation<Documented>(
      [] { return Index{0}; },
      [&](Index& size) { size = eh::read_model_config(config).vocab_size; },
      [](Index size) { EXPECT_EQ(size, 0); }, [](Index size) { EXPECT_GT(size, 0); }, false);
}

// What is to be written gets all of a tensor, or nothing of it.
TEST_F(FilesMemory, WithoutItATensorIsNotAdded) {
  const std::string name = "a name that a string does not hold in itself";
  const auto numbers = random_tensor<float>(1, 3, 4);
  fails_at_each_allocation([] { return some_tensors(0); },
                           [&](eh::Safetensors& file) { file.add(name, numbers); },
                           [&](const eh::Safetensors& file) {
                             EXPECT_FALSE(file.contains(name));
                             EXPECT_EQ(file.names().size(), 3u);
                           },
                           [&](const eh::Safetensors& file) {
                             EXPECT_TRUE(same_bits(file.tensor<float, 2>(name), numbers));
                             EXPECT_EQ(file.names().size(), 4u);
                           });
  fails_at_each_allocation(
      [] { return some_tensors(0); }, [&](eh::Safetensors& file) { file.set_metadata(name, name); },
      [&](const eh::Safetensors& file) { EXPECT_EQ(file.metadata().size(), 1u); },
      [&](const eh::Safetensors& file) { EXPECT_EQ(file.metadata().at(name), name); });
}

}  // namespace
