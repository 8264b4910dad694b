// SPDX-License-Identifier: MIT
// replay TARGET PATH...: runs the target on each file, and on each of a folder, in order. Every target
// is in this program, under its own name in place of LLVMFuzzerTestOneInput.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include <eigenheads/io/file.hpp>

#define EIGENHEADS_FUZZ_TARGETS(TARGET) \
  TARGET(attention)                     \
  TARGET(config)                        \
  TARGET(kv_cache)                      \
  TARGET(masks)                         \
  TARGET(npy)                           \
  TARGET(packed)                        \
  TARGET(plot)                          \
  TARGET(safetensors)                   \
  TARGET(safetensors_header) TARGET(safetensors_index) EIGENHEADS_FUZZ_TOKENIZER(TARGET)
#if defined(EIGENHEADS_HAS_UTF8PROC)
#define EIGENHEADS_FUZZ_TOKENIZER(TARGET) TARGET(tokenizer)
#else
#define EIGENHEADS_FUZZ_TOKENIZER(TARGET)
#endif

#define EIGENHEADS_DECLARE(name) extern "C" int fuzz_##name(const std::uint8_t*, std::size_t);
EIGENHEADS_FUZZ_TARGETS(EIGENHEADS_DECLARE)

namespace {

struct Target {
  const char* name;
  int (*run)(const std::uint8_t*, std::size_t);
};
#define EIGENHEADS_ROW(name) {#name, fuzz_##name},
constexpr Target kTargets[] = {EIGENHEADS_FUZZ_TARGETS(EIGENHEADS_ROW)};

}  // namespace

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  const auto target = std::find_if(
      std::begin(kTargets), std::end(kTargets),
      [&](const Target& one) { return argc > 1 && std::strcmp(one.name, argv[1]) == 0; });
  if (target == std::end(kTargets)) {
    std::fprintf(stderr, "usage: %s TARGET PATH...; targets:", argv[0]);
    for (const Target& one : kTargets) std::fprintf(stderr, " %s", one.name);
    std::fprintf(stderr, "\n");
    return 2;
  }
  std::vector<fs::path> files;
  for (int i = 2; i < argc; ++i) {
    if (!fs::is_directory(argv[i])) {
      files.emplace_back(argv[i]);
      continue;
    }
    for (const auto& entry : fs::directory_iterator(argv[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    std::printf("%s %s\n", argv[1], file.c_str());
    std::fflush(stdout);
    const std::string bytes = eigenheads::read_file(file);
    (void)target->run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  std::printf("%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;
}
