// SPDX-License-Identifier: MIT
// A .npy file of any bytes is refused, or is the array that its header speaks of, element by element;
// what is loaded is saved and loaded with the same bytes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>

#include <eigenheads/io/npy.hpp>

#include "input.hpp"

namespace {

namespace eh = eigenheads;
using eh::FileError, eh::Index, eh::NpyHeader, eh::NpyType;

// Element `position` of the tensor, in C order, is which one of the file?
template <int Rank>
Index place_in_file(const NpyHeader& header, Index position) {
  if (!header.fortran_order) return position;
  Index place = 0, step = 1;
  std::array<Index, Rank> index{};
  for (std::size_t axis = Rank; axis-- > 0;) {
    index[axis] = position % header.shape[axis];
    position /= header.shape[axis];
  }
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    place += index[axis] * step;
    step *= header.shape[axis];
  }
  return place;
}

template <class T, class Stored, int Rank>
void check(const std::filesystem::path& path, const NpyHeader& header, std::string_view data) {
  eh::Tensor<T, Rank> x;
  if (!fuzz::succeeds<FileError>([&] { x = eh::load_npy<T, Rank>(path); })) {
    fuzz::require(std::is_same_v<T, bool>, "an array is refused that fits its header");
    const auto is_truth = [](char c) { return c == 0 || c == 1; };
    fuzz::require(!std::all_of(data.begin(), data.end(), is_truth), "truth values are refused");
    return;
  }
  fuzz::require(x.size() * static_cast<Index>(sizeof(Stored)) == std::ssize(data),
                "another number of elements");
  for (Index i = 0; i < x.size(); ++i) {
    Stored stored;
    std::memcpy(&stored,
                data.data() + place_in_file<Rank>(header, i) * static_cast<Index>(sizeof(Stored)),
                sizeof(Stored));
    if constexpr (eh::detail::is_big_endian)
      eh::detail::reverse_each(reinterpret_cast<char*>(&stored), sizeof stored, sizeof stored);
    const T value = static_cast<T>(stored), got = x.data()[i];
    fuzz::require(std::memcmp(&value, &got, sizeof(T)) == 0 || value != value, "another element");
  }
  const auto saved = fuzz::folder() / "saved.npy", again = fuzz::folder() / "again.npy";
  eh::save_npy(saved, x);
  const std::string bytes = eh::read_file(saved);
  eh::save_npy(again, eh::load_npy<T, Rank>(saved));
  fuzz::require(bytes == eh::read_file(again), "saved, loaded and saved: other bytes");
}

template <class T, class Stored>
void check(const std::filesystem::path& path, const NpyHeader& header, std::string_view data) {
  switch (header.shape.size()) {
    case 0:
      return check<T, Stored, 0>(path, header, data);
    case 1:
      return check<T, Stored, 1>(path, header, data);
    case 3:
      return check<T, Stored, 3>(path, header, data);
    default:
      fuzz::require(!fuzz::succeeds<FileError>([&] { return eh::load_npy<T, 1>(path); }),
                    "an array of another rank is loaded");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto path = fuzz::folder() / "x.npy";
  fuzz::put(path, fuzz::text_of(bytes, size));
  NpyHeader header;
  if (!fuzz::succeeds<FileError>([&] { header = eh::read_npy_header(path); })) {
    fuzz::require(!fuzz::succeeds<FileError>([&] { return eh::load_npy<float, 1>(path); }),
                  "an array is loaded whose header is refused");
    return 0;
  }
  fuzz::require(header.data_offset <= size, "data that begins behind the end");
  const auto data = fuzz::text_of(bytes, size).substr(header.data_offset);
  switch (header.type) {
    case NpyType::float32:
      check<float, float>(path, header, data);
      return check<double, float>(path, header, data), 0;
    case NpyType::float64:
      return check<double, double>(path, header, data), 0;
    case NpyType::int32:
      return check<Index, std::int32_t>(path, header, data), 0;
    case NpyType::int64:
      return check<Index, Index>(path, header, data), 0;
    case NpyType::boolean:
      return check<bool, bool>(path, header, data), 0;
  }
  return 0;
}
