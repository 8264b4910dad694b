// SPDX-License-Identifier: MIT
#pragma once
// Whole files, in and out.
//   A write goes to a new file beside the target, `<target>.unfinished<N>` (cut to the length of
//   <target> where longer names are too long), which is renamed when it is complete: after an error
//   the old file is still there and no half-written one is, and of two programs that write one path
//   the later wins whole. A program that is killed in between leaves its unfinished file behind.
//   Nothing is synced: after a power cut the disk may hold either.
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>  // raise

namespace eigenheads::inline EIGENHEADS_ABI {

// A file that cannot be read, written or understood: "eigenheads: <path>: <what is wrong>".
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

[[noreturn]] inline void refuse_file(const std::filesystem::path& path, const std::string& what) {
  raise<FileError>(path.string() + ": " + what);
}

[[nodiscard]] inline std::string last_error() { return std::generic_category().message(errno); }

// fopen, again after a signal: the call is simply made again.
[[nodiscard]] inline std::FILE* open_file(const char* name, const char* mode) {
  std::FILE* file = nullptr;
  do file = std::fopen(name, mode);
  while (file == nullptr && errno == EINTR);
  return file;
}

// An open file. `path` is the one that messages name, even where another is open in its place.
class File {
 public:
  File(const std::filesystem::path& path, const char* mode) : File(path, path.string(), mode) {}
  File(const std::filesystem::path& path, const std::string& name, const char* mode)
      : path_(path), handle_(open_file(name.c_str(), mode)) {
    if (handle_ == nullptr) refuse_file(path_, last_error());
    // Calls move whole headers and tensors, and only unbuffered writes can go on after a signal:
    // fwrite then tells exactly how much is written.
    std::setvbuf(handle_, nullptr, _IONBF, 0);
  }
  // A file that is in memory already; `name` is what messages call it.
  [[nodiscard]] static File in_memory(const std::filesystem::path& name, std::string_view bytes) {
    // Nothing is written to it.
    return File(name, ::fmemopen(const_cast<char*>(bytes.data()), bytes.size(), "rb"));
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (handle_ != nullptr) std::fclose(handle_);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  void read(char* bytes, std::size_t count) {
    for (std::size_t done = 0; done < count;) {
      done += std::fread(bytes + done, 1, count - done, handle_);
      if (done < count && !interrupted())
        refuse_file(path_, std::ferror(handle_) != 0 ? last_error() : "ended too early");
    }
  }
  // Its size was asked before it was opened, so another program may have replaced or grown it
  // since.
  void require_end() {
    do
      if (std::fgetc(handle_) != EOF) refuse_file(path_, "changed while it was read");
    while (interrupted());
    if (std::ferror(handle_) != 0) refuse_file(path_, last_error());
  }
  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      bytes.remove_prefix(std::fwrite(bytes.data(), 1, bytes.size(), handle_));
      if (!bytes.empty() && !interrupted()) refuse_file(path_, last_error());
    }
  }
  // A network disk may report a failed write as late as here, so it is part of writing.
  void close() {
    if (std::fclose(std::exchange(handle_, nullptr)) != 0) refuse_file(path_, last_error());
  }

 private:
  File(const std::filesystem::path& path, std::FILE* handle) : path_(path), handle_(handle) {
    if (handle_ == nullptr) refuse_file(path_, last_error());
  }
  // By a signal; the call is then simply made again.
  bool interrupted() {
    if (std::ferror(handle_) == 0 || errno != EINTR) return false;
    std::clearerr(handle_);
    return true;
  }

  std::filesystem::path path_;
  std::FILE* handle_;
};

// The system reads a name up to its first zero byte, so that it would be another file's.
inline void require_name(const std::filesystem::path& path) {
  std::string name = path.string();
  if (name.find('\0') == name.npos) return;
  std::ranges::replace(name, '\0', '?');  // messages end at a zero byte too
  refuse_file(name, "a zero byte in the name of a file");
}

// Asked before a file is opened: to open a FIFO would be to wait for whoever writes to it.
inline void require_regular(const std::filesystem::path& path,
                            std::filesystem::file_status status) {
  if (std::filesystem::is_directory(status)) refuse_file(path, "Is a directory");
  if (!std::filesystem::is_regular_file(status)) refuse_file(path, "not a regular file");
}

// In bytes.
[[nodiscard]] inline std::uintmax_t regular_file_size(const std::filesystem::path& path) {
  require_name(path);
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (error || !std::filesystem::exists(status))
    refuse_file(path, error ? error.message() : "No such file or directory");
  require_regular(path, status);
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) refuse_file(path, error.message());
  return size;
}

// The number-th name for an unfinished file beside `target`. The short ones are no longer than the
// target's own, which therefore fit wherever that does.
[[nodiscard]] inline std::filesystem::path unfinished_name(const std::filesystem::path& target,
                                                           unsigned number, bool is_short) {
  const std::string ending = ".unfinished" + std::to_string(number);
  std::string name = target.filename().string();
  if (is_short) {
    std::size_t kept = name.size() - (std::min)(name.size(), ending.size());
    const auto continues = [](char c) { return (c & 0xC0) == 0x80; };  // a character in UTF-8
    while (kept > 0 && continues(name[kept])) --kept;
    const std::size_t length = (std::min)(name.size() - kept, ending.size());
    name = name.substr(0, kept) + ending.substr(ending.size() - length);
  } else {
    name += ending;
  }
  return target.parent_path() / name;
}

// Creates an empty file beside `target` that no other thread or program has, and returns its name.
// Nothing takes memory once it is there.
[[nodiscard]] inline std::filesystem::path create_beside(const std::filesystem::path& path,
                                                         const std::filesystem::path& target) {
  constexpr unsigned most = 100'000;  // the short names of short names repeat
  bool is_short = false;
  for (unsigned number = 0; number < most;) {
    std::filesystem::path unfinished = unfinished_name(target, number, is_short);
    if (unfinished != target) {
      const std::string name = unfinished.string();
      if (std::FILE* file = open_file(name.c_str(), "wbx"); file != nullptr) {
        std::fclose(file);
        return unfinished;
      }
      if (errno != EEXIST && (errno != ENAMETOOLONG || is_short)) refuse_file(path, last_error());
      if (errno == ENAMETOOLONG) {
        is_short = true;
        continue;
      }
    }
    ++number;
  }
  refuse_file(path, "every name for an unfinished file beside it is taken");
}

struct Removal {
  std::filesystem::path name;  // of which no other is made: there may be no memory for one

  ~Removal() {
    std::error_code ignored;
    if (!name.empty()) std::filesystem::remove(name, ignored);
  }
};

// A file that is written beside its place, and takes it when all of it is there.
class Replacement {
 public:
  // Throws FileError if `path` is there and may not be replaced.
  explicit Replacement(const std::filesystem::path& path) : path_(path), target_(path) {
    require_name(path);
    std::error_code error;
    if (std::filesystem::is_symlink(std::filesystem::symlink_status(path, error))) {
      target_ = std::filesystem::canonical(path, error);
      if (error) refuse_file(path, error.message());
    }
    const auto old = std::filesystem::status(target_, error);
    if (std::filesystem::exists(old)) {
      require_regular(path, old);
      const File writable(path, target_.string(), "r+b");  // a rename would replace it even if not
    }
    unfinished_.name = create_beside(path, target_);
    if (std::filesystem::exists(old)) {  // before a byte is in it: what was private stays private
      std::filesystem::permissions(unfinished_.name, old.permissions(), error);
      if (error) refuse_file(path, error.message());
    }
  }

  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  // All parts, one after the other.
  void write(std::span<const std::string_view> parts) const {
    File file(path_, unfinished_.name.string(), "wb");
    for (const std::string_view part : parts) file.write(part);
    file.close();
  }
  // Of what it is to replace, if that is there.
  void remove_old() const {
    std::error_code error;
    std::filesystem::remove(target_, error);
    if (error) refuse_file(path_, error.message());
  }
  void take_place() {
    std::error_code error;
    std::filesystem::rename(unfinished_.name, target_, error);
    if (error) refuse_file(path_, error.message());
    unfinished_.name.clear();  // the name is free: by now it may be another program's
  }

 private:
  std::filesystem::path path_, target_;  // target_: what a symbolic link points to
  Removal unfinished_{};
};

// write_file of the parts.
inline void write_file_parts(const std::filesystem::path& path,
                             std::span<const std::string_view> parts) {
  Replacement file(path);
  file.write(parts);
  file.take_place();
}

}  // namespace detail

// The bytes of a regular file. Throws FileError; allocates no more than the file's size.
[[nodiscard]] inline std::string read_file(const std::filesystem::path& path) {
  const std::uintmax_t size = detail::regular_file_size(path);
  if (size > std::string().max_size()) detail::refuse_file(path, "more than memory can hold");
  detail::File file(path, "rb");
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.read(bytes.data(), bytes.size());
  file.require_end();
  return bytes;
}

// Replaces the file, or the one that a symbolic link points to, and keeps its permissions. Its
// folder must allow new files. Throws FileError, and then leaves `path` as it was.
inline void write_file(const std::filesystem::path& path, std::string_view bytes) {
  detail::write_file_parts(path, {&bytes, 1});
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
