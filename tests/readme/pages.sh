#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# pages.sh PAGE.md...: writes a program that runs what the pages show. The ```cpp blocks of a page are
# one function, one below the other; a block that begins with #include or with a struct stands before
# it. An assertion, and the compiler, name the page and its line.
set -euo pipefail
for page in "$@"; do
  [ -s "$page" ] || { echo "$page is missing or empty" >&2 && exit 1; }
done
awk '
  FNR == 1 {
    page = FILENAME
    sub(/.*\//, "", page); sub(/\.md$/, "", page)
    pages[++count] = page
  }
  /^```cpp$/ { inside = 1; before = -1; next }
  /^```/ && inside { inside = 0; blocks[page]++; next }
  !inside { next }
  {
    if (before < 0) {
      before = /^(#include|struct )/
      line = "#line " FNR " \"" FILENAME "\"\n"
      if (before) outside[page] = outside[page] line
      else body[page] = body[page] line
    }
    if (/^#include/) { includes = includes $0 "\n"; outside[page] = outside[page] "\n" }
    else if (before) outside[page] = outside[page] $0 "\n"
    else body[page] = body[page] $0 "\n"
  }
  END {
    printf "#undef NDEBUG\n%s#include <exception>\n#include <iostream>\n", includes
    for (i = 1; i <= count; ++i) {
      page = pages[i]
      if (!blocks[page]) { print page ": no block was found" >"/dev/stderr"; exit 1 }
      printf "namespace page_%s {\n%svoid run() {\n%s}\n}\n", page, outside[page], body[page]
    }
    print "int main() {\n  const char* page = \"\";\n  try {"
    for (i = 1; i <= count; ++i)
      printf "    page = \"%s\", page_%s::run();\n", pages[i], pages[i]
    print "  } catch (const std::exception& exception) {"
    print "    std::cerr << page << \": \" << exception.what() << std::endl;\n    return 1;\n  }\n}"
  }' "$@"
