#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What Hugging Face's tokenizers take characters younger than Unicode 8 for.

  make_tokenizers_unicode.py FILE    writes examples/tokenizers/unicode_ranges.inl

Needs tokenizers (0.23.3 wrote the file that is there) and perl, which knows the age of a character.
tokenizers join tables of several versions: categories of Unicode 8 in BERT's normalizer, later ones
in regular expressions, lower case and decompositions. All older characters are looked up in utf8proc;
every other one is asked for here, so that no version of that library changes an id.
"""
import pathlib
import subprocess
import sys

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

EVERY = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def assigned_in_unicode_8():
    perl = r'for (0..0x10FFFF) { print "$_\n" if chr($_) =~ /\p{Present_In: 8.0}/ }'
    out = subprocess.run(["perl", "-e", perl], capture_output=True, text=True, check=True).stdout
    return {int(c) for c in out.split()}


def matched(pattern):
    text = "".join(map(chr, EVERY))
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    return {ord(c) for _, (begin, end) in split.pre_tokenize_str(text) for c in text[begin:end]}


def ranges(characters):
    found = []
    for c in sorted(characters):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return [tuple(r) for r in found]


def runs(values):
    """{character: value} as (first, last, value) of neighbours with the same value."""
    found = []
    for c in sorted(values):
        if found and found[-1][1] == c - 1 and found[-1][2] == values[c]:
            found[-1][1] = c
        else:
            found.append([c, c, values[c]])
    return [tuple(r) for r in found]


def combining_classes(young):
    """A mark moves before one of a higher class."""
    import unicodedata
    marks = {}
    for c in range(0x300, 0x3200):
        if unicodedata.combining(chr(c)):
            marks.setdefault(unicodedata.combining(chr(c)), chr(c))
    nfd, found = normalizers.NFD(), {}
    for c in young:
        after = [k for k, mark in marks.items()
                 if nfd.normalize_str("a" + mark + chr(c)) == "a" + chr(c) + mark]
        if after:  # of the classes that exist, the highest that is lower than all of these
            found[c] = max(k for k in marks if k < min(after))
    return found


def table(name, type_, rows, what):
    cells = ["{" + ", ".join(hex(x) if i < 2 else str(x) for i, x in enumerate(row)) + "}"
             for row in rows]
    lines, line = [], ""
    for cell in cells:
        if len(line) + len(cell) + 2 > 96:
            lines.append(line.rstrip())
            line = ""
        line += cell + ", "
    lines.append(line.rstrip())
    body = "\n".join("    " + x for x in lines)
    return f"\n// {what}\ninline constexpr {type_} {name}[] = {{\n{body}\n}};\n"


def main():
    old = assigned_in_unicode_8()
    young = [c for c in EVERY if c not in old]
    lower, compatible = {}, {}
    low, nfd, nfkd = (normalizers.Lowercase(), normalizers.NFD(), normalizers.NFKD())
    for c in young:
        x = low.normalize_str(chr(c))
        assert len(x) == 1
        if x != chr(c):
            lower[c] = ord(x) - c
        x, y = nfd.normalize_str(chr(c)), nfkd.normalize_str(chr(c))
        assert x == chr(c) and len(y) == 1
        if x != y:
            compatible[c] = ord(y) - c
    # BERT's normalizer and pre-tokenizer see no young character as anything but a letter.
    bert = normalizers.BertNormalizer(handle_chinese_chars=False, strip_accents=False,
                                      lowercase=False)
    strip = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    split = pre_tokenizers.BertPreTokenizer()
    for c in young:
        x = chr(c)
        assert bert.normalize_str(x) == x and len(split.pre_tokenize_str("a" + x + "a")) == 1, x
    marks = [c for c in young if strip.normalize_str(chr(c)) == ""]
    text = "// SPDX-License-Identifier: MIT\n"
    version = tokenizers.__version__
    text += f"// Written by tests/golden/make_tokenizers_unicode.py with tokenizers {version}.\n"
    text += "// clang-format off\n"
    text += table("kUnicode8", "Range", ranges(old),
                  "The characters of Unicode 8; what follows is about others.")
    text += table("kLetters", "Range", ranges(matched(r"\p{L}+") - old), r"\p{L}")
    text += table("kNumbers", "Range", ranges(matched(r"\p{N}+") - old), r"\p{N}")
    text += table("kMarks", "Range", ranges(marks), "Accents (not to BERT's normalizer)")
    text += table("kLower", "Shift", runs(lower), "What is added in lower case")
    text += table("kCombining", "Shift", runs(combining_classes(young)),
                  "Combining classes other than 0")
    text += table("kCompatible", "Shift", runs(compatible), "What is added by NFKD")
    pathlib.Path(sys.argv[1]).write_text(text)


if __name__ == "__main__":
    main()
