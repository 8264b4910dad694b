// SPDX-License-Identifier: MIT
#pragma once
// The random choices of one phrase: a function of (seed, stream, index) alone, and of how many
// choices were made before. Also lists in a string, which is what most choices are made from.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <eigenheads/random.hpp>  // philox4x32

namespace dates {

// "Jan Feb Mar" holds 3 items, and Feb is item 1.
[[nodiscard]] constexpr int count_items(std::string_view list, char separator) {
  return 1 + static_cast<int>(std::ranges::count(list, separator));
}
[[nodiscard]] constexpr std::string_view item(std::string_view list, char separator, int i) {
  for (; i > 0; --i) list.remove_prefix(list.find(separator) + 1);
  return list.substr(0, list.find(separator));
}

class Dice {
 public:
  Dice(std::uint64_t seed, std::uint32_t stream, std::uint64_t index)
      : seed_(seed), index_(index), stream_(stream) {}

  // 0 to count - 1.
  [[nodiscard]] int below(int count) {
    const auto bits = eigenheads::philox4x32(
        {throws_++, stream_, static_cast<std::uint32_t>(index_),
         static_cast<std::uint32_t>(index_ >> 32)},
        {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
    return static_cast<int>(std::uint64_t{bits[0]} * static_cast<std::uint64_t>(count) >> 32);
  }
  [[nodiscard]] int between(int first, int last) { return first + below(last - first + 1); }
  [[nodiscard]] bool one_in(int count) { return below(count) == 0; }

  template <class Container>
  [[nodiscard]] const auto& one_of(const Container& choices) {
    return choices[static_cast<std::size_t>(below(static_cast<int>(choices.size())))];
  }
  [[nodiscard]] std::string_view one_of(std::string_view list, char separator) {
    return item(list, separator, below(count_items(list, separator)));
  }

 private:
  std::uint64_t seed_, index_;
  std::uint32_t stream_, throws_ = 0;
};

}  // namespace dates
