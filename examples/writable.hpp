// SPDX-License-Identifier: MIT
#pragma once
// Asked before long work, so that nothing but a disk that fills up can stop the writing after it.
#include <filesystem>
#include <span>
#include <string>
#include <system_error>

#include <eigenheads/io/file.hpp>

// That files of these names, one or more, can be written to the folder, which is made if it is not
// there. Throws eigenheads::FileError.
inline void require_writable(const std::filesystem::path& folder,
                             std::span<const std::string> names) {
  namespace files = eigenheads::detail;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) files::refuse_file(folder, error.message());
  const files::Removal probe{files::create_beside(folder, folder / names.back())};
  for (const std::string& name : names) {
    const std::filesystem::path file = folder / name;
    const auto status = std::filesystem::status(file, error);
    if (!std::filesystem::exists(status)) continue;
    files::require_regular(file, status);
    const files::File writable(file, "r+b");
  }
}
