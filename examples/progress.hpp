// SPDX-License-Identifier: MIT
#pragma once
// How far a program is, and the time that is left: on a terminal one line that is redrawn at most
// ten times a second; elsewhere a line for every tenth.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <string>
#include <unistd.h>

class Progress {
 public:
  // `first` of `total` is done already. What takes twice as long counts twice.
  explicit Progress(double total, double first = 0)
      : first_(first), total_(total), done_(first), tenths_(tenths_of(first)) {}

  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // What comes after an unfinished line, such as what went wrong, has one of its own.
  ~Progress() {
    if (is_drawn_) std::fprintf(stderr, "\n");
  }

  // All of these from any thread. `text`: what is being done, for a line that is drawn now.
  void add(double work, const std::string& text) {
    const std::lock_guard lock(mutex_);
    done_ += work;
    const auto now = Clock::now();
    const int tenths = tenths_of(done_);
    const bool is_end = done_ >= total_ * (1 - 1e-9);
    if (is_terminal_ ? !is_end && now - shown_ < std::chrono::milliseconds(100) : tenths <= tenths_)
      return;
    shown_ = now;
    tenths_ = tenths;
    draw(text, now, is_end);
    is_drawn_ = is_terminal_ && !is_end;
  }
  // It turns out not to be needed.
  void leave_out(double work) {
    const std::lock_guard lock(mutex_);
    total_ -= work;
  }

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] int tenths_of(double done) const {
    return total_ > 0 ? static_cast<int>(10 * done / total_ + 1e-9) : 10;
  }

  void draw(const std::string& text, Clock::time_point now, bool is_end) const {
    constexpr std::size_t width = 30;
    const double share = total_ > 0 ? std::clamp(done_ / total_, 0.0, 1.0) : 1;
    std::string bar(static_cast<std::size_t>(width * share), '#');
    bar.resize(width, '.');
    const double passed = std::chrono::duration<double>(now - start_).count();
    const double left = (total_ - done_) * passed / (std::max)(done_ - first_, 1e-9);
    std::fprintf(stderr, "%s[%s] %s  %3.0f s left %s", is_terminal_ ? "\r" : "", bar.c_str(),
                 text.c_str(), (std::max)(left, 0.0), is_terminal_ && !is_end ? "\033[K" : "\n");
  }

  const bool is_terminal_ = ::isatty(STDERR_FILENO) == 1;
  double first_, total_, done_;
  int tenths_;
  bool is_drawn_ = false;  // the line that is redrawn
  Clock::time_point start_ = Clock::now(), shown_{};
  std::mutex mutex_;
};
