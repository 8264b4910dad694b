// SPDX-License-Identifier: MIT
#pragma once
// A cache of keys and values in a .safetensors file, so that a prompt is computed once:
//   save_kv_cache("prompt.safetensors", cache);
//   load_kv_cache("prompt.safetensors", cache);
// The steps that follow have the bits of those that the saved cache would have taken, on any CPU. Of
// every sequence b the file holds
//   sequence.<b>.keys, sequence.<b>.values   [G, n, D], of the n tokens that the cache has
//   sequence.<b>.sink_keys, .sink_values     [G, s, D], of a ring's sinks, if it has any
//   lengths, oldest                          [B]: tokens oldest to length - 1 are those; of a ring, the
//                                            ones before are gone
// and as metadata the sizes. Numbers are written as they are stored: F32, F64, BF16 or F16. Sequences
// that share memory are written each for itself. Loading is strict: a cache of other sizes, or of
// other numbers, is refused and stays as it was; only the capacity may be another, if it is enough.
// One sequence is saved and loaded as a cache of one, such as a prompt that begins some of a batch:
//   load_kv_sequence("prompt.safetensors", cache, b);
// Needs nlohmann-json 3.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // Range
#include <eigenheads/io/file.hpp>         // FileError, refuse_file
#include <eigenheads/io/safetensors.hpp>  // Safetensors, read_safetensors, write_safetensors
#include <eigenheads/kv_cache.hpp>        // AnyKvCache
#include <eigenheads/shape.hpp>           // require_size
#include <eigenheads/storage.hpp>         // BFloat16, Half, StoredAs
#include <eigenheads/tensor.hpp>          // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// visit(a number as it is stored), for its type.
template <class T, class Visit>
void with_storage(StoredAs stored_as, const Visit& visit) {
  if constexpr (std::is_same_v<T, float>) {
    if (stored_as == StoredAs::bfloat16) return visit(BFloat16{});
    if (stored_as == StoredAs::half) return visit(Half{});
  }
  visit(T{});
}

// What the metadata says of a cache. The capacity is told, and may differ.
template <class T>
[[nodiscard]] auto described_cache(const CacheSize& size) {
  const std::string scalar = name_of(safetensors_type_of<T>());
  std::string storage;
  with_storage<T>(size.stored_as, [&]<class Storage>(Storage) {
    storage = name_of(safetensors_type_of<Storage>());
  });
  return std::array<std::pair<std::string, std::string>, 8>{
      {{"batch_size", std::to_string(size.sequences)},
       {"num_kv_heads", std::to_string(size.heads)},
       {"head_size", std::to_string(size.head_size)},
       {"window", std::to_string(size.window)},
       {"sinks", std::to_string(size.sinks)},
       {"scalar", scalar},
       {"storage", storage},
       {"capacity", std::to_string(size.capacity)}}};
}

// The names of a cache's tensors.
struct CacheNames {
  std::string prefix;

  [[nodiscard]] std::string lengths() const { return prefix + "lengths"; }
  [[nodiscard]] std::string oldest() const { return prefix + "oldest"; }
  [[nodiscard]] std::string of(Index b, const char* what) const {
    return prefix + "sequence." + std::to_string(b) + '.' + what;
  }
};

// What a cache holds of tokens [tokens.begin, tokens.end) of sequence b.
template <class Storage, class T>
void add_tokens(Safetensors& file, const CachedHeads<T>& heads, Index b, Range tokens,
                const std::pair<std::string, std::string>& names) {
  const CacheSize size = heads.size();
  const Index n = tokens.count(), D = size.head_size;
  const std::array<Index, 3> shape{size.heads, n, D};
  std::vector<Storage> keys(static_cast<std::size_t>(require_size<Storage>("keys", shape))),
      values(keys.size());
  std::vector<T> key(static_cast<std::size_t>(D)), value(key.size());
  for (Index g = 0; g < size.heads; ++g)
    for (Index i = 0; i < n; ++i) {
      heads.read(b, g, tokens.begin + i, key.data(), value.data());
      const Index at = (g * n + i) * D;
      std::ranges::transform(key, keys.begin() + at, stored<T, Storage>);
      std::ranges::transform(value, values.begin() + at, stored<T, Storage>);
    }
  file.add(names.first, TensorView(keys.data(), shape));
  file.add(names.second, TensorView(values.data(), shape));
}

// Tokens of a sequence as a file holds them: keys, values: [G, n, D], of its sinks [G, s, D].
template <class T>
struct SavedSequence {
  Index oldest, length;
  Tensor<T, 3> keys, values, sink_keys{}, sink_values{};
};

// A cache in a file, as far as it can be loaded into one of this size.
template <class T>
class SavedCache {
 public:
  // in: what it is loaded into.
  SavedCache(const Safetensors& file, std::string_view prefix, const CacheSize& size,
             const char* in = "the cache")
      : file_(file), names_{std::string(prefix)}, size_(size), in_(in) {
    require_sizes();
    const auto lengths = numbers(names_.lengths()), oldest = numbers(names_.oldest());
    std::set<std::string, std::less<>> names{names_.lengths(), names_.oldest()};
    for (Index b = 0; b < size.sequences; ++b) {
      require_tokens(b, oldest(b), lengths(b));
      const auto tensor = [&](const char* what, Index n) {
        return file.tensor<T, 3>(*names.insert(names_.of(b, what)).first,
                                 {size.heads, n, size.head_size});
      };
      const auto first = static_cast<Index>(oldest(b)), length = static_cast<Index>(lengths(b));
      const Index n = length - first, s = (std::min)(size.sinks, length);
      sequences_.push_back({first, length, tensor("keys", n), tensor("values", n)});
      if (size.sinks == 0) continue;
      sequences_.back().sink_keys = tensor("sink_keys", s);
      sequences_.back().sink_values = tensor("sink_values", s);
    }
    for (const std::string& name : file.names())
      if (name.starts_with(prefix) && !names.contains(name))
        refuse("tensor " + quoted_name(name) + " is none of the cache's");
  }

  [[nodiscard]] const std::vector<SavedSequence<T>>& sequences() const { return sequences_; }

 private:
  [[noreturn]] void refuse(const std::string& what) const { refuse_file(file_.path(), what); }

  void require_sizes() const {
    for (const auto& [name, expected] : described_cache<T>(size_)) {
      const std::string key = names_.prefix + name;
      const auto found = file_.metadata().find(key);
      if (found == file_.metadata().end())
        refuse("no metadata " + quoted_name(key) + ", which a saved cache has");
      if (name != "capacity" && found->second != expected)
        refuse("metadata " + quoted_name(key) + " is " + quoted_name(found->second) +
               "; expected " + quoted_name(expected) + ", as " + in_ + " that it is loaded into");
    }
  }
  [[nodiscard]] Tensor<std::int64_t, 1> numbers(const std::string& name) const {
    return file_.tensor<std::int64_t, 1>(name, {size_.sequences});
  }
  // What a cache of this window and capacity can have come to. In the file's integers: an Index may be
  // narrower.
  void require_tokens(Index b, std::int64_t oldest, std::int64_t length) const {
    const bool is_ring = size_.window > 0;
    const std::int64_t most =
        is_ring ? (std::numeric_limits<std::int32_t>::max)() - 1 : std::int64_t{size_.capacity};
    const std::string sequence = "sequence " + std::to_string(b);
    if (length < 0 || length > most)
      refuse(sequence + " has " + std::to_string(length) + " tokens; expected 0 to " +
             std::to_string(most) +
             (is_ring ? ", the most that are counted" : ", the cache's capacity"));
    const std::int64_t last = is_ring ? (std::max)(length - size_.window + 1, std::int64_t{0}) : 0;
    if (oldest < 0 || oldest > last)
      refuse(sequence + " has " + std::to_string(length) + " tokens and begins with token " +
             std::to_string(oldest) + "; expected one from 0 to " + std::to_string(last) +
             (is_ring ? ", since the next token sees a whole window" : ""));
  }

  const Safetensors& file_;
  CacheNames names_;
  CacheSize size_;
  const char* in_;
  std::vector<SavedSequence<T>> sequences_;
};

// Sequences [which.begin, which.end) of a cache, as a cache of those.
template <class T>
void add_sequences(Safetensors& file, const CachedHeads<T>& heads, Range which,
                   std::string_view prefix) {
  CacheSize size = heads.size();
  size.sequences = which.count();
  const CacheNames names{std::string(prefix)};
  Tensor<std::int64_t, 1> lengths(size.sequences), oldest(size.sequences);
  for (Index i = 0; i < size.sequences; ++i) {
    lengths(i) = heads.length(which.begin + i);
    oldest(i) = heads.oldest(which.begin + i);
  }
  file.add(names.lengths(), lengths);
  file.add(names.oldest(), oldest);
  for (Index i = 0; i < size.sequences; ++i)
    with_storage<T>(size.stored_as, [&]<class Storage>(Storage) {
      const Index b = which.begin + i;
      add_tokens<Storage>(file, heads, b, {heads.oldest(b), heads.length(b)},
                          {names.of(i, "keys"), names.of(i, "values")});
      if (size.sinks > 0)
        add_tokens<Storage>(file, heads, b, {0, (std::min)(size.sinks, heads.length(b))},
                            {names.of(i, "sink_keys"), names.of(i, "sink_values")});
    });
  for (const auto& [name, text] : described_cache<T>(size))
    file.set_metadata(names.prefix + name, text);
}

// Sequence b becomes what was saved. A ring of a smaller capacity keeps as many of the last tokens.
template <class T>
void set_sequence(CachedHeads<T>& heads, Index b, const SavedSequence<T>& saved) {
  const CacheSize size = heads.size();
  const Index first = (std::max)(saved.oldest, saved.length - size.capacity);
  const auto write = [&](const Tensor<T, 3>& keys, const Tensor<T, 3>& values, Index from,
                         Index count) {
    for (Index g = 0; g < size.heads; ++g) {
      const Index at = (g * keys.dimension(1) + from) * size.head_size;
      heads.write({.b = b,
                   .g = g,
                   .count = count,
                   .keys = keys.data() + at,
                   .values = values.data() + at,
                   .stride = size.head_size});
    }
  };
  heads.begin_at(b, first);
  write(saved.sink_keys, saved.sink_values, 0, (std::min)(size.sinks, first));
  heads.go_on_at(b, first);
  heads.reserve(b, saved.length - first);
  write(saved.keys, saved.values, first - saved.oldest, saved.length - first);
  heads.commit(b, saved.length - first);
}

}  // namespace detail

// Adds a cache to what else a file holds: with a prefix, those of a model's layers. Throws
// std::invalid_argument if a name is taken (what was added before it stays).
template <Scalar T>
void add_kv_cache(Safetensors& file, const AnyKvCache<T>& cache, std::string_view prefix = "") {
  detail::add_sequences<T>(file, cache.heads(), {0, cache.batch_size()}, prefix);
}
// The same of sequence b alone, as a cache of one.
template <Scalar T>
void add_kv_sequence(Safetensors& file, const AnyKvCache<T>& cache, Index b,
                     std::string_view prefix = "") {
  cache.require_sequence("add_kv_sequence", b);
  detail::add_sequences<T>(file, cache.heads(), {b, b + 1}, prefix);
}

// The cache becomes that of the file, of which only tensors whose names begin with the prefix are
// looked at: all of them must be the cache's. A ring of a smaller capacity keeps as many of the last
// tokens. Throws FileError as load_kv_cache does.
template <Scalar T>
void set_kv_cache(AnyKvCache<T>& cache, const Safetensors& file, std::string_view prefix = "") {
  const detail::SavedCache<T> saved(file, prefix, cache.heads().size());
  for (Index b = 0; b < cache.batch_size(); ++b)
    detail::set_sequence(cache.heads(), b, saved.sequences()[static_cast<std::size_t>(b)]);
}
// Sequence b becomes that of the file, which is of a cache of one; the others stay.
template <Scalar T>
void set_kv_sequence(AnyKvCache<T>& cache, Index b, const Safetensors& file,
                     std::string_view prefix = "") {
  cache.require_sequence("set_kv_sequence", b);
  detail::CacheSize one = cache.heads().size();
  one.sequences = 1;
  const detail::SavedCache<T> saved(file, prefix, one, "the sequence");
  detail::set_sequence(cache.heads(), b, saved.sequences().front());
}

// Throws FileError, and then leaves `path` as it was, if the file cannot be written. Needs memory for
// what it holds.
template <Scalar T>
void save_kv_cache(const std::filesystem::path& path, const AnyKvCache<T>& cache) {
  Safetensors file;
  add_kv_cache(file, cache);
  write_safetensors(path, file);
}
template <Scalar T>
void save_kv_sequence(const std::filesystem::path& path, const AnyKvCache<T>& cache, Index b) {
  Safetensors file;
  add_kv_sequence(file, cache, b);
  write_safetensors(path, file);
}

// Throws FileError, and then leaves the cache as it was, if the file cannot be read or is not one of a
// cache of these sizes. Needs memory for the file and another copy of the keys and values.
template <Scalar T>
void load_kv_cache(const std::filesystem::path& path, AnyKvCache<T>& cache) {
  set_kv_cache(cache, read_safetensors(path));
}
// Throws std::invalid_argument if there is no sequence b.
template <Scalar T>
void load_kv_sequence(const std::filesystem::path& path, AnyKvCache<T>& cache, Index b) {
  set_kv_sequence(cache, b, read_safetensors(path));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
