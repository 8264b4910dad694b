// SPDX-License-Identifier: MIT
// Which names several files may have, and what is left where one of them cannot take its place.
#include <cstdint>
#include <deque>
#include <filesystem>
#include <gtest/gtest.h>
#include <set>
#include <string>

#include <eigenheads/io/file.hpp>
#include <eigenheads/io/safetensors_files.hpp>
#include <eigenheads/io/safetensors_shards.hpp>

#include "io/support.hpp"

namespace {

namespace eh = eigenheads;
using namespace support;

class SafetensorsShards : public UniqueFolder {
 protected:
  // Two files.
  static void write(const std::filesystem::path& index) {
    eh::Safetensors contents;
    contents.add("a", std::int64_t{1});
    contents.add("b", std::int64_t{2});
    eh::write_safetensors_shards(index, contents, 8);
  }
};

TEST_F(SafetensorsShards, AreReadBackUnderEveryNameThatTheyAreWrittenUnder) {
  for (const char* stem : {"model", "head", "..", "a b", "\u00e9", "a'\"%"}) {
    const auto index = folder_ / (std::string(stem) + ".safetensors.index.json");
    write(index);
    EXPECT_EQ(eh::SafetensorsFiles(index).num_files(), 2u) << stem;
  }
  const auto before = names();
  for (const char* stem : {"a:b", "a\\b", "a\nb", "a\x7f", "\xff", "\u00e9\xc3"}) {
    const auto index = folder_ / (std::string(stem) + ".safetensors.index.json");
    EXPECT_EQ(file_refusal(index, [&] { write(index); }),
              "expected a name in UTF-8 without a colon, a backslash or what cannot be seen");
  }
  EXPECT_EQ(names(), before);
}

// A folder is asked for model.safetensors first, and for no other name.
TEST_F(SafetensorsShards, MayLieBesideOneFileOfAnotherName) {
  for (const char* name : {"model.safetensors", "head.safetensors"})
    eh::write_file(folder_ / name, "");
  const auto model = folder_ / "model.safetensors.index.json";
  const auto head = folder_ / "head.safetensors.index.json";
  EXPECT_EQ(file_refusal(model, [&] { write(model); }),
            "model.safetensors lies beside it, and would be read instead");
  EXPECT_EQ(file_refusal(head, [&] { write(head); }), kNothing);
  EXPECT_EQ(eh::SafetensorsFiles(head).num_files(), 2u);
}

TEST_F(SafetensorsShards, LeaveNoIndexWhereOneCannotTakeItsPlace) {
  const auto index = folder_ / "model.safetensors.index.json";
  const auto first = folder_ / "model-00001-of-00002.safetensors";
  const auto second = folder_ / "model-00002-of-00002.safetensors";
  write(index);
  {
    std::deque<eh::detail::Replacement> files;
    for (const auto& path : {first, second, index}) files.emplace_back(path);
    ASSERT_TRUE(std::filesystem::remove(second.string() + ".unfinished0"));
    EXPECT_EQ(file_refusal(second, [&] { eh::detail::take_places(files); }),
              "No such file or directory");
  }
  EXPECT_EQ(names(), (std::set<std::string>{first.filename(), second.filename()}));
  EXPECT_EQ(std::filesystem::file_size(first), 0u);
  write(index);
  EXPECT_EQ(eh::SafetensorsFiles(folder_).num_files(), 2u);
}

// What the link points to is replaced, as a single file is.
TEST_F(SafetensorsShards, KeepAnIndexThatIsALink) {
  const auto index = folder_ / "model.safetensors.index.json";
  eh::write_file(folder_ / "elsewhere", "");
  std::filesystem::create_symlink("elsewhere", index);
  write(index);
  EXPECT_TRUE(std::filesystem::is_symlink(index));
  EXPECT_GT(std::filesystem::file_size(folder_ / "elsewhere"), 0u);
  EXPECT_EQ(eh::SafetensorsFiles(index).num_files(), 2u);
}

}  // namespace
