// SPDX-License-Identifier: MIT
#pragma once
// Asked before long work, so that nothing but a disk that fills up can stop the writing after it.
#include <filesystem>
#include <initializer_list>
#include <set>
#include <span>
#include <string>
#include <system_error>

#include <eigenheads/io/file.hpp>

#include "command_line.hpp"  // CommandLine, UsageError

// That files of these names can be written to the folder, which is made if it is not there. Throws
// eigenheads::FileError.
inline void require_writable(const std::filesystem::path& folder,
                             std::span<const std::string> names) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) eigenheads::detail::refuse_file(folder, error.message());
  for (const std::string& name : names) const eigenheads::detail::Replacement probe(folder / name);
}

// That each of these options that is given names a file of its own, which can be written to a folder
// that is there. Throws command_line::UsageError and eigenheads::FileError.
inline void require_outputs(const command_line::CommandLine& line,
                            std::initializer_list<const char*> names) {
  std::set<std::filesystem::path> files;
  for (const char* name : names) {
    if (!line.has(name)) continue;
    const std::filesystem::path file = line.value(name);
    std::error_code error;
    const std::filesystem::path whole = std::filesystem::absolute(file);
    if (!std::filesystem::is_directory(whole.parent_path(), error))
      eigenheads::detail::refuse_file(file, "there is no such folder");
    if (!files.insert(std::filesystem::weakly_canonical(whole, error)).second)
      throw command_line::UsageError(name + std::string(" is the file that another option writes"));
    const eigenheads::detail::Replacement probe(file);
  }
}
