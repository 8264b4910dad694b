#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_character_widths.py: writes include/eigenheads/plot/character_width_tables.hpp, the ranges
of characters behind character_width.hpp, from the Unicode data of this Python.

make_character_widths.py --check FILE: whether FILE is what this Python writes, if it has the same
version of Unicode; whether FILE says the same of every character that this Python knows, if its
version is older. Ends with 1 and the first difference if not, with 77, "skipped", if this Python's
version is newer, or older than 14.
"""
import re
import sys
import unicodedata

# emoji-data.txt: Emoji=Yes and not wide. unicodedata does not have the property, and Unicode adds
# no more of them: new emoji are wide.
NARROW_EMOJI = """
23 2A 30-39 A9 AE 203C 2049 2122 2139 2194-2199 21A9-21AA 2328 23CF 23ED-23EF 23F1-23F2 23F8-23FA
24C2 25AA-25AB 25B6 25C0 25FB-25FC 2600-2604 260E 2611 2618 261D 2620 2622-2623 2626 262A 262E-262F
2638-263A 2640 2642 265F-2660 2663 2665-2666 2668 267B 267E 2692 2694-2697 2699 269B-269C 26A0 26A7
26B0-26B1 26C8 26CF 26D1 26D3 26E9 26F0-26F1 26F4 26F7-26F9 2702 2708-2709 270C-270D 270F 2712 2714
2716 271D 2721 2733-2734 2744 2747 2763-2764 27A1 2934-2935 2B05-2B07 1F170-1F171 1F17E-1F17F 1F321
1F324-1F32C 1F336 1F37D 1F396-1F397 1F399-1F39B 1F39E-1F39F 1F3CB-1F3CE 1F3D4-1F3DF 1F3F3 1F3F5
1F3F7 1F43F 1F441 1F4FD 1F549-1F54A 1F56F-1F570 1F573-1F579 1F587 1F58A-1F58D 1F590 1F5A5 1F5A8
1F5B1-1F5B2 1F5BC 1F5C2-1F5C4 1F5D1-1F5D3 1F5DC-1F5DE 1F5E1 1F5E3 1F5E8 1F5EF 1F5F3 1F5FA 1F6CB
1F6CD-1F6CF 1F6E0-1F6E5 1F6E9 1F6F0 1F6F3
"""
# PropList.txt: Prepended_Concatenation_Mark=Yes. They are format characters that are seen.
SEEN_FORMATS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
# UAX 11: wide before anything is assigned to them.
WIDE_BLOCKS = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFD),
               (0x30000, 0x3FFFD)]
# IndicSyllabicCategory.txt: Indic_Syllabic_Category=Virama.
VIRAMAS = """
94D 9CD A4D ACD B4D BCD C4D CCD D4D DCA 1B44 A806 A8C4 A9C0 11046 110B9 111C0 11235 1134D 11442
114C2 115BF 1163F 116B6 11839 119E0 11C3F
"""


def parse(text):
    points = set()
    for word in text.split():
        first, _, last = word.partition('-')
        points.update(range(int(first, 16), int(last or first, 16) + 1))
    return points


def is_jamo(c):  # a vowel or a final consonant: drawn into the syllable that began before it
    return 0x1160 <= c <= 0x11FF or 0xD7B0 <= c <= 0xD7FF and assigned(c)


def assigned(c):
    return unicodedata.category(chr(c)) != 'Cn'


def is_zero(c):
    category = unicodedata.category(chr(c))
    if category in ('Mn', 'Me', 'Zl', 'Zp') or is_jamo(c):
        return True
    if category == 'Cf':  # a soft hyphen is seen too
        return c != 0xAD and c not in SEEN_FORMATS
    return c in (0x3164, 0xFFA0)  # fillers of Hangul, which have no ink


def is_wide(c):
    if is_zero(c):
        return False
    if not assigned(c):
        return any(first <= c <= last for first, last in WIDE_BLOCKS)
    is_flag = 0x1F1E6 <= c <= 0x1F1FF  # regional indicators: a pair is a flag
    return is_flag or unicodedata.east_asian_width(chr(c)) in 'WF'


def is_pictograph(c):
    is_symbol = unicodedata.category(chr(c)) in ('So', 'Sk') and is_wide(c)
    is_east_asian = 0x2E80 <= c <= 0xFFFF or 0x1F1E6 <= c <= 0x1F2FF
    return is_symbol and not is_east_asian or c > 0x7F and c in EMOJI


EMOJI = parse(NARROW_EMOJI)
JOINERS = parse(VIRAMAS)
TABLES = [
    ('zero_width_ranges', 'Marks that take no room, format characters, vowels and finals of '
     'conjoining Hangul.', is_zero),
    ('spacing_mark_ranges', 'Marks that stand beside what they belong to (Mc).',
     lambda c: unicodedata.category(chr(c)) == 'Mc'),
    ('wide_ranges', 'East Asian Width W and F, and regional indicators.', is_wide),
    ('narrow_emoji_ranges', 'Emoji that are text unless U+FE0F follows.', lambda c: c in EMOJI),
    ('pictograph_ranges', 'What U+200D joins to one emoji, and skin tones belong to.',
     is_pictograph),
    ('virama_ranges', 'What joins a consonant to the next.',
     lambda c: c in JOINERS),
]
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges_of(holds):
    ranges = []
    for c in filter(holds, POINTS):
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return ranges


def header():
    lines = [
        '// SPDX-License-Identifier: MIT',
        '#pragma once',
        f'// Ranges of characters from Unicode {unicodedata.unidata_version}, in order, as',
        '// tests/plot/make_character_widths.py writes them.',
        '#include <eigenheads/version.hpp>  // EIGENHEADS_ABI',
        '',
        'namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {',
        '',
        'struct CharacterRange {',
        '  char32_t first, last;',
        '};',
        '',
        '// clang-format off',
    ]
    for name, what, holds in TABLES:
        lines += [f'// {what}', f'inline constexpr CharacterRange {name}[] = {{']
        line = ' '
        for first, last in ranges_of(holds):
            entry = f' {{0x{first:X}, 0x{last:X}}},'
            if len(line + entry) > 100:
                lines.append(line)
                line = ' '
            line += entry
        lines += [line, '};', '']
    lines[-1] = '// clang-format on'
    return '\n'.join(lines + ['', '}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot',
                              ''])


def check(text):
    version = re.search(r'Unicode ([\d.]+),', text)[1]
    numbers = [[int(part) for part in v.split('.')] for v in (unicodedata.unidata_version, version)]
    # Unicode 14 was the last to turn marks that were assigned into spacing marks.
    if not [14] <= numbers[0] <= numbers[1]:
        print(f'skipped: Unicode {unicodedata.unidata_version} says otherwise than {version}')
        return 77
    if numbers[0] == numbers[1]:
        if text == header():
            return 0
        print('not what this Python writes')
        return 1
    for name, _, holds in TABLES:
        body = re.search(name + r'\[\] = \{(.*?)\n\};', text, re.S)[1]
        said = set()
        for first, last in re.findall(r'\{0x(\w+), 0x(\w+)\}', body):
            said.update(range(int(first, 16), int(last, 16) + 1))
        for c in filter(assigned, POINTS):
            if (c in said) != bool(holds(c)):
                print(f'{name}: U+{c:04X} {unicodedata.name(chr(c), "")}')
                return 1
    return 0


if __name__ == '__main__':
    if sys.argv[1:2] == ['--check']:
        with open(sys.argv[2], encoding='utf-8') as file:
            sys.exit(check(file.read()))
    sys.stdout.write(header())
