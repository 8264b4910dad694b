// SPDX-License-Identifier: MIT
#pragma once
// A file system that fails where a test says: a disk that is full after so many bytes, calls that move
// fewer bytes than asked or end by a signal first, files that cannot be opened, renamed or closed.
// Defines fopen, open, pread and rename: for one file of a program.
#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <fcntl.h>
#include <string>
#include <sys/types.h>
#include <unistd.h>

namespace {

constexpr long kAll = -1;

struct Faults {
  long writable = kAll, readable = kAll;             // bytes, of all files together, until `error`
  std::size_t most = SIZE_MAX;                       // bytes that one call moves
  bool interrupted = false;                          // every other call ends by a signal
  long opens = kAll, closes = kAll, renames = kAll;  // that succeed before one fails with `error`
  int error = 0;
};

bool is_faulty = false;
Faults faults;
long turn = 0;

[[nodiscard]] bool ends_by_a_signal() {
  if (!is_faulty || !faults.interrupted || ++turn % 2 == 0) return false;
  errno = EINTR;
  return true;
}
// One of `left` is used up; whether there was none.
[[nodiscard]] bool fails_now(long& left) {
  if (!is_faulty || left == kAll) return false;
  if (left-- > 0) return false;
  left = kAll;
  errno = faults.error;
  return true;
}
// How many of `count` bytes a call may move; 0: none, and errno says why.
[[nodiscard]] std::size_t moved(long& left, std::size_t count) {
  if (!is_faulty) return count;
  count = std::min(count, faults.most);
  if (left == kAll) return count;
  if (left == 0) errno = faults.error;
  count = std::min(count, static_cast<std::size_t>(left));
  left -= static_cast<long>(count);
  return count;
}

// What a FILE does its reading and writing by. It goes on after a short write, and not after an error,
// as that of the C library does.
[[nodiscard]] int number_of(void* cookie) { return fileno(static_cast<std::FILE*>(cookie)); }
ssize_t faulty_write(void* cookie, const char* bytes, std::size_t count) {
  std::size_t done = 0;
  while (done < count) {
    if (ends_by_a_signal()) break;
    const std::size_t some = moved(faults.writable, count - done);
    if (some == 0) break;
    const ssize_t written = write(number_of(cookie), bytes + done, some);
    if (written <= 0) break;
    done += static_cast<std::size_t>(written);
  }
  return static_cast<ssize_t>(done);
}
ssize_t faulty_read(void* cookie, char* bytes, std::size_t count) {
  if (ends_by_a_signal()) return -1;
  const std::size_t some = moved(faults.readable, count);
  return some == 0 && count > 0 ? -1 : read(number_of(cookie), bytes, some);
}
int faulty_seek(void* cookie, off64_t* offset, int whence) {
  *offset = lseek64(number_of(cookie), *offset, whence);
  return *offset < 0 ? -1 : 0;
}
int faulty_close(void* cookie) {
  const bool fails = fails_now(faults.closes);
  const int error = errno, closed = std::fclose(static_cast<std::FILE*>(cookie));
  if (fails) errno = error;
  return fails ? EOF : closed;
}

template <class Function>
[[nodiscard]] Function* next_of(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
std::FILE* fopen(const char* name, const char* mode) {
  static const auto next = next_of<std::FILE*(const char*, const char*)>("fopen");
  if (!is_faulty) return next(name, mode);
  if (ends_by_a_signal() || fails_now(faults.opens)) return nullptr;
  std::FILE* const file = next(name, mode);
  if (file == nullptr) return nullptr;
  return fopencookie(
      file, mode,
      {.read = faulty_read, .write = faulty_write, .seek = faulty_seek, .close = faulty_close});
}
int open(const char* name, int flags, ...) {
  static const auto next = next_of<int(const char*, int, ...)>("open");
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (ends_by_a_signal() || fails_now(faults.opens)) return -1;
  return next(name, flags, mode);
}
ssize_t pread(int file, void* bytes, std::size_t count, off_t offset) {
  static const auto next = next_of<ssize_t(int, void*, std::size_t, off_t)>("pread");
  if (ends_by_a_signal()) return -1;
  const std::size_t some = moved(faults.readable, count);
  return some == 0 && count > 0 ? -1 : next(file, bytes, some, offset);
}
int rename(const char* from, const char* to) noexcept {
  static const auto next = next_of<int(const char*, const char*)>("rename");
  return fails_now(faults.renames) ? -1 : next(from, to);
}
}

namespace {

// While it lives, files fail.
class FaultyFiles {
 public:
  explicit FaultyFiles(const Faults& these) {
    faults = these;
    turn = 0;
    is_faulty = true;
  }
  FaultyFiles(const FaultyFiles&) = delete;
  FaultyFiles& operator=(const FaultyFiles&) = delete;
  ~FaultyFiles() { is_faulty = false; }
};

}  // namespace
