// SPDX-License-Identifier: MIT
#pragma once
// Tensors at the edge of memory: reading or writing one element too many ends the program, or
// shows.
#include <algorithm>
#include <array>
#include <cstddef>
#include <sys/mman.h>
#include <unistd.h>

#include "support.hpp"

namespace support {

// Memory for a tensor between two pages that may not be touched: it ends at the second, or begins
// at the first. What is left of its own pages holds canaries. Where it ends at a page, it is
// aligned to its elements and to nothing else.
template <class T, int Rank>
class Guarded {
 public:
  enum class Edge { end, begin };
  using Dimensions = typename TensorView<T, Rank>::Dimensions;

  // A copy of x that may only be read.
  explicit Guarded(const Tensor<T, Rank>& x, Edge edge = Edge::end)
      : Guarded(edge, TensorView<T, Rank>(x).dimensions()) {
    std::copy_n(x.data(), x.size(), data_);
    mprotect(pages(), readable_, PROT_READ);
  }
  // Memory for a result, which is NaN before.
  static Guarded result(const Dimensions& shape, Edge edge = Edge::end) { return {edge, shape}; }

  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(start_, readable_ + 2 * page_); }

  [[nodiscard]] TensorView<T, Rank> view() const { return {data_, shape_}; }
  [[nodiscard]] eh::TensorSpan<T, Rank> span() { return {data_, shape_}; }

  [[nodiscard]] bool canaries_live() const {
    const auto* from = reinterpret_cast<const std::byte*>(data_);
    const auto* to = reinterpret_cast<const std::byte*>(data_ + view().size());
    const auto lives = [](std::byte one) { return one == canary; };
    return std::all_of(static_cast<const std::byte*>(pages()), from, lives) &&
           std::all_of(to, static_cast<const std::byte*>(pages()) + readable_, lives);
  }

 private:
  Guarded(Edge edge, const Dimensions& shape) : shape_(shape) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto size = static_cast<std::size_t>(TensorView<T, Rank>(nullptr, shape).size());
    readable_ = std::max((size * sizeof(T) + page - 1) / page, std::size_t{1}) * page;
    page_ = page;
    start_ = static_cast<std::byte*>(mmap(nullptr, readable_ + 2 * page, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::fill_n(pages(), readable_, canary);
    const std::size_t unused = readable_ - size * sizeof(T);
    data_ = reinterpret_cast<T*>(pages() + (edge == Edge::end ? unused : 0));
    std::fill_n(data_, size, kNan<T>);
    mprotect(start_, page, PROT_NONE);
    mprotect(pages() + readable_, page, PROT_NONE);
  }

  static constexpr std::byte canary{0xA5};
  [[nodiscard]] std::byte* pages() const { return start_ + page_; }

  Dimensions shape_;
  std::size_t readable_ = 0, page_ = 0;
  std::byte* start_ = nullptr;
  T* data_ = nullptr;
};

// A copy of x of which only the elements [begin, end) may be read: the others lie on pages that may
// not be touched. To the element at one edge; at the other to the page, whose rest is NaN.
template <class T, int Rank>
class PartlyReadable {
 public:
  using Edge = typename Guarded<T, Rank>::Edge;

  PartlyReadable(const Tensor<T, Rank>& x, Index begin, Index end, Edge edge)
      : shape_(TensorView<T, Rank>(x).dimensions()) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto bytes = [](Index count) { return static_cast<std::size_t>(count) * sizeof(T); };
    const auto up = [page](std::size_t size) { return (size + page - 1) / page * page; };
    // The edge at a page, with pages before it and after it for all of x and one more.
    const std::size_t at = up(bytes(x.size())) + page, from = bytes(end - begin);
    size_ = 2 * at;
    start_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::fill_n(reinterpret_cast<T*>(start_), size_ / sizeof(T), kNan<T>);
    const bool at_end = edge == Edge::end;
    data_ = reinterpret_cast<T*>(start_ + at) - (at_end ? end : begin);
    std::copy(x.data() + begin, x.data() + end, data_ + begin);
    const std::size_t first = at_end ? at - up(from) : at, last = at_end ? at : at + up(from);
    mprotect(start_, first, PROT_NONE);
    mprotect(start_ + last, size_ - last, PROT_NONE);
  }
  PartlyReadable(const PartlyReadable&) = delete;
  PartlyReadable& operator=(const PartlyReadable&) = delete;
  ~PartlyReadable() { munmap(start_, size_); }

  [[nodiscard]] TensorView<T, Rank> view() const { return {data_, shape_}; }

 private:
  typename Guarded<T, Rank>::Dimensions shape_;
  std::size_t size_ = 0;
  std::byte* start_ = nullptr;
  T* data_ = nullptr;
};

// A copy of x of which the elements [first, last) may not be read: those of them that fill pages lie
// on pages that may not be touched, the others are NaN.
template <class T>
class GapOfPages {
 public:
  GapOfPages(const Tensor<T, 4>& x, Index first, Index last)
      : shape_(TensorView<T, 4>(x).dimensions()),
        size_(static_cast<std::size_t>(x.size()) * sizeof(T)) {
    start_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    T* const data = reinterpret_cast<T*>(start_);
    std::copy_n(x.data(), x.size(), data);
    std::fill(data + first, data + last, kNan<T>);
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto from = (static_cast<std::size_t>(first) * sizeof(T) + page - 1) / page * page;
    const auto to = static_cast<std::size_t>(last) * sizeof(T) / page * page;
    mprotect(start_ + from, to - from, PROT_NONE);
  }
  GapOfPages(const GapOfPages&) = delete;
  GapOfPages& operator=(const GapOfPages&) = delete;
  ~GapOfPages() { munmap(start_, size_); }

  [[nodiscard]] TensorView<T, 4> view() const {
    return {reinterpret_cast<const T*>(start_), shape_};
  }

 private:
  typename TensorView<T, 4>::Dimensions shape_;
  std::size_t size_ = 0;
  std::byte* start_ = nullptr;
};

}  // namespace support
