// SPDX-License-Identifier: MIT
// Whatever a file holds, and however the system gives it: it is read, or a FileError names it and what
// it was to be read into is as it was; and nobody asks for more memory than the file is long. Cut at
// every byte, with every bit of its header the other way, with every value of the bytes that say how
// long the header is, in pieces, by calls that a signal ends, and on a disk that fails in the middle.
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/io/model_config.hpp>
#include <eigenheads/io/safetensors_files.hpp>

#include "faults/failing_memory.hpp"
#include "faults/faulty_files.hpp"
#include "faults/modules.hpp"
#include "faults/writers.hpp"

namespace {

using namespace support;
namespace fs = std::filesystem;

// What a file is read into. read() throws FileError, or changes the target; is_as_before() asks
// whether it has.
struct Target {
  std::function<void(const fs::path&)> read;
  std::function<bool()> is_as_before = [] { return true; };
};
struct Reader {
  std::string name;
  std::function<void(const fs::path&)> write;
  std::function<Target()> target;
  std::size_t header;      // bytes, every bit of which is turned
  std::size_t length = 0;  // of the bytes that say how long the header is, and where they begin
  std::size_t length_begin = 0;
};

// Reads all tensors; those that this library does not know are none to be read.
void read_all(const eh::SafetensorsFiles& files) {
  for (const std::string& name : files.names()) {
    if (files.type(name) == eh::SafetensorsType::unsupported) continue;
    std::size_t size = 1;
    for (const Index n : files.shape(name)) size *= static_cast<std::size_t>(n);
    std::vector<double> numbers(size);
    files.read(name, 0, std::span(numbers), eh::Conversion::rounded);
  }
}

[[nodiscard]] std::vector<Index> lengths_of(const eh::KvCache<float>& cache) {
  return {cache.length(0), cache.length(1)};
}
[[nodiscard]] std::vector<float> tokens_of(const eh::KvCache<float>& cache) {
  std::vector<float> all;
  std::array<float, 4> key{}, value{};
  for (Index b = 0; b < cache.batch_size(); ++b)
    for (Index g = 0; g < cache.num_kv_heads(); ++g)
      for (Index t = cache.heads().oldest(b); t < cache.length(b); ++t) {
        cache.heads().read(b, g, t, key.data(), value.data());
        all.insert(all.end(), key.begin(), key.end());
        all.insert(all.end(), value.begin(), value.end());
      }
  return all;
}
[[nodiscard]] Target cache_target(bool is_sequence) {
  const auto cache = std::make_shared<eh::KvCache<float>>(some_cache(1));
  const auto lengths = lengths_of(*cache);
  const auto tokens = tokens_of(*cache);
  return {[=](const fs::path& path) {
            if (is_sequence)
              eh::load_kv_sequence(path, *cache, 1);
            else
              eh::load_kv_cache(path, *cache);
          },
          [=] { return lengths_of(*cache) == lengths && tokens_of(*cache) == tokens; }};
}
template <class Load>
[[nodiscard]] Target layer_target(const Load& load) {
  const auto layer = std::make_shared<eh::MultiHeadAttention<float>>(some_layer(1));
  return {[=](const fs::path& path) { load(path, *layer); },
          [=] { return static_cast<bool>(same_parameters(*layer, some_layer(1))); }};
}
[[nodiscard]] Target nothing_to_change(const std::function<void(const fs::path&)>& read) {
  return {.read = read};
}

[[nodiscard]] std::size_t header_of(const fs::path& path) {
  const std::string bytes = eh::read_file(path);
  return 8 + static_cast<unsigned char>(bytes[0]) + 256u * static_cast<unsigned char>(bytes[1]);
}

class Readers : public FastFolder {
 protected:
  // Writes the file of each, and calls use(reader, its target, its path, its bytes).
  template <class Use>
  void for_each_reader(const Use& use) {
    const auto writer = [](std::size_t number) {
      return [number](const fs::path& path) { all_writers()[number].write(path, 0); };
    };
    const std::vector<Reader> readers{
        {"a.npy", writer(1),
         [] {
           return nothing_to_change([](const fs::path& p) { (void)eh::load_npy<float, 2>(p); });
         },
         128, 2, 8},
        {"a.safetensors", writer(2),
         [] { return nothing_to_change([](const fs::path& p) { (void)eh::read_safetensors(p); }); },
         0, 8},
        {"b.safetensors", writer(2),
         [] {
           return nothing_to_change([](const fs::path& p) { read_all(eh::SafetensorsFiles(p)); });
         },
         0, 8},
        {"some.safetensors.index.json", writer(3),
         [] {
           return nothing_to_change([](const fs::path& p) { read_all(eh::SafetensorsFiles(p)); });
         },
         SIZE_MAX},
        {"cache.safetensors", writer(4), [] { return cache_target(false); }, 0, 8},
        {"sequence.safetensors", writer(5), [] { return cache_target(true); }, 0, 8},
        {"module.safetensors", writer(6),
         [] {
           return layer_target([](const fs::path& p, auto& of) { eh::load_parameters(p, of); });
         },
         0, 8},
        {"model.safetensors", writer(7),
         [] {
           return layer_target([](const fs::path& p, auto& of) {
             eh::load_checkpoint(eh::SafetensorsFiles(p), eh::checkpoint_families::torch_attention,
                                 "", of);
           });
         },
         0, 8},
        {"config.json",
         [](const fs::path& path) {
           fs::copy_file(
               fs::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/checkpoints/llama/config.json",
               path);
         },
         [] {
           return nothing_to_change([](const fs::path& p) { (void)eh::read_model_config(p); });
         },
         SIZE_MAX},
    };
    for (Reader reader : readers) {
      SCOPED_TRACE(reader.name);
      fs::remove_all(folder_);
      fs::create_directory(folder_);
      path_ = folder_ / reader.name;
      reader.write(path_);
      whole_ = eh::read_file(path_);
      if (reader.header == 0) reader.header = header_of(path_);
      reader.header = std::min(reader.header, whole_.size());
      use(reader);
    }
  }

  // In place: the file stays the same one.
  void overwrite(std::size_t at, char byte) const {
    eh::detail::File file(path_, "r+b");
    file.write(whole_.substr(0, at) + byte);
  }
  // Whether it is read; the target is a new one then.
  [[nodiscard]] bool is_read(const Reader& reader, Target& target) const {
    largest = 0;
    try {
      target.read(path_);
    } catch (const eh::FileError& error) {
      EXPECT_LT(static_cast<std::size_t>(largest), whole_.size() + 4096);
      EXPECT_TRUE(std::string(error.what()).starts_with("eigenheads: " + folder_.string()))
          << error.what();
      EXPECT_TRUE(target.is_as_before());
      return false;
    }
    target = reader.target();
    return true;
  }

  fs::path path_;
  std::string whole_;
};

TEST_F(Readers, RefuseAFileThatIsCutAtAnyByte) {
  for_each_reader([&](const Reader& reader) {
    Target target = reader.target();
    // A newline at the end of a text may be missing.
    const std::size_t least = whole_.back() == '\n' ? whole_.size() - 1 : whole_.size();
    for (std::size_t size = whole_.size(); size-- > 0;) {
      fs::resize_file(path_, size);
      ASSERT_TRUE(size >= least || !is_read(reader, target)) << size;
    }
  });
}

TEST_F(Readers, ReadOrRefuseAHeaderOfWhichAnyBitIsTheOther) {
  for_each_reader([&](const Reader& reader) {
    Target target = reader.target();
    int refused = 0;
    for (std::size_t i = 0; i < reader.header; ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        overwrite(i, static_cast<char>(whole_[i] ^ 1 << bit));
        if (!is_read(reader, target)) ++refused;
        if (HasFailure()) FAIL() << "bit " << bit << " of byte " << i;
      }
      overwrite(i, whole_[i]);
    }
    EXPECT_GT(refused, static_cast<int>(2 * reader.header));
    EXPECT_TRUE(is_read(reader, target)) << "and the file is whole again";
  });
}

TEST_F(Readers, RefuseAnyLengthOfAHeaderButItsOwn) {
  for_each_reader([&](const Reader& reader) {
    Target target = reader.target();
    for (std::size_t i = reader.length_begin; i < reader.length_begin + reader.length; ++i) {
      for (int value = 0; value < 256; ++value) {
        if (static_cast<char>(value) == whole_[i]) continue;
        overwrite(i, static_cast<char>(value));
        ASSERT_FALSE(is_read(reader, target)) << "byte " << i << " is " << value;
      }
      overwrite(i, whole_[i]);
    }
  });
}

TEST_F(Readers, TakeShortReadsAndSignalsForWhatTheyAre) {
  for_each_reader([&](const Reader& reader) {
    Target target = reader.target();
    for (const std::size_t most : {std::size_t{1}, std::size_t{7}, SIZE_MAX}) {
      const FaultyFiles faulty({.most = most, .interrupted = true});
      EXPECT_TRUE(is_read(reader, target)) << most;
    }
  });
}

TEST_F(Readers, NameTheFileOfADiskThatFailsInTheMiddle) {
  for_each_reader([&](const Reader& reader) {
    Target target = reader.target();
    long all = 0;
    {
      constexpr long plenty = 1 << 30;
      const FaultyFiles faulty({.readable = plenty, .error = EIO});
      ASSERT_TRUE(is_read(reader, target));
      all = plenty - faults.readable;
    }
    for (long readable = 0; readable < all; readable += 1 + all / 150) {
      const FaultyFiles faulty({.readable = readable, .error = EIO});
      ASSERT_FALSE(is_read(reader, target)) << readable << " of " << all;
    }
    for (long opens = 0;; ++opens) {
      const FaultyFiles faulty({.opens = opens, .error = EMFILE});
      if (is_read(reader, target)) break;
    }
  });
}

}  // namespace
