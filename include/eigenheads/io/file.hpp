// SPDX-License-Identifier: MIT
#pragma once
// Whole files, in and out. A write goes to a temporary name beside the target and is renamed when
// it is complete: after an error the old file is still there and no half-written one is.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <eigenheads/shape.hpp>  // detail::raise
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace eigenheads::inline EIGENHEADS_ABI {

// A file that cannot be read, written or understood. The message begins with its path.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

[[noreturn]] inline void refuse_file(const std::filesystem::path& path, const std::string& what) {
  raise<FileError>(path.string() + ": " + what);
}

class File {
 public:
  File(const std::filesystem::path& path, const char* mode)
      : path_(path), handle_(std::fopen(path.string().c_str(), mode)) {
    if (handle_ == nullptr) refuse_file(path_, std::strerror(errno));
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (handle_ != nullptr) std::fclose(handle_);
  }

  void read(char* bytes, std::size_t count) {
    if (std::fread(bytes, 1, count, handle_) != count)
      refuse_file(path_, std::ferror(handle_) != 0 ? std::strerror(errno) : "ended too early");
  }
  void write(std::string_view bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), handle_) != bytes.size())
      refuse_file(path_, std::strerror(errno));
  }
  // What was buffered may fail as late as here (a full disk), so it is part of writing.
  void close() {
    if (std::fclose(std::exchange(handle_, nullptr)) != 0) refuse_file(path_, std::strerror(errno));
  }

 private:
  std::filesystem::path path_;
  std::FILE* handle_;
};

}  // namespace detail

// The bytes of a regular file. Throws FileError; never allocates more than the file's size.
[[nodiscard]] inline std::string read_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) detail::refuse_file(path, "no such file");
  if (!std::filesystem::is_regular_file(status)) detail::refuse_file(path, "not a regular file");
  const auto size = std::filesystem::file_size(path, error);
  if (error) detail::refuse_file(path, error.message());
  detail::File file(path, "rb");
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.read(bytes.data(), bytes.size());
  return bytes;
}

// Throws FileError, and then leaves `path` as it was.
inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  const std::filesystem::path unfinished = path.string() + ".unfinished";
  std::error_code ignored;
  struct Remover {
    const std::filesystem::path& path;
    ~Remover() {
      std::error_code ignored_too;
      std::filesystem::remove(path, ignored_too);
    }
  };
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
    detail::refuse_file(path, "not a regular file");
  const Remover remover{unfinished};
  detail::File file(unfinished, "wb");
  file.write(bytes);
  file.close();
  std::error_code error;
  std::filesystem::rename(unfinished, path, error);
  if (error) detail::refuse_file(path, error.message());
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
