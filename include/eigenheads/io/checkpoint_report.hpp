// SPDX-License-Identifier: MIT
#pragma once
// What loading a checkpoint did, to be printed or asked.
#include <ostream>
#include <string>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI {

struct CheckpointReport {
  struct Loaded {
    std::string parameter, tensor;
    std::string how;  // "transposed, part 2 of 3, from F16", or nothing: as it is
  };
  std::string family;
  std::vector<Loaded> loaded;
  std::vector<std::string> zero;     // parameters that the file has none for, and that became 0
  std::vector<std::string> missing;  // and that stayed as they were: where loading is not strict
  std::vector<std::string> others;   // tensors of other parts of the model
  std::vector<std::string> unused;   // tensors that a model may do without, or, not strict, unknown
  std::vector<std::string> ignored;  // tensors that are no parameters
  std::vector<std::string> notes;    // whatever else an owner should know, a sentence each

  // A line for each kind, with what is not as it would be expected; and how many are.
  friend std::ostream& operator<<(std::ostream& out, const CheckpointReport& report) {
    out << report.family << ": " << std::to_string(report.loaded.size()) << " parameters loaded";
    const auto list = [&](const char* what, const std::vector<std::string>& names) {
      constexpr std::size_t most = 4;
      if (names.empty()) return;
      out << "\n  " << std::to_string(names.size()) << ' ' << what << ": ";
      for (std::size_t i = 0; i < names.size() && i < most; ++i)
        out << (i > 0 ? ", " : "") << names[i];
      if (names.size() > most) out << ", ...";
    };
    list("set to 0", report.zero);
    list("missing, left as they were", report.missing);
    list("tensors of other parts", report.others);
    list("tensors not used", report.unused);
    list("buffers ignored", report.ignored);
    for (const std::string& note : report.notes) out << "\n  " << note;
    return out;
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
