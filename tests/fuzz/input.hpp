// SPDX-License-Identifier: MIT
#pragma once
// What the fuzz targets share: numbers taken from the bytes of an input, and an end of the program
// with a sentence where something does not hold. A target is a file NAME.cpp with one
// LLVMFuzzerTestOneInput; corpus/NAME holds inputs for it, each of which is a test (replay.cpp).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <typeinfo>
#include <utility>

#include <eigenheads/tensor.hpp>  // Index

namespace fuzz {

namespace eh = eigenheads;
using eh::Index;

// While it lives, a failure says of which call it is.
class Description {
 public:
  explicit Description(std::function<std::string()> say) { current() = std::move(say); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  ~Description() { current() = nullptr; }

  static std::function<std::string()>& current() {
    static std::function<std::string()> say;
    return say;
  }
};

[[noreturn]] inline void fail(const std::string& sentence) {
  std::fprintf(stderr, "does not hold: %s\n", sentence.c_str());
  if (Description::current()) std::fprintf(stderr, "in %s\n", Description::current()().c_str());
  std::abort();
}
inline void require(bool holds, std::string_view sentence) {
  if (!holds) fail(std::string(sentence));
}
inline void require(const testing::AssertionResult& holds, std::string_view sentence) {
  if (!holds) fail(std::string(sentence) + ": " + holds.message());
}

// Whether the call returns; if not, by an exception of this very type: another one ends the program.
template <class Exception, class Call>
[[nodiscard]] bool succeeds(const Call& call) {
  try {
    (void)call();
  } catch (const Exception& error) {
    require(typeid(error) == typeid(Exception),
            std::string("refused with another exception: ") + error.what());
    const std::string_view sentence = error.what();
    require(!sentence.empty(), "a refusal without a sentence");
    require(std::ranges::none_of(sentence, [](char c) { return c >= 0 && c < ' ' && c != '\n'; }),
            "a refusal that hands on control characters");
    return false;
  }
  return true;
}

// Bytes, from the first to the last; when they are used up, zeros. They are to mean the same to every
// compiler: no two of these calls stand in the arguments of one call, whose order is any.
class Input {
 public:
  Input(const std::uint8_t* bytes, std::size_t size) : at_(bytes), end_(bytes + size) {}

  [[nodiscard]] bool is_empty() const { return at_ == end_; }

  std::uint8_t byte() { return at_ == end_ ? std::uint8_t{0} : *at_++; }
  bool flag() { return byte() % 2 != 0; }
  // Both ends included. Takes one byte where one is enough, two where it is not.
  Index between(Index first, Index last) {
    const Index count = last - first + 1;
    Index number = byte();
    if (count > 256) number = 256 * number + byte();
    return first + number % count;
  }
  template <class Choice>
  const Choice& one_of(std::initializer_list<Choice> choices) {
    return choices.begin()[between(0, static_cast<Index>(choices.size()) - 1)];
  }
  template <class T>
  T raw() {
    unsigned char bytes[sizeof(T)];
    for (unsigned char& b : bytes) b = byte();
    T value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }
  // Up to so many bytes, or all that are left.
  std::string text(std::size_t most = (std::numeric_limits<std::size_t>::max)()) {
    const auto count = (std::min)(most, static_cast<std::size_t>(end_ - at_));
    std::string result(reinterpret_cast<const char*>(at_), count);
    at_ += count;
    return result;
  }

 private:
  const std::uint8_t *at_, *end_;
};

[[nodiscard]] inline std::string_view text_of(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

// ---- Files: in a folder of this process's own, in TMPDIR -------------------------------------------

class Folder {
 public:
  Folder() {
    std::random_device random;
    do path_ = std::filesystem::temp_directory_path() / ("fuzz_" + std::to_string(random()));
    while (!std::filesystem::create_directory(path_));
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

[[nodiscard]] inline const std::filesystem::path& folder() {
  static const Folder folder;
  return folder.path();
}

inline void put(const std::filesystem::path& path, std::string_view bytes) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) fail("no file can be made in " + path.parent_path().string());
  const bool is_whole = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !is_whole) fail("a file cannot be written");
}

}  // namespace fuzz
