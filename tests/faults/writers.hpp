// SPDX-License-Identifier: MIT
#pragma once
// All that writes files, each with an old content and a new one.
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/io/checkpoints.hpp>
#include <eigenheads/io/file.hpp>
#include <eigenheads/io/kv_cache.hpp>
#include <eigenheads/io/module.hpp>
#include <eigenheads/io/npy.hpp>
#include <eigenheads/io/safetensors.hpp>
#include <eigenheads/io/safetensors_shards.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/linear.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/plot/attention_view.hpp>
#include <eigenheads/plot/heatmap.hpp>

#include "io/support.hpp"
#include "support.hpp"

namespace support {

struct Writer {
  std::string name;                                              // of the file, or of its index
  std::function<void(const std::filesystem::path&, int)> write;  // old: 0, new: 1
  bool has_shards = false;
};

[[nodiscard]] inline eh::Safetensors some_tensors(int content) {
  eh::Safetensors file;
  const auto seed = static_cast<std::uint64_t>(content);
  file.add("a", random_tensor<float>(seed, 3, 4));
  file.add("b", random_tensor<double>(seed + 9, 5 + content));
  file.add("c", std::int32_t{content});
  file.set_metadata("format", content == 0 ? "old" : "new");
  return file;
}

[[nodiscard]] inline eh::MultiHeadAttention<float> some_layer(int content) {
  return eh::MultiHeadAttention<float>({.num_hiddens = 8,
                                        .num_heads = 2,
                                        .bias = true,
                                        .query_size = 8,
                                        .key_size = 8,
                                        .value_size = 8},
                                       static_cast<std::uint64_t>(content) + 1);
}
[[nodiscard]] inline eh::KvCache<float> some_cache(int content) {
  eh::KvCache<float> cache(
      {.batch_size = 2, .num_kv_heads = 2, .head_size = 4, .capacity = 7, .window = 5});
  eh::Context context;
  (void)some_layer(0).step(random_tensor<float>(3, 2, 4 + content, 8), cache, {}, context);
  return cache;
}

[[nodiscard]] inline std::vector<Writer> all_writers() {
  namespace fs = std::filesystem;
  return {
      {"a.txt",
       [](const fs::path& path, int i) { eh::write_file(path, i == 0 ? "old" : "newer"); }},
      {"a.npy",
       [](const fs::path& path, int i) {
         eh::save_npy(path, random_tensor<float>(static_cast<std::uint64_t>(i), 3 + i, 4));
       }},
      {"a.safetensors",
       [](const fs::path& path, int i) { eh::write_safetensors(path, some_tensors(i)); }},
      {"some.safetensors.index.json",
       [](const fs::path& path, int i) { eh::write_safetensors_shards(path, some_tensors(i), 60); },
       true},
      {"cache.safetensors",
       [](const fs::path& path, int i) { eh::save_kv_cache(path, some_cache(i)); }},
      {"sequence.safetensors",
       [](const fs::path& path, int i) { eh::save_kv_sequence(path, some_cache(i), 1); }},
      {"module.safetensors",
       [](const fs::path& path, int i) { eh::save_parameters(path, some_layer(i)); }},
      {"model.safetensors",
       [](const fs::path& path, int i) {
         eh::save_checkpoint(path, eh::checkpoint_families::torch_attention, "", some_layer(i));
       }},
      {"model.safetensors.index.json",
       [](const fs::path& path, int i) {
         eh::save_checkpoint(path, eh::checkpoint_families::torch_attention, "", some_layer(i),
                             {.shard_bytes = 300});
       },
       true},
      {"heads.svg",
       [](const fs::path& path, int i) {
         eh::write_heatmaps(path, random_tensor<double>(static_cast<std::uint64_t>(i), 1, 1, 2, 3));
       }},
      {"heads.html",
       [](const fs::path& path, int i) {
         std::vector<eh::AttentionViewLayer<float>> layers(1);
         layers[0].weights = random_tensor<float>(static_cast<std::uint64_t>(i), 1, 2, 3);
         eh::write_attention_view(path, layers, {.title = i == 0 ? "old" : "new"});
       }},
  };
}

// Of a file system in memory, where there is one: there, thousands of files take no time.
class FastFolder : public UniqueFolder {
 protected:
  void SetUp() override {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::path memory = "/dev/shm";
    std::random_device random;
    folder_ = memory / ("eigenheads_" + std::to_string(random()));
    if (!fs::create_directory(folder_, error)) UniqueFolder::SetUp();
  }
};

// Of a folder: all names, and what the files hold.
using Contents = std::map<std::string, std::string>;
[[nodiscard]] inline Contents contents_of(const std::filesystem::path& folder) {
  Contents contents;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    contents[entry.path().filename().string()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return contents;
}

}  // namespace support
