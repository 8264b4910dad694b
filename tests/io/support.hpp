// SPDX-License-Identifier: MIT
#pragma once
// What the tests of files share: a folder for each test, the sentence that a file is refused with,
// and bytes to compare.
#include <clocale>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gtest/gtest.h>
#include <locale>
#include <random>
#include <set>
#include <string>
#include <system_error>

#include <eigenheads/io/byte_order.hpp>
#include <eigenheads/io/file.hpp>

namespace support {

// Tests run side by side, and so may two builds of them.
class UniqueFolder : public testing::Test {
 protected:
  void SetUp() override {
    namespace fs = std::filesystem;
    std::random_device random;
    do folder_ = fs::temp_directory_path() / ("eigenheads_" + std::to_string(random()));
    while (!fs::create_directory(folder_));
  }
  void TearDown() override {
    namespace fs = std::filesystem;
    std::error_code ignored;
    fs::permissions(folder_, fs::perms::owner_all, ignored);
    fs::remove_all(folder_, ignored);
  }

  // Of the files in the folder.
  [[nodiscard]] std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      names.insert(entry.path().filename().string());
    return names;
  }

  std::filesystem::path folder_;
};

inline const std::string kNothing = "nothing is refused";

// What is refused, without the path that the message must name first.
template <class Action>
[[nodiscard]] std::string file_refusal(const std::filesystem::path& path, const Action& action) {
  const std::string start = "eigenheads: " + path.string() + ": ";
  try {
    action();
  } catch (const eigenheads::FileError& error) {
    const std::string message = error.what();
    return message.starts_with(start) ? message.substr(start.size()) : message;
  }
  return kNothing;
}

[[nodiscard]] std::string bytes_of(const auto& tensor) {
  return {reinterpret_cast<const char*>(tensor.data()),
          static_cast<std::size_t>(tensor.size()) * sizeof(*tensor.data())};
}

// The same as files have them.
[[nodiscard]] std::string file_bytes_of(const auto& tensor) {
  std::string bytes = bytes_of(tensor);
  if constexpr (eigenheads::detail::is_big_endian)
    eigenheads::detail::reverse_each(bytes.data(), bytes.size(), sizeof(*tensor.data()));
  return bytes;
}

[[nodiscard]] inline std::string little_endian(std::uint64_t value, std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i & 0xFF);
  return text;
}

// While it lives, a stream that asks the locale writes 2621 as "2.621".
class OtherLocale {
 public:
  OtherLocale() : before_(std::locale::global(std::locale(std::locale::classic(), new Grouping))) {
    std::setlocale(LC_ALL, "de_DE.UTF-8");  // where it is installed
  }
  OtherLocale(const OtherLocale&) = delete;
  OtherLocale& operator=(const OtherLocale&) = delete;
  ~OtherLocale() {
    std::locale::global(before_);
    std::setlocale(LC_ALL, "C");
  }

 private:
  struct Grouping : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  std::locale before_;
};

}  // namespace support
