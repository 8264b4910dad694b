// SPDX-License-Identifier: MIT
#pragma once
// A layer trained by PyTorch: the parameters of a torch.nn.MultiheadAttention, one .npy file each,
// named by its state_dict:
//   for name, x in layer.state_dict().items(): np.save(f"weights/{name}.npy", x.cpu().numpy())
// With E = embed_dim they are
//   in_proj_weight [3E, E], the rows of W_q, W_k and W_v below one another; or, if the sizes
//   differ, q_proj_weight [E, E], k_proj_weight [E, kdim] and v_proj_weight [E, vdim];
//   out_proj.weight [E, E];
//   in_proj_bias [3E] and out_proj.bias [E], or, with bias=False, neither.
// https://pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html
// The number of heads and the dropout are in no file: the first is asked for, the second is 0 in
// the layer that is made.
#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                 // refuse, shape_text, expected_text
#include <eigenheads/io/file.hpp>               // FileError, refuse_file, require_name
#include <eigenheads/io/npy.hpp>                // load_npy, read_npy_header
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/tensor.hpp>                // Index, Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// The files of one layer, of which only the headers were read: they fit each other, and their
// element type and sizes are known before anything is loaded.
class TorchWeights {
 public:
  // paths: folders, whose .npy files count and nothing else in them, or the files themselves.
  // Throws FileError unless together they are exactly one layer.
  explicit TorchWeights(const std::vector<std::filesystem::path>& paths) {
    for (const auto& path : paths) {
      where_ += (where_.empty() ? "" : ", ") + path.string();
      add_all(path);
    }
    require_complete();
    require_shapes();
  }

  [[nodiscard]] Index embed_dim() const { return part("out_proj.weight").header.shape[0]; }

  // Whether a float64 file is among them: then load<float> would lose digits, and refuses.
  [[nodiscard]] bool is_float64() const {
    return std::ranges::any_of(
        parts_, [](const auto& part) { return part.second.header.type == NpyType::float64; });
  }

  // Throws std::invalid_argument unless num_heads divides embed_dim; FileError if a file cannot be
  // loaded as T, or is no longer what it was.
  template <Scalar T>
  [[nodiscard]] MultiHeadAttention<T> load(Index num_heads) const {
    const Index E = embed_dim();
    if (num_heads < 1 || E % num_heads != 0)
      detail::refuse({"num_heads is ", num_heads, "; expected a divisor of E = ", E,
                      ", the size of ", file_of("out_proj.weight")});
    // Lazy, so that no weights are drawn only to be replaced.
    MultiHeadAttention<T> layer(
        {.num_hiddens = E, .num_heads = num_heads, .bias = has("in_proj_bias")});
    if (has("in_proj_weight")) {
      const auto weight = tensor<T, 2>("in_proj_weight");
      const auto rows = [&](Index i) { return TensorView<T, 2>(&weight(i * E, 0), {E, E}); };
      layer.W_q.set_weight(rows(0));
      layer.W_k.set_weight(rows(1));
      layer.W_v.set_weight(rows(2));
    } else {
      layer.W_q.set_weight(tensor<T, 2>("q_proj_weight"));
      layer.W_k.set_weight(tensor<T, 2>("k_proj_weight"));
      layer.W_v.set_weight(tensor<T, 2>("v_proj_weight"));
    }
    layer.W_o.set_weight(tensor<T, 2>("out_proj.weight"));
    if (has("in_proj_bias")) {
      const auto bias = tensor<T, 1>("in_proj_bias");
      const auto rows = [&](Index i) { return TensorView<T, 1>(&bias(i * E), {E}); };
      layer.W_q.set_bias(rows(0));
      layer.W_k.set_bias(rows(1));
      layer.W_v.set_bias(rows(2));
      layer.W_o.set_bias(tensor<T, 1>("out_proj.bias"));
    }
    return layer;
  }

 private:
  struct Part {
    std::filesystem::path file;
    NpyHeader header;
  };

  static constexpr std::array<std::string_view, 7> names{
      "in_proj_weight", "q_proj_weight",   "k_proj_weight", "v_proj_weight",
      "in_proj_bias",   "out_proj.weight", "out_proj.bias"};

  [[nodiscard]] bool has(std::string_view name) const { return parts_.find(name) != parts_.end(); }
  [[nodiscard]] const Part& part(std::string_view name) const { return parts_.find(name)->second; }
  [[nodiscard]] std::string file_of(std::string_view name) const {
    return part(name).file.string();
  }

  void add_all(const std::filesystem::path& path) {
    detail::require_name(path);
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) return add(path);
    std::vector<std::filesystem::path> files;
    for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end;
         entry.increment(error))
      if (entry->path().extension() == ".npy") files.push_back(entry->path());
    if (error) detail::refuse_file(path, error.message());
    if (files.empty())
      detail::refuse_file(path,
                          "a folder without .npy files; expected in_proj_weight.npy and others");
    std::ranges::sort(files);  // of several mistakes, always the same is named
    for (const auto& file : files) add(file);
  }

  void add(const std::filesystem::path& file) {
    const NpyHeader header = read_npy_header(file);
    const std::string name = file.extension() == ".npy" ? file.stem().string() : "";
    if (std::ranges::find(names, name) == names.end()) {
      std::string known;
      for (const std::string_view one : names)
        known += (known.empty() ? "" : ", ") + std::string(one) + ".npy";
      detail::refuse_file(file, name == "bias_k" || name == "bias_v"
                                    ? "add_bias_kv=True is not supported; expected " + known
                                    : "not the name of a parameter; expected " + known);
    }
    if (has(name))
      detail::refuse_file(file, "a second " + name + "; the first is " + file_of(name));
    if (header.type != NpyType::float32 && header.type != NpyType::float64)
      detail::refuse_file(file, "holds " + std::string(name_of(header.type)) +
                                    " values; expected float32 or float64");
    parts_.emplace(name, Part{file, header});
  }

  void require_complete() const {
    if (parts_.empty()) detail::refuse({"TorchWeights: no path was given; expected one or more"});
    const std::array separate{"q_proj_weight", "k_proj_weight", "v_proj_weight"};
    const auto here = [this](std::string_view name) { return has(name); };
    if (!has("in_proj_weight") && std::ranges::none_of(separate, here))
      refuse_missing("in_proj_weight, or q_proj_weight, k_proj_weight and v_proj_weight");
    for (const char* name : separate) {
      if (has("in_proj_weight") && has(name))
        detail::refuse_file(part(name).file, "the same parameter is in " +
                                                 file_of("in_proj_weight") +
                                                 "; expected only one of the two");
      if (!has("in_proj_weight") && !has(name)) refuse_missing(name);
    }
    if (!has("out_proj.weight")) refuse_missing("out_proj.weight");
    if (has("in_proj_bias") && !has("out_proj.bias"))
      refuse_missing("out_proj.bias, or with bias=False no in_proj_bias");
    if (has("out_proj.bias") && !has("in_proj_bias"))
      refuse_missing("in_proj_bias, or with bias=False no out_proj.bias");
  }

  [[noreturn]] void refuse_missing(const std::string& expected) const {
    std::string found;
    for (const auto& [name, part] : parts_) found += (found.empty() ? "" : ", ") + name;
    detail::refuse_file(where_, "found only " + found + "; expected also " + expected);
  }

  void require_shapes() const {
    const auto& [file, header] = part("out_proj.weight");
    if (header.shape.size() != 2 || header.shape[0] != header.shape[1] || header.shape[0] == 0)
      detail::refuse_file(file, "has shape " + detail::shape_text(header.shape) +
                                    "; expected [E, E], where E is 1 or more");
    const Index E = embed_dim();
    require_part("in_proj_weight", "[3E, E]", {3 * E, E});
    require_part("q_proj_weight", "[E, E]", {E, E});
    require_part("k_proj_weight", "[E, kdim]", {E, any_size});
    require_part("v_proj_weight", "[E, vdim]", {E, any_size});
    require_part("in_proj_bias", "[3E]", {3 * E});
    require_part("out_proj.bias", "[E]", {E});
  }

  // If it is there at all. No size may be 0.
  void require_part(std::string_view name, const char* axes,
                    const std::vector<Index>& expected) const {
    if (!has(name)) return;
    const auto& shape = part(name).header.shape;
    const auto fits = [](Index got, Index want) {
      return got > 0 && (want == any_size || got == want);
    };
    if (!std::ranges::equal(shape, expected, fits))
      detail::refuse_file(part(name).file, "has shape " + detail::shape_text(shape) +
                                               "; expected " + axes + " = " +
                                               detail::expected_text(expected) +
                                               ", where E = " + std::to_string(embed_dim()) +
                                               " is from " + file_of("out_proj.weight"));
  }

  // The file may have been replaced since its header was read.
  template <Scalar T, int Rank>
  [[nodiscard]] Tensor<T, Rank> tensor(std::string_view name) const {
    auto loaded = load_npy<T, Rank>(part(name).file);
    if (!std::ranges::equal(loaded.dimensions(), part(name).header.shape))
      detail::refuse_file(part(name).file, "changed while it was read");
    return loaded;
  }

  std::string where_;
  std::map<std::string, Part, std::less<>> parts_;  // by their names in the state_dict
};

// TorchWeights({folder}).load<T>(num_heads), for a program that knows the type of its files.
template <Scalar T>
[[nodiscard]] MultiHeadAttention<T> load_torch_weights(const std::filesystem::path& folder,
                                                       Index num_heads) {
  return TorchWeights({folder}).load<T>(num_heads);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
