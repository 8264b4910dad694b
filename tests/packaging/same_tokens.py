# SPDX-License-Identifier: MIT
"""same_tokens.py FIRST SECOND: the output of a preprocessor for the headers of include/eigenheads/, and
for one file that .packaging/amalgamate made of them, are the same tokens, but for those of headers of
others (which come in another order) and for macros that are set aside once and not in each header."""

import re
import sys

ASIDE = re.compile(r"#\s*pragma (push|pop)_macro")
MARKER = re.compile(r'# \d+ "([^"]*)"')


def tokens(path):
    ours, words = False, []
    for line in open(path):
        marker = MARKER.match(line)
        if marker:
            ours = "/eigenheads/" in marker[1] or marker[1].endswith("/eigenheads.hpp")
        elif ours and not ASIDE.match(line):
            words += line.split()
    return words


first, second = (tokens(path) for path in sys.argv[1:])
if len(first) < 10_000:
    sys.exit(f"{sys.argv[1]}: only {len(first)} words are of the library")
for position, (one, other) in enumerate(zip(first, second)):
    if one != other:
        near = slice(max(position - 8, 0), position + 8)
        sys.exit(f"word {position}:\n  {' '.join(first[near])}\n  {' '.join(second[near])}")
if len(first) != len(second):
    sys.exit(f"{len(first)} words and {len(second)}")
print(f"the same {len(first)} words")
