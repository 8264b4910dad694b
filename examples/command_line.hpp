// SPDX-License-Identifier: MIT
#pragma once
// The options of a program: a table of those that exist, and what was given of them.
//   --name | --name VALUE | --name VALUE VALUE..., each at most once, in any order
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <new>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace command_line {

enum class Takes { nothing, value, values };

struct Option {
  std::string_view name, value, help;  // a help of several lines is indented as one
  Takes takes = Takes::value;
  bool is_required = false;
};

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void print_options(std::ostream& out, std::span<const Option> options) {
  constexpr std::size_t indent = 25;
  for (const Option& option : options) {
    std::string left = "  " + std::string(option.name) + ' ' + std::string(option.value);
    left.resize(indent, ' ');
    std::string help(option.help);
    for (auto at = help.find('\n'); at != help.npos; at = help.find('\n', at + 1))
      help.insert(at + 1, indent, ' ');
    out << left << help << '\n';
  }
}

// The words before the first option: those of a command, whose options are left in `words`.
[[nodiscard]] inline std::vector<std::string> take_words(std::vector<std::string>& words) {
  const auto first_option =
      std::ranges::find_if(words, [](const std::string& word) { return word.starts_with("--"); });
  const std::vector<std::string> taken(words.begin(), first_option);
  words.erase(words.begin(), first_option);
  return taken;
}

class CommandLine {
 public:
  // Throws UsageError, as do all that follow, with a sentence for the user.
  CommandLine(std::span<const Option> options, std::span<const std::string> words) {
    for (auto word = words.begin(); word != words.end();) {
      const auto option = std::ranges::find(options, *word, &Option::name);
      if (option == options.end())
        throw UsageError((word->starts_with("-") ? "unknown option '" : "unexpected word '") +
                         *word + "'");
      const auto [given, is_first] = given_.try_emplace(*word);
      if (!is_first) throw UsageError(*word + " is given twice");
      auto& values = given->second;
      while (++word != words.end() && !word->starts_with("--") && option->takes != Takes::nothing &&
             (values.empty() || option->takes == Takes::values))
        values.push_back(*word);
      const bool is_empty = values.empty() || std::ranges::count(values, "") > 0;
      if (option->takes != Takes::nothing && is_empty)
        throw UsageError(given->first + " needs a value");
    }
    for (const Option& option : options)
      if (option.is_required && !has(std::string(option.name)))
        throw UsageError(std::string(option.name) + " is missing");
  }

  [[nodiscard]] bool has(const std::string& name) const { return given_.count(name) > 0; }
  // Of an option that was given.
  [[nodiscard]] const std::vector<std::string>& values(const std::string& name) const {
    return given_.at(name);
  }
  [[nodiscard]] const std::string& value(const std::string& name) const {
    return values(name).front();
  }
  [[nodiscard]] const std::string& value(const std::string& name,
                                         const std::string& otherwise) const {
    return has(name) ? value(name) : otherwise;
  }

  // From 1 on.
  [[nodiscard]] int count(const std::string& name, int most) const {
    const std::string& text = value(name);
    int count = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (error != std::errc() || end != text.data() + text.size() || count < 1 || count > most)
      throw UsageError(name + " is '" + text + "'; expected a whole number, 1 to " +
                       std::to_string(most));
    return count;
  }
  // `otherwise` if it is not given.
  [[nodiscard]] double number(const std::string& name, double otherwise) const {
    if (!has(name)) return otherwise;
    const std::string& text = value(name);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      throw UsageError(name + " is '" + text + "'; expected a number");
    return value;
  }

 private:
  std::map<std::string, std::vector<std::string>> given_;
};

// What an exception says, for a line that begins with the program's name.
[[nodiscard]] inline std::string said(const std::exception& error) {
  const std::string_view what = error.what(), prefix = "eigenheads: ";
  return std::string(what.substr(what.starts_with(prefix) ? prefix.size() : 0));
}

// After the standard input's end: unlike an empty one, what cannot be read is an error.
inline void require_input_was_read() {
  if (std::cin.bad() || std::ferror(stdin) != 0)
    throw std::runtime_error("cannot read the standard input");
}

// A program's main: run(words) and its exit status, or a sentence and 2. Where --help stands among the
// words, or -h alone, run({"--help"}).
template <class Run>
int run_program(const std::string& name, int argc, char** argv, const Run& run) {
  std::string sentence;
  try {
    std::vector<std::string> words(argv + 1, argv + argc);
    if (std::ranges::count(words, "--help") > 0 || (words.size() == 1 && words[0] == "-h"))
      words = {"--help"};
    const int status = run(words);
    if (!std::cout.flush()) throw std::runtime_error("cannot write to the standard output");
    return status;
  } catch (const UsageError& error) {
    sentence = error.what() + (" (" + name + " --help lists the options)");
  } catch (const std::bad_alloc&) {
    sentence = "not enough memory";
  } catch (const std::exception& error) {
    sentence = said(error);
  }
  std::cerr << name + ": " + sentence + '\n';  // in one piece: there may be several such processes
  return 2;
}

}  // namespace command_line
