// SPDX-License-Identifier: MIT
// Whatever fails while a file is written, and at whichever byte or call: a FileError that names it, the
// old file to the byte, and nothing else in the folder. Calls that write less than they are asked to,
// or that a signal ends, are no failure.
#include "faults/writers.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <utility>
#include <vector>

#include "faults/faulty_files.hpp"

namespace {

using namespace support;
namespace fs = std::filesystem;

class Writers : public FastFolder {
 protected:
  // What the folder is with the old and the new content of a writer's files.
  void begin(const Writer& writer) {
    const auto only = [&](int content) {
      fs::remove_all(folder_);
      fs::create_directory(folder_);
      writer.write(folder_ / writer.name, content);
      return contents_of(folder_);
    };
    new_ = only(1);
    old_ = only(0);
    std::size_t of_new = 0;
    for (const auto& [name, bytes] : new_) of_new += bytes.size();
    size_ = static_cast<long>(of_new);
  }
  // Over the old one. What it is refused with, if it is.
  [[nodiscard]] std::optional<std::string> refused(const Writer& writer, const Faults& these) {
    try {
      const FaultyFiles faulty(these);
      writer.write(folder_ / writer.name, 1);
    } catch (const eh::FileError& error) {
      return error.what();
    }
    return std::nullopt;
  }
  void expect_old(const Writer& writer, const Faults& these, const std::string& why) {
    const auto sentence = refused(writer, these);
    ASSERT_TRUE(sentence) << "nothing is refused";
    EXPECT_TRUE(sentence->starts_with("eigenheads: " + folder_.string())) << *sentence;
    EXPECT_TRUE(sentence->ends_with(why)) << *sentence;
    ASSERT_EQ(contents_of(folder_), old_);
  }

  Contents old_, new_;
  long size_ = 0;
};

TEST_F(Writers, AFullDiskLeavesTheOldFile) {
  for (const Writer& writer : all_writers()) {
    SCOPED_TRACE(writer.name);
    begin(writer);
    ASSERT_NE(old_, new_);
    // Every byte of what is small, and of what is large those around the ends and some between.
    const long step = size_ < 200 ? 1 : size_ / 40;
    for (long room = 0; room < size_; room += room < 5 || room > size_ - 5 - step ? 1 : step)
      expect_old(writer, {.writable = room, .error = ENOSPC}, ": No space left on device");
    expect_old(writer, {.writable = size_ - 1, .error = EDQUOT}, ": Disk quota exceeded");
    expect_old(writer, {.writable = size_ / 2, .error = EIO}, ": Input/output error");
    ASSERT_FALSE(refused(writer, {.writable = size_, .error = ENOSPC}));
    EXPECT_EQ(contents_of(folder_), new_);
  }
}

// By the system itself.
TEST_F(Writers, AFileThatMayNotGrowLeavesTheOldOne) {
  const auto handled_before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  for (const Writer& writer : all_writers()) {
    SCOPED_TRACE(writer.name);
    begin(writer);
    std::size_t largest = 0;
    for (const auto& [name, bytes] : new_) largest = std::max(largest, bytes.size());
    for (const std::size_t most : {std::size_t{0}, std::size_t{1}, largest / 2, largest - 1}) {
      rlimit small = before;
      small.rlim_cur = most;
      ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
      std::optional<std::string> sentence;
      try {
        writer.write(folder_ / writer.name, 1);
      } catch (const eh::FileError& error) {
        sentence = error.what();
      }
      ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
      ASSERT_TRUE(sentence && sentence->ends_with(": File too large"));
      ASSERT_EQ(contents_of(folder_), old_);
    }
  }
  std::signal(SIGXFSZ, handled_before);
}

TEST_F(Writers, ShortWritesAndSignalsAreNoFailure) {
  for (const Writer& writer : all_writers())
    for (const std::size_t most : {std::size_t{1}, std::size_t{7}, SIZE_MAX}) {
      SCOPED_TRACE(writer.name);
      begin(writer);
      ASSERT_FALSE(refused(writer, {.most = most, .interrupted = true}));
      EXPECT_EQ(contents_of(folder_), new_);
    }
}

// Of the files that are opened and closed for one another, each in its turn.
TEST_F(Writers, AFileThatCannotBeOpenedOrClosedLeavesTheOldOne) {
  for (const Writer& writer : all_writers()) {
    SCOPED_TRACE(writer.name);
    for (const bool closes : {false, true})
      for (long number = 0;; ++number) {
        SCOPED_TRACE(testing::Message() << (closes ? "close " : "open ") << number);
        begin(writer);
        Faults these{.error = closes ? EIO : EROFS};
        (closes ? these.closes : these.opens) = number;
        const auto sentence = refused(writer, these);
        const bool is_over = (closes ? faults.closes : faults.opens) != kAll;
        if (sentence) {
          EXPECT_TRUE(sentence->starts_with("eigenheads: " + folder_.string())) << *sentence;
        }
        // That of the empty file that is made first does not matter.
        ASSERT_EQ(contents_of(folder_), sentence ? old_ : new_);
        ASSERT_TRUE(sentence || closes || is_over);
        if (is_over) {
          EXPECT_GE(number, 2);
          break;
        }
      }
  }
}

TEST_F(Writers, ARenameThatFailsLeavesTheOldFileOrNoIndex) {
  for (const Writer& writer : all_writers()) {
    SCOPED_TRACE(writer.name);
    for (long number = 0;; ++number) {
      begin(writer);
      const auto sentence = refused(writer, {.renames = number, .error = EXDEV});
      if (!sentence) {
        EXPECT_EQ(number, writer.has_shards ? static_cast<long>(new_.size()) : 1);
        break;
      }
      EXPECT_TRUE(sentence->starts_with("eigenheads: " + folder_.string())) << *sentence;
      const Contents now = contents_of(folder_);
      if (!writer.has_shards) {
        ASSERT_EQ(now, old_);
        continue;
      }
      // No index, and so no checkpoint; each file is whole.
      EXPECT_FALSE(now.contains(writer.name));
      for (const auto& [name, bytes] : now)
        EXPECT_TRUE((old_.contains(name) && old_[name] == bytes) ||
                    (new_.contains(name) && new_[name] == bytes))
            << name;
    }
  }
}

TEST_F(Writers, ANameThatIsAFolderStaysOne) {
  for (const Writer& writer : all_writers()) {
    SCOPED_TRACE(writer.name);
    fs::remove_all(folder_);
    fs::create_directories(folder_ / writer.name / "within");
    const auto sentence = refused(writer, {});
    ASSERT_TRUE(sentence && sentence->ends_with(writer.name + ": Is a directory"));
    EXPECT_EQ(names(), std::set<std::string>{writer.name});
    EXPECT_TRUE(fs::is_directory(folder_ / writer.name / "within"));
  }
}

TEST_F(Writers, AFolderThatIsGoneIsNotMade) {
  for (const Writer& writer : all_writers()) {
    SCOPED_TRACE(writer.name);
    fs::remove_all(folder_);
    const auto sentence = refused(writer, {});
    ASSERT_TRUE(sentence && sentence->ends_with(": No such file or directory"));
    EXPECT_FALSE(fs::exists(folder_));
  }
  fs::create_directory(folder_);
}

}  // namespace
