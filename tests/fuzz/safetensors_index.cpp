// SPDX-License-Identifier: MIT
// An index of any bytes, beside two files of two tensors: it is refused, or says where some of the four
// lie, and nowhere else.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "safetensors.hpp"

namespace {

namespace eh = eigenheads;

void write_shard(const char* name, const char* first, const char* second) {
  eh::Safetensors contents;
  contents.add(first, 1.0f);
  contents.add(second, std::int64_t{2});
  eh::write_safetensors(fuzz::folder() / name, contents);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const bool are_written = [] {
    write_shard("1.safetensors", "a", "b");
    write_shard("2.safetensors", "c", "d");
    return true;
  }();
  const auto index = fuzz::folder() / "model.safetensors.index.json";
  fuzz::put(index, fuzz::text_of(bytes, size));
  (void)are_written;
  (void)fuzz::succeeds<eh::FileError>([&] {
    const eh::SafetensorsFiles files(index);
    fuzz::require(files.num_files() >= 1 && files.num_files() <= 2, "other files");
    const std::set<std::string> known{"a", "b", "c", "d"};
    for (const std::string& name : files.names())
      fuzz::require(known.contains(name), "another tensor");
    fuzz::read_some(files);
  });
  return 0;
}
