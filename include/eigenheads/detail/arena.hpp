// SPDX-License-Identifier: MIT
#pragma once
// Scratch memory of a call, taken in frames: what a frame takes is gone when its scope ends, so how
// long memory lives is where the frame stands.
//   const Frame frame(context);
//   T* q = frame.take<T>(B * H * Q * D);
// Memory is kept from call to call. It grows in pieces in the first call of a size, and is one piece
// when that call has ended: later calls of this size allocate nothing (contract C7).
#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>    // refuse
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A cache line, and the widest register.
inline constexpr std::size_t line_bytes = 64;

class Arena {
 public:
  Arena() = default;
  Arena(Arena&& other) noexcept { *this = std::move(other); }
  Arena& operator=(Arena&& other) noexcept {
    blocks_ = std::exchange(other.blocks_, {});
    at_ = std::exchange(other.at_, {});
    peak_ = std::exchange(other.peak_, 0);
    return *this;
  }

  [[nodiscard]] Index bytes() const {
    std::size_t bytes = 0;
    for (const Block& block : blocks_) bytes += block.size;
    return static_cast<Index>(bytes);
  }
  // From now on, memory goes when the last frame does.
  void keep_nothing() { keeps_ = false; }
  // Not while a frame is open.
  void release() {
    blocks_.clear();
    at_ = {};
    peak_ = 0;
  }

 private:
  friend class Frame;

  struct Free {
    void operator()(std::byte* memory) const {
      ::operator delete(memory, std::align_val_t{line_bytes});
    }
  };
  struct Block {
    std::unique_ptr<std::byte, Free> memory;
    std::size_t size;
  };
  // The block that is taken from, how much of it is, and of all together.
  struct Mark {
    std::size_t block = 0, used = 0, total = 0;
  };

  // Sizes are whole cache lines.
  [[nodiscard]] std::byte* take(std::size_t size) {
    const std::size_t in_use = blocks_.empty() ? 0 : at_.block + (at_.used > 0 ? 1 : 0);
    while (at_.block < blocks_.size() && at_.used + size > blocks_[at_.block].size)
      at_ = {at_.block + 1, 0, at_.total};
    if (at_.block == blocks_.size()) {
      blocks_.resize(in_use);  // the others are nobody's, and too small
      at_.block = in_use;
      blocks_.push_back({allocate(size), size});
      has_grown_ = true;
    }
    std::byte* const taken = blocks_[at_.block].memory.get() + at_.used;
    at_.used += size;
    at_.total += size;
    peak_ = (std::max)(peak_, at_.total);
    return taken;
  }

  [[nodiscard]] static std::unique_ptr<std::byte, Free> allocate(std::size_t size) {
    return std::unique_ptr<std::byte, Free>(
        static_cast<std::byte*>(::operator new(size, std::align_val_t{line_bytes})));
  }

  // After a call that grew, its pieces become one, as large as any call needed so far. Without the
  // memory for it, the next call starts anew.
  void give_back(Mark mark) noexcept {
    at_ = mark;
    if (mark.total > 0) return;
    if (!keeps_) std::vector<Block>().swap(blocks_);
    if (!std::exchange(has_grown_, false) || blocks_.size() < 2) return;
    blocks_.resize(1);
    blocks_.front().memory.reset();  // before the new one, not beside it
    blocks_.front().memory.reset(
        static_cast<std::byte*>(::operator new(peak_, std::align_val_t{line_bytes}, std::nothrow)));
    blocks_.front().size = peak_;
    if (blocks_.front().memory == nullptr) blocks_.clear();
  }

  std::vector<Block> blocks_;
  Mark at_;
  std::size_t peak_ = 0;
  bool keeps_ = true, has_grown_ = false;
};

// Memory until the end of a scope; frames nest. Not from inside parallel_for.
class Frame {
 public:
  template <class Owner>
  requires requires(Owner& owner) { owner.arena(); }
  explicit Frame(Owner& owner) : arena_(owner.arena()), mark_(arena_.at_) {}
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  ~Frame() { arena_.give_back(mark_); }

  // `count` uninitialised elements, at the start of a cache line.
  template <class T>
  [[nodiscard]] T* take(Index count) const {
    constexpr std::size_t line = (std::max)(line_bytes / sizeof(T), std::size_t{1});
    constexpr auto most = static_cast<std::size_t>((std::numeric_limits<Index>::max)()) / sizeof(T);
    const auto wanted = static_cast<std::size_t>(count);
    if (count < 0 || wanted > most - line)
      refuse({"scratch memory of ", count, " elements, more than memory can hold"});
    const std::size_t lines = (std::max)((wanted + line - 1) / line, std::size_t{1});
    return reinterpret_cast<T*>(arena_.take(lines * (std::max)(line * sizeof(T), line_bytes)));
  }

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

// Cuts one piece of memory into parts that begin at cache lines; without memory it only counts the
// elements that they take.
template <class T>
class Cutter {
 public:
  explicit Cutter(T* memory) : memory_(memory) {}

  [[nodiscard]] T* take(Index count) {
    T* const part = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (count + 15) / 16 * 16;
    return part;
  }
  template <class U>
  [[nodiscard]] U* take_as(Index count) {
    constexpr auto size = static_cast<Index>(sizeof(T));
    return reinterpret_cast<U*>(take((count * static_cast<Index>(sizeof(U)) + size - 1) / size));
  }
  [[nodiscard]] Index used() const { return used_; }

 private:
  T* memory_;
  Index used_ = 0;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
