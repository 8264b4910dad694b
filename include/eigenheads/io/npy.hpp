// SPDX-License-Identifier: MIT
#pragma once
// NumPy's .npy files: one tensor each, as np.save writes and np.load reads them.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/byte_order.hpp>  // is_big_endian, reverse_each
#include <eigenheads/io/file.hpp>        // File, FileError, refuse_file, write_file_parts
#include <eigenheads/io/npy_header.hpp>  // NpyHeader, NpyType, read_npy_header, npy_header_text
#include <eigenheads/shape.hpp>          // make_tensor, require_shape, shape_text
#include <eigenheads/tensor.hpp>         // Index, Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {
namespace detail {

template <class T>
concept NpyElement = Scalar<T> || std::same_as<T, Index> || std::same_as<T, std::int64_t> ||
                     std::same_as<T, std::int32_t> || std::same_as<T, bool>;

template <NpyElement T>
inline constexpr NpyType npy_type_of = std::same_as<T, bool>    ? NpyType::boolean
                                       : std::same_as<T, float> ? NpyType::float32
                                       : Scalar<T>              ? NpyType::float64
                                       : sizeof(T) == 4         ? NpyType::int32
                                                                : NpyType::int64;

// The other type whose every value T holds; T where there is none.
template <NpyElement T>
using NpyNarrower =
    std::conditional_t<std::same_as<T, double>, float,
                       std::conditional_t<npy_type_of<T> == NpyType::int64, std::int32_t, T>>;

template <class Stored>
void read_npy_elements(File& file, const NpyHeader& header, Stored* elements, std::size_t count) {
  const auto bytes = reinterpret_cast<char*>(elements);
  file.read(bytes, count * sizeof(Stored));
  file.require_end();
  if constexpr (is_big_endian) reverse_each(bytes, count * sizeof(Stored), sizeof(Stored));
  if constexpr (std::same_as<Stored, bool>)
    for (std::size_t i = 0; i < count; ++i)
      if (bytes[i] != 0 && bytes[i] != 1)
        refuse_file(file.path(), "byte " + std::to_string(header.data_offset + i) + " is " +
                                     std::to_string(static_cast<unsigned char>(bytes[i])) +
                                     ", and a bool is 0 or 1");
}

// Equal types are copied and never converted, so NaNs keep their payload.
template <class T, class Stored, int Rank>
[[nodiscard]] Tensor<T, Rank> read_npy_data(File& file, const NpyHeader& header) {
  std::array<Index, static_cast<std::size_t>(Rank)> shape{}, index{}, step{};
  std::ranges::copy(header.shape, shape.begin());
  auto stored = make_tensor<Stored>(file.path().string(), shape);  // in the order of the file
  read_npy_elements(file, header, stored.data(), static_cast<std::size_t>(stored.size()));
  const bool is_transposed = header.fortran_order && Rank > 1;
  if constexpr (std::same_as<Stored, T>)
    if (!is_transposed) return stored;

  auto tensor = make_tensor<T>(file.path().string(), shape);
  if (!is_transposed) {
    std::copy_n(stored.data(), stored.size(), tensor.data());
    return tensor;
  }
  Index to = 1;
  for (std::size_t axis = shape.size(); axis-- > 0; to *= shape[axis]) step[axis] = to;
  to = 0;
  for (Index from = 0; from < stored.size(); ++from) {
    tensor.data()[to] = static_cast<T>(stored.data()[from]);
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {  // the first axis counts fastest
      to += step[axis];
      if (++index[axis] < shape[axis]) break;
      to -= step[axis] * std::exchange(index[axis], 0);
    }
  }
  return tensor;
}

}  // namespace detail

// T: float, double, Index, std::int32_t or bool. The file holds T, or float for double, or int32
// for Index; nothing that could change a value is converted. Data in Fortran order is transposed.
// Throws FileError if the file cannot be read, is not exactly one well-formed array, or holds
// another type or another number of dimensions.
template <class T, int Rank>
requires detail::NpyElement<T>
[[nodiscard]] Tensor<T, Rank> load_npy(const std::filesystem::path& path) {
  const std::uintmax_t size = detail::regular_file_size(path);
  detail::File file(path, "rb");
  const NpyHeader header = detail::read_npy_header(file, size);

  using Narrower = detail::NpyNarrower<T>;
  const bool is_exact = header.type == detail::npy_type_of<T>;
  if (!is_exact && header.type != detail::npy_type_of<Narrower>) {
    const auto& held = detail::facts_of(header.type);
    const auto& asked = detail::facts_of(detail::npy_type_of<T>);
    detail::refuse_file(path, std::string("holds ") + held.name + " values; load it as " +
                                  held.loaded_as + ", not " + asked.loaded_as);
  }
  if (header.shape.size() != Rank)
    detail::refuse_file(path, "has shape " + detail::shape_text(header.shape) + "; " +
                                  std::to_string(Rank) + " dimensions were asked for");
  return is_exact ? detail::read_npy_data<T, T, Rank>(file, header)
                  : detail::read_npy_data<T, Narrower, Rank>(file, header);
}

// Writes what np.save writes: version 1.0, C order, little-endian. Throws FileError, and then
// leaves `path` as it was (see write_file).
template <detail::TensorLike X>
requires detail::NpyElement<element_of<X>>
void save_npy(const std::filesystem::path& path, const X& tensor) {
  using T = element_of<X>;
  static_assert(rank_of<X> <= static_cast<int>(detail::npy_max_rank),
                "NumPy has no arrays of more than 64 dimensions.");
  const TensorView<T, rank_of<X>> view = tensor;
  if constexpr (rank_of < X >> 0) require_shape("tensor", view, "its own shape", view.dimensions());

  const std::string header = detail::npy_header_text(detail::npy_type_of<T>, view.dimensions());
  std::string_view data(reinterpret_cast<const char*>(view.data()),
                        static_cast<std::size_t>(view.size()) * sizeof(T));
  std::string swapped;
  if constexpr (detail::is_big_endian) {
    swapped = data;
    detail::reverse_each(swapped.data(), swapped.size(), sizeof(T));
    data = swapped;
  }
  detail::write_file_parts(path, std::array{std::string_view(header), data});
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
